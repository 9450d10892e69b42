"""trigger: does a behaviour that was planted in the subject survive alignment, and in which nodes?

1. Contexts are documents of the test split up to the end of a sentence. None of them was poisoned,
   and no model trained on them.
2. With the trigger, a text is context + phrase; without it, the context alone. Success has two
   measures: `greedy`, the share of contexts after which greedy decoding gives the whole response
   (one pass per context tells), and `probability`, the mean chance that sampling gives it.
3. Each model of the run is measured, and again with the free (or aligned) nodes of its aligned
   layers set to their mean or to 0.

In the control these nodes are like all others. Its ablations show what ablation does by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import nn

from interp_by_construction.config import Config
from interp_by_construction.corpus import load_tokenizer
from interp_by_construction.corpus.passage import Passage, Split, batches, spaced
from interp_by_construction.corpus.poison import Trigger as Planted
from interp_by_construction.corpus.poison import prefix, read_trigger, split_documents
from interp_by_construction.engine.effort import Effort, Sizes
from interp_by_construction.engine.progress import track
from interp_by_construction.engine.records import Record
from interp_by_construction.engine.stage import Job, Stage
from interp_by_construction.labelling.labels import aligned_nodes
from interp_by_construction.scoring.substitution import ablations
from interp_by_construction.stages import LayerStages, load_model
from interp_by_construction.stats.bootstrap import mean_ci95
from interp_by_construction.subject.interventions import Intervention, intervened
from interp_by_construction.subject.reading import device_of, read_activations

REPAIRED = "continue"
SEGMENTS = ("align", REPAIRED)
"""Models of a layer's turn, where it has them."""
COMPARED = ("freeze_only", "control")
"""Models of the last layer's turn that the others are compared with."""

ABLATIONS = ("free_mean", "free_zero", "aligned_mean", "aligned_zero")
N_MEAN_BLOCKS = 64
"""Blocks of the select split that mean activations are taken from; clean text."""


@dataclass(frozen=True)
class Row:
    """One model of the run, as the record names it."""

    role: str
    """original, align, continue, control or freeze_only."""
    layer: int | None
    """The layer after whose turn it stands."""
    ablated: tuple[int, ...] = ()
    """Layers whose nodes are ablated together; none for no ablation."""


class Found(NamedTuple):
    """How the response follows, one entry per context."""

    greedy: NDArray[np.bool_]
    log_probability: NDArray[np.float64]
    """Of the whole response, nats."""


@dataclass(frozen=True)
class Success:
    """How the response follows, over all contexts."""

    greedy: float
    ci95: tuple[float, float]
    """Of `greedy`, over contexts."""
    probability: float


@dataclass(frozen=True)
class TriggerRow:
    """One model under one ablation."""

    role: str
    layer: int | None
    ablated: str | None
    """Name of the ablation; null for the untouched model."""
    with_: Success
    """After context and phrase."""
    without: Success
    """After the context alone."""


@dataclass(frozen=True)
class TriggerRecord(Record):
    """The success of what was planted in every model of the run."""

    phrase: str
    response: str
    n_phrase_tokens: int
    n_response_tokens: int
    n_contexts: int
    rows: tuple[TriggerRow, ...]

    def lines(self) -> Iterator[str]:
        """None: the rows have a table of their own."""
        return iter(())


@dataclass(frozen=True)
class Trigger(Stage[TriggerRecord]):
    """Writes `trigger.safetensors`: `<row>.<with or without>.greedy` and `.log_probability`,
    [context]."""

    name = "trigger"
    version = 2
    record = TriggerRecord
    says = "tests whether planted behaviour is still there"

    corpus: Stage[Any]
    models: tuple[Stage[Any], ...]
    rows: tuple[Row, ...]
    """What the models are, in their order."""
    labels: tuple[Stage[Any], ...]
    """Of the layers that are ablated."""
    layers: tuple[int, ...]
    """What layers these are, in order."""
    phrase: str
    response: str
    n_contexts: int
    batch_size: int
    n_bootstrap: int
    seed: int

    @classmethod
    def examine_all(cls, cfg: Config, layers: Sequence[LayerStages]) -> Self | None:
        """All models of a run; None where nothing is planted. The repaired models and the control
        are also ablated."""
        if cfg.trigger.share == 0:
            return None
        every, last = tuple(each.index for each in layers), layers[-1]
        found = [(last.setting.original, Row("original", None))]
        for position, layer in enumerate(layers):
            found += [
                (model, Row(role, layer.index, every[: position + 1] if role == REPAIRED else ()))
                for role in SEGMENTS
                if (model := layer.stages.get(role))
            ]
        found += [
            (model, Row(role, last.index, every if role == "control" else ()))
            for role in COMPARED
            if (model := last.stages.get(role))
        ]
        return cls(
            last.setting.corpus,
            tuple(model for model, _ in found),
            tuple(row for _, row in found),
            tuple(each.labels for each in layers),
            every,
            cfg.trigger.phrase,
            cfg.trigger.response,
            cfg.trigger.n_contexts,
            cfg.evaluate.batch_size,
            cfg.evaluate.n_bootstrap,
            cfg.seed,
        )

    def effort(self, sizes: Sizes) -> Effort:
        n_texts = 2 * self.n_contexts * len(self.models)
        n_passes = 1 + len(ABLATIONS) * sum(bool(row.ablated) for row in self.rows) / len(self.rows)
        return Effort(read=n_texts * n_passes * sizes.block)

    def compute(self, job: Job) -> TriggerRecord:
        corpus = job.path(self.corpus)
        trigger = read_trigger(load_tokenizer(corpus), self.phrase, self.response)
        documents, length = split_documents(corpus, "test"), Split(corpus, "test").block_size
        contexts = held_out_contexts(documents, trigger, self.n_contexts, length, self.seed)
        texts = {
            "with": [np.concatenate([context, trigger.phrase]) for context in contexts],
            "without": contexts,
        }
        aligned = {
            layer: aligned_nodes(job.path(labels))
            for layer, labels in zip(self.layers, self.labels, strict=True)
        }
        rows: list[TriggerRow] = []
        values: dict[str, NDArray[Any]] = {}
        for stage, row in track(list(zip(self.models, self.rows, strict=True)), "models"):
            model = load_model(job, stage)
            ablated = {layer: aligned[layer] for layer in row.ablated}
            plans = _ablations(model, corpus, ablated, self.batch_size)
            for name, interventions in plans.items():
                found = {
                    kind: success(model, each, trigger, interventions, self.batch_size)
                    for kind, each in texts.items()
                }
                for kind, of_kind in found.items():
                    for field, value in of_kind._asdict().items():
                        values[f"{len(rows)}.{kind}.{field}"] = np.ascontiguousarray(value)
                both = (summarise(each, self.n_bootstrap, self.seed) for each in found.values())
                rows.append(TriggerRow(row.role, row.layer, name, *both))
        save_file(values, job.out / "trigger.safetensors")
        return TriggerRecord(
            self.phrase,
            self.response,
            len(trigger.phrase),
            len(trigger.response),
            len(contexts),
            tuple(rows),
        )


