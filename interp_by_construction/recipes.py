"""What each artifact of a run is computed from, and how: its config, its parents, the identity of models and data.

A fingerprint covers exactly what a method lists here, so a field that is missing is a stale result, and one too many a needless
recomputation. The stages hold the science.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from interp_by_construction.store import SCRATCH, Artifact, canonical_json
from interp_by_construction.workshop import Layer, Workshop, threads

if TYPE_CHECKING:
    from interp_by_construction.stages.compare import Comparison
    from interp_by_construction.stages.judge import HeadJudge, Judge
    from interp_by_construction.stages.simulate import Excerpts


class Recipes(Workshop):
    """One method per kind of artifact; those of a layer take the layer and the model before it."""

    def _corpus(self) -> Artifact:
        from interp_by_construction.corpus import content_identity

        data = dataclasses.asdict(self.cfg.data)
        config = {key: value for key, value in data.items() if key not in ("name", "path")}
        source = self._source()
        if source is not None:
            config.pop("vocab_size")
        identity = {"content": content_identity(self.cfg.data), "tokenizer": self._model_identity(source) if source else "trained"}

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.corpus import build_corpus
            from interp_by_construction.subject.load import source_tokenizer

            return build_corpus(self.cfg.data, source_tokenizer(self.cfg.subject), out)

        return self._build("corpus", None, config, {}, identity, compute)

    def _subject(self) -> Artifact:
        cfg, source = self.cfg, self._source()
        config: dict[str, Any] = {"kind": cfg.subject.kind}
        if source is None:
            config |= {k: v for k, v in dataclasses.asdict(cfg.subject).items() if k not in ("name", "path")}
            config |= {
                "seed": cfg.seed,
                "warmup": cfg.trainer.warmup,
                "clip": cfg.trainer.clip,
                "weight_decay": cfg.trainer.weight_decay,
            }
        parents = {"corpus": self.shared["corpus"].fingerprint} if source is None else {}
        identity = {"model": self._model_identity(source)} if source else {}

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import pretrain

            corpus = self.shared["corpus"].path
            with self._tracked("subject", None) as logger:
                return pretrain.run(corpus, cfg.subject, cfg.trainer, cfg.seed, out, out / SCRATCH, logger)

        return self._build("subject", None, config, parents, identity, compute)

    def _encode(self) -> Artifact:
        cfg = self.cfg.simulate
        keys = ["n_score_tokens", "excerpt_tokens", "max_align_tokens"]
        keys += ["n_fit_tokens", "encoder_layers"] if self._head is None else ["n_head_score_tokens"]

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import simulate

            with threads(self.cfg.labeler.threads):
                return simulate.encode(
                    self.shared["corpus"].path, self._encoder(), cfg, simulate.ENCODED[cfg.simulator], out, self._head
                )

        config = {key: getattr(cfg, key) for key in keys}
        identity = {"encoder": self._model_identity(cfg.encoder)}
        identity |= {} if self._head is None else {"head": self._head.identity}
        return self._build("encode", None, config, self._parents(), identity, compute)

    def _encode_split(self, split: Literal["label", "select"]) -> Artifact:
        """Token vectors of the text on which labels are compared with nodes; only with a head. Apart from `encode`, so that labels
        do not depend on how much text is aligned or scored."""
        stage = f"encode_{split}"
        if stage not in self.shared:
            head = self._head
            assert head is not None

            def compute(out: Path) -> dict[str, Any]:
                from interp_by_construction.stages import simulate

                text = self._labelling_text(split)
                with threads(self.cfg.labeler.threads):
                    n_texts, length = text.is_text.shape
                    file = out / f"{split}.npy"
                    return {"n_tokens": simulate.encode_texts(text.tokens, n_texts, length, self._encoder(), head, file)}

            tokens = self.cfg.label.head_select_tokens if split == "select" else self.cfg.simulate.n_label_tokens
            identity = {"encoder": self._model_identity(self.cfg.simulate.encoder), "head": head.identity}
            self.shared[stage] = self._build(stage, None, {"n_tokens": tokens}, self._parents(), identity, compute)
        return self.shared[stage]

    def _labelling_text(self, split: Literal["label", "select"]) -> Excerpts:
        from interp_by_construction.stages import compare, simulate

        corpus = self.shared["corpus"].path
        if split == "label":
            return simulate.choose_excerpts(corpus, "label", self.cfg.simulate)
        return compare.select_excerpts(corpus, self.cfg.label.head_select_tokens, None)

    def _collect(self, layer: Layer, before: Artifact) -> Artifact:
        cfg = self.cfg
        nodes = {"count": cfg.nodes.count, "select": cfg.nodes.select, "poles": cfg.nodes.poles}
        config = dataclasses.asdict(cfg.collect) | nodes | {"layer": layer.index, "seed": cfg.seed}

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import collect

            model, corpus = before.path / "model", self.shared["corpus"].path
            return collect.run(model, corpus, layer.index, cfg.collect, cfg.nodes, cfg.seed, out, cfg.trainer.device)

        return self._build("collect", layer.index, config, self._parents(model=before), {}, compute)

    def _label(self, layer: Layer, before: Artifact) -> Artifact:
        cfg = self.cfg
        lower = self.layers[-1] if self.layers else None
        splits = self._labelling_splits()
        parents = {"collect": layer.artifacts["collect"].fingerprint}
        config = dataclasses.asdict(cfg.label) | {"seed": cfg.seed, "revisions": self._revisions()}
        # The first decides what labels are matched with, not what they are; the others are in the text that is read.
        for key in ("general_pool", "select_tokens", "head_select_tokens"):
            config.pop(key)
        if lower is not None:
            parents |= {"model": before.fingerprint, "incoming": lower.labels.fingerprint}
        if splits and self._head is not None:
            parents |= self._parents(model=before, **{split: self._encode_split(split) for split in splits})
        elif splits:
            parents |= self._parents(model=before)
            simulate = {key: getattr(cfg.simulate, key) for key in ("excerpt_tokens", "contrast")}
            config |= {"select_tokens": cfg.label.select_tokens, **simulate}

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import incoming, label
            from interp_by_construction.stages.tables import read_labels, read_nodes, read_opposites

            collected = layer.artifacts["collect"].path
            nodes = read_nodes(collected)
            views = [*nodes, *read_opposites(collected)]
            shown: incoming.Incoming = {}
            if lower is not None:
                below = read_labels(lower.labels.path)
                shown = incoming.strongest(before.path / "model", layer.index, below, views, cfg.label.n_incoming)
            with threads(cfg.labeler.threads):
                text = self._comparisons(layer, before, [node.node for node in nodes], splits)
                return label.run(
                    views, shown, self._get_labeler(), cfg.label, cfg.seed, out, text.get("select"), text.get("label"),
                    self._revisions(),
                )  # fmt: skip

        return self._build("label", layer.index, config, parents, {"labeler": self._get_labeler().identity}, compute)

    def _revisions(self) -> int:
        """One round by default where simulations are cheap; none where candidates are not scored."""
        cfg = self.cfg.label
        if self._head is None:
            return cfg.revisions or 0
        return int(cfg.head_select_tokens > 0) if cfg.revisions is None else cfg.revisions

    def _labelling_splits(self) -> list[Literal["label", "select"]]:
        """The splits that choosing and revising labels reads."""
        tokens = self.cfg.label.select_tokens if self._head is None else self.cfg.label.head_select_tokens
        return [] if not tokens else ["select", "label"] if self._revisions() else ["select"]

    def _comparisons(
        self, layer: Layer, before: Artifact, nodes: list[int], splits: list[Literal["label", "select"]]
    ) -> dict[str, Comparison]:
        """split -> its text, with what the nodes do there and the run's simulator: the head, else the labeler itself."""
        from interp_by_construction.stages import compare

        where = (before.path / "model", self.shared["corpus"].path)
        if self._head is None:
            return {
                split: compare.exactly(
                    *where, split, self.cfg.label.select_tokens, layer.index, nodes, self._get_labeler(), self.cfg.simulate,
                    self._device(),
                )
                for split in splits
            }  # fmt: skip
        if not splits:
            return {}
        encoder = self._encoder()
        return {
            split: compare.with_head(
                *where, split, self._labelling_text(split), self._encode_split(split).path / f"{split}.npy", layer.index, nodes,
                self._head, encoder, self._device(),
            )
            for split in splits
        }  # fmt: skip

    def _assign(self, layer: Layer, before: Artifact) -> Artifact:
        """Only with nodes.assign=match; the nodes stay."""
        encoded = self._encode_split("label")
        parents = self._parents(model=before, collect=layer.artifacts["collect"], label=layer.artifacts["label"], encode=encoded)
        general: list[str] = []
        if self.cfg.label.general_pool:
            from interp_by_construction.labeler.general import general_labels

            general = general_labels()

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import assign
            from interp_by_construction.stages.tables import read_labels, read_opposites, read_proposals

            given = layer.artifacts["label"].path
            labels = read_labels(given)
            pool = assign.pool(labels, read_proposals(given), general)
            both = [node.node for node in read_opposites(layer.artifacts["collect"].path)]
            assert self._head is not None
            with threads(self.cfg.labeler.threads):
                return assign.run(
                    before.path / "model", self.shared["corpus"].path, encoded.path, labels, pool, layer.index,
                    self.cfg.simulate, self._head, self._encoder(), out, self._device(), both,
                )  # fmt: skip

        identity = {"general": hashlib.sha256(canonical_json(general)).hexdigest()}
        return self._build("assign", layer.index, {"layer": layer.index}, parents, identity, compute)

    def _simulate(self, layer: Layer, before: Artifact) -> Artifact:
        """Reads labels and text, and no activation (invariant 5)."""
        cfg = self.cfg.simulate
        parents = self._parents(label=layer.labels)
        if "encode" in self.shared:
            parents["encode"] = self.shared["encode"].fingerprint

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import simulate
            from interp_by_construction.stages.tables import read_labels

            labels = read_labels(layer.labels.path)
            encoded = self.shared["encode"].path if "encode" in self.shared else None
            corpus, labeler = self.shared["corpus"].path, self._get_labeler()
            if self._head is None:
                return simulate.run(corpus, encoded, labels, labeler, cfg, out)
            with threads(self.cfg.labeler.threads):
                return simulate.run(corpus, encoded, labels, labeler, cfg, out, self._head, self._encoder())

        keys = ["simulator", "n_score_tokens", "excerpt_tokens", "max_align_tokens", "contrast"]
        keys += {"ridge": ["n_fit_tokens", "reliability_tokens"], "head": ["n_head_score_tokens"], "exact": []}[cfg.simulator]
        identity = {"labeler": self._get_labeler().identity}
        return self._build("simulate", layer.index, {key: getattr(cfg, key) for key in keys}, parents, identity, compute)

    def _align(self, layer: Layer, before: Artifact) -> Artifact:
        cfg = self.cfg
        parents = self._parents(model=before, simulate=layer.artifacts["simulate"])

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import align

            targets, corpus = layer.artifacts["simulate"].path, self.shared["corpus"].path
            with self._tracked("align", layer.index) as logger:
                return align.run(
                    before.path / "model", corpus, targets, layer.index, cfg.align, cfg.trainer, cfg.seed, self._first(layer),
                    self._below(), out, out / SCRATCH, logger,
                )  # fmt: skip

        config = self._phase(layer) | {"align": dataclasses.asdict(cfg.align), "start_layer": self._first(layer)}
        config |= {"below": self._below()}
        return self._build("align", layer.index, config, parents, {}, compute)

    def _freeze(self, layer: Layer, before: Artifact) -> Artifact:
        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import freeze

            aligned = self._aligned(layer)
            return freeze.run(layer.artifacts["align"].path / "model", self.shared["corpus"].path, layer.index, aligned, out)

        parents = self._parents(model=layer.artifacts["align"], label=layer.labels)
        return self._build("freeze", layer.index, {"layer": layer.index}, parents, {}, compute)

    def _continue(self, layer: Layer, before: Artifact) -> Artifact:
        cfg = self.cfg

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import continue_training

            model, corpus = layer.artifacts["align"].path / "model", self.shared["corpus"].path
            with self._tracked("continue", layer.index) as logger:
                return continue_training.run(
                    model,
                    corpus,
                    layer.index,
                    self._aligned(layer),
                    cfg.continue_,
                    cfg.trainer,
                    cfg.seed,
                    out,
                    out / SCRATCH,
                    logger,
                )

        parents = self._parents(model=layer.artifacts["align"], freeze=layer.artifacts["freeze"])
        config = self._phase(layer) | {"continue": dataclasses.asdict(cfg.continue_)}
        return self._build("continue", layer.index, config, parents, {}, compute)

    def _control(self, layer: Layer, before: Artifact) -> Artifact:
        """Same tokens, order, schedules; nothing aligned, nothing frozen. Knows no label, so that sweeps share it."""
        previous = self.layers[-1].artifacts["control"] if self.layers else self.shared["subject"]
        return self._comparison("control", layer, previous, "none", {})

    def _freeze_only(self, layer: Layer, before: Artifact) -> Artifact:
        """Same freezing of the same nodes, no alignment."""
        previous = self.layers[-1].artifacts["freeze_only"] if self.layers else self.shared["subject"]
        frozen = {"below": self._below(), "aligned": self._aligned(layer), "start_layer": self._first(layer)}
        return self._comparison("freeze_only", layer, previous, "freeze_only", frozen)

    def _comparison(
        self, stage: str, layer: Layer, previous: Artifact, frozen: Literal["none", "freeze_only"], extra: dict[str, Any]
    ) -> Artifact:
        cfg = self.cfg

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import control

            with self._tracked(stage, layer.index) as logger:
                return control.run(
                    previous.path / "model", self.shared["corpus"].path, layer.index, cfg.align, cfg.continue_, cfg.trainer,
                    cfg.seed, self._n_target_blocks(), frozen, self._aligned(layer), self._below(), self._first(layer), out,
                    out / SCRATCH, logger,
                )  # fmt: skip

        align = dataclasses.asdict(cfg.align)
        align.pop("weight")
        config = self._phase(layer) | {"align": align, "continue": dataclasses.asdict(cfg.continue_), **extra}
        config |= {"max_align_tokens": cfg.simulate.max_align_tokens, "any_aligned": bool(self._aligned(layer))}
        return self._build(stage, layer.index, config, self._parents(model=previous), {}, compute)

    def _losses(self, model: Artifact) -> Artifact:
        cfg = self.cfg.evaluate

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import evaluate

            return evaluate.losses(model.path / "model", self.shared["corpus"].path, cfg, out, self._device())

        return self._build("losses", None, {"max_test_blocks": cfg.max_test_blocks}, self._parents(model=model), {}, compute)

    def _moments(self, layer: Layer) -> dict[str, Artifact]:
        """The models that the scores of a layer compare."""
        position = self.layers.index(layer)
        return {
            "before": self.layers[position - 1].artifacts["continue"] if position else self.shared["subject"],
            "after": layer.artifacts["align"],
            "final": self.layers[-1].artifacts["continue"],
        }

    def _evaluate(self, layer: Layer) -> Artifact:
        cfg = self.cfg
        stories = cfg.data.kind == "stories"
        models = self._moments(layer)
        parents = self._parents(simulate=layer.artifacts["simulate"], freeze=layer.artifacts["freeze"], **models)

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import evaluate, freeze
            from interp_by_construction.stages.tables import read_labels
            from interp_by_construction.subject.load import load_subject
            from interp_by_construction.tracking import log_summary, log_table

            paths = {moment: artifact.path / "model" for moment, artifact in models.items()}
            simulated, corpus = layer.artifacts["simulate"].path, self.shared["corpus"].path
            labels, device = read_labels(layer.labels.path), self._device()
            metrics = evaluate.scores(
                paths, corpus, simulated, layer.index, cfg.evaluate, cfg.simulate, cfg.seed, out, device,
                *self._judges(),
            )  # fmt: skip
            metrics["truth"] = evaluate.truth(paths, corpus, labels, layer.index, cfg.evaluate, out, device) if stories else None
            with self._tracked("evaluate", layer.index) as logger:
                log_table(logger, "nodes", *evaluate.node_table(out, labels))
                log_summary(logger, {"score": metrics["score"], "truth": metrics["truth"] or {}})
            final = load_subject(paths["final"])
            return metrics | {"frozen_identical": freeze.frozen_identical(final, layer.artifacts["freeze"].path)}

        config = {"layer": layer.index, "n_bootstrap": cfg.evaluate.n_bootstrap, "seed": cfg.seed}
        config |= {"max_truth_tokens": cfg.evaluate.max_truth_tokens} if stories else {}
        return self._build("evaluate", layer.index, config, parents, {}, compute)

    def _function(self, layer: Layer) -> Artifact:
        """What the nodes do for the language model; needs simulations of the test split, so a head."""
        cfg = self.cfg.evaluate
        models = {moment: artifact for moment, artifact in self._moments(layer).items() if moment != "after"}

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import function

            simulated, targets = function.read_simulated(
                layer.artifacts["simulate"].path, self.shared["corpus"].path, self.cfg.simulate
            )
            return function.run(
                {moment: artifact.path / "model" for moment, artifact in models.items()}, self.shared["corpus"].path, simulated,
                layer.index, *targets, "score", None, cfg.batch_size, cfg.n_bootstrap, self.cfg.seed, out, self._device(),
                self.cfg.function,
            )  # fmt: skip

        config: dict[str, Any] = {"layer": layer.index, "n_bootstrap": cfg.n_bootstrap, "seed": self.cfg.seed}
        config |= {"function": dataclasses.asdict(self.cfg.function)}
        parents = self._parents(simulate=layer.artifacts["simulate"], **models)
        return self._build("function", layer.index, config, parents, {}, compute)

    def _audit(self, layer: Layer) -> Artifact:
        """Text on which labels and nodes disagree; needs a head, since every edited text is simulated anew."""
        cfg, head = self.cfg.audit, self._head
        assert head is not None
        models = {"before": self._moments(layer)["before"], "final": layer.artifacts["align"]}

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import audit, function
            from interp_by_construction.stages.simulate import label_vectors
            from interp_by_construction.stages.tables import read_labels

            simulated, targets = function.read_simulated(
                layer.artifacts["simulate"].path, self.shared["corpus"].path, self.cfg.simulate
            )
            encoder, labels = self._encoder(), read_labels(layer.labels.path)
            with threads(self.cfg.labeler.threads):
                vectors = label_vectors(head, encoder, [label.text for label in labels if label.text is not None])
                return audit.run(
                    {moment: artifact.path / "model" for moment, artifact in models.items()}, self.shared["corpus"].path,
                    simulated.calibrate, layer.index, *targets, audit.head_simulate(head, encoder, vectors), cfg,
                    self.cfg.evaluate.batch_size, self.cfg.seed, out, self._device(),
                )  # fmt: skip

        config = {key: value for key, value in dataclasses.asdict(cfg).items() if key != "enabled"}
        parents = self._parents(simulate=layer.artifacts["simulate"], label=layer.labels, **models)
        identity = {"encoder": self._model_identity(self.cfg.simulate.encoder), "head": head.identity}
        return self._build("audit", layer.index, config | {"layer": layer.index, "seed": self.cfg.seed}, parents, identity, compute)
    def _cumulative(self, layer: Layer) -> Artifact:
        """Substitution in this and all lower aligned layers of the final model at once; with a head, as `function`."""
        cfg = self.cfg.evaluate
        below = self.layers[: self.layers.index(layer) + 1]
        final = self.layers[-1].artifacts["continue"]

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import cumulative, function

            corpus = self.shared["corpus"].path
            aligned = []
            for each in below:
                simulated, targets = function.read_simulated(each.artifacts["simulate"].path, corpus, self.cfg.simulate)
                aligned.append(cumulative.AlignedLayer(each.index, *targets, simulated))
            return cumulative.run(
                final.path / "model", corpus, aligned, cfg.batch_size, cfg.n_bootstrap, self.cfg.seed, out, self._device()
            )

        config = {"layers": [each.index for each in below], "n_bootstrap": cfg.n_bootstrap, "seed": self.cfg.seed}
        parents = self._parents(model=final, **{f"simulate_{each.index}": each.artifacts["simulate"] for each in below})
        return self._build("cumulative", layer.index, config, parents, {}, compute)

    def _judge(self, layer: Layer) -> Artifact:
        """Scores by the labeler, by a separate judge, by the head, and by blind relabelling."""
        cfg, position = self.cfg, self.layers.index(layer)
        # Later layers change no activation of this one: the model after its own repair stands for the final one.
        models = {"before": self._moments(layer)["before"], "final": layer.artifacts["continue"]}
        below = self.layers[position - 1].labels if position else None
        parents = self._parents(simulate=layer.artifacts["simulate"], label=layer.labels, **models)
        parents |= {} if self._head is None else {"encode": self.shared["encode"].fingerprint}
        parents |= {} if below is None or not cfg.scores.blind else {"incoming": below.fingerprint}

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import judge, relabel
            from interp_by_construction.stages.tables import read_labels

            paths = {moment: artifact.path / "model" for moment, artifact in models.items()}
            corpus, labels = self.shared["corpus"].path, read_labels(layer.labels.path)
            blind = None
            if cfg.scores.blind:
                blind = relabel.run(
                    paths["final"], corpus, layer.index, labels, read_labels(below.path) if below is not None else (),
                    self._get_labeler(), cfg.collect, cfg.nodes, cfg.label, cfg.seed, cfg.trainer.device,
                )  # fmt: skip
            with threads(cfg.labeler.threads):
                return judge.run(
                    paths, corpus, layer.artifacts["simulate"].path, labels, blind, layer.index, cfg.simulate, cfg.scores,
                    self._llm_judges(), self._head_judge(), cfg.evaluate.n_bootstrap, cfg.seed, out, self._device(),
                )  # fmt: skip

        config = dataclasses.asdict(cfg.scores) | {"layer": layer.index, "seed": cfg.seed, "n_bootstrap": cfg.evaluate.n_bootstrap}
        keys = ("n_score_tokens", "n_fit_tokens", "n_head_score_tokens", "excerpt_tokens", "contrast")
        config |= {"simulate": {key: getattr(cfg.simulate, key) for key in keys}}
        if cfg.scores.blind:
            label = {key: value for key, value in dataclasses.asdict(cfg.label).items() if key != "general_pool"}
            config |= {"collect": dataclasses.asdict(cfg.collect), "label": label}
        identity = {"labeler": self._get_labeler().identity}
        identity |= {} if cfg.judge is None else {"judge": self._get_judge().identity}
        return self._build("judge", layer.index, config, parents, identity, compute)

    def _llm_judges(self) -> list[Judge]:
        """The labeler, and the separate judge if there is one."""
        from interp_by_construction.stages.judge import Judge

        labeler, separate = self._get_labeler(), self._get_judge()
        judges = [Judge(labeler, self.cfg.labeler.model, True)]
        if separate is not None:
            same = self._model_identity(separate.cfg.model) == self._model_identity(labeler.cfg.model)
            # Two servers may call different models the same.
            name = separate.cfg.model if separate.cfg.model != labeler.cfg.model else f"{separate.cfg.model} (judge)"
            judges.append(Judge(separate, name, same))
        return judges

    def _head_judge(self) -> HeadJudge | None:
        from interp_by_construction.stages.evaluate import self_judged
        from interp_by_construction.stages.judge import HeadJudge

        if self._head is None:
            return None
        return HeadJudge(self._head, self._encoder(), self.shared["encode"].path, self_judged("head", *self._judges()))
