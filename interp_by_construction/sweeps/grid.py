"""The jobs of a sweep: the grid of all given values, and further grids with pinned values.

With one grid a control would run at every weight. So an experiment lists further grids under
`hydra.sweeper.also`. Each is the main grid once more, with some fields pinned to values of its own:

    params: {align.weight: "0.1,1", seed: "0,1"}          4 jobs
    also: [{align.target: "shuffled", align.weight: 1}]   2 more, one per seed
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.errors import HydraException

Values = dict[str, list[str]]
"""Field or group -> what it is set to, in turn."""


def expand(
    params: Mapping[str, Any],
    also: Sequence[Mapping[str, Any]],
    arguments: Sequence[str],
    parser: Any,
) -> list[list[str]]:
    """Overrides of every job, without repetition, the main grid first.

    The command line (`arguments`) wins over `params`. It also wins over what a grid of `also` pins:
    of the pinned values only those remain that the command line gives too. If there are none, the
    grid takes the first value of the command line.

    Args:
        parser: Hydra's OverridesParser.

    Raises:
        hydra.errors.HydraException: an override cannot be read, or sweeps over a range of floats.
    """
    given = _values(arguments, parser)
    grid = _values([f"{key}={value}" for key, value in params.items()], parser) | given
    grids = [grid]
    for pinned in also:
        values = _values([f"{key}={value}" for key, value in pinned.items()], parser)
        for key in values.keys() & given.keys():
            values[key] = [value for value in values[key] if value in given[key]] or given[key][:1]
        grids.append(grid | values)
    jobs = dict.fromkeys(job for values in grids for job in _product(values))
    return [list(job) for job in jobs]


def swept(jobs: Sequence[Sequence[str]]) -> set[str]:
    """The keys whose values differ between jobs."""
    given = [{key_of(override): override for override in job} for job in jobs]
    keys = {key for job in given for key in job}
    return {key for key in keys if len({job.get(key) for job in given}) > 1}


def key_of(override: str) -> str:
    """`align.weight` of `++align.weight=1`."""
    return override.partition("=")[0].lstrip("+~")


def _values(overrides: Sequence[str], parser: Any) -> Values:
    values: Values = {}
    for override in parser.parse_overrides(list(overrides)):
        key = override.get_key_element()
        if not override.is_sweep_override():
            values[key] = [override.get_value_element_as_str()]
        elif override.is_discrete_sweep():
            values[key] = list(override.sweep_string_iterator())
        else:
            raise HydraException(
                f"{override.input_line}: list the values of a sweep, as in {key}=0.1,1,10"
            )
    return values


def _product(values: Values) -> Iterator[tuple[str, ...]]:
    overrides = ([f"{key}={value}" for value in given] for key, given in values.items())
    return itertools.product(*overrides)
