"""Trains a head together with low-rank adapters of its encoder
(`interp_by_construction/simulators/head.py`), on a GPU.

    python tools/tune_encoder.py --wordnet /path/to/dict --out head.safetensors

The supervision and the towers are those of `train_simulator.py`, which trains on hidden states of a
frozen encoder and needs no GPU. Here every step reads whole texts and the labels of some concepts
through the encoder, whose linear maps have adapters. `--rank 0` leaves the encoder frozen, for
comparison. Of the moving averages of the weights, the one that is best on held-out concepts in
held-out texts is kept.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from concept_batches import Concepts, Padded, precision, supervision
from concept_scores import scores
from lexical_supervision import Supervision
from low_rank import attach, weights_of
from torch import Tensor, nn
from train_simulator import (
    LABEL_SUFFIX,
    Tower,
    TwoTowers,
    average,
    loss_of,
    phrasing_table,
    save,
    standard,
)

from interp_by_construction.llm.embedded import resolve_model
from interp_by_construction.simulators.encoder import Encoder
from interp_by_construction.simulators.head import ADAPTER, CLIP, LABEL_PREFIX

N_FITTED = 256
"""Texts, and phrasings of labels, whose hidden states set the scale of the features."""
DEV_GROUP = 64
"""Texts that are read at once in an evaluation."""


class Simulator(nn.Module):
    """Encoder with adapters, and both towers on its standardised hidden states."""

    def __init__(
        self,
        encoder: Encoder,
        texts: Padded,
        labels: Padded,
        spans: tuple[int, int],
        args: argparse.Namespace,
    ) -> None:
        super().__init__()
        n = encoder.n_features
        self.encoder, self.layers = encoder.model, encoder.layers
        self.texts, self.labels, self.spans = texts, labels, spans
        encoder.model.requires_grad_(False)
        self.adapters = attach(encoder.model, args.rank, args.adapter_dropout) if args.rank else {}
        label = Tower(3 * n, args.label_hidden, args.width + 1, args.label_dropout)
        self.towers = TwoTowers(Tower(n, args.hidden, args.width, args.dropout), label)
        with torch.no_grad():
            label.out.bias[-1] = -4.0  # a concept is rare
        self.register_buffer("token_scale", torch.stack([torch.zeros(n), torch.ones(n)]))
        self.register_buffer("label_scale", torch.stack([torch.zeros(3 * n), torch.ones(3 * n)]))

    def states(self, ids: Tensor) -> Tensor:
        """[text, pos] -> hidden states of the layers side by side [text, pos, feature].

        Padding is behind, so nothing sees it.
        """
        hidden = self.encoder(
            input_ids=ids, output_hidden_states=True, use_cache=False
        ).hidden_states
        return torch.cat([hidden[layer] for layer in self.layers], dim=-1).float()

    def raw_tokens(self, which: Tensor) -> Tensor:
        """Hidden states of all tokens of some texts, [token, feature]."""
        ids, own = self.texts.batch(which)
        return self.states(ids)[own]

    def raw_labels(self, phrasings: Tensor) -> Tensor:
        """`head.label_features` of some phrasings, [phrasing, 3 * feature]."""
        ids, own = self.labels.batch(phrasings)
        states = self.states(ids)
        n_prefix, n_suffix = self.spans
        length = own.sum(1)
        position = torch.arange(ids.shape[1], device=ids.device)
        inside = ((position >= n_prefix) & (position < (length - n_suffix)[:, None])).float()
        mean = (states * inside[..., None]).sum(1) / inside.sum(1, keepdim=True)
        row = torch.arange(len(ids), device=ids.device)
        return torch.cat([mean, states[row, length - n_suffix - 1], states[row, length - 1]], dim=1)

    def token_vectors(self, which: Tensor) -> Tensor:
        """[token, width]"""
        vectors: Tensor = self.towers.token(standardised(self.raw_tokens(which), self.token_scale))
        return vectors

    def label_vectors(self, phrasings: Tensor) -> Tensor:
        """[phrasing, width + 1]"""
        raw = self.raw_labels(phrasings)
        n = self.token_scale.shape[1]
        as_tokens = [standardised(raw[:, i * n : (i + 1) * n], self.token_scale) for i in range(2)]
        return self.towers.label_vectors(
            torch.cat([standardised(raw, self.label_scale), *as_tokens], dim=1)
        )

    def forward(self, which: Tensor, phrasings: Tensor) -> Tensor:
        """Logits [token, phrasing]."""
        return products(self.token_vectors(which), self.label_vectors(phrasings))


def products(tokens: Tensor, labels: Tensor) -> Tensor:
    """Token vectors and label vectors -> logits [token, label]."""
    return (
        tokens.float() @ labels[:, :-1].float().T / math.sqrt(labels.shape[1] - 1)
        + labels[:, -1].float()
    )


def standardised(raw: Tensor, scale: Tensor) -> Tensor:
    """Clipped and standardised features; scale: mean and standard deviation."""
    return ((raw - scale[0]) / scale[1]).clamp(-CLIP, CLIP)


def tokenized(
    encoder: Encoder, data: Supervision, flat: list[str]
) -> tuple[Padded, Padded, tuple[int, int]]:
    """Texts, phrasings as `head.label_features` reads them, and the lengths of their two frames.

    The frames are what stands before and behind a phrasing.
    """

    def ids(texts: list[str]) -> list[list[int]]:
        found: list[list[int]] = encoder.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return found

    (prefix,), (suffix,) = ids([LABEL_PREFIX.rstrip()]), ids([LABEL_SUFFIX])
    labels = ids([f"{LABEL_PREFIX}{phrase.strip()}{LABEL_SUFFIX}" for phrase in flat])
    return Padded(ids(data.texts)), Padded(labels), (len(prefix), len(suffix))


def set_scales(model: Simulator, concepts: Concepts, n_phrasings: int) -> None:
    """Mean and scale of the features before training."""
    phrasings = torch.randint(
        n_phrasings, (4 * N_FITTED,), generator=concepts.generator, device=concepts.types.device
    )
    texts = concepts.some(concepts.train_texts, N_FITTED)
    for scale, raw in (
        (model.token_scale, model.raw_tokens(texts)),
        (model.label_scale, model.raw_labels(phrasings)),
    ):
        scale.copy_(torch.as_tensor(np.stack(standard(raw.float().cpu().numpy()))))


def evaluate(
    model: Simulator, concepts: Concepts, columns: Tensor, every: list[Any]
) -> dict[str, Any]:
    """Scores of some concepts, by their first phrasings, on the held-out texts."""
    model.eval()
    labels = model.label_vectors(concepts.phrasing[columns, 0])
    tokens = torch.cat([model.token_vectors(part) for part in concepts.dev_texts.split(DEV_GROUP)])
    simulated = torch.sigmoid(products(tokens, labels))
    member = concepts.member(concepts.rows(concepts.dev_texts), columns)
    model.train()
    return scores(simulated, member, [every[int(c)] for c in columns])


def train(
    model: Simulator, concepts: Concepts, data: Supervision, args: argparse.Namespace
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Trains in place; returns the best averaged state and its record."""
    adapted = [
        p for adapter in model.adapters.values() for p in (adapter.up.weight, adapter.down.weight)
    ]
    groups = [{"params": model.towers.parameters(), "lr": args.lr}]
    groups += [{"params": adapted, "lr": args.adapter_lr}] if adapted else []
    optimizer = torch.optim.AdamW(groups, weight_decay=args.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [g["lr"] for g in groups], total_steps=args.steps, pct_start=0.1
    )
    trained = nn.ParameterList([*model.towers.parameters(), *adapted])
    averaged = copy.deepcopy(trained)
    seen_sample = concepts.some(concepts.train_concepts, 400).unique()
    best: tuple[float, dict[str, Tensor], dict[str, Any]] = (-1.0, {}, {})
    start = time.monotonic()
    for step in range(1, args.steps + 1):
        batch = concepts.draw(args.batch_texts, args.batch_concepts)
        with precision(args.device):
            logits = model(batch.texts, batch.phrasings)
        loss = loss_of(logits.float(), batch.member, args.correlation)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        average(averaged, trained, min(args.average, step / (step + 9)))
        if step % args.every == 0 or step == args.steps:
            with swapped(trained, averaged), torch.no_grad(), precision(args.device):
                record = {
                    "step": step,
                    "loss": round(loss.item(), 4),
                    "seconds": round(time.monotonic() - start),
                    "held_out_concepts": evaluate(
                        model, concepts, concepts.dev_concepts, data.concepts
                    ),
                    "seen_concepts": evaluate(model, concepts, seen_sample, data.concepts),
                }
                state = {
                    name: value.clone()
                    for name, value in model.state_dict().items()
                    if "towers" in name
                }
                state |= {
                    ADAPTER + name: torch.as_tensor(value)
                    for name, value in weights_of(model.adapters).items()
                }
            sys.stdout.write(json.dumps(record) + "\n")
            sys.stdout.flush()
            if record["held_out_concepts"]["r"] > best[0]:
                best = (record["held_out_concepts"]["r"], state, record)
    return best[1], best[2]


