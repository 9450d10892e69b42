"""Recipes of what a run reads: corpus, subject, and the encoder's view of the text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp_by_construction.engine.store import Artifact
from interp_by_construction.schedules.workshop import Workshop, given, threads

if TYPE_CHECKING:
    from interp_by_construction.corpus.passage import Passage


class TextRecipes(Workshop):
    """Shared by all layers of a run."""

    def _corpus(self) -> Artifact:
        from interp_by_construction.stages.corpus import Corpus

        return self._make_shared(Corpus.of(self.cfg))

    def _subject(self) -> Artifact:
        from interp_by_construction.stages.subject import Subject

        return self._make_shared(Subject.of(self.cfg, given(self.shared["corpus"])))

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
