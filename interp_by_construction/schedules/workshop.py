"""What every recipe of the loop needs at hand: store, run directory, labeler, head, device, and the
layers done so far."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from interp_by_construction.config import Config, to_dict
from interp_by_construction.engine.engine import Engine
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.runtime import Runtime
from interp_by_construction.engine.stage import Given, Stage
from interp_by_construction.engine.store import COST, SCRATCH, Artifact, Recipe, Store, write_json

if TYPE_CHECKING:
    from interp_by_construction.llm.handle import LanguageModel
    from interp_by_construction.simulators.base import Models, Simulator
    from interp_by_construction.simulators.encoder import Encoder
    from interp_by_construction.simulators.head import Head

VERSIONS = {
    "encode": 4,
    "encode_label": 1,
    "encode_select": 1,
    "simulate": 5,
}
"""Schema version of each stage's output: raise it when the same config starts to give another
result."""


@dataclass
class Layer:
    """Artifacts of one aligned layer."""

    index: int
    artifacts: dict[str, Artifact] = field(default_factory=dict)

    @property
    def labels(self) -> Artifact:
        """The final labels, which everything behind the labelling reads: the matched ones, else the
        labeler's."""
        return self.artifacts.get("assign", self.artifacts["label"])


def given(artifact: Artifact) -> Given:
    """An artifact as the parent of a stage of the new kind."""
    return Given(artifact.path, artifact.fingerprint)


class Workshop:
    """Owns skip and mark: an artifact that exists is never computed again, one that is made is
    announced and recorded."""

    def __init__(self, cfg: Config, directory: RunDirectory) -> None:
        self.cfg = cfg
        self.directory = directory
        self.store = Store(cfg.store_dir)
        self.shared: dict[str, Artifact] = {}
        self.layers: list[Layer] = []
        self._started = False

    @contextmanager
    def session(self) -> Iterator[Self]:
        try:
            yield self
        finally:
            self.runtime.close()

    @cached_property
    def runtime(self) -> Runtime:
        """What stages compute with."""
        cfg, trainer = self.cfg, self.cfg.trainer
        logs = self.directory.path / "logs"
        return Runtime(
            trainer.device,
            trainer.threads,
            cfg.labeler.threads,
            trainer.checkpoint_seconds,
            self._tracked,
            self.store.root / "calls.sqlite",
            logs,
        )

    def _make_stage(self, stage: Stage[Any]) -> Artifact:
        """The artifact of a stage of the new kind."""
        return self._engine.get(stage)

    def _make_shared(self, stage: Stage[Any]) -> Artifact:
        """The same for a stage of the whole run."""
        artifact = self._make_stage(stage)
        self.directory.mark(None, stage.name, artifact.fingerprint)
        return artifact

    @cached_property
    def _engine(self) -> Engine:
        return Engine(self.store, self.runtime, self.directory.announce)

    def _build(
        self,
        stage: str,
        layer: int | None,
        config: dict[str, Any],
        parents: dict[str, str],
        identity: dict[str, str],
        compute: Callable[[Path], dict[str, Any]],
    ) -> Artifact:
        recipe = Recipe(stage, VERSIONS[stage], config, parents, identity)

        def announced(out: Path) -> dict[str, Any]:
            self._prepare_machine()
            self.directory.announce(stage, layer)
            device, before = self._device_name(), self.runtime.tokens()
            try:
                return compute(out)
            finally:
                self._add_cost(out, device, self.runtime.tokens() - before)

        artifact = self.store.build(recipe, announced)
        if layer is None:
            self.directory.mark(None, stage, artifact.fingerprint)
        return artifact

    def _add_cost(self, out: Path, device: str, tokens: int) -> None:
        """Also after a failure: the calls that were answered are not asked again."""
        file = out / SCRATCH / COST
        known = json.loads(file.read_text()) if file.is_file() else {}
        tokens += known.get("labeler_tokens", 0)
        write_json(file, {"device": device} | ({"labeler_tokens": tokens} if tokens else {}))

    def _prepare_machine(self) -> None:
        """Threads are set once, before the first computation: their number can change the last
        bits."""
        if not self._started:
            import torch

            torch.set_num_threads(self.cfg.trainer.threads)
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
            self._started = True

    def _parents(self, **artifacts: Artifact) -> dict[str, str]:
        named = {"corpus": self.shared["corpus"], **artifacts}
        return {role: artifact.fingerprint for role, artifact in named.items()}

    def _lower(self, layer: Layer) -> Layer | None:
        """The aligned layer under this one."""
        return next((each for each in reversed(self.layers) if each.index < layer.index), None)

    def _aligned(self, layer: Layer) -> list[int]:
        from interp_by_construction.labelling.labels import read_labels

        return sorted(
            label.node for label in read_labels(layer.labels.path) if label.text is not None
        )

    @property
    def _together(self) -> bool:
        """Whether the layers are labelled on the original subject and aligned together."""
        return self.cfg.schedule != "sequential"

    @property
    def _origin(self) -> Artifact:
        """The model that a run starts from: the subject, or, with layers aligned together, that
        with all dictionaries."""
        swapped = [
            each.artifacts["dictionary"] for each in self.layers if "dictionary" in each.artifacts
        ]
        return swapped[-1] if self._together and swapped else self.shared["subject"]

    def _aligned_model(self, layer: Layer) -> Artifact:
        """The model whose aligned activations in this layer are frozen: as the layer's alignment
        left it, or, where all layers were aligned at once, as it was when the layers below had
        settled."""
        lower = self._lower(layer)
        settled = self.cfg.schedule == "joint" and lower is not None
        return (
            lower.artifacts["continue"]
            if settled and lower is not None
            else layer.artifacts["align"]
        )

    def _model_identity(self, name: str) -> str:
        from interp_by_construction.llm.embedded import model_identity

        return model_identity(name)

    @cached_property
    def simulator(self) -> Simulator:
        """Raises ConfigError for one that cannot work as it is configured."""
        from interp_by_construction.simulators import create

        return create(self.cfg.simulate)

    def _models(self) -> Models:
        """What a simulator may open."""
        from interp_by_construction.simulators.base import Models

        return Models(self._get_labeler, self._device())

    @property
    def _head(self) -> Head | None:
        return getattr(self.simulator, "head", None)

    def _encoder(self) -> Encoder:
        """Loaded where it is needed and dropped afterwards: it may be larger than the subject."""
        assert self._head is not None
        return self._head.load_encoder(self._device())

    @cached_property
    def language_model(self) -> LanguageModel:
        """The labeler."""
        from interp_by_construction.llm.handle import LanguageModel

        return LanguageModel(self.cfg.labeler)

    def _get_labeler(self) -> Any:
        return self.runtime.use(self.language_model)

    def _device(self) -> Any:
        from interp_by_construction.engine.device import resolve_device

        return resolve_device(self.cfg.trainer.device)

    def _device_name(self) -> str:
        """`cpu`, or the GPU's own name, by which its seconds can be compared."""
        import torch

        device = self._device()
        return device if device == "cpu" else torch.cuda.get_device_name(device)

    def _tracked(self, stage: str, layer: int | None) -> AbstractContextManager[Any]:
        from interp_by_construction.engine.tracking import tracked

        logs = self.directory.path / "logs"
        return tracked(
            self.cfg.logger, self.directory.name, stage, layer, None, logs, to_dict(self.cfg)
        )


@contextmanager
def threads(n: int) -> Iterator[None]:
    """The encoder is large enough for more threads than a small subject."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
