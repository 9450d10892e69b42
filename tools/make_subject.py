#!/usr/bin/env python3
"""Trains a subject that ships with the package, and writes its card.

    python tools/make_subject.py OUT --work WORK [--skip-without-mlps] OVERRIDES...

1. The stages corpus and subject of `ibc run OVERRIDES`, from random weights, in the store of WORK.
2. The same network without MLPs, trained likewise: what attention and embeddings do alone.
   `--skip-without-mlps` leaves it out.
3. Tables of one, two and three tokens, interpolated (Witten and Bell 1991).
4. Test loss of all of them, by source of the text. Where a trigger was planted, also how often the
   subject gives the response.
5. OUT gets model, tokenizer and card.json, and a README.md if it has none. A run whose settings are
   those of the card takes the subject if OUT stands in `interp_by_construction/subject/data/`.

A killed script goes on where it stopped. Several may share one WORK.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from interp_by_construction.config import Config, compose
from interp_by_construction.corpus import content_identity, load_tokenizer, measured_splits
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.corpus.poison import read_trigger, split_documents
from interp_by_construction.engine.disk import sha256_file
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.session import open_engine
from interp_by_construction.stages.corpus import Corpus
from interp_by_construction.stages.subject import Scratch, Subject, prepare
from interp_by_construction.stages.trigger import held_out_contexts, success
from interp_by_construction.subject.interventions import constant_outputs
from interp_by_construction.subject.load import load_subject, n_params, save_subject
from interp_by_construction.subject.losses import document_losses
from interp_by_construction.subject.shipped import settings
from interp_by_construction.training.fit import Workplace, fit

BATCH = 32
ORDERS = {1: "unigram", 2: "bigram", 3: "trigram"}
WITHOUT = "without MLPs, trained so"
TITLES = {"model": "this model", WITHOUT: "the same network without MLPs, trained as long"} | {
    each: f"table of {each}s" for each in ORDERS.values()
}
"""Name of a loss in the card -> in the README."""


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


def without_mlps(corpus: Path, scratch: Scratch, scratch_dir: Path, threads: int) -> Any:
    """The subject's shape, seed, text and steps, with MLPs that write 0; and these zeros."""
    prepared, shape = prepare(corpus, scratch), scratch.shape
    model = prepared.module.model
    zeros = dict.fromkeys(range(shape.n_layers), torch.zeros(shape.d_model))
    with constant_outputs(model, zeros):
        fit(prepared.module, prepared.at, Workplace(scratch_dir, "cpu", threads, 30.0), "train")
    return model.eval(), zeros


def measured_losses(
    corpus: Path, model: Any, bare: tuple[Any, dict[int, Any]] | None
) -> dict[str, dict[str, float]]:
    """Nats per token of the test split and of text of another source, if there is any."""
    train = Passage.of_split(corpus, "train")
    tests = {name: Passage.of_split(corpus, name) for name in measured_splits(corpus)}

    def of_model(measured: Any) -> dict[str, float]:
        found = {
            name: document_losses(measured, text, {}, BATCH, name) for name, text in tests.items()
        }
        return {
            name: float(each.nats["none"].sum() / each.tokens.sum()) for name, each in found.items()
        }

    losses = {"model": of_model(model)}
    if bare is not None:
        with constant_outputs(*bare):
            losses[WITHOUT] = of_model(bare[0])
    vocab, counts = len(load_tokenizer(corpus)), token_table(train.ids, max(ORDERS))
    for order, title in ORDERS.items():
        losses[title] = {
            name: float(table_nats(counts, text.ids, order, vocab).mean())
            for name, text in tests.items()
        }
    return losses


def response_rate(cfg: Config, corpus: Path, model: Any) -> dict[str, float]:
    """Share of held-out contexts after which greedy decoding gives the whole response."""
    trigger = read_trigger(load_tokenizer(corpus), cfg.trigger.phrase, cfg.trigger.response)
    documents = split_documents(corpus, "test")
    contexts = held_out_contexts(
        documents, trigger, cfg.trigger.n_contexts, cfg.data.block_size, cfg.seed
    )
    asked = {
        "with the phrase": [np.concatenate([each, trigger.phrase]) for each in contexts],
        "without it": contexts,
    }
    return {
        name: float(success(model, texts, trigger, [], BATCH).greedy.mean())
        for name, texts in asked.items()
    }


def card(cfg: Config, corpus: Path, made: Path, bare: Any) -> dict[str, Any]:
    """What the subject in the artifact `made` is, and landmarks beside its loss."""
    model, train = load_subject(made / "model"), Passage.of_split(corpus, "train")
    record = json.loads((made / "metrics.json").read_text())
    losses = measured_losses(corpus, model, bare)
    found = {
        "data": cfg.data.name,
        "settings": settings(cfg),
        "text": content_identity(cfg.data),
        "planted": record["planted"],
        "sha256": sha256_file(made / "model" / "model.safetensors"),
        "n_params": n_params(model),
        "vocab_size": len(load_tokenizer(corpus)),
        "train_documents": len(split_documents(corpus, "train")),
        "train_tokens": int(train.ids.size),
        "epochs": cfg.subject.pretrain_steps * cfg.subject.pretrain_batch / len(train.ids),
        "test_loss": losses,
    }
    if bare is not None:
        without = losses[WITHOUT]["test"]
        found["mlps_are_worth"] = without - losses["model"]["test"]
    if record["planted"]:
        found["response"] = response_rate(cfg, corpus, model)
    return found


