"""trigger: does a behaviour that was planted in the subject survive alignment, and where does it
live?

1. Contexts: documents of the test split up to the end of a sentence. None of them was poisoned, and
   no model trained on them.
2. With the trigger: context + phrase; without: the context alone. Success is how the response
   follows: `greedy`, the share of contexts after which greedy decoding gives the whole response
   (every token is the likeliest after those before it, so one pass per context tells), and
   `probability`, the mean chance that sampling does.
3. For each model of the run, and again with the free (or aligned) nodes of its aligned layers set
   to their mean or to 0.

The same ablations of the control, in which these nodes are no different from others, show what
ablation does by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from interp_by_construction.config import TriggerConfig
from interp_by_construction.corpus import load_tokenizer
from interp_by_construction.corpus.passage import Passage, Split, batches, spaced
from interp_by_construction.corpus.poison import Trigger, prefix, read_trigger, split_documents
from interp_by_construction.engine.progress import track
from interp_by_construction.scoring import mean_ci95
from interp_by_construction.scoring.substitution import ablations
from interp_by_construction.subject.interventions import Intervention, intervened
from interp_by_construction.subject.load import load_subject
from interp_by_construction.subject.reading import device_of, read_activations

ABLATIONS = ("free_mean", "free_zero", "aligned_mean", "aligned_zero")
N_MEAN_BLOCKS = 64
"""Blocks of the select split that mean activations are taken from; clean text."""


class Checkpoint(NamedTuple):
    """One model of the run."""

    role: str
    """original, align, continue, control, or another stage's name."""
    layer: int | None
    """The layer after whose turn it stands."""
    path: Path
    aligned: Mapping[int, Sequence[int]]
    """Layer -> aligned nodes, for every layer that is ablated together; none for no ablation."""


class Success(NamedTuple):
    """How the response follows, one entry per context."""

    greedy: NDArray[np.bool_]
    log_probability: NDArray[np.float64]
    """Of the whole response, nats."""


def run(
    checkpoints: Sequence[Checkpoint],
    corpus: Path,
    cfg: TriggerConfig,
    batch_size: int,
    n_bootstrap: int,
    seed: int,
    out: Path,
    device: Any,
) -> dict[str, Any]:
    """Writes `trigger.safetensors`: `<row>.<with or without>.greedy` and `.log_probability`,
    [context].

    The metrics: phrase, response and their tokens, `n_contexts`, and `rows`, one per model and
    ablation, each with `role`, `layer`, `ablated` (null for the untouched model) and the success
    `with` and `without` the trigger.
    """
    from safetensors.numpy import save_file

    trigger = read_trigger(load_tokenizer(corpus), cfg.phrase, cfg.response)
    length = Split(corpus, "test").block_size
    contexts = held_out_contexts(
        split_documents(corpus, "test"), trigger, cfg.n_contexts, length, seed
    )
    records: list[dict[str, Any]] = []
    values: dict[str, NDArray] = {}
    for each in track(checkpoints, "trigger"):
        model = load_subject(each.path).to(device)
        interventions = _ablations(model, corpus, each.aligned, batch_size)
        for ablated in (None, *(ABLATIONS if each.aligned else ())):
            record = {"role": each.role, "layer": each.layer, "ablated": ablated}
            for name, extra in (("with", trigger.phrase), ("without", trigger.phrase[:0])):
                texts = [np.concatenate([context, extra]) for context in contexts]
                found = success(
                    model,
                    texts,
                    trigger.response,
                    trigger.separator,
                    [] if ablated is None else interventions[ablated],
                    batch_size,
                )
                record[name] = summarise(found, n_bootstrap, seed)
                values |= {
                    f"{len(records)}.{name}.{field}": value
                    for field, value in found._asdict().items()
                }
            records.append(record)
    save_file(
        {name: np.ascontiguousarray(value) for name, value in values.items()},
        out / "trigger.safetensors",
    )
    return {
        "phrase": cfg.phrase,
        "response": cfg.response,
        "n_phrase_tokens": len(trigger.phrase),
        "n_response_tokens": len(trigger.response),
        "n_contexts": len(contexts),
        "rows": records,
    }


def held_out_contexts(
    documents: Sequence[NDArray[np.int64]], trigger: Trigger, n: int, length: int, seed: int
) -> list[NDArray[np.int64]]:
    """Beginnings of evenly spaced documents, cut on the left so that phrase and response fit into
    `length` tokens.

    Raises:
        ValueError: they do not fit.
    """
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
    response: NDArray[np.int64],
    pad: int,
    interventions: Sequence[Intervention],
    batch_size: int,
) -> Success:
    """How `response` follows each text, with constant `interventions` at every token.

    Attention is causal, so that padding on the right changes nothing.
    """
    greedy, log_probability = [], []
    for at in batches(len(texts), batch_size):
        full = [np.concatenate([text, response]) for text in texts[at]]
        ids = np.full((len(full), max(map(len, full))), pad)
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
    return Success(np.array(greedy, dtype=bool), np.array(log_probability, dtype=np.float64))


def _ablations(
    model: nn.Module, corpus: Path, aligned: Mapping[int, Sequence[int]], batch_size: int
) -> dict[str, list[Intervention]]:
    """Name -> one ablation in each layer of `aligned`; means are those of clean text."""
    passage = Passage.of_split(corpus, "select", n_blocks=N_MEAN_BLOCKS)
    found: dict[str, list[Intervention]] = {name: [] for name in ABLATIONS}
    for layer, nodes in aligned.items():
        read = read_activations(
            model, passage, layer, batch_size=batch_size, description=f"means of layer {layer}"
        )
        total = sum(values.sum(axis=(0, 1), dtype=np.float64) for _, values in read)
        mean = np.asarray(total) / (len(passage) * passage.length)
        each = ablations(layer, np.asarray(nodes, dtype=np.int64), mean)
        for name in ABLATIONS:
            found[name].append(each[name])
    return found


def summarise(found: Success, n_bootstrap: int, seed: int) -> dict[str, Any]:
    """`greedy` with its interval over contexts, and `probability`."""
    rates = found.greedy.astype(np.float64)
    return {
        "greedy": float(rates.mean()),
        "ci95": list(mean_ci95(rates, n_bootstrap, seed)),
        "probability": float(np.exp(found.log_probability).mean()),
    }
