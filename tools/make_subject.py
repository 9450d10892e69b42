#!/usr/bin/env python3
"""Trains a subject that ships with the package, and writes its card.

    python tools/make_subject.py OUT --work WORK OVERRIDES...

1. The stages corpus and subject of `ibc run OVERRIDES`, from random weights, in the store of WORK.
2. The same network without MLPs, trained likewise: what attention and embeddings do alone.
3. Tables of one, two and three tokens, interpolated (Witten and Bell 1991).
4. Test loss of all of them, by source of the text. OUT gets model, tokenizer, card.json, README.md.

A killed script goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from interp_by_construction.config import Config, compose
from interp_by_construction.corpus import load_blocks, load_tokenizer, measured_splits
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.session import open_engine
from interp_by_construction.stages.corpus import Corpus
from interp_by_construction.stages.subject import Subject
from interp_by_construction.subject.interventions import constant_outputs
from interp_by_construction.subject.load import load_subject, n_params, save_subject, tiny_model
from interp_by_construction.subject.losses import document_losses
from interp_by_construction.training.batches import TokenBlocks, by_step
from interp_by_construction.training.fit import Workplace, fit
from interp_by_construction.training.modules import LanguageModelModule, Plan

BATCH = 32
ORDERS = {1: "unigram", 2: "bigram", 3: "trigram"}


def token_table(blocks: NDArray[Any], order: int) -> Mapping[tuple[int, ...], Any]:
    """Counts of the token that follows each context of up to `order` - 1 tokens."""
    counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for row in blocks.tolist():
        for position in range(1, len(row)):
            for length in range(min(order, position + 1)):
                counts[tuple(row[position - length : position])][row[position]] += 1
    return counts


def table_nats(
    counts: Mapping[tuple[int, ...], Counter[int]], blocks: NDArray[Any], order: int, vocab: int
) -> NDArray[np.float64]:
    """Loss of every predicted token in nats, [block, pos - 1].

    Interpolated as Witten and Bell (1991): p(w | h) = (c(h, w) + t(h) p(w | h')) / (c(h) + t(h)),
    t(h) being how many different tokens follow h, and h' the context without its first token.
    """
    totals = {context: (seen.total(), len(seen)) for context, seen in counts.items()}
    nats = np.zeros((len(blocks), blocks.shape[1] - 1))
    for i, row in enumerate(blocks.tolist()):
        for position in range(1, len(row)):
            p = 1 / vocab
            for length in range(min(order, position + 1)):
                context = tuple(row[position - length : position])
                if context not in totals:
                    break
                total, different = totals[context]
                p = (counts[context][row[position]] + different * p) / (total + different)
            nats[i, position - 1] = -np.log(p)
    return nats


def without_mlps(cfg: Config, corpus: Path, work: Path) -> Any:
    """The subject's shape, seed, text and steps, with MLPs that write 0."""
    tokenizer = load_tokenizer(corpus)
    model = tiny_model(
        cfg.subject,
        len(tokenizer),
        cfg.data.block_size,
        cfg.seed,
        tokenizer.eos_token_id,
        cfg.model,
    )
    zeros = dict.fromkeys(range(cfg.subject.n_layers), torch.zeros(cfg.subject.d_model))
    at = by_step(
        TokenBlocks(load_blocks(corpus, "train")), cfg.seed * 1000 + 999, cfg.subject.pretrain_batch
    )
    plan = Plan(cfg.subject.pretrain_steps, cfg.subject.pretrain_lr, cfg.trainer)
    place = Workplace(work / "scratch", "cpu", cfg.trainer.threads, 30.0)
    with constant_outputs(model, zeros):
        fit(LanguageModelModule(model, plan), at, place, "without MLPs")
    return model.eval(), zeros


def card(cfg: Config, corpus: Path, model: Any, work: Path) -> dict[str, Any]:
    """What the subject is, and landmarks beside its loss."""
    train = Passage.of_split(corpus, "train")
    tests = {name: Passage.of_split(corpus, name) for name in measured_splits(corpus)}
    vocab = len(load_tokenizer(corpus))

    def of_model(measured: Any) -> dict[str, float]:
        found = {
            name: document_losses(measured, text, {}, BATCH, name) for name, text in tests.items()
        }
        return {name: each.nats["none"].sum() / each.tokens.sum() for name, each in found.items()}

    losses = {"model": of_model(model)}
    bare, zeros = without_mlps(cfg, corpus, work)
    with constant_outputs(bare, zeros):
        losses["without MLPs, trained so"] = of_model(bare)
    counts = token_table(train.ids, max(ORDERS))
    for order, title in ORDERS.items():
        losses[title] = {
            name: float(table_nats(counts, text.ids, order, vocab).mean())
            for name, text in tests.items()
        }
    return {
        "data": cfg.data.name,
        "subject": {k: v for k, v in asdict(cfg.subject).items() if not k.startswith("adapt")},
        "seed": cfg.seed,
        "weight_decay": cfg.trainer.weight_decay,
        "n_params": n_params(model),
        "vocab_size": vocab,
        "train_tokens": int(train.ids.size),
        "epochs": cfg.subject.pretrain_steps * cfg.subject.pretrain_batch / len(train.ids),
        "test_loss": losses,
        "mlps_are_worth": losses["without MLPs, trained so"]["test"] - losses["model"]["test"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_intermixed_args()
    cfg = compose([*given.overrides, f"paths.root={given.work}", "logger=none"])
    directory = RunDirectory(given.work / "runs" / "subject")
    directory.path.mkdir(parents=True, exist_ok=True)
    with open_engine(cfg, directory) as (engine, _, _):
        corpus = Corpus.of(cfg)
        of_corpus, of_subject = (
            engine.get(each).path for each in (corpus, Subject.of(cfg, corpus))
        )
    model = load_subject(of_subject / "model")
    described = card(cfg, of_corpus, model, given.work)
    shutil.rmtree(given.out, ignore_errors=True)
    save_subject(model, given.out)
    for file in (of_corpus / "tokenizer").iterdir():
        shutil.copy(file, given.out / file.name)
    (given.out / "card.json").write_text(json.dumps(described, indent=2) + "\n")
    print(json.dumps(described, indent=2))


if __name__ == "__main__":
    main()
