"""How long a run will take, and which servers it needs when. Graphs are built, nothing is
computed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from stage_jobs import runtime
from test_stages import ENDPOINT, SETTINGS

from interp_by_construction.config import Config, compose
from interp_by_construction.engine.effort import Effort
from interp_by_construction.engine.records import Record
from interp_by_construction.engine.stage import Stage
from interp_by_construction.engine.stage_lines import Expected
from interp_by_construction.engine.store import Artifact
from interp_by_construction.schedules import estimate
from interp_by_construction.schedules.estimate import Pace, in_words, rough_sizes, speed
from interp_by_construction.schedules.graph import RunGraph, ancestry
from interp_by_construction.schedules.outlook import (
    SLOWED,
    START_SECONDS,
    Outlook,
    link_names,
    missing_stages,
    seconds_of_two,
)
from interp_by_construction.schedules.plan import graph_of

PACE = Pace(1e-5, 1e-3, 1e-3, 1e-3, 1e-3, 1.0)


def nothing(stage: Stage[Any]) -> Artifact | None:
    return None


@pytest.fixture(autouse=True)
def same_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of its speed is no part of the law."""
    monkeypatch.setattr(Pace, "of", classmethod(lambda cls, cfg, runtime: PACE))


@cache
def planned(name: str, *more: str, endpoint: bool = True) -> tuple[Config, RunGraph]:
    """Configuration and graph; endpoint: with servers of others. Without a helper, because whether
    one pays depends on the machine."""
    own = [*(ENDPOINT if endpoint else []), "layer=[0,1]", "trainer.helper=never"]
    cfg = compose([*own, *SETTINGS[name], *more])
    return cfg, graph_of(cfg, [0, 1])


def outlook(plan: tuple[Config, RunGraph], tmp: Path, find: Any = nothing) -> Outlook:
    return Outlook.of(*plan, find, runtime(tmp))


@dataclass(frozen=True)
class Empty(Stage[Record]):
    name = "empty"
    version = 1
    record = Record

    number: int
    needs: tuple[Stage[Any], ...] = ()


class Made:
    """A store in which some stages are done."""

    def __init__(self, *stages: Stage[Any]) -> None:
        self.known = {stage.fingerprint for stage in stages}

    def __call__(self, stage: Stage[Any]) -> Artifact | None:
        found = stage.fingerprint in self.known and stage.name != "corpus"
        return Artifact(stage.name, stage.fingerprint, Path("nowhere")) if found else None


@pytest.mark.parametrize("name", SETTINGS)
def test_every_stage_has_an_estimate_which_moves_no_fingerprint(name: str, tmp_path: Path) -> None:
    cfg, graph = planned(name)
    before = graph.plan()
    found = outlook((cfg, graph), tmp_path)
    assert found.n_stages == len(found.missing) > 10
    assert all(0 < each.seconds < 1e6 for each in found.missing.values())
    efforts = [each.stage.effort(rough_sizes(cfg)) for each in found.missing.values()]
    assert None not in efforts, "all shipped stages say how much they do"
    assert graph.plan() == before


def test_the_estimate_falls_with_every_stage_that_is_done(tmp_path: Path) -> None:
    plan = planned("joint")
    stages = list(missing_stages(plan[1], nothing))
    left = [outlook(plan, tmp_path, Made(*stages[:n])).seconds for n in range(1, len(stages) + 1)]
    assert all(after < before for before, after in pairwise(left))


def test_what_is_done_is_not_missing() -> None:
    _, graph = planned("loop")
    simulate = graph.layers[1]["simulate"]
    kept = {stage.fingerprint for _, _, stage in graph.links()}
    missing = [stage.fingerprint for stage in missing_stages(graph, Made(simulate))]
    assert simulate.fingerprint not in missing and set(missing) <= kept
    assert len(missing) == len(set(missing))


def test_more_work_takes_longer(tmp_path: Path) -> None:
    few, many = (
        outlook(planned("head", *more), tmp_path).seconds
        for more in ([], ["align.steps=5000", "simulate.max_align_tokens=1000000"])
    )
    assert many > 1.5 * few


def test_names_are_those_of_the_plan() -> None:
    names = set(link_names(planned("joint")[1]).values())
    assert {"corpus", "losses", "layer 0 label", "layers 0-1 align", "layer 1 losses_control"} <= (
        names
    )


def test_the_first_line_counts_and_says_where_the_log_is(tmp_path: Path) -> None:
    plan, log = planned("loop"), Path("runs/x/logs/run.log")
    stages = list(missing_stages(plan[1], nothing))
    n = len(stages)
    first = outlook(plan, tmp_path).headline("x", log)
    assert first.startswith(f"x: {n} stages, {n} to do, about ") and first.endswith(f"Log: {log}")
    some = outlook(plan, tmp_path, Made(*stages[1:4])).headline("x", log)
    assert some.startswith(f"x: {n} stages, 3 were done before, {n - 3} to do, about ")
    done = Outlook(n, {}, {}).headline("x", log)
    assert done == f"x: all {n} stages were done before"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "10 seconds"),
        (42, "40 seconds"),
        (58, "1 minute"),
        (100, "2 minutes"),
        (370, "6 minutes"),
        (1380, "25 minutes"),
        (5000, "85 minutes"),
        (5500, "2 hours"),
        (11000, "3 hours"),
    ],
)
def test_time_in_words(seconds: float, said: str) -> None:
    assert in_words(seconds) == said