@contextmanager
def swapped(own: nn.ParameterList, other: nn.ParameterList) -> Iterator[None]:
    """Within it, parameters hold the values of others."""

    def swap() -> None:
        for a, b in zip(own, other, strict=True):
            a.data, b.data = b.data, a.data

    swap()
    try:
        yield
    finally:
        swap()


def exported(model: Simulator, state: dict[str, Tensor]) -> dict[str, Any]:
    """The weights of `head.Head`."""
    weights = {}
    for name, value in state.items():
        weights[name.removeprefix("towers.").replace("shared.", "label.shared.")] = (
            value.float().cpu().numpy()
        )
    for tower, scale in (("token", model.token_scale), ("label", model.label_scale)):
        weights |= {
            f"{tower}.mean": scale[0].cpu().numpy(),
            f"{tower}.scale": scale[1].cpu().numpy(),
        }
    return weights


def main() -> None:
    args = arguments()
    torch.manual_seed(args.seed)
    encoder = Encoder.load(resolve_model(args.encoder), args.layers, args.device)
    data = supervision(args, args.encoder, encoder.tokenizer)
    flat, table, n_phrasings = phrasing_table(data.concepts)
    texts, labels, spans = tokenized(encoder, data, flat)
    concepts = Concepts.load(data, table, n_phrasings, args.device, args.seed)
    model = Simulator(encoder, texts, labels, spans, args).to(args.device)
    with torch.no_grad(), precision(args.device):
        set_scales(model, concepts, len(flat))
    state, record = train(model, concepts, data, args)
    save(args, exported(model, state), record, data)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--wordnet",
        type=Path,
        required=True,
        help="folder with data.noun, index.noun, cntlist.rev, ...",
    )
    parser.add_argument(
        "--text",
        type=Path,
        nargs="*",
        default=[],
        help="more plain text files to take sentences from",
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--work", type=Path, default=Path("head-work"), help="the supervision is kept here"
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--encoder", default="smollm2")
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 11, 22])
    parser.add_argument(
        "--rank", type=int, default=16, help="of the adapters; 0: the encoder stays as it is"
    )
    parser.add_argument("--adapter-lr", type=float, default=5e-4)
    parser.add_argument("--adapter-dropout", type=float, default=0.05)
    parser.add_argument("--tokens", type=int, default=890_000)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--every", type=int, default=250)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--label-dropout", type=float, default=0.2)
    parser.add_argument(
        "--correlation", type=float, default=0.5, help="weight of 1 - r beside the cross-entropy"
    )
    parser.add_argument("--batch-texts", type=int, default=128)
    parser.add_argument("--batch-concepts", type=int, default=512)
    parser.add_argument(
        "--average", type=float, default=0.99, help="decay of the moving average of the weights"
    )
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--label-hidden", type=int, default=256)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
