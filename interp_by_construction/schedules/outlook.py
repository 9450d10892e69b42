"""What a run still has to compute: which stages, for how long, and which servers they need."""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from interp_by_construction.config import Config
from interp_by_construction.corpus import CorpusRecord
from interp_by_construction.engine.effort import Effort, Sizes
from interp_by_construction.engine.records import from_json
from interp_by_construction.engine.runtime import Runtime
from interp_by_construction.engine.stage import Stage
from interp_by_construction.engine.stage_lines import Expected, shown_name
from interp_by_construction.engine.store import Artifact
from interp_by_construction.llm.backend import ServerKind
from interp_by_construction.schedules.estimate import UNKNOWN_EFFORT, Pace, in_words, rough_sizes
from interp_by_construction.schedules.graph import RunGraph, ancestry

Find = Callable[[Stage[Any]], Artifact | None]
"""The finished artifact of a stage, or None."""

START_SECONDS = 40.0
"""A server starts this long before it is needed, or as soon afterwards as a stage begins."""
WAIT_SECONDS = 15.0
"""How long a run waits for each server, although it starts early."""
SLOWED = 1.2
"""How many times as long stages take while two processes share the machine's memory: so much longer
than estimated without it two runs of the demo took."""
HELPER_STARTS, HELPER_SAVES = 10.0, 30.0
"""Seconds that a helper takes to start, and that it must save to be worth it."""


@dataclass(frozen=True)
class Outlook:
    """What is missing of a run."""

    n_stages: int
    """Of the whole run."""
    missing: Mapping[str, Expected]
    """Fingerprint -> stage, in the order of computation."""
    servers: Mapping[str, tuple[ServerKind, ...]]
    """Fingerprint -> the servers that the stage may need."""
    asked: Mapping[str, tuple[ServerKind, ...]] = field(default_factory=dict)
    """Fingerprint -> what the stage asks language models for, where it asks."""
    helped: bool = False
    """Whether a helper computes meanwhile what asks none."""

    @classmethod
    def of(cls, cfg: Config, graph: RunGraph, find: Find, runtime: Runtime) -> Outlook:
        """Of a graph. Loads no model, and takes less than half a second."""
        missing = {stage.fingerprint: stage for stage in missing_stages(graph, find)}
        n_stages = len({stage.fingerprint for _, _, stage in graph.links()} | set(missing))
        if not missing:
            return cls(n_stages, {}, {})
        names, sizes, pace = link_names(graph), sizes_of(cfg, graph, find), Pace.of(cfg, runtime)
        expected, asked = {}, {}
        for fingerprint, stage in missing.items():
            effort = stage.effort(sizes) or UNKNOWN_EFFORT
            name = names.get(fingerprint) or shown_name(stage.name, stage.shown_layer)
            expected[fingerprint] = Expected(stage, name, pace.seconds(effort))
            asked[fingerprint] = _servers(effort)
        managed = cfg.labeler.backend == "vllm"
        servers = {fingerprint: own if managed else () for fingerprint, own in asked.items()}
        asking = {fingerprint: own for fingerprint, own in asked.items() if own}
        alone = cls(n_stages, expected, servers, asking)
        order = missing_stages(graph, find, alone.asks)
        ordered = {stage.fingerprint: expected[stage.fingerprint] for stage in order}
        helped = replace(alone, missing=ordered, helped=True)
        saved = alone.seconds - helped.seconds
        return helped if _is_helped(cfg.trainer.helper, runtime, saved) else alone

    @property
    def seconds(self) -> float:
        """Of all that is missing."""
        kinds = {kind for own in self.servers.values() for kind in own}
        if self.helped:
            own = SLOWED * seconds_of_two(list(self.missing.values()), self.for_helper)
        else:
            own = sum(each.seconds for each in self.missing.values())
        return own + len(kinds) * WAIT_SECONDS

    @property
    def for_helper(self) -> list[Stage[Any]]:
        """What a helper may compute, in its order. What has to be there before a language model can
        be asked comes last: the run computes it at once."""
        stages = [each.stage for each in self.missing.values()]
        early = ancestry(filter(self.asks, stages))
        own = [stage for stage in stages if not self.asks(stage)]
        return sorted(own, key=lambda stage: stage.fingerprint in early)

    def asks(self, stage: Stage[Any]) -> bool:
        """Whether it asks a language model."""
        return stage.fingerprint in self.asked

    def first(self, stage: Stage[Any]) -> bool:
        """Whether the run computes it as soon as it can: with a helper, what asks a language model,
        because the helper does the rest meanwhile."""
        return self.helped and self.asks(stage)

    def headline(self, run: str, log: Path) -> str:
        """The first line of a run, whose log is `log`."""
        n_done = self.n_stages - len(self.missing)
        if not self.missing:
            return f"{run}: all {n_done} stages were done before"
        before = f" {n_done} were done before," if n_done else ""
        return (
            f"{run}: {self.n_stages} stages,{before} {len(self.missing)} to do, about "
            f"{in_words(self.seconds)} on this machine. Log: {log}"
        )

    def servers_due(self, stage: Stage[Any]) -> list[ServerKind]:
        """The servers to start when `stage` begins: those that it needs, and those that would not
        be up in time if they started with the stage after it."""
        fingerprints, due = list(self.missing), dict[ServerKind, None]()
        if stage.fingerprint not in self.missing:
            return []
        waits = 0.0
        for place, each in enumerate(fingerprints[fingerprints.index(stage.fingerprint) :]):
            if waits >= START_SECONDS:
                break
            due |= dict.fromkeys(self.servers[each])
            # What passes from the end of `stage` on.
            waits += self.missing[each].seconds if place else 0.0
        return list(due)


