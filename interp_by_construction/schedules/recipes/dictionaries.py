"""Recipes of layers whose MLP gives way to a dictionary (nodes=transcoder)."""

from __future__ import annotations

from pathlib import Path

from interp_by_construction.engine.store import Artifact
from interp_by_construction.schedules.workshop import Layer, Workshop, given
from interp_by_construction.subject.transcoder_files import (
    check_free,
    check_width,
    find_transcoder,
    read_shape,
)


class DictionaryRecipes(Workshop):
    """Each model of a run, the controls' too, gets a dictionary of its own MLP (invariant 7)."""

    def _check_dictionaries(self, layers: list[int]) -> None:
        """What is wrong with transcoders on disk shows before anything is computed. Raises
        ConfigError."""
        if self.cfg.nodes.path is None:
            return
        from transformers import AutoConfig

        d_model = AutoConfig.from_pretrained(self.shared["subject"].path / "model").hidden_size
        folder = Path(self.cfg.nodes.path).expanduser()
        for index in layers:
            source = find_transcoder(folder, index, len(layers))
            shape = read_shape(source)
            check_width(source, shape, d_model, self.cfg.subject.name)
            check_free(source, shape, self.cfg.free.count)

    def _with_dictionary(self, layer: Layer, model: Artifact, role: str) -> Artifact:
        """`model` with a dictionary in the place of the layer's MLP, noted as `role`; with
        nodes=neurons `model` itself."""
        if self.cfg.nodes.kind == "neurons":
            return model
        layer.artifacts[role] = made = self._dictionary(layer, model)
        self.directory.mark(layer.index, role, made.fingerprint)
        return made

    def _previous(self, stage: str, layer: Layer) -> Artifact:
        """The model that a comparison's segment starts from; in the loop it gets a dictionary of
        its own MLP."""
        lower = self._lower(layer)
        model = self._origin if lower is None else lower.artifacts[stage]
        return (
            model if self._together else self._with_dictionary(layer, model, f"dictionary_{stage}")
        )

    def _dictionary(self, layer: Layer, model: Artifact) -> Artifact:
        from interp_by_construction.stages.dictionary import Dictionary

        corpus = given(self.shared["corpus"])
        return self._make_stage(Dictionary.of(self.cfg, corpus, given(model), layer.index))
