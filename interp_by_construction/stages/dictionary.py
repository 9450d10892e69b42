"""A sparse transcoder takes the place of a layer's MLP; its features become the nodes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from interp_by_construction.config import Config, DictionaryConfig, OptimizerConfig, only
from interp_by_construction.corpus import load_blocks
from interp_by_construction.corpus.passage import Passage, n_begin
from interp_by_construction.engine.effort import Effort, Sizes
from interp_by_construction.engine.progress import track
from interp_by_construction.engine.records import Record
from interp_by_construction.engine.runtime import Handle, Runtime
from interp_by_construction.engine.stage import Job, Stage, unhashed
from interp_by_construction.errors import ConfigError
from interp_by_construction.llm.embedded import model_identity
from interp_by_construction.subject.dictionary import put_in_place
from interp_by_construction.subject.families import output_directions
from interp_by_construction.subject.hooks import mlp_flow
from interp_by_construction.subject.load import load_subject, save_subject, stream_width
from interp_by_construction.subject.transcoder import (
    Transcoder,
    load_transcoder,
    new_transcoder,
    save_transcoder,
)
from interp_by_construction.subject.transcoder_files import (
    CONFIG,
    Shape,
    check_free,
    check_width,
    find_transcoder,
    made_for,
    read_shape,
)
from interp_by_construction.training.batches import TokenBlocks, by_step
from interp_by_construction.training.fit import PhaseRecord, Trained, Workplace, fit
from interp_by_construction.training.phases import data_seed
from interp_by_construction.training.transcoder import Scales, TranscoderModule, unscale

DICTIONARY = 9
"""Kind of phase in `data_seed`, beside those of `training.phases`."""

EVALUATED_BLOCKS = 8
"""Blocks per forward pass where nothing is trained."""


@dataclass(frozen=True)
class TranscoderFolder(Handle[Path]):
    """A transcoder on disk."""

    folder: Path

    @cached_property
    def identity(self) -> str:
        settings = hashlib.sha256((self.folder / CONFIG).read_bytes()).hexdigest()
        return f"{model_identity(str(self.folder))}:{settings}"

    def open(self, runtime: Runtime) -> Path:
        return self.folder


@dataclass(frozen=True)
class Learning:
    """How a transcoder is trained."""

    knobs: DictionaryConfig
    optimizer: OptimizerConfig
    seed: int


@dataclass(frozen=True)
class Fidelity(Record):
    """How well a transcoder does what the MLP did, on held-out text."""

    fvu: float
    """Sum of squared errors over the sum of squared deviations from the mean output."""
    l0: float
    """Active features per token."""
    n_dead: int
    """Features that were active on none of the tokens."""
    n_tokens: int


@dataclass(frozen=True)
class DictionaryRecord(Trained, Fidelity):
    """What took the MLP's place, and how well it does what the MLP did."""

    kind: str
    k: int | None
    skip: bool
    n_features: int
    source: Literal["trained", "loaded"]

    def lines(self) -> Iterator[str]:
        kept = "ReLU" if self.k is None else f"TopK {self.k}"
        yield (
            f"nodes are features of a {self.source} transcoder ({kept}"
            f"{', skip' if self.skip else ''}): {self.fvu:.3f} of the MLP's variance unexplained, "
            f"{self.l0:.1f} of {self.n_features} active per token, {self.n_dead} dead"
        )


