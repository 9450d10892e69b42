"""How long a stage takes on this machine, roughly.

A stage says how much it has to do (`Stage.effort`). A token costs the multiply-adds of the model
that reads it. How long these take is told by a matrix product on the threads that are used.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from transformers import AutoConfig

from interp_by_construction.config import SPLITS, Config
from interp_by_construction.config.text import APART
from interp_by_construction.corpus.text import text_bytes
from interp_by_construction.engine.effort import Effort, Sizes
from interp_by_construction.engine.runtime import Runtime, torch_threads
from interp_by_construction.llm.embedded import local_path
from interp_by_construction.simulators import simulator_class
from interp_by_construction.subject.load import source_checkpoint, source_config

# To fit these anew, compare the seconds with the estimates in a run's `logs/run.log`. They are from
# `experiment=demo` on two cores of an AMD EPYC with AVX2, in float32, with one thread for each
# process (a subject of 0.33 million multiply-adds per token). Where other work used the second
# core, single-threaded stages took 2.4 times as long.
REFERENCE = 30e9
"""Multiply-adds per second of a matrix product there, with one thread."""
COST = {
    "encoded": 0.9,
    "labels": 1.0,
    "read": 3.6,
    "trained": 4.0,
    "taught": 11.0,
    "prompted": 0.9,
    "written": 26.0,
}
"""Kind of work -> how many times as long as a matrix product the multiply-adds of a forward pass
take. `encoded`: of an encoder of which three quarters are read. `taught` compares distributions
over the vocabulary. `written` waits for memory at every token, and `labels` are short: more threads
make neither faster."""
CUT, STEP = 3e-6, 0.005
"""Seconds in which a token is cut, and that an optimizer step takes beside its tokens."""
LABEL, PROMPT, ANSWER, RATED = 10, 120, 6, 1.5
"""Tokens of a label with what stands around it, of a question to the labeler, of its answer, and of
prompts for each token that it rates."""
UNKNOWN_EFFORT = Effort(seconds=5)
"""Of a stage that does not say."""
UNKNOWN_TOKENS, UNKNOWN_MODEL = 2_000_000, 130e6
"""Of a text, and multiply-adds per token of a language model, that are not on this machine."""
STORY, BYTES, APART_SHARE = 126, 3.5, 0.09
"""Tokens of a generated story, bytes of a token of text, and share of the tales that is apart."""
TEST_ROWS, TEST_SECONDS = 512, 0.06
"""Of the matrices whose product is timed, and for how long."""


class Shape(NamedTuple):
    """A language model in numbers."""

    n_layers: int
    d_model: int
    d_mlp: int
    vocab_size: int
    gated: bool = False

    @classmethod
    def of(cls, config: Any) -> Self:
        """config: of transformers."""
        width, gated = config.hidden_size, getattr(config, "hidden_act", None) == "silu"
        names = ("intermediate_size", "n_inner", "ffn_dim")
        d_mlp = next((each for name in names if (each := getattr(config, name, None))), 4 * width)
        return cls(config.num_hidden_layers, width, d_mlp, config.vocab_size, gated)

    @property
    def multiply_adds(self) -> float:
        """Per token of a forward pass, without attention's own products."""
        mlp = (3 if self.gated else 2) * self.d_mlp
        blocks = self.n_layers * self.d_model * (4 * self.d_model + mlp)
        return blocks + self.d_model * self.vocab_size


