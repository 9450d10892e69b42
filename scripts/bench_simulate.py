"""How fast are digit logits for every token? Labeler tokens per second of three ways to read a prompt, on this machine.

    prefill          the limit: the prompt is read, one token is generated (nothing but prefill)
    digit logits     what exact simulation uses: ten logits per token from the token-classifying server
    prompt_logprobs  the usual way: the top 15 tokens at every position from the generating server

Every way gets texts of its own that no other request has seen, because repeated text may be cached and flatters. All
requests are in flight together up to `labeler.concurrency`; servers are warmed up first and their start is not counted.
Arguments are configuration overrides, such as `labeler.model=... labeler.max_num_seqs=64`; N_PROMPTS and N_TOKENS in
the environment set the size.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import httpx

from interp_by_construction.config import LabelerConfig, compose
from interp_by_construction.corpus.stories import generate
from interp_by_construction.errors import IbcError
from interp_by_construction.labeler.client import make_labeler
from interp_by_construction.labeler.server import managed_server

ROUNDS = 3
N_PROMPTS = int(os.environ.get("N_PROMPTS", "4"))
N_TOKENS = int(os.environ.get("N_TOKENS", "1000"))

Prompts = list[list[int]]


def main() -> None:
    cfg = compose(sys.argv[1:]).labeler
    with tempfile.TemporaryDirectory() as scratch, make_labeler(cfg, Path(scratch) / "calls", Path(scratch)) as labeler:
        texts = iter(unseen_prompts(labeler.tokenizer, n_prompts=3 * (ROUNDS * N_PROMPTS + 1)))
        ways: dict[str, Callable[[Prompts], object]] = {
            "prefill": lambda prompts: complete(cfg, Path(scratch), prompts, {}),
            "digit logits": labeler.digit_logits,
            "prompt_logprobs": lambda prompts: complete(cfg, Path(scratch), prompts, {"prompt_logprobs": 15}),
        }
        for way in ways.values():
            way([next(texts)])
        # The ways take turns, so that whatever else the machine does hits all of them; the median drops a bad round.
        rounds = [{name: rate(way, [next(texts) for _ in range(N_PROMPTS)]) for name, way in ways.items()} for _ in range(ROUNDS)]
    rates = {name: median(each[name] for each in rounds) for name in ways}
    print(f"{cfg.model}, {ROUNDS} rounds of {N_PROMPTS} prompts of {N_TOKENS} tokens, {cfg.threads} threads")
    for name, value in rates.items():
        print(f"{name:16} {value:8.0f} tokens/s   {value / rates['prefill']:5.2f} of prefill")
    print(f"digit logits are {rates['digit logits'] / rates['prompt_logprobs']:.2f} times as fast as prompt_logprobs")


def unseen_prompts(tokenizer: object, n_prompts: int) -> Prompts:
    """Token ids of generated stories, cut into disjoint pieces of N_TOKENS; another seed on every call."""
    seed, ids = int(time.time()), []
    while len(ids) < n_prompts * N_TOKENS:
        seed += 1
        text = "\n".join(story.text for story in generate(["train"] * 50, seed))
        ids += tokenizer.encode(text, add_special_tokens=False)  # type: ignore[attr-defined]
    return [ids[i * N_TOKENS : (i + 1) * N_TOKENS] for i in range(n_prompts)]


def rate(way: Callable[[Prompts], object], prompts: Prompts) -> float:
    """Tokens of `prompts` per second."""
    start = time.perf_counter()
    way(prompts)
    return sum(map(len, prompts)) / (time.perf_counter() - start)


def complete(cfg: LabelerConfig, log_dir: Path, prompts: Prompts, options: dict[str, int]) -> None:
    """Plain HTTP requests to the generating server, without our client: the yardstick must not depend on it."""
    server = managed_server("generate", cfg, log_dir)
    url = server.start()
    headers = {"Authorization": f"Bearer {server.api_key}"}
    client = httpx.Client(timeout=cfg.timeout, trust_env=False, headers=headers)
    with client as http, ThreadPoolExecutor(cfg.concurrency) as pool:

        def send(prompt: list[int]) -> None:
            body = {"model": cfg.model, "prompt": prompt, "max_tokens": 1, "temperature": 0.0, **options}
            http.post(f"{url}/v1/completions", json=body).raise_for_status()

        list(pool.map(send, prompts))


if __name__ == "__main__":
    try:
        main()
    except IbcError as error:
        print(f"bench: {error}", file=sys.stderr)
        raise SystemExit(2) from None