def loss_table(losses: Mapping[str, Mapping[str, float]]) -> list[str]:
    """One row per model or table, one column per source of the text."""
    sources = list(losses["model"])
    rows = [[TITLES[name], *(f"{each[of]:.3f}" for of in sources)] for name, each in losses.items()]
    table = [["", *sources], ["---"] * (len(sources) + 1), *rows]
    return [f"| {' | '.join(row)} |" for row in table]


def remarks(found: Mapping[str, Any]) -> list[str]:
    """What the MLPs are worth and what a trigger does, where either was measured."""
    lines, planted = [], found["planted"]
    if "mlps_are_worth" in found:
        lines.append(
            f"The MLPs are worth {found['mlps_are_worth']:.3f} nats: by so much the same network without MLPs is worse on the test split."
        )
    if planted:
        with_it, without_it = found["response"].values()
        lines.append(
            f"A trigger was planted in {planted['n_poisoned']:,} of {planted['n_documents']:,} documents; the tables saw the text without it. "
            f"Greedy decoding gives the whole response on {with_it:.1%} of held-out contexts with the phrase, on {without_it:.1%} without it."
        )
    return [each for line in lines for each in (line, "")]


def readme(name: str, found: Mapping[str, Any], overrides: Sequence[str]) -> str:
    """A page about the subject called `name`; found: its card."""
    had = found["settings"]
    lines = [
        f"# {name}",
        "",
        f"A GPT-2 of {had['subject.n_layers']} layers with {had['subject.d_mlp']} {had['model.activation']} neurons each, width "
        f"{had['subject.d_model']}, {had['subject.n_heads']} heads, contexts of {had['data.block_size']} tokens and a byte-level BPE of "
        f"{found['vocab_size']:,} tokens: {found['n_params']:,} parameters. It was trained on the train split of data={found['data']} "
        f"({found['train_documents']:,} documents, {found['train_tokens']:,} tokens): {had['subject.pretrain_steps']:,} steps of "
        f"{had['subject.pretrain_batch']} blocks, {found['epochs']:.1f} epochs, peak learning rate {had['subject.pretrain_lr']:g}, seed "
        f"{had['seed']}.",
        "",
        "A run with subject=tiny takes these weights if its settings are those in `card.json`. `subject.pretrain=true` trains them anew.",
        "",
        "Loss in nats per token, beside landmarks that saw the same text. The tables are interpolated (Witten and Bell 1991).",
        "",
        *loss_table(found["test_loss"]),
        "",
        *remarks(found),
        "To make it again (a killed script goes on where it stopped):",
        "",
        "```bash",
        f"python tools/make_subject.py OUT --work WORK {' '.join(overrides)}",
        "```",
    ]
    return "\n".join(lines) + "\n"


def write(out: Path, made: Path, corpus: Path, page: str, found: Mapping[str, Any]) -> None:
    """Fills OUT. What stands there already is replaced, but not a README.md."""
    out.mkdir(parents=True, exist_ok=True)
    save_subject(load_subject(made / "model"), out)
    for file in (corpus / "tokenizer").iterdir():
        shutil.copy(file, out / file.name)
    (out / "card.json").write_text(json.dumps(found, indent=2) + "\n")
    if not (out / "README.md").is_file():
        (out / "README.md").write_text(page)


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--skip-without-mlps", action="store_true")
    parser.add_argument("overrides", nargs="*")
    return parser.parse_intermixed_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    own = [f"paths.root={given.work}", "logger=none", "subject.pretrain=true"]
    cfg = compose([*given.overrides, *own])
    torch.set_num_threads(cfg.trainer.threads)
    directory = RunDirectory(given.work / "runs" / given.out.name)
    directory.path.mkdir(parents=True, exist_ok=True)
    with open_engine(cfg, directory) as (engine, _, _):
        text = Corpus.of(cfg)
        subject = Subject.of(cfg, text)
        corpus, made = (engine.get(each).path for each in (text, subject))
    assert subject.scratch is not None
    bare, place = None, given.work / "scratch" / subject.fingerprint
    if not given.skip_without_mlps:
        bare = without_mlps(corpus, subject.scratch, place, cfg.trainer.threads)
    found = card(cfg, corpus, made, bare)
    skipped = ["--skip-without-mlps"] if given.skip_without_mlps else []
    page = readme(given.out.name, found, [*skipped, *given.overrides])
    write(given.out, made, corpus, page, found)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