def test_the_speed_of_a_machine_is_told_without_touching_random_numbers() -> None:
    torch.manual_seed(3)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    assert 1e7 < speed("cpu", 1) < 1e13
    assert torch.equal(state, torch.get_rng_state()) and threads == torch.get_num_threads()


def test_a_machine_that_is_twice_as_slow_takes_twice_as_long() -> None:
    effort = Effort(cut=1e6, encoded=1e4, labels=10, read=1e5, trained=1e5, steps=9, answers=4)
    slow = Pace(*(2 * value for value in vars(PACE).values()))
    assert slow.seconds(effort) == pytest.approx(2 * PACE.seconds(effort)) and effort.rated == 0
    assert PACE.seconds(effort + effort) == pytest.approx(2 * PACE.seconds(effort))


def test_sizes_come_from_configurations_alone() -> None:
    more = ["data=tales", "nodes.fraction=0.5", "nodes.count=null"]
    cfg = compose([*ENDPOINT, *SETTINGS["pretrained"], *more])
    shape = estimate.subject_shape(cfg)
    assert (shape.n_layers, shape.d_model, shape.d_mlp, shape.gated) == (30, 576, 1536, True)
    # The blocks of SmolLM2-135M have 106 million weights, its head 28 million.
    assert 0.9 < shape.multiply_adds / 134e6 < 1.2
    sizes = rough_sizes(cfg)
    assert sizes.nodes == 768 and 1.2e6 < sizes.splits["train"] < 2.2e6
    assert sizes.of_split("test", 2) == 2 * sizes.block and sizes.of_split("missing") == 0
    assert 0.15e6 < sizes.of_split("apart") < 0.25e6


def test_servers_start_just_before_they_are_needed(tmp_path: Path) -> None:
    found = outlook(planned("joint", endpoint=False), tmp_path)
    order = list(found.missing.values())
    begun: dict[str, int] = {}
    for place, each in enumerate(order):
        for kind in found.servers_due(each.stage):
            begun.setdefault(kind, place)
    for kind in ("generate", "classify"):
        first = next(
            place
            for place, each in enumerate(order)
            if kind in found.servers[each.stage.fingerprint]
        )
        place = begun[kind]
        assert place < first, "while something else is computed"
        between = sum(each.seconds for each in order[place + 1 : first])
        assert between < START_SECONDS, "not long before it is needed"
        earlier = sum(each.seconds for each in order[place:first])
        assert place == 0 or earlier >= START_SECONDS, "early enough, if a stage begins then"


def test_no_server_starts_for_what_is_done_or_served_elsewhere(tmp_path: Path) -> None:
    plan = planned("joint", "scores.enabled=false", endpoint=False)
    stages = [stage for _, _, stage in plan[1].links()]
    asking = [stage for stage in stages if stage.name in ("label", "simulate")]
    found = outlook(plan, tmp_path, Made(*asking))
    assert all(not found.servers_due(stage) for stage in stages)
    elsewhere = planned("joint")
    found = outlook(elsewhere, tmp_path)
    assert all(not found.servers_due(stage) for _, _, stage in elsewhere[1].links())


@pytest.mark.parametrize("name", SETTINGS)
def test_with_a_helper_what_asks_a_language_model_comes_first(name: str, tmp_path: Path) -> None:
    cfg, graph = planned(name, "trainer.helper=always")
    found = outlook((cfg, graph), tmp_path)
    stages = [placed.stage for placed in graph.links(found.first)]
    plain = [placed.stage for placed in graph.links()]
    assert sorted(s.fingerprint for s in stages) == sorted(s.fingerprint for s in plain)
    asking = [place for place, stage in enumerate(stages) if found.asks(stage)]
    needed = ancestry(filter(found.asks, plain))
    assert all(stage.fingerprint in needed for stage in stages[: max(asking)])
    made: set[str] = set()
    for fingerprint, each in found.missing.items():
        assert {parent.fingerprint for parent in each.stage.parents.values()} <= made
        made.add(fingerprint)
    assert not any(found.asks(stage) for stage in found.for_helper)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_helper_saves_no_more_than_what_it_can_compute(name: str, tmp_path: Path) -> None:
    alone, helped = (
        outlook(planned(name, f"trainer.helper={helper}"), tmp_path)
        for helper in ("never", "always")
    )
    assert not alone.helped and helped.helped and alone.missing.keys() == helped.missing.keys()
    own = sum(helped.missing[stage.fingerprint].seconds for stage in helped.for_helper)
    assert alone.seconds - own <= helped.seconds <= SLOWED * alone.seconds


def test_two_who_share_their_work_take_as_long_as_the_busier_one() -> None:
    first, second, third = (Empty(n) for n in (1, 2, 3))
    after = Empty(4, (second,))
    run = [Expected(stage, "", 100.0) for stage in (first, second, third, after)]
    # It begins the second after 10 s, while the run is at the first, and then the third.
    assert seconds_of_two(run, [second, third]) == pytest.approx(310)
    # While the run is at the third, it has the last, which needed the second.
    assert seconds_of_two(run, [after, second]) == pytest.approx(210)
    assert seconds_of_two(run, []) == pytest.approx(400)
