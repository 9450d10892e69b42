"""A finished run as a Python object, for notebooks and for `ibc explain`.

It reads the run's files and computes nothing that is stored. `examples/quickstart.ipynb` shows it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from interp_by_construction.config import Config, TextAmounts, only, user_path
from interp_by_construction.corpus import load_tokenizer
from interp_by_construction.corpus.token_texts import TokenTexts
from interp_by_construction.corpus.tokenize import separator_id, token_ids
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.runtime import Runtime
from interp_by_construction.engine.session import reading_runtime
from interp_by_construction.errors import ConfigError, StoreError
from interp_by_construction.labelling.labels import read_labels
from interp_by_construction.llm.beginning import beginning
from interp_by_construction.loaded.explanation import (
    Explanation,
    Named,
    Scale,
    explained,
    read_scale,
)
from interp_by_construction.results.finished import Finished, labels_of
from interp_by_construction.results.models import asked_link
from interp_by_construction.scoring.simulated import SimulatedLayer
from interp_by_construction.simulators.files import SURROGATE
from interp_by_construction.simulators.handle import ConfiguredSimulator, simulator_of
from interp_by_construction.subject.hooks import activations
from interp_by_construction.subject.load import load_subject


def load(path: str | Path) -> LoadedRun:
    """The finished run in the directory `path`, such as `runs/demo`. Loads no model yet.

    Raises ConfigError for a path that is no run, a run that is not finished, and one that another
    version wrote; StoreError where an artifact of it is gone.
    """
    directory = RunDirectory(user_path(str(path), "path").resolve())
    if not (directory.path / "config.yaml").is_file():
        raise ConfigError(f"{path}: {_no_run(directory.path)}")
    directory.finished_summary()
    return LoadedRun(directory, directory.config(), Finished.linked(directory, directory.store))


@dataclass(frozen=True, repr=False, eq=False)
class LoadedRun:
    """A finished run. Models are loaded when they are first needed, and the final one and the
    encoder are then kept.

    A text is read by itself, as the beginning of a context, without any token in front of it.
    Methods that read one raise ConfigError for a text without tokens, or with more than fit into
    the model's context.
    """

    directory: RunDirectory
    config: Config
    found: Finished
    """The artifacts of the run."""
    _scales: dict[int, Scale] = field(default_factory=dict, init=False)
    """Those that have been read, by layer."""

    def __repr__(self) -> str:
        return f"LoadedRun({self.directory.name!r}, layers={self.layers})"

    @property
    def name(self) -> str:
        """`NAME`, or `SWEEP/JOB` for a job of a sweep."""
        return self.directory.name

    @property
    def layers(self) -> list[int]:
        """The layers whose neurons have labels, lowest first."""
        return sorted(self.found.layers)

    @cached_property
    def nodes(self) -> pd.DataFrame:
        """`nodes.parquet`: a row for each neuron of each labelled layer. Its columns are `layer`,
        `node`, `pole`, `label`, `status` (aligned, failed or free), `added`, `top_tokens`, and the
        scores that the run has measured.

        pole: 1 or -1, the sign of the activations that the label describes. Raises StoreError if
        the file is missing or damaged.
        """
        file = self.directory.path / "nodes.parquet"
        try:
            return pd.read_parquet(file)
        except (OSError, pa.ArrowInvalid) as error:
            raise StoreError(
                f"{file} is missing or damaged: the same `ibc run` writes it anew; "
                "nothing is recomputed"
            ) from error

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The subject's."""
        return load_tokenizer(self._corpus)

    def model(self, at: str = "final", layer: int | None = None) -> PreTrainedModel:
        """The model `before` or `after` the alignment of `layer`, or at the end of the run
        (`final`, which needs no layer), in evaluation mode on the CPU. `before` is the original
        subject where layers were aligned together.

        Each call loads another copy. Changing it does not change what the run answers. Raises
        ConfigError for an unknown moment or layer.
        """
        store = self.directory.store
        link = asked_link(self.directory, store, at, layer)
        return load_subject(store.path(link.stage, link.fingerprint) / "model")

    def tokens(self, text: str) -> list[str]:
        """The subject's tokens of a text, which may have any length. Joined they give the text,
        with a space in front of it if the tokenizer adds one."""
        return self._token_texts.of(self._ids(text))

    def activations(self, text: str) -> dict[int, NDArray[np.float32]]:
        """What all neurons of the labelled layers do on a text, in the final model: layer -> [pos,
        node]. Columns are the rows of `nodes` of that layer.

        Values are raw: times the `pole` of `nodes` they are what the label describes.
        """
        return self._activations(self._checked_ids(text), self.layers)

    def simulate(self, labels: Sequence[str], text: str) -> NDArray[np.float32]:
        """What neurons with these labels should do on a text, from label and text alone: [pos,
        label].

        Values are in the simulator's own scale, not in that of activations: 0 to 1 with
        simulate.simulator=head, an expected digit (0 to 9) with the others, less the mean of 16
        general labels if simulate.contrast is true. `explain` brings them to the scale of
        activations. With simulate.simulator=exact or ridge the run's labeler answers: it is started
        as the run's settings say, and stopped again. Ridge targets exist for the text of the run
        only, so `ridge` gives the exact simulation.

        Raises ConfigError for a label without words, LabelerError where the labeler cannot work.
        """
        self._checked_ids(text)
        if isinstance(labels, str):
            raise ConfigError(f"labels={labels!r}: give a list, as in [{labels!r}]")
        for i, label in enumerate(labels):
            if not label.strip():
                raise ConfigError(f"labels[{i}]={label!r}: give at least one word")
        return self._simulated(labels, self.tokens(text))

    def explain(self, text: str, top: int = 10, layer: int | None = None) -> Explanation:
        """The `top` labelled neurons that are most active on a text, beside what their labels say.

        Neurons are ordered by their strongest token, as a share of their largest activation on
        held-out text (see `Explanation`). layer: of one layer only. Raises ConfigError for a layer
        without labels, and for `top` below 1.
        """
        if layer is not None and layer not in self.layers:
            raise ConfigError(f"layer={layer}: run {self.name} has labels in layers {self.layers}")
        if top < 1:
            raise ConfigError(f"top={top}: give at least 1")
        layers = self.layers if layer is None else [layer]
        tokens, real = self.tokens(text), self._activations(self._checked_ids(text), layers)
        named = {each: self._named(each) for each in layers}
        return explained(tokens, real, named, lambda labels: self._simulated(labels, tokens), top)

    @cached_property
    def _token_texts(self) -> TokenTexts:
        return TokenTexts(self.tokenizer, separator_id(self.tokenizer))

    @property
    def _corpus(self) -> Path:
        return self.found.shared["corpus"].path

    @cached_property
    def _runtime(self) -> Runtime:
        return reading_runtime(self.config, self.directory.store)

    @cached_property
    def _final(self) -> PreTrainedModel:
        model = self.model()
        nn.Module.to(model, self._runtime.device)
        return model

    @cached_property
    def _simulator(self) -> ConfiguredSimulator:
        """Raises ConfigError where its files are not those that the run was simulated with."""
        own = simulator_of(self.config)
        recorded = json.loads(self.found.last["simulate"].manifest["identity"]["simulator"])
        for name, identity in own.simulator.identity.items():
            if recorded.get(name) != identity:
                given = getattr(self.config.simulate, name, own.name)
                raise ConfigError(
                    f"simulate.{name}={given}: it has changed since "
                    f"run {self.name} was made; bring it back, or start afresh with a new run=NAME"
                )
        return own

    def _ids(self, text: str) -> list[int]:
        if SURROGATE.search(text):
            raise ConfigError(f"text={text!r}: no valid Unicode text (half of a surrogate pair)")
        return token_ids(self.tokenizer, [text])[0]

    def _checked_ids(self, text: str) -> list[int]:
        """Raises ConfigError for no token, and for more than the model can read at once."""
        ids = self._ids(text)
        limit = getattr(self._final.config, "max_position_embeddings", None)
        if not ids:
            raise ConfigError(f"text={text!r}: it has no tokens; give at least one word")
        room = None if limit is None else limit - len(beginning(self.tokenizer))
        if room is not None and len(ids) > room:
            raise ConfigError(
                f"text of {len(ids)} tokens: the context of the model holds {room}; give a shorter text"
            )
        return ids

    def _activations(
        self, ids: Sequence[int], layers: Sequence[int]
    ) -> dict[int, NDArray[np.float32]]:
        begin = beginning(self.tokenizer)
        batch = torch.tensor([[*begin, *ids]], device=self._runtime.device)
        with torch.inference_mode():
            return {
                layer: activations(self._final, layer, batch)[0, len(begin) :].float().cpu().numpy()
                for layer in layers
            }

    def _simulated(self, labels: Sequence[str], tokens: Sequence[str]) -> NDArray[np.float32]:
        if not labels:
            return np.zeros((len(tokens), 0), dtype=np.float32)
        try:
            return self._runtime.use(self._simulator)(labels)([tokens])
        finally:
            # An encoder is kept. A labeler may hold a server, which nobody would stop later.
            if not self._simulator.any_text:
                self._runtime.close()

    def _named(self, layer: int) -> Named:
        """The labelled neurons of a layer, and the scale of its activations."""
        artifacts = self.found.layers[layer]
        labels = [each for each in read_labels(labels_of(artifacts).path) if each.text is not None]
        if layer not in self._scales:
            self._scales[layer] = self._read_scale(layer, artifacts["simulate"].path)
        return Named(labels, self._scales[layer])

    def _read_scale(self, layer: int, folder: Path) -> Scale:
        simulator = simulator_of(self.config)
        simulated = SimulatedLayer(
            folder,
            self._corpus,
            layer,
            only(TextAmounts, self.config.simulate),
            simulator.contrast,
        )
        text = simulated.calibration_text(simulator.calibration_part)
        return read_scale(self._final, text, simulated.aligned)


def _no_run(path: Path) -> str:
    """What there is in place of a run."""
    jobs = sorted(job.name for job in path.glob("*") if (job / "config.yaml").is_file())
    if jobs:
        return f"it holds the runs {', '.join(jobs[:8])}; give the path of one of them"
    beside = sorted(each.name for each in path.parent.glob("*") if (each / "config.yaml").is_file())
    known = f"beside it are {', '.join(beside)}" if beside else "`ibc run` makes one"
    return f"no run is there; give the path of one, such as runs/demo ({known})"