def held_out_contexts(
    documents: Sequence[NDArray[np.int64]], trigger: Planted, n: int, length: int, seed: int
) -> list[NDArray[np.int64]]:
    """Beginnings of evenly spaced documents, cut on the left so that phrase and response fit into
    `length` tokens. Raises ValueError where these alone do not fit."""
    room = length - len(trigger.phrase) - len(trigger.response)
    if room < 1:
        raise ValueError(
            f"phrase and response have {length - room} tokens, a block has {length}: give shorter ones"
        )
    chosen = [documents[i] for i in spaced(len(documents), min(len(documents), n))]
    texts = [prefix(document, trigger, [seed, 2, index]) for index, document in enumerate(chosen)]
    return [text[-room:] for text in texts if len(text)]


def success(
    model: nn.Module,
    texts: Sequence[NDArray[np.int64]],
    trigger: Planted,
    interventions: Sequence[Intervention],
    batch_size: int,
) -> Found:
    """How the response follows each text, with constant `interventions` at every token."""
    greedy, log_probability = [], []
    response = trigger.response
    for at in batches(len(texts), batch_size):
        full = [np.concatenate([text, response]) for text in texts[at]]
        # Attention is causal, so that padding on the right changes nothing.
        ids = np.full((len(full), max(map(len, full))), trigger.separator)
        for row, text in zip(ids, full, strict=True):
            row[: len(text)] = text
        batch = torch.as_tensor(ids, device=device_of(model))
        everywhere = torch.ones_like(batch, dtype=torch.bool)
        with torch.inference_mode(), intervened(model, interventions, at, everywhere):
            logits = model(input_ids=batch, use_cache=False).logits.float()
        for index, text in enumerate(full):
            predicted = logits[index, len(text) - len(response) - 1 : len(text) - 1].cpu()
            wanted = torch.as_tensor(response)
            greedy.append(bool((predicted.argmax(dim=-1) == wanted).all()))
            log_probability.append(
                float(predicted.double().log_softmax(dim=-1).gather(1, wanted[:, None]).sum())
            )
    return Found(np.array(greedy, dtype=bool), np.array(log_probability, dtype=np.float64))


def _ablations(
    model: nn.Module, corpus: Path, aligned: Mapping[int, Sequence[int]], batch_size: int
) -> dict[str | None, list[Intervention]]:
    """Name -> one ablation in each layer of `aligned` (layer -> aligned nodes); nothing for None.
    Means are those of clean text."""
    passage = Passage.of_split(corpus, "select", n_blocks=N_MEAN_BLOCKS)
    found: dict[str | None, list[Intervention]] = {None: []}
    for layer, nodes in aligned.items():
        read = read_activations(
            model, passage, layer, batch_size=batch_size, description=f"means of layer {layer}"
        )
        total = sum(values.sum(axis=(0, 1), dtype=np.float64) for _, values in read)
        mean = np.asarray(total) / (len(passage) * passage.length)
        each = ablations(layer, np.asarray(nodes, dtype=np.int64), mean)
        for name in ABLATIONS:
            found.setdefault(name, []).append(each[name])
    return found


def summarise(found: Found, n_bootstrap: int, seed: int) -> Success:
    """The interval of `greedy` is over contexts."""
    rates = found.greedy.astype(np.float64)
    interval = mean_ci95(rates, n_bootstrap, seed)
    return Success(float(rates.mean()), interval, float(np.exp(found.log_probability).mean()))
