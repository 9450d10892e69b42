"""Recipes of everything that is measured and changes nothing: losses, scores, what nodes do, audit,
judges."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp_by_construction.config.group import only
from interp_by_construction.config.labels import AskConfig
from interp_by_construction.engine.store import Artifact
from interp_by_construction.schedules.workshop import Layer, Workshop, threads

if TYPE_CHECKING:
    from interp_by_construction.stages.judge import HeadJudge, Judge


class ScoreRecipes(Workshop):
    """Each but `_losses` takes a layer that is done."""

    def _losses(self, model: Artifact) -> Artifact:
        cfg = self.cfg.evaluate

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import evaluate

            return evaluate.losses(
                model.path / "model", self.shared["corpus"].path, cfg, out, self._device()
            )

        return self._build(
            "losses",
            None,
            {"max_test_blocks": cfg.max_test_blocks},
            self._parents(model=model),
            {},
            compute,
        )

    def _moments(self, layer: Layer) -> dict[str, Artifact]:
        """The models that the scores of a layer compare."""
        lower = None if self._together else self._lower(layer)
        before = self._origin if lower is None else lower.artifacts["continue"]
        if not self._together:
            # Where a dictionary was put in, there are no such nodes before.
            before = layer.artifacts.get("dictionary", before)
        return {
            "before": before,
            "after": layer.artifacts["align"],
            "final": self.layers[-1].artifacts["continue"],
        }

    def _evaluate(self, layer: Layer) -> Artifact:
        cfg = self.cfg
        stories = cfg.data.kind == "stories"
        models = self._moments(layer)
        parents = self._parents(
            simulate=layer.artifacts["simulate"], freeze=layer.artifacts["freeze"], **models
        )

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.engine.tracking import log_summary, log_table
            from interp_by_construction.labelling.labels import read_labels
            from interp_by_construction.stages import evaluate, freeze
            from interp_by_construction.subject.load import load_subject

            paths = {moment: artifact.path / "model" for moment, artifact in models.items()}
            simulated, corpus = layer.artifacts["simulate"].path, self.shared["corpus"].path
            labels, device = read_labels(layer.labels.path), self._device()
            metrics = evaluate.scores(
                paths,
                corpus,
                simulated,
                layer.index,
                cfg.evaluate,
                cfg.simulate,
                cfg.seed,
                out,
                device,
                *self._judges(),
                cfg.align.target,
            )
            metrics["truth"] = (
                evaluate.truth(paths, corpus, labels, layer.index, cfg.evaluate, out, device)
                if stories
                else None
            )
            with self._tracked("evaluate", layer.index) as logger:
                log_table(logger, "nodes", *evaluate.node_table(out, labels))
                log_summary(logger, {"score": metrics["score"], "truth": metrics["truth"] or {}})
            final = load_subject(paths["final"])
            return metrics | {
                "frozen_identical": freeze.frozen_identical(final, layer.artifacts["freeze"].path)
            }

        config: dict[str, Any] = {
            "layer": layer.index,
            "n_bootstrap": cfg.evaluate.n_bootstrap,
            "seed": cfg.seed,
        }
        config |= {"max_truth_tokens": cfg.evaluate.max_truth_tokens} if stories else {}
        config |= {"target": cfg.align.target} if cfg.align.target == "shuffled" else {}
        return self._build("evaluate", layer.index, config, parents, {}, compute)

    def _function(self, layer: Layer) -> Artifact:
        """What the nodes do for the language model; needs simulations of the test split, so a
        head."""
        cfg = self.cfg.evaluate
        models = {
            moment: artifact
            for moment, artifact in self._moments(layer).items()
            if moment != "after"
        }

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import function

            corpus, simulated = self.shared["corpus"].path, layer.artifacts["simulate"].path
            return function.run(
                {moment: artifact.path / "model" for moment, artifact in models.items()},
                corpus,
                function.read_aligned(simulated, corpus, layer.index, self.cfg.simulate),
                "score",
                None,
                cfg.batch_size,
                cfg.n_bootstrap,
                self.cfg.seed,
                out,
                self._device(),
                self.cfg.function,
            )

        config: dict[str, Any] = {
            "layer": layer.index,
            "n_bootstrap": cfg.n_bootstrap,
            "seed": self.cfg.seed,
        }
        config |= {"function": dataclasses.asdict(self.cfg.function)}
        parents = self._parents(simulate=layer.artifacts["simulate"], **models)
        return self._build("function", layer.index, config, parents, {}, compute)

    def _audit(self, layer: Layer) -> Artifact:
        """Text on which labels and nodes disagree; needs a head, since every edited text is
        simulated anew."""
        cfg = self.cfg.audit
        models = {"before": self._moments(layer)["before"], "final": self._aligned_model(layer)}

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.labelling.labels import read_labels
            from interp_by_construction.scoring.hotflip import per_text
            from interp_by_construction.stages import audit, function

            corpus, simulated = self.shared["corpus"].path, layer.artifacts["simulate"].path
            aligned = function.read_aligned(simulated, corpus, layer.index, self.cfg.simulate)
            labels = read_labels(layer.labels.path)
            with threads(self.cfg.labeler.threads):
                simulation = self.simulator.open(self._models())(
                    [label.text for label in labels if label.text is not None]
                )
                return audit.run(
                    {moment: artifact.path / "model" for moment, artifact in models.items()},
                    corpus,
                    aligned.calibrate,
                    aligned.nodes,
                    per_text(simulation),
                    cfg,
                    self.cfg.evaluate.batch_size,
                    self.cfg.seed,
                    out,
                    self._device(),
                )

        config = {key: value for key, value in dataclasses.asdict(cfg).items() if key != "enabled"}
        parents = self._parents(simulate=layer.artifacts["simulate"], label=layer.labels, **models)
        identity = self.simulator.identity
        return self._build(
            "audit",
            layer.index,
            config | {"layer": layer.index, "seed": self.cfg.seed},
            parents,
            identity,
            compute,
        )

    def _cumulative(self, layer: Layer) -> Artifact:
        """Substitution in this and all lower aligned layers of the final model at once; with a
        head, as `function`."""
        cfg = self.cfg.evaluate
        below = self.layers[: self.layers.index(layer) + 1]
        final = self.layers[-1].artifacts["continue"]

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import cumulative, function

            corpus = self.shared["corpus"].path
            aligned = [
                function.read_aligned(
                    each.artifacts["simulate"].path, corpus, each.index, self.cfg.simulate
                )
                for each in below
            ]
            return cumulative.run(
                final.path / "model",
                aligned,
                cfg.batch_size,
                cfg.n_bootstrap,
                self.cfg.seed,
                out,
                self._device(),
            )

        config = {
            "layers": [each.index for each in below],
            "n_bootstrap": cfg.n_bootstrap,
            "seed": self.cfg.seed,
        }
        parents = self._parents(
            model=final, **{f"simulate_{each.index}": each.artifacts["simulate"] for each in below}
        )
        return self._build("cumulative", layer.index, config, parents, {}, compute)

    def _judge(self, layer: Layer) -> Artifact:
        """Scores by the labeler, by a separate judge, by the head, and by blind relabelling."""
        cfg, position = self.cfg, self.layers.index(layer)
        # Later layers change no activation of this one: the model after its own repair stands for
        # the final one.
        models = {"before": self._moments(layer)["before"], "final": layer.artifacts["continue"]}
        below = self.layers[position - 1].labels if position else None
        parents = self._parents(simulate=layer.artifacts["simulate"], label=layer.labels, **models)
        parents |= {} if self._head is None else {"encode": self.shared["encode"].fingerprint}
        parents |= {} if below is None or not cfg.scores.blind else {"incoming": below.fingerprint}

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.corpus.passage import Passage
            from interp_by_construction.labelling.blind import BlindLabeler
            from interp_by_construction.labelling.labels import read_labels
            from interp_by_construction.stages import judge
            from interp_by_construction.subject.load import load_subject

            paths = {moment: artifact.path / "model" for moment, artifact in models.items()}
            corpus, labels = self.shared["corpus"].path, read_labels(layer.labels.path)
            blind = None
            if cfg.scores.blind:
                model: Any = load_subject(paths["final"])
                labeller = BlindLabeler(
                    self._get_labeler(), cfg.collect, only(AskConfig, cfg.label), cfg.seed
                )
                n_blocks = cfg.collect.max_blocks
                blind = labeller.relabel(
                    model.to(self._device()),
                    Passage.of_split(corpus, "label", n_blocks=n_blocks, first=True),
                    layer.index,
                    labels,
                    read_labels(below.path) if below is not None else (),
                )
            with threads(cfg.labeler.threads):
                return judge.run(
                    paths,
                    corpus,
                    layer.artifacts["simulate"].path,
                    labels,
                    blind,
                    layer.index,
                    cfg.simulate,
                    cfg.scores,
                    self._llm_judges(),
                    self._head_judge(),
                    cfg.evaluate.n_bootstrap,
                    cfg.seed,
                    out,
                    self._device(),
                )

        config = dataclasses.asdict(cfg.scores) | {
            "layer": layer.index,
            "seed": cfg.seed,
            "n_bootstrap": cfg.evaluate.n_bootstrap,
        }
        keys = (
            "n_score_tokens",
            "n_fit_tokens",
            "n_head_score_tokens",
            "excerpt_tokens",
            "contrast",
        )
        config |= {"simulate": {key: getattr(cfg.simulate, key) for key in keys}}
        if cfg.scores.blind:
            label = dataclasses.asdict(only(AskConfig, cfg.label))
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
            same = self._model_identity(separate.cfg.model) == self._model_identity(
                labeler.cfg.model
            )
            # Two servers may call different models the same.
            name = (
                separate.cfg.model
                if separate.cfg.model != labeler.cfg.model
                else f"{separate.cfg.model} (judge)"
            )
            judges.append(Judge(separate, name, same))
        return judges

    def _head_judge(self) -> HeadJudge | None:
        from interp_by_construction.stages.evaluate import self_judged
        from interp_by_construction.stages.judge import HeadJudge

        if self._head is None:
            return None
        return HeadJudge(
            self._head,
            self._encoder(),
            self.shared["encode"].path,
            self_judged("head", *self._judges()),
        )