def missing_stages(
    graph: RunGraph, find: Find, first: Callable[[Stage[Any]], bool] | None = None
) -> Iterator[Stage[Any]]:
    """Each once, in the order of computation (`RunGraph.links`)."""
    seen: set[str] = set()

    def walk(stage: Stage[Any]) -> Iterator[Stage[Any]]:
        if stage.fingerprint in seen:
            return
        seen.add(stage.fingerprint)
        if find(stage) is None:
            for parent in stage.parents.values():
                yield from walk(parent)
            yield stage

    for _, _, stage in graph.links(first):
        yield from walk(stage)


def seconds_of_two(run: Sequence[Expected], helper: Sequence[Stage[Any]]) -> float:
    """How long a run takes that computes its stages in order, while a helper takes the first of its
    own that is ready and that nobody has begun."""
    seconds = {each.stage.fingerprint: each.seconds for each in run}
    ends: dict[str, float] = {}
    clock, helpers = 0.0, HELPER_STARTS

    def begins(stage: Stage[Any]) -> float:
        """When all its parents are there."""
        parents = (parent.fingerprint for parent in stage.parents.values())
        return max((ends.get(each, math.inf) for each in parents if each in seconds), default=0.0)

    for stage, _, _ in run:
        while helpers <= clock:
            left = [each for each in helper if each.fingerprint not in ends]
            ready = next((each for each in left if begins(each) <= helpers), None)
            if ready is not None:
                helpers += seconds[ready.fingerprint]
                ends[ready.fingerprint] = helpers
            else:
                helpers = min((end for end in ends.values() if end > helpers), default=math.inf)
        if stage.fingerprint not in ends:
            ends[stage.fingerprint] = max(clock, begins(stage)) + seconds[stage.fingerprint]
        clock = max(clock, ends[stage.fingerprint])
        if math.isinf(helpers):
            helpers = clock
    return clock


def _is_helped(wanted: str, runtime: Runtime, saved: float) -> bool:
    """Whether a helper works beside a run, to which it saves so many seconds."""
    if wanted != "auto":
        return wanted == "always"
    threads = max(runtime.threads, runtime.encoder_threads)
    # The jobs of a sweep that run at the same time have no core to spare.
    alone = multiprocessing.current_process().name == "MainProcess"
    # Only Linux tells which of the cores this process may use.
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    fits = runtime.device == "cpu" and 2 * threads <= own
    return saved >= HELPER_SAVES and alone and fits


def link_names(graph: RunGraph) -> dict[str, str]:
    """Fingerprint -> what the run calls the stage, with its layers."""
    layers: dict[str, list[int]] = {}
    links: dict[str, str] = {}
    for layer, link, stage in graph.links():
        links.setdefault(stage.fingerprint, link)
        layers.setdefault(stage.fingerprint, []).extend([] if layer is None else [layer])
    return {
        fingerprint: f"layers {min(own)}-{max(own)} {links[fingerprint]}"
        if len(own := layers[fingerprint]) > 1
        else shown_name(links[fingerprint], own[0] if own else None)
        for fingerprint in links
    }


def sizes_of(cfg: Config, graph: RunGraph, find: Find) -> Sizes:
    """With the tokens of the corpus, where there is one."""
    sizes, corpus = rough_sizes(cfg), find(graph.text["corpus"])
    if corpus is None:
        return sizes
    splits = from_json(CorpusRecord, corpus.metrics).splits
    return sizes._replace(splits={name: each.n_tokens for name, each in splits.items()})


def _servers(effort: Effort) -> tuple[ServerKind, ...]:
    kinds: dict[ServerKind, float] = {"generate": effort.answers, "classify": effort.rated}
    return tuple(kind for kind, amount in kinds.items() if amount)