@dataclass(frozen=True)
class Dictionary(Stage[DictionaryRecord]):
    """Puts a transcoder in the place of a layer's MLP.

    1. It is read from disk, or trained on what the MLP reads and writes on the train split.
    2. On the test split: fraction of variance unexplained, active features per token, dead
       features.
    3. It takes the MLP's place. Whatever follows works on its features.

    Writes `model/`, with the transcoder in it, and `transcoder/` (cfg.json, sae.safetensors).

    Raises ConfigError for more features per token than there are, or a transcoder that was made for
    another model or width.
    """

    name = "dictionary"
    version = 2
    record = DictionaryRecord
    says = "puts a sparse transcoder in the MLP's place"

    corpus: Stage[Any]
    model: Stage[Any]
    layer: int
    n_eval_tokens: int
    learning: Learning | None
    """None where `source` is given."""
    source: TranscoderFolder | None
    subject: str = unhashed("")
    """Name of the model in messages."""

    @classmethod
    def of(
        cls, cfg: Config, corpus: Stage[Any], model: Stage[Any], layer: int, n_layers: int = 1
    ) -> Self:
        """Trained, or read from `nodes.path`. n_layers: how many layers of the run need one.

        Raises ConfigError for a folder without a transcoder, with one of another width or for too
        few layers, or one that cannot get free features."""
        source, learning = None, None
        if cfg.nodes.path is None:
            learning = Learning(cfg.dictionary, only(OptimizerConfig, cfg.trainer), cfg.seed)
        else:
            folder = find_transcoder(Path(cfg.nodes.path), layer, n_layers)
            shape = read_shape(folder)
            check_width(folder, shape, stream_width(cfg.subject), cfg.subject.name)
            check_free(folder, shape, cfg.free.count)
            source = TranscoderFolder(folder)
        n_tokens, name = cfg.dictionary.n_eval_tokens, cfg.subject.name
        return cls(corpus, model, layer, n_tokens, learning, source, name)

    def effort(self, sizes: Sizes) -> Effort:
        if self.learning is None:
            return Effort(read=self.n_eval_tokens)
        knobs = self.learning.knobs
        n_tokens = knobs.steps * knobs.batch_size * sizes.block
        return Effort(read=self.n_eval_tokens, trained=n_tokens, steps=knobs.steps)

    def compute(self, job: Job) -> DictionaryRecord:
        model: Any = load_subject(job.model(self.model))
        layer, source = self.layer, None
        phases = []
        if self.source is not None:
            source = job.use(self.source)
            transcoder = load_transcoder(source)
            d_model = output_directions(model, layer).shape[1]
            check_width(source, transcoder.shape, d_model, self.subject)
        else:
            assert self.learning is not None
            transcoder, trained = self._learned(job, model, self.learning)
            phases = [trained]
        found = self._fidelity(job, model, transcoder)
        if source is not None and found.fvu >= 1.0:
            raise ConfigError(
                f"nodes.path={source}: a transcoder {made_for(source)}, not of layer {layer} of "
                f"{self.subject}: there it leaves {found.fvu:.2f} of the MLP's variance "
                "unexplained, and the mean output would leave 1.00; give one of this model and "
                "layer"
            )
        save_transcoder(transcoder, job.out / "transcoder", {"layer": layer})
        put_in_place(model.cpu(), layer, transcoder.cpu())
        save_subject(model, job.out / "model")
        shape = transcoder.shape
        return DictionaryRecord(
            **vars(found),
            phases=phases,
            kind=shape.kind,
            k=shape.k,
            skip=shape.skip,
            n_features=shape.n_features,
            source="trained" if source is None else "loaded",
        )

    def _learned(self, job: Job, model: Any, learning: Learning) -> tuple[Transcoder, PhaseRecord]:
        layer, knobs = self.layer, learning.knobs
        blocks = TokenBlocks(load_blocks(job.path(self.corpus), "train"))
        some = blocks.batch(np.arange(min(EVALUATED_BLOCKS, len(blocks))))["input_ids"]
        first = n_begin(job.path(self.corpus))
        scales = Scales.of(mlp_flow(model, layer, some, first))
        shape = wanted_shape(knobs, output_directions(model, layer).shape[1])
        transcoder = new_transcoder(shape, scales.mean, learning.seed * 1000 + layer)
        at = by_step(blocks, data_seed(learning.seed, layer, DICTIONARY), knobs.batch_size)
        how = learning.optimizer
        module = TranscoderModule(transcoder, model, layer, scales, knobs, how, first)
        with Workplace.of(job) as place:
            record = fit(module, at, place, "transcoder")
        unscale(transcoder, scales)
        return transcoder, record

    @torch.no_grad()
    def _fidelity(self, job: Job, model: Any, transcoder: Transcoder) -> Fidelity:
        """On the first blocks of the test split. `model` still has its MLP."""
        layer, device = self.layer, job.runtime.device
        model.to(device), transcoder.to(device)
        d_model, count, error = transcoder.shape.d_model, 0, 0.0
        total, squares = (
            torch.zeros(d_model, dtype=torch.float64, device=device) for _ in range(2)
        )
        active = torch.zeros(transcoder.shape.n_features, dtype=torch.long, device=device)
        shift: Tensor | None = None
        passage = Passage.of_split(
            job.path(self.corpus), "test", n_tokens=self.n_eval_tokens, first=True
        )
        parts = list(passage.slices(EVALUATED_BLOCKS))
        for part in track(parts, "held-out text"):
            ids = torch.as_tensor(part.ids, device=device)
            x, y = mlp_flow(model, layer, ids, part.n_begin)
            features = transcoder.activation(transcoder.encoder(x))
            error += float((y - transcoder.decode(features, x)).double().square().sum())
            # Sums of differences from a typical value keep the digits that sums of squares lose.
            shift = y.double().mean(0) if shift is None else shift
            away = y.double() - shift
            total, squares = total + away.sum(0), squares + away.square().sum(0)
            active, count = active + (features > 0).sum(0), count + len(x)
        variance = float((squares - total.square() / count).sum())
        return Fidelity(
            fvu=error / max(variance, 1e-12),
            l0=float(active.sum()) / count,
            n_dead=int((active == 0).sum()),
            n_tokens=count,
        )


def wanted_shape(cfg: DictionaryConfig, d_model: int) -> Shape:
    """The transcoder that `cfg` asks for. Raises ConfigError where k exceeds its features."""
    n_features, k = cfg.expansion * d_model, cfg.k if cfg.activation == "topk" else None
    if k is not None and k > n_features:
        fix = f"the transcoder has {n_features} features (dictionary.expansion={cfg.expansion} times d_model={d_model}); give fewer"
        raise ConfigError(f"dictionary.k={k}: {fix}")
    return Shape(d_model, n_features, k, cfg.skip)
