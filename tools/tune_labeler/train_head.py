"""Trains a head (`interp_by_construction/simulators/head.py`) on labels of words and of contexts.

    python tools/tune_labeler/train_head.py --parsed parsed.jsonl.gz --wordnet DICT --start HEAD \\
        --out head.safetensors

1. `supervision` says of every token of the texts which of thousands of labels hold.
2. The frozen encoder (with the adapters of `--start`, if given) reads every text once, as it reads
   text in a run, and every phrasing of every label once. Both are kept in `--work`: a call that was
   stopped goes on, a second call trains only.
3. Both towers are trained so that simulated activations agree with membership: binary cross-entropy
   and 1 - Pearson's r per concept, on random tokens, some members of every concept, and as many
   tokens of the same words to which the label does not apply.
4. Of the moving averages of the weights, the one is kept that is best on held-out concepts of
   trained kinds in one held-out book and held-out texts of WordNet. What is reported is measured on
   another book. Nothing here sees a corpus of this project.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from supervision import (
    HELD_OUT_BOOKS,
    HELD_OUT_KINDS,
    Supervision,
    build,
    known_tokens,
    text_arguments,
)
from table import Table
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from lexical_supervision import WordNet
from lexical_words import IGNORE
from train_simulator import (
    Projection,
    TwoTowers,
    average,
    encode_labels,
    exported,
    fit,
    loss_of,
    new_model,
    phrasing_table,
    project_labels,
    save,
)

from interp_by_construction.engine.progress import track
from interp_by_construction.llm.embedded import resolve_model
from interp_by_construction.simulators.encoder import Encoder
from interp_by_construction.simulators.head import ADAPTER, Head

PARTS = ("first", "second")
"""The head that makes targets, and the one that only scores beside it: other layers of the encoder,
other texts, other concepts."""
SECOND_SHARE = 0.27
"""Of the texts and of the concepts, for the second head."""
SHARD = 128
"""Texts that are kept in one file."""
N_KNOWN = 64
"""Members, and tokens of the same words that are none, that are known of each concept."""
GENERAL = ("affix", "class", "closed", "file", "mark")
SHARES = (0.45, 0.15)
"""Of the concepts of a batch: of contexts, and of general kinds of words. The rest is WordNet's."""
DEV_TEXTS = 0.08
"""Share of WordNet's texts that are held out."""
LEAST = 12
"""Tokens that a concept needs to be scored."""


def encoded(
    encoder: Encoder, data: Supervision, work: Path, args: argparse.Namespace
) -> dict[str, tuple[NDArray[np.float16], Projection]]:
    """What the encoder reads of every token for each head, projected, [token, component]."""
    work.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(data.texts), SHARD)
    found = {}
    for start in track(starts, "encode texts", total=len(starts)):
        files = {part: work / f"{part}-{start}.npy" for part in PARTS}
        if all(file.is_file() for file in files.values()):
            continue
        rows = np.concatenate(list(encoder.encode(data.texts[start : start + SHARD])))
        for part, file in files.items():
            own = rows[:, columns_of(part, args)]
            known = work / f"{part}-projection.npz"
            if not known.is_file():
                np.savez(known, **fit(own, args.components, whiten=args.whiten)._asdict())
            partial = file.with_suffix(".partial.npy")
            np.save(partial, Projection(**np.load(known))(own))
            partial.rename(file)
    for part in PARTS:
        shards = [np.load(work / f"{part}-{start}.npy", mmap_mode="r") for start in starts]
        found[part] = np.concatenate(shards), Projection(**np.load(work / f"{part}-projection.npz"))
    return found


def columns_of(part: str, args: argparse.Namespace, n_blocks: int = 1) -> NDArray[np.int64]:
    """Columns of the layers that a head reads, among those of all layers; the same for each of some
    blocks of them side by side."""
    every = sorted({*args.layers, *args.second_layers})
    width = 576
    own = [every.index(layer) for layer in (args.layers if part == "first" else args.second_layers)]
    block = np.concatenate([np.arange(i * width, (i + 1) * width) for i in own])
    return np.concatenate([block + i * len(every) * width for i in range(n_blocks)])


