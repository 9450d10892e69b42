"""Laws of the configuration: parts of groups, and rules beside the fields."""

from __future__ import annotations

import dataclasses

import pytest

from interp_by_construction.config import (
    AlignConfig,
    Config,
    DataConfig,
    Group,
    LabelConfig,
    LabelerConfig,
    NodesConfig,
    SimulateConfig,
    SubjectConfig,
    TrainerConfig,
    compose,
    only,
)
from interp_by_construction.errors import ConfigError

SPLIT = (
    AlignConfig,
    DataConfig,
    LabelConfig,
    LabelerConfig,
    NodesConfig,
    SimulateConfig,
    SubjectConfig,
    TrainerConfig,
)


@pytest.mark.parametrize("kind", SPLIT)
def test_a_part_of_a_group_is_exactly_its_fields(kind: type[Group]) -> None:
    whole = kind()
    for part in kind.__bases__:
        values = dataclasses.asdict(only(part, whole))
        assert type(only(part, whole)) is part
        assert values and values == {name: getattr(whole, name) for name in values}


def test_defaults_satisfy_their_own_rules() -> None:
    Config().check()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["align.steps=-1"], "align.steps=-1: give an integer >= 0"),
        (["continue.lr=-1"], "continue.lr=-1.0: give a number >= 0"),
        (["judge=smollm2", "judge.concurrency=0"], "judge.concurrency=0: give an integer >= 1"),
        (["nodes.fraction=1.5"], "nodes.fraction=1.5: give a share between 0 and 1, or null"),
        (["subject.n_heads=3"], "subject.n_heads=3: it must divide subject.d_model"),
        (["data.fractions.train=0"], "data.fractions=.*: give positive shares that sum to 1"),
        (["bench.grades=[2]"], r"bench.grades=\[2.0\]: give correlations"),
        (["seed=-1"], "seed=-1: give an integer >= 0"),
    ],
)
def test_a_broken_rule_names_the_field_the_value_and_the_fix(
    overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(overrides)
