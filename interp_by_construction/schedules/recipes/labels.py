"""Recipes of labels and of what they say: collect, label, assign, simulate."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from interp_by_construction.engine.store import Artifact, canonical_json
from interp_by_construction.schedules.recipes.text import TextRecipes
from interp_by_construction.schedules.workshop import Layer, threads

if TYPE_CHECKING:
    from interp_by_construction.labelling.audit_cases import Auditor
    from interp_by_construction.labelling.compare import Comparison

POOL = ("general_pool", "min_tokens", "max_overlap")
"""Fields of `label` that decide what labels are matched with, not what they are."""


class LabelRecipes(TextRecipes):
    """Each takes the layer and the model before it."""

    def _collect(self, layer: Layer, before: Artifact) -> Artifact:
        cfg = self.cfg
        amount = (
            {"count": cfg.nodes.count}
            if cfg.nodes.fraction is None
            else {"fraction": cfg.nodes.fraction}
        )
        nodes = {**amount, "select": cfg.nodes.select, "poles": cfg.nodes.poles}
        config = dataclasses.asdict(cfg.collect) | nodes | {"layer": layer.index, "seed": cfg.seed}

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import collect

            model, corpus = before.path / "model", self.shared["corpus"].path
            return collect.run(
                model,
                corpus,
                layer.index,
                cfg.collect,
                cfg.nodes,
                cfg.seed,
                out,
                cfg.trainer.device,
            )

        return self._build("collect", layer.index, config, self._parents(model=before), {}, compute)

    def _label(self, layer: Layer, before: Artifact) -> Artifact:
        cfg = self.cfg
        lower = self.layers[-1] if self.layers else None
        splits = self._labelling_splits()
        parents = {"collect": layer.artifacts["collect"].fingerprint}
        config = dataclasses.asdict(cfg.label) | {"seed": cfg.seed, "revisions": self._revisions()}
        # The amounts of text are in what is read.
        for key in (*POOL, "select_tokens", "head_select_tokens"):
            config.pop(key)
        if cfg.label.audit_rounds:
            config |= {
                "audit": {
                    key: value
                    for key, value in dataclasses.asdict(cfg.audit).items()
                    if key != "enabled"
                }
            }
        else:
            config.pop("audit_rounds")
        if lower is not None:
            parents |= {"model": before.fingerprint, "incoming": lower.labels.fingerprint}
        if splits and self.simulator.any_text:
            parents |= self._parents(
                model=before, **{split: self._encode_split(split) for split in splits}
            )
        elif splits:
            parents |= self._parents(model=before)
            simulate = {key: getattr(cfg.simulate, key) for key in ("excerpt_tokens", "contrast")}
            config |= {"select_tokens": cfg.label.select_tokens, **simulate}

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.labelling import incoming
            from interp_by_construction.stages import label
            from interp_by_construction.subject.tables import (
                read_labels,
                read_nodes,
                read_opposites,
            )

            collected = layer.artifacts["collect"].path
            nodes = read_nodes(collected)
            views = [*nodes, *read_opposites(collected)]
            shown: incoming.Incoming = {}
            if lower is not None:
                below = read_labels(lower.labels.path)
                shown = incoming.strongest(
                    before.path / "model", layer.index, below, views, cfg.label.n_incoming
                )
            with threads(cfg.labeler.threads):
                text = self._comparisons(layer, before, [node.node for node in nodes], splits)
                return label.run(
                    views,
                    shown,
                    self._get_labeler(),
                    cfg.label,
                    cfg.seed,
                    out,
                    text.get("select"),
                    text.get("label"),
                    self._revisions(),
                    self._auditor(layer, before) if cfg.label.audit_rounds else None,
                )

        return self._build(
            "label",
            layer.index,
            config,
            parents,
            {"labeler": self._get_labeler().identity},
            compute,
        )

    def _revisions(self) -> int:
        """One round by default where simulations are cheap; none where candidates are not
        scored."""
        cfg = self.cfg.label
        if not self.simulator.any_text:
            return cfg.revisions or 0
        return int(cfg.head_select_tokens > 0) if cfg.revisions is None else cfg.revisions

    def _labelling_splits(self) -> list[Literal["label", "select"]]:
        """The splits that choosing and revising labels reads."""
        cfg = self.cfg.label
        tokens = cfg.head_select_tokens if self.simulator.any_text else cfg.select_tokens
        return [] if not tokens else ["select", "label"] if self._revisions() else ["select"]

    def _comparisons(
        self,
        layer: Layer,
        before: Artifact,
        nodes: list[int],
        splits: list[Literal["label", "select"]],
    ) -> dict[str, Comparison]:
        """split -> its text, with what the nodes do there and the run's simulator: the head, else
        the labeler itself."""
        from interp_by_construction.labelling import compare
        from interp_by_construction.subject.load import load_subject

        if not splits:
            return {}
        model = load_subject(before.path / "model").to(self._device())
        if self._head is None:
            return {
                split: compare.exactly(
                    model,
                    self._labelling_text(split),
                    layer.index,
                    nodes,
                    self._get_labeler(),
                    self.cfg.simulate.contrast,
                )
                for split in splits
            }
        encoder = self._encoder()
        return {
            split: compare.with_head(
                model,
                self._labelling_text(split),
                self._encode_split(split).path / f"{split}.npy",
                layer.index,
                nodes,
                self._head,
                encoder,
            )
            for split in splits
        }

    def _auditor(self, layer: Layer, before: Artifact) -> Auditor:
        """Audits labels on the model that they are made for; with a head."""
        from interp_by_construction.labelling.audit_cases import Auditor
        from interp_by_construction.stages.audit import head_simulate
        from interp_by_construction.subject.load import load_subject

        head, encoder = self._head, self._encoder()
        assert head is not None
        model: Any = load_subject(before.path / "model")
        return Auditor(
            model.to(self._device()),
            self.shared["corpus"].path,
            layer.index,
            lambda labels: head_simulate(head, encoder, head.label_vectors(encoder, labels)),
            self.cfg.audit,
            self.cfg.evaluate.batch_size,
            self.cfg.seed,
        )

    def _assign(self, layer: Layer, before: Artifact) -> Artifact:
        """Only with nodes.assign=match; the nodes stay."""
        encoded = self._encode_split("label")
        parents = self._parents(
            model=before,
            collect=layer.artifacts["collect"],
            label=layer.artifacts["label"],
            encode=encoded,
        )
        gated = self.cfg.nodes.learnable > 0 and self._gated(before, layer.index)
        general: list[str] = []
        if self.cfg.label.general_pool:
            from interp_by_construction.labelling.general import general_labels

            general = general_labels()

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import assign
            from interp_by_construction.subject.tables import (
                read_labels,
                read_opposites,
                read_proposals,
            )

            given = layer.artifacts["label"].path
            labels = read_labels(given)
            pool = assign.pool(labels, read_proposals(given), general)
            both = [node.node for node in read_opposites(layer.artifacts["collect"].path)]
            assert self._head is not None
            with threads(self.cfg.labeler.threads):
                return assign.run(
                    before.path / "model",
                    self.shared["corpus"].path,
                    encoded.path,
                    labels,
                    pool,
                    layer.index,
                    self.cfg.simulate,
                    self.cfg.label,
                    self._head,
                    self._encoder(),
                    out,
                    self._device(),
                    both,
                    self.cfg.nodes.learnable,
                    self.cfg.seed,
                    gated,
                )

        identity = {"general": hashlib.sha256(canonical_json(general)).hexdigest()}
        config = {
            "layer": layer.index,
            "min_tokens": self.cfg.label.min_tokens,
            "max_overlap": self.cfg.label.max_overlap,
        }
        if self.cfg.nodes.learnable:
            config |= {"learnable": self.cfg.nodes.learnable, "seed": self.cfg.seed} | (
                {"gated": True} if gated else {}
            )
        return self._build("assign", layer.index, config, parents, identity, compute)

    @staticmethod
    def _gated(before: Artifact, layer: int) -> bool:
        from transformers import AutoConfig

        from interp_by_construction.subject.dictionary import gated

        return gated(AutoConfig.from_pretrained(before.path / "model"), layer)

    def _simulate(self, layer: Layer, before: Artifact) -> Artifact:
        """Reads labels and text, and no activation (invariant 5)."""
        cfg = self.cfg.simulate
        encoded = self.shared.get("encode")
        parents = self._parents(label=layer.labels, **({"encode": encoded} if encoded else {}))

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.simulators.base import Texts
            from interp_by_construction.stages import simulate
            from interp_by_construction.subject.tables import read_labels

            path = None if encoded is None else encoded.path
            texts = Texts(self.shared["corpus"].path, cfg, path)
            labels = read_labels(layer.labels.path)
            with threads(self.cfg.labeler.threads):
                return simulate.run(texts, labels, self.simulator, self._models(), out)

        identity = {"labeler": self._get_labeler().identity, **self.simulator.identity}
        settings = self.simulator.settings
        return self._build("simulate", layer.index, settings, parents, identity, compute)
