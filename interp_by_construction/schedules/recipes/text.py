"""Recipes of what a run reads: corpus, subject, and the encoder's view of the text."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp_by_construction.engine.store import SCRATCH, Artifact
from interp_by_construction.schedules.recipes.hides import PLANTED
from interp_by_construction.schedules.workshop import Workshop, threads

if TYPE_CHECKING:
    from interp_by_construction.corpus.passage import Passage


class TextRecipes(Workshop):
    """Shared by all layers of a run."""

    def _corpus(self) -> Artifact:
        from interp_by_construction.corpus import content_identity

        data = dataclasses.asdict(self.cfg.data)
        config = {key: value for key, value in data.items() if key not in ("name", "path")}
        source = self._source()
        if source is not None:
            config.pop("vocab_size")
        identity = {
            "content": content_identity(self.cfg.data),
            "tokenizer": self._model_identity(source) if source else "trained",
        }

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.corpus import build_corpus
            from interp_by_construction.subject.load import source_tokenizer

            return build_corpus(self.cfg.data, source_tokenizer(self.cfg.subject), out)

        return self._build("corpus", None, config, {}, identity, compute)

    def _subject(self) -> Artifact:
        cfg, source = self.cfg, self._source()
        fields = dataclasses.asdict(cfg.subject)
        adapting = {key: fields.pop(key) for key in ("adapt_steps", "adapt_batch", "adapt_lr")}
        trainer = {key: getattr(cfg.trainer, key) for key in ("warmup", "clip", "weight_decay")}
        config: dict[str, Any] = {"kind": cfg.subject.kind}
        if source is None:
            config |= {key: value for key, value in fields.items() if key not in ("name", "path")}
            config["activation"] = cfg.model.activation
            config |= {"bias_init": cfg.model.bias_init} if cfg.model.bias_init else {}
            if cfg.trigger.share > 0:
                config["trigger"] = {name: getattr(cfg.trigger, name) for name in PLANTED}
        elif cfg.subject.adapt_steps:
            config |= adapting
        trained = source is None or cfg.subject.adapt_steps > 0
        config |= {"seed": cfg.seed, **trainer} if trained else {}
        parents = {"corpus": self.shared["corpus"].fingerprint} if trained else {}
        identity = {"model": self._model_identity(source)} if source else {}

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import subject as pretrain

            corpus = self.shared["corpus"].path
            with self._tracked("subject", None) as logger:
                model, trigger = cfg.model, cfg.trigger
                return pretrain.run(
                    corpus,
                    cfg.subject,
                    cfg.trainer,
                    cfg.seed,
                    out,
                    out / SCRATCH,
                    logger,
                    model,
                    trigger,
                )

        return self._build("subject", None, config, parents, identity, compute)

    def _encode(self) -> Artifact:
        def texts() -> dict[str, Passage]:
            from interp_by_construction.corpus.parts import part_passage

            corpus, cfg = self.shared["corpus"].path, self.cfg.simulate
            return {part: part_passage(corpus, part, cfg) for part in self.simulator.encoded_parts}

        return self._encoded("encode", self.simulator.text_settings, texts)

    def _encode_split(self, split: str) -> Artifact | None:
        """The text on which labels are compared with nodes; None without an encoder. Apart from
        `encode`, so that labels do not depend on how much text is aligned or scored."""
        if not self.simulator.encoded_parts:
            return None

        stage = f"encode_{split}"
        if stage not in self.shared:
            tokens = (
                self.cfg.label.head_select_tokens
                if split == "select"
                else self.cfg.simulate.n_label_tokens
            )
            self.shared[stage] = self._encoded(
                stage, {"n_tokens": tokens}, lambda: {split: self._labelling_text(split)}
            )
        return self.shared[stage]

    def _encoded(
        self, stage: str, config: dict[str, Any], texts: Callable[[], dict[str, Passage]]
    ) -> Artifact:
        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import encode

            with threads(self.cfg.labeler.threads):
                return encode.run(texts(), self.simulator.load_encoder(self._device()), out)

        identity = self.simulator.identity
        return self._build(stage, None, config, self._parents(), identity, compute)

    def _labelling_text(self, split: str) -> Passage:
        """Whole blocks where an encoder reads them; else the labeler simulates short excerpts."""
        from interp_by_construction.corpus.parts import part_passage
        from interp_by_construction.corpus.passage import Passage

        corpus, cfg = self.shared["corpus"].path, self.cfg
        if self._head is None:
            length = cfg.simulate.excerpt_tokens
            return Passage.of_split(corpus, split, n_tokens=cfg.label.select_tokens, length=length)
        if split == "label":
            return part_passage(corpus, "label", cfg.simulate)
        return Passage.of_split(corpus, split, n_tokens=cfg.label.head_select_tokens)