class Batches:
    """Random tokens, some members of every concept that is drawn, and some of its near misses."""

    def __init__(
        self, data: Supervision, tokens: NDArray[np.int64], args: argparse.Namespace
    ) -> None:
        self.data, self.tokens, self.args = data, tokens, args
        self.rng = np.random.default_rng(args.seed + 1)
        _, self.phrasing, self.n_phrasings = phrasing_table(data.concepts)
        columns = np.flatnonzero(~data.held_out & (for_second(data) == (args.part == "second")))
        self.members, self.near = known_tokens(data, tokens, columns, self.rng, N_KNOWN)
        kinds = np.array([data.concepts[column].kind for column in columns])
        general = np.isin(kinds, GENERAL)
        context = columns >= data.n_words
        self.groups = columns[context], columns[general], columns[~context & ~general]

    def draw(self, labels: Tensor) -> tuple[NDArray, NDArray, Tensor]:
        """Tokens, concepts, and the features of a phrasing of each, of half a mixture of two."""
        args, rng = self.args, self.rng
        n = args.batch_concepts
        sizes = [int(share * n) for share in SHARES]
        sizes = [
            min(size, len(group))
            for size, group in zip([*sizes, n - sum(sizes)], self.groups, strict=True)
        ]
        chosen = np.sort(
            np.concatenate(
                [
                    rng.choice(group, size, replace=False)
                    for group, size in zip(self.groups, sizes, strict=True)
                ]
            )
        )
        some = [
            rng.choice(known[c], args.positives)
            for c in chosen
            for known in (self.members, self.near)
            if len(known[c])
        ]
        batch = np.unique(
            np.concatenate([rng.choice(self.tokens, args.batch_tokens, replace=False), *some])
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


def for_second(data: Supervision) -> NDArray[np.bool_]:
    """Which concepts the second head is trained on, [concept]."""
    return np.array(
        [
            zlib.crc32(f"second {concept.name}".encode()) % 1000 < 1000 * SECOND_SHARE
            for concept in data.concepts
        ]
    )


@torch.inference_mode()
def evaluate(
    model: TwoTowers,
    x: NDArray,
    labels: Tensor,
    data: Supervision,
    tokens: NDArray,
    columns: NDArray,
) -> dict[str, Any]:
    """Mean r of the true label and of a false one (another concept of the list), by kind, first
    phrasings, on some tokens."""
    _, phrasing, _ = phrasing_table(data.concepts)
    model.eval()
    said = torch.cat(
        [
            torch.sigmoid(
                model(torch.as_tensor(x[part]).float(), labels[phrasing[columns, 0]].float())
            )
            for part in np.array_split(tokens, 16)
        ]
    ).numpy()
    model.train()
    member = data.member(tokens, columns)
    other = np.roll(np.arange(len(columns)), 1)
    found: dict[str, list[tuple[float, float]]] = {}
    for i, column in enumerate(columns):
        known = member[:, i] != IGNORE
        truth = member[known, i] == 1
        if truth.sum() < LEAST or truth.all():
            continue
        concept = data.concepts[column]
        kind = concept.kind if column >= data.n_words or concept.kind in GENERAL else "words"
        pair = (
            np.corrcoef(truth, said[known, i])[0, 1],
            np.corrcoef(truth, said[known, other[i]])[0, 1],
        )
        found.setdefault(kind, []).append(pair)
    by_kind = {
        kind: [round(float(v), 3) for v in np.nanmean(pairs, axis=0)] + [len(pairs)]
        for kind, pairs in sorted(found.items())
    }
    lexical = [kind for kind in found if kind == "words" or kind in GENERAL]
    groups = {
        "words": [p for k in lexical for p in found[k]],
        "contexts": [p for k in found if k not in lexical for p in found[k]],
    }
    means = {
        name: [round(float(v), 4) for v in np.nanmean(pairs, axis=0)] + [len(pairs)]
        for name, pairs in groups.items()
        if pairs
    }
    return means | {"by_kind": by_kind}


def train(
    model: TwoTowers, x: NDArray, labels: Tensor, data: Supervision, args: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Trains in place; returns the best averaged state and its record."""
    books = np.array(data.books)
    held = np.isin(books, HELD_OUT_BOOKS)
    lottery = np.random.default_rng(args.seed).random(len(books)) < DEV_TEXTS
    wordnet = (books == "wordnet") & lottery
    text_of = data.text_of
    select = np.flatnonzero(((books == HELD_OUT_BOOKS[1]) | wordnet)[text_of])
    test = np.flatnonzero((books == HELD_OUT_BOOKS[0])[text_of])
    second = np.random.default_rng(args.seed + 1).random(len(books)) < SECOND_SHARE
    tokens = np.flatnonzero((~(held | wordnet) & (second == (args.part == "second")))[text_of])
    batches = Batches(data, tokens, args)
    kinds = np.array([concept.kind for concept in data.concepts])
    unseen = np.flatnonzero(data.held_out)
    selecting = np.flatnonzero(data.held_out & ~np.isin(kinds, HELD_OUT_KINDS))
    context = np.arange(len(kinds)) >= data.n_words
    seen = np.flatnonzero(~data.held_out & context)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.lr, total_steps=args.steps, pct_start=0.1
    )
    averaged = copy.deepcopy(model)
    best: tuple[float, dict[str, Any]] = (-1.0, {})
    start = time.monotonic()
    for step in range(1, args.steps + 1):
        batch, chosen, phrases = batches.draw(labels)
        logits = model(torch.as_tensor(x[batch]).float(), phrases)
        loss = loss_of(logits, torch.as_tensor(data.member(batch, chosen)), args.correlation)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average(averaged, model, min(args.average, step / (step + 9)))
        if step % args.every == 0 or step == args.steps:
            found = evaluate(averaged, x, labels, data, select, selecting)
            value = sum(found[name][0] - found[name][1] for name in ("words", "contexts"))
            told = {
                "step": step,
                "loss": round(loss.item(), 4),
                "seconds": round(time.monotonic() - start),
                "select": found,
            }
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()
            if value > best[0]:
                best = value, {k: v.detach().clone() for k, v in averaged.state_dict().items()}
    averaged.load_state_dict(best[1])
    record = {
        "held_out": evaluate(averaged, x, labels, data, test, unseen),
        "trained_contexts": evaluate(averaged, x, labels, data, test, seen),
        "columns": ["r true label", "r false label", "n"],
    }
    return best[1], record


def main() -> None:
    args = arguments()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    start = Head.load(args.start) if args.start else None
    if start is not None:
        args.encoder = start.encoder
    adapter = start.adapter if start is not None and args.adapter else None
    layers = sorted({*args.layers, *args.second_layers})
    encoder = Encoder.load(resolve_model(args.encoder), layers, "cpu", adapter)
    data = build(Table.load(args.parsed, args.texts), WordNet(args.wordnet), args.seed)
    told = json.dumps(
        [
            args.encoder,
            args.layers,
            args.second_layers,
            args.components,
            bool(adapter),
            start.identity if adapter and start else "",
            data.texts,
        ]
    )
    work = args.work / hashlib.sha256(told.encode()).hexdigest()[:12]
    read = encoded(encoder, data, work, args)
    flat, _, _ = phrasing_table(data.concepts)
    cached = work / f"labels-{hashlib.sha256(repr(flat).encode()).hexdigest()[:12]}.npy"
    if not cached.is_file():
        np.save(cached, encode_labels(encoder, flat))
    x, token = read[args.part]
    z = np.load(cached, mmap_mode="r")[:, columns_of(args.part, args, 3)]
    labels, label = project_labels(z, token, args, None)
    model = new_model(len(token.basis), len(label.basis), args)
    state, record = train(model, x, labels, data, args)
    weights = {}
    if args.part == "first":
        weights = {ADAPTER + name: weight for name, weight in (adapter or {}).items()}
    else:
        args.layers = args.second_layers
    save(args, exported(state, token, label) | weights, record, data, start if adapter else None)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    text_arguments(parser)
    add("--out", type=Path, required=True)
    add("--work", type=Path, default=Path("head-work"), help="what the encoder read is kept here")
    add("--start", type=Path, help="a head whose adapted encoder is read")
    add(
        "--adapter",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep the adapters of --start",
    )
    add("--encoder", default="smollm2")
    add("--layers", type=int, nargs="+", default=[1, 11, 22])
    add("--part", choices=PARTS, default="first", help="which head is trained")
    add("--second-layers", type=int, nargs="+", default=[6, 16])
    add("--steps", type=int, default=1500)
    add("--every", type=int, default=250)
    add("--lr", type=float, default=1e-3)
    add("--weight-decay", type=float, default=0.05)
    add("--dropout", type=float, default=0.1)
    add("--label-dropout", type=float, default=0.2)
    add("--correlation", type=float, default=0.5, help="weight of 1 - r beside the cross-entropy")
    add("--batch-tokens", type=int, default=3072)
    add("--batch-concepts", type=int, default=512)
    add(
        "--positives",
        type=int,
        default=2,
        help="members, and near misses, of each concept that join a batch",
    )
    add(
        "--mixed",
        type=float,
        default=0.5,
        help="share of the labels that are mixtures of two phrasings",
    )
    add("--average", type=float, default=0.99, help="decay of the moving average of the weights")
    add(
        "--components",
        type=int,
        default=1024,
        help="principal components of a token's hidden states",
    )
    add(
        "--label-components",
        type=int,
        default=512,
        help="the same of each part of a label's features",
    )
    add("--whiten", type=float, default=0.25)
    add("--hidden", type=int, default=512)
    add("--label-hidden", type=int, default=256)
    add("--width", type=int, default=192)
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=2)
    args = parser.parse_args()
    args.text = []
    return args


if __name__ == "__main__":
    main()
