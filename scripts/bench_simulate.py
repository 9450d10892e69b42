"""How fast and how good simulation is on this machine, all on the same servers and excerpts.

    python scripts/bench_simulate.py          all three sections
    python scripts/bench_simulate.py speed    one of: speed, cost, fidelity

speed: five ways to read the same excerpts behind one label.

    packed            ours: many excerpts behind one few-shot prefix; the token-classifying server
                      gives ten logits per token
    short             the prompts of a labeler with an adapter, on the same servers: label and text
                      alone, one excerpt each, without rated ones (no speed depends on weights)
    prompt_logprobs   the usual way with our prompt: one excerpt each, the prefix read again, the
                      top 15 of the whole vocabulary
    known_tools       the same with the prompt of the known tools (Bills et al. 2023): a line
                      `token<TAB>unknown` per token
    prefill           the limit: the generating server reads the packed prompts and answers with
                      one token

cost: seconds per million node-tokens, exact and dense, and what follows for whole corpora. A
node-token is one node's simulation on one token.

fidelity: r of the ridge simulator with the exact one on held-out text. Beside it stands how
reliable the exact one is: its r with itself under other few-shot examples, and under the same
examples with the excerpts packed in reverse order.

Every round has texts of its own, because repeated text may be cached and flatters. The ways take
turns, so that other load on the machine slows all of them alike. Up to `labeler.concurrency`
requests are in flight together. Servers are warmed up first and woken before each turn; their start
is not counted. Other arguments are configuration overrides, such as `labeler.model=...`.
Environment: ROUNDS, N_EXCERPTS, N_LABELS, and EXCERPT for the tokens of each excerpt.

What limits packing: an excerpt costs its own tokens, a line break and the label's line (7 tokens),
and its share of the few-shot examples (132). With the embedded labeler's 2,048 tokens, an excerpt
of 64 tokens takes 80 when packed and 204 alone: 2.6 times fewer, and at most 2.8 however long the
context. An excerpt of 32 tokens takes 48 and 172, 3.6 times fewer.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np

from interp_by_construction.config import Config, LabelerConfig, compose
from interp_by_construction.corpus.stories import generate
from interp_by_construction.errors import IbcError
from interp_by_construction.labelling.general import general_labels
from interp_by_construction.llm.client import Labeler, make_labeler
from interp_by_construction.llm.embedded import resolve_model
from interp_by_construction.llm.server import managed_server
from interp_by_construction.simulators.encoder import Encoder
from interp_by_construction.simulators.exact import (
    REFERENCE_LABELS,
    contrasted,
    plan,
    simulate_packed,
)
from interp_by_construction.simulators.head import Head
from interp_by_construction.simulators.prompt import (
    HEAD,
    OTHER_SHOTS,
    SHOTS,
    Packing,
    PromptBuilder,
)
from interp_by_construction.simulators.ridge import fit_ridge
from interp_by_construction.stats.correlation import columnwise_correlation

ROUNDS = int(os.environ.get("ROUNDS", "3"))
N_EXCERPTS = int(os.environ.get("N_EXCERPTS", "48"))
N_LABELS = int(os.environ.get("N_LABELS", "24"))
EXCERPT, BLOCK = int(os.environ.get("EXCERPT", "64")), 128
"""Tokens of an excerpt that the labeler simulates, and of a block that an encoder reads."""
N_NODES = 512
MILLION = 1_000_000

Texts = list[list[str]]
Prompts = list[list[int]]


def main() -> None:
    sections = [
        argument for argument in sys.argv[1:] if argument in ("speed", "cost", "fidelity")
    ] or ["speed", "cost", "fidelity"]
    cfg = compose(
        [argument for argument in sys.argv[1:] if argument not in ("speed", "cost", "fidelity")]
    )
    with (
        tempfile.TemporaryDirectory() as scratch,
        make_labeler(cfg.labeler, Path(scratch) / "calls", Path(scratch)) as labeler,
    ):
        texts = unseen_texts(labeler.tokenizer)
        if "speed" in sections or "cost" in sections:
            seconds_per_token = speed(labeler, Path(scratch), texts)
        if "cost" in sections:
            cost(cfg, seconds_per_token, texts)
        if "fidelity" in sections:
            fidelity(cfg, labeler, texts)


def unseen_texts(tokenizer: Any) -> Iterator[list[str]]:
    """Generated stories in pieces of `BLOCK` labeler tokens; every call has its own."""
    seed = int(time.time())
    while True:
        seed += 1
        ids = tokenizer.encode(
            "\n".join(story.text for story in generate(["train"] * 50, seed)),
            add_special_tokens=False,
        )
        for start in range(0, len(ids) - BLOCK, BLOCK):
            yield [tokenizer.decode([i]) for i in ids[start : start + BLOCK]]


def excerpts(texts: Iterator[list[str]], n: int) -> Texts:
    return [next(texts)[:EXCERPT] for _ in range(n)]


def speed(labeler: Labeler, log_dir: Path, texts: Iterator[list[str]]) -> float:
    """Prints tokens and excerpts per second of the ways to read.

    Returns our seconds per simulated token of one label.
    """
    cfg = labeler.cfg
    labels = general_labels()

    def packed(label: str, texts: Texts) -> int:
        n_before = labeler.n_tokens
        simulate_packed(labeler, [label], texts, "bench")
        return labeler.n_tokens - n_before

    def short(label: str, texts: Texts) -> int:
        n_before = labeler.n_tokens
        builder = PromptBuilder(labeler.tokenizer, labeler.digits, ())
        alone = Packing(builder, [label], texts, cfg.max_model_len, alone=True)
        labeler.digit_logits([prompt.ids for prompt in alone.prompts()])
        return labeler.n_tokens - n_before

    def prompt_logprobs(label: str, texts: Texts) -> int:
        alone = [
            prompt.ids for text in texts for prompt in plan(labeler, [label], [text]).prompts()
        ]
        return complete(cfg, log_dir, alone, {"prompt_logprobs": 15})

    def known_tools(label: str, texts: Texts) -> int:
        return complete(
            cfg,
            log_dir,
            [lines_prompt(labeler.tokenizer, label, text) for text in texts],
            {"prompt_logprobs": 15},
        )

    def prefill(label: str, texts: Texts) -> int:
        return complete(
            cfg, log_dir, [prompt.ids for prompt in plan(labeler, [label], texts).prompts()], {}
        )

    ways: dict[str, Callable[[str, Texts], int]] = {
        "packed": packed,
        "short": short,
        "prompt_logprobs": prompt_logprobs,
        "known_tools": known_tools,
        "prefill": prefill,
    }
    for way in ways.values():
        way("warming up", excerpts(texts, 2))
    rounds: list[dict[str, tuple[float, int]]] = []
    for number in range(ROUNDS):
        shown = excerpts(texts, N_EXCERPTS)
        measured = {}
        for name, way in ways.items():
            # A server that has been idle for a second takes most of another to wake up; in a run it
            # is never idle that long.
            way(labels[7 * number], excerpts(texts, 1))
            measured[name] = timed(way, labels[7 * number], shown)
        rounds.append(measured)
    print(
        f"{cfg.model}, {ROUNDS} rounds of {N_EXCERPTS} excerpts of {EXCERPT} tokens, {cfg.threads} threads"
    )
    for name in ways:
        tokens = median(n / seconds for seconds, n in (each[name] for each in rounds))
        each_second = median(N_EXCERPTS / each[name][0] for each in rounds)
        share = median(
            (each[name][1] / each[name][0]) / (each["prefill"][1] / each["prefill"][0])
            for each in rounds
        )
        print(
            f"{name:16} {tokens:8.0f} labeler tokens/s   {each_second:7.2f} excerpts/s   {share:5.2f} of prefill per token"
        )
    for name in ("prompt_logprobs", "known_tools"):
        times = median(each[name][0] / each["packed"][0] for each in rounds)
        print(f"packed simulates {times:.2f} times as many excerpts per second as {name}")
    for name in ("packed", "prompt_logprobs"):
        times = median(each[name][0] / each["short"][0] for each in rounds)
        print(f"short simulates {times:.2f} times as many excerpts per second as {name}")
    return median(each["packed"][0] for each in rounds) / (N_EXCERPTS * EXCERPT)


def lines_prompt(tokenizer: Any, label: str, text: list[str]) -> list[int]:
    """One excerpt as the known tools write it, behind our few-shot examples in the same form."""

    def rated(label: str, pairs: Iterable[tuple[str, str]]) -> str:
        return f"\nLabel: {label}\nText:\n" + "".join(
            f"{token}\t{rating}\n" for token, rating in pairs
        )

    shots = [
        rated(name, zip(words.split(), ratings, strict=True)) for name, words, ratings in SHOTS
    ]
    prompt = HEAD + "".join(shots) + rated(label, ((token, "unknown") for token in text))
    return list(tokenizer.encode(prompt, add_special_tokens=False))


def timed(way: Callable[[str, Texts], int], label: str, texts: Texts) -> tuple[float, int]:
    """Seconds, and labeler tokens that were computed."""
    start = time.perf_counter()
    n_tokens = way(label, texts)
    return time.perf_counter() - start, n_tokens


def complete(cfg: LabelerConfig, log_dir: Path, prompts: Prompts, options: dict[str, int]) -> int:
    """Plain HTTP requests to the generating server: the yardstick does not depend on our client."""
    server = managed_server("generate", cfg, log_dir, log_dir)
    url = server.start()
    headers = {"Authorization": f"Bearer {server.api_key}"}
    client = httpx.Client(timeout=cfg.timeout, trust_env=False, headers=headers)
    with client as http, ThreadPoolExecutor(cfg.concurrency) as pool:

        def send(prompt: list[int]) -> None:
            body = {
                "model": cfg.model,
                "prompt": prompt,
                "max_tokens": 1,
                "temperature": 0.0,
                **options,
            }
            http.post(f"{url}/v1/completions", json=body).raise_for_status()

        list(pool.map(send, prompts))
    return sum(map(len, prompts))


def cost(cfg: Config, exact_seconds: float, texts: Iterator[list[str]]) -> None:
    """Prints seconds per million node-tokens with `N_NODES` nodes.

    exact_seconds: per token of one label.
    """
    import torch

    torch.set_num_threads(cfg.labeler.threads)
    with_contrast = exact_seconds * (N_NODES + len(REFERENCE_LABELS)) / N_NODES
    blocks = [next(texts) for _ in range(64)]
    head = Head.load(cfg.simulate.head)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(N_NODES, head.width + 1)).astype(np.float32)
    plain = Encoder.load(resolve_model(cfg.simulate.encoder), cfg.simulate.encoder_layers, "cpu")
    encoders = {"ridge": plain, "head": head.load_encoder("cpu")}
    print(
        f"\n{'':8} {'s per million node-tokens':>26} {'exact / dense':>14}   {N_NODES} nodes x one million tokens"
    )
    print(f"{'exact':8} {with_contrast * MILLION:26.1f}")
    for name, encoder in encoders.items():
        first = np.concatenate(list(encoder.encode(blocks[:16])))
        # What a corpus costs: the fit on a few hundred tokens is not part of it.
        targets = rng.normal(size=(EXCERPT, N_NODES))
        ridge = fit_ridge(
            first[:EXCERPT], targets, np.arange(EXCERPT) // 8, n_layers=len(encoder.layers)
        )
        start = time.perf_counter()
        rows = np.concatenate(list(encoder.encode(blocks)))
        if name == "head":
            head.simulate(head.token_vectors(rows).astype(np.float16), vectors).astype(np.float16)
        else:
            ridge.of_encoded(rows).astype(np.float16)
        per_token = (time.perf_counter() - start) / len(rows)
        ratio = with_contrast * N_NODES / per_token
        print(
            f"{name:8} {per_token / N_NODES * MILLION:26.4f} {ratio:14.0f}   {per_token * MILLION / 60:.1f} minutes"
        )
    exact = exact_seconds * (128 + len(REFERENCE_LABELS)) * cfg.simulate.n_score_tokens / 60
    print(
        f"exact scoring of 128 nodes on {cfg.simulate.n_score_tokens} tokens: {exact:.1f} minutes"
    )


def fidelity(cfg: Config, labeler: Labeler, texts: Iterator[list[str]]) -> dict[str, Any]:
    """Prints fidelity and reliability over general labels; returns what they were computed from."""
    simulate = cfg.simulate
    every = general_labels()
    labels = every[:: max(1, len(every) // N_LABELS)][:N_LABELS]
    fit, score = (
        excerpts(texts, n // EXCERPT) for n in (simulate.n_fit_tokens, simulate.n_score_tokens)
    )
    again = fit[: simulate.reliability_tokens // EXCERPT]
    start = time.perf_counter()
    exact = {}
    parts = (
        ("fit", fit, SHOTS),
        ("score", score, SHOTS),
        ("again", again, OTHER_SHOTS),
        ("order", again[::-1], SHOTS),
    )
    for name, shown, shots in parts:
        raw = simulate_packed(labeler, [*labels, *REFERENCE_LABELS], shown, name, shots)
        exact[name] = contrasted(
            raw[:, : len(labels)], raw[:, len(labels) :].mean(axis=1), simulate.contrast
        )
    seconds = time.perf_counter() - start
    encoder = Encoder.load(resolve_model(simulate.encoder), simulate.encoder_layers, "cpu")
    features = {
        name: np.concatenate(list(encoder.encode(shown)))
        for name, shown in (("fit", fit), ("score", score))
    }
    ridge = fit_ridge(
        features["fit"],
        exact["fit"],
        np.arange(len(fit)).repeat(EXCERPT),
        n_layers=len(encoder.layers),
    )
    r = columnwise_correlation(exact["score"], ridge.of_encoded(features["score"]))
    same = columnwise_correlation(exact["fit"][: len(exact["again"])], exact["again"])
    turned = exact["order"].reshape(len(again), EXCERPT, -1)[::-1].reshape(len(again) * EXCERPT, -1)
    order = columnwise_correlation(exact["fit"][: len(turned)], turned)
    n_fit, n_score, n_again = (len(exact[name]) for name in ("fit", "score", "again"))
    chosen = [encoder.layers[i] for i in ridge.layers]
    print(
        f"\n{len(labels)} labels, fitted on {n_fit} tokens, scored on {n_score}, {seconds:.0f} s of labeler"
    )
    print(
        f"fidelity of ridge     {np.nanmean(r):.3f}   {np.isnan(r).sum()} undefined, layers {chosen}"
    )
    print(
        f"reliability of exact  {np.nanmean(same):.3f}   {np.isnan(same).sum()} undefined, on {n_again} tokens"
    )
    print(
        f"the same in another order of excerpts {np.nanmean(order):.3f}   {np.isnan(order).sum()} undefined"
    )
    print(f"fidelity/reliability  {np.nanmean(r) / np.nanmean(same):.2f}")
    return {"labels": labels, "fit": fit, "score": score, "exact": exact}


if __name__ == "__main__":
    try:
        main()
    except IbcError as error:
        print(f"bench: {error}", file=sys.stderr)
        raise SystemExit(2) from None