@dataclass(frozen=True)
class Pace:
    """Seconds per token of matrix products with as many multiply-adds as a model has."""

    subject: float
    encoder: float
    encoder_alone: float
    """With one thread."""
    labeler: float
    labeler_alone: float
    """With one thread."""
    slow: float
    """How many times as long as on the machine of the constants all else takes."""

    @classmethod
    def of(cls, cfg: Config, runtime: Runtime) -> Self:
        """Of this machine, which is tested for a moment."""
        device, threads = runtime.device, {runtime.threads, runtime.encoder_threads, 1}
        speeds = {n: speed(device, n) for n in sorted(threads)}
        reading = speeds[runtime.encoder_threads]
        labeler, encoder = UNKNOWN_MODEL, 0.0
        if cfg.labeler.backend != "endpoint":
            labeler = _multiply_adds(cfg.labeler.model)
        if simulator_class(cfg.simulate.simulator).encoded_parts:
            encoder = _multiply_adds(cfg.simulate.encoder)
        return cls(
            subject=subject_shape(cfg).multiply_adds / speeds[runtime.threads],
            encoder=encoder / reading,
            encoder_alone=encoder / speeds[1],
            labeler=labeler / reading,
            labeler_alone=labeler / speeds[1],
            slow=REFERENCE / speeds[1] if device == "cpu" else 1.0,
        )

    def seconds(self, effort: Effort) -> float:
        """What this much work takes."""
        encoded = self.encoder * effort.encoded * COST["encoded"]
        encoded += self.encoder_alone * effort.labels * LABEL * COST["labels"]
        prompted = effort.answers * PROMPT + effort.rated * RATED
        asked = self.labeler * prompted * COST["prompted"]
        asked += self.labeler_alone * effort.answers * ANSWER * COST["written"]
        own = sum(getattr(effort, kind) * COST[kind] for kind in ("read", "trained", "taught"))
        rest = effort.cut * CUT + effort.steps * STEP + effort.seconds
        return encoded + asked + self.subject * own + self.slow * rest


@cache
def speed(device: str, threads: int) -> float:
    """Multiply-adds per second of a float32 matrix product, as this process measured it first."""
    with torch_threads(threads):
        # Not random: no later stage may draw other numbers after it.
        matrix = torch.ones(TEST_ROWS, TEST_ROWS, device=device)
        times: list[float] = []
        end = time.perf_counter() + TEST_SECONDS
        # The first takes longer than others.
        while len(times) < 2 or time.perf_counter() < end:
            start = time.perf_counter()
            # Reading the result waits for a GPU.
            float((matrix @ matrix)[0, 0])
            times.append(time.perf_counter() - start)
    # What else works on this machine disturbs the slower ones.
    return TEST_ROWS**3 / min(times)


def subject_shape(cfg: Config) -> Shape:
    """Of the configured subject. Raises SubjectError as `source_config`."""
    own = cfg.subject
    if own.kind == "tiny":
        return Shape(own.n_layers, own.d_model, own.d_mlp, cfg.data.vocab_size)
    return Shape.of(source_config(source_checkpoint(own)))


def rough_sizes(cfg: Config) -> Sizes:
    """Before there is a corpus."""
    shape, data = subject_shape(cfg), cfg.data
    width = shape.d_mlp
    if cfg.nodes.kind != "neurons":
        width = cfg.dictionary.expansion * shape.d_model
    count, share = cfg.nodes.count, cfg.nodes.fraction
    wanted = count if share is None else round(share * width)
    n_tokens = float(data.n_documents * STORY)
    if data.kind == "text":
        n_bytes = text_bytes(data)
        n_tokens = UNKNOWN_TOKENS if n_bytes is None else n_bytes / BYTES
    splits = {split: round(n_tokens * data.fractions[split]) for split in SPLITS}
    if data.split == "shipped":
        splits[APART] = round(n_tokens * APART_SHARE)
    return Sizes(data.block_size, width if wanted is None else min(wanted, width), splits)


def in_words(seconds: float) -> str:
    """For example 40 seconds, 6 minutes, 3 hours."""
    if seconds < 55:
        return f"{max(10, 10 * round(seconds / 10))} seconds"
    minutes, hours = max(1, round(seconds / 60)), round(seconds / 3600)
    if minutes >= 90:
        return f"{hours} hours"
    minutes = minutes if minutes < 20 else 5 * round(minutes / 5)
    return f"{minutes} minute{'s' if minutes > 1 else ''}"


def _multiply_adds(model: str) -> float:
    """Per token of a language model."""
    directory = Path(local_path(model))
    if not directory.is_dir():
        return UNKNOWN_MODEL
    return Shape.of(
        AutoConfig.from_pretrained(str(directory), trust_remote_code=False)
    ).multiply_adds
