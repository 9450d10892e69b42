"""What collecting activations costs on top of the forward pass, in tokens per second.

    python scripts/bench_collect.py                    the tiny subject of the demo, untrained
    python scripts/bench_collect.py subject=smollm2    another subject; any configuration override

Three ways read the same blocks with the same model:

    plain        the forward pass of the whole model, nothing kept
    stopped      the forward pass up to the layer, nothing kept (what the hooks save)
    collected    one pass of the collect stage: stopped, activations to the CPU, moments, top
                 tokens, reservoir

The middle layer is collected. The three take turns for ROUNDS rounds, so that other load on the
machine slows all of them alike. Environment: ROUNDS, and N_BLOCKS for the amount of text.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from interp_by_construction.config import Config, compose
from interp_by_construction.corpus import build_corpus, load_blocks, load_tokenizer
from interp_by_construction.engine.runtime import resolve_device
from interp_by_construction.errors import IbcError
from interp_by_construction.subject.activation_statistics import FirstPass
from interp_by_construction.subject.families import d_mlp, n_layers
from interp_by_construction.subject.hooks import activations
from interp_by_construction.subject.load import (
    checkpoint_of,
    load_subject,
    save_subject,
    source_checkpoint,
    source_tokenizer,
    tiny_model,
)

ROUNDS = int(os.environ.get("ROUNDS", "5"))
N_BLOCKS = int(os.environ.get("N_BLOCKS", "64"))


def main() -> None:
    cfg = compose(sys.argv[1:])
    torch.set_num_threads(cfg.trainer.threads)
    with tempfile.TemporaryDirectory() as scratch:
        corpus = Path(scratch) / "corpus"
        corpus.mkdir()
        checkpoint = checkpoint_of(cfg.subject)
        tokenizer = None if checkpoint is None else source_tokenizer(checkpoint.source)
        build_corpus(cfg.data, tokenizer, corpus)
        bench(cfg, subject_of(cfg, corpus, Path(scratch) / "model"), corpus)


def bench(cfg: Config, source: str, corpus: Path) -> None:
    device = resolve_device(cfg.trainer.device)
    model: Any = load_subject(source)
    model = model.to(device).eval()
    layer, width = n_layers(model) // 2, d_mlp(model, n_layers(model) // 2)
    blocks = load_blocks(corpus, "label")
    n_blocks = min(N_BLOCKS, len(blocks))
    batch = cfg.collect.batch_size
    every = [
        torch.from_numpy(
            np.asarray(
                blocks[list(range(start, min(start + batch, n_blocks)))]["input_ids"],
                dtype=np.int64,
            )
        )
        for start in range(0, n_blocks, batch)
    ]

    def plain() -> None:
        for ids in every:
            model(ids.to(device), use_cache=False)

    def stopped() -> None:
        for ids in every:
            activations(model, layer, ids.to(device))

    def collected() -> None:
        first = FirstPass(width, cfg.collect.top_k, reservoir=256 * cfg.collect.n_quantiles, seed=0)
        for number, ids in enumerate(every):
            values = activations(model, layer, ids.to(device)).float().cpu()
            first.update(torch.arange(number * batch, number * batch + len(ids)), ids, values)

    ways: dict[str, Callable[[], None]] = {
        "plain": plain,
        "stopped": stopped,
        "collected": collected,
    }
    with torch.no_grad():
        for way in ways.values():
            way()
        rounds = [{name: seconds(way) for name, way in ways.items()} for _ in range(ROUNDS)]
    n_tokens = sum(ids.numel() for ids in every)
    print(
        f"{cfg.subject.name}, layer {layer} of {n_layers(model)}, {width} nodes, {n_tokens} tokens, {device}"
    )
    for name in ways:
        share = median(each["plain"] / each[name] for each in rounds)
        print(
            f"{name:10} {median(n_tokens / each[name] for each in rounds):9.0f} tokens/s   {share:5.2f} of the plain forward pass"
        )


def subject_of(cfg: Config, corpus: Path, out: Path) -> str:
    """The checkpoint that a run would start from; of the tiny subject an untrained one."""
    if cfg.subject.kind != "tiny":
        return source_checkpoint(cfg.subject)
    vocab_size = len(load_tokenizer(corpus))
    save_subject(
        tiny_model(cfg.subject, vocab_size, cfg.data.block_size, cfg.seed, model_cfg=cfg.model), out
    )
    return str(out)


def seconds(way: Callable[[], None]) -> float:
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


if __name__ == "__main__":
    try:
        main()
    except IbcError as error:
        print(f"bench: {error}", file=sys.stderr)
        raise SystemExit(2) from None
