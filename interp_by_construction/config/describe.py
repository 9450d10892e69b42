"""The configuration as YAML with comments: what `conf/config.yaml` holds and `ibc run --help`
shows."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from interp_by_construction.config.group import SPELLED, Group
from interp_by_construction.config.labels import LabelerConfig
from interp_by_construction.config.run import Config

WIDTH = 100
DEFAULTS = """\
# Made by `python -m interp_by_construction.config`: every field, its meaning and its default, one
# group each. The files of a folder `GROUP/` hold what a choice of this group changes.
defaults:
  - _self_
  - data: stories
  - subject: tiny
  - nodes: neurons
  - labeler: smollm2
  - judge: null
  - trainer: cpu
  - logger: wandb
  - experiment: null
  - override hydra/sweeper: grids
"""
HYDRA = """\
# Hydra's own job directory is separate from the run and timestamped.
hydra:
  run:
    dir: ${paths.root}/runs/.jobs/${now:%Y-%m-%d_%H-%M-%S-%f}
  sweep:
    dir: ${paths.root}/runs/.jobs/${now:%Y-%m-%d_%H-%M-%S-%f}
    subdir: ${hydra.job.num}
  job:
    name: ibc
    chdir: false
  job_logging:
    root:
      level: WARNING
"""
LABELER = """\
# Made by `python -m interp_by_construction.config`. The embedded SmolLM2-135M-Instruct, on vLLM
# servers that the run starts itself. These are all fields of a labeler or judge.
"""


def files() -> dict[str, str]:
    """The files of `conf/` that hold defaults: name -> text.

    A labeler's fields have a file of their own, since `judge` is null or holds them, too.
    """
    whole = documented(Config(), skip=("labeler", "judge"))
    return {
        "config.yaml": f"{DEFAULTS}\n{whole}\n{HYDRA}",
        "labeler/smollm2.yaml": LABELER + documented(LabelerConfig()),
    }


def help_text(config: Config, conf: Path) -> str:
    """What `ibc run --help` shows: the groups of `conf`, and the fields of `config`."""
    groups = "\n".join(f"  {name}={'|'.join(choices)}" for name, choices in _choices(conf).items())
    return (
        "ibc run [GROUP=CHOICE ...] [FIELD=VALUE ...] [GROUP.FIELD=VALUE ...]\n\n"
        f"Groups, each choice a file in {conf}:\n{groups}\n\n"
        "Fields, with the values that this command line gives them:\n\n"
        f"{documented(config)}\n"
        "`ibc run --hydra-help` shows Hydra's own options.\n"
    )


def documented(group: Group, skip: tuple[str, ...] = ()) -> str:
    """A group as YAML, a comment over each field. Its own fields come before those of its parts."""
    return "\n".join(_lines(group, skip)) + "\n"


def _lines(group: Group, skip: tuple[str, ...]) -> Iterator[str]:
    for part in type(group).__mro__:
        if not issubclass(part, Group):
            continue
        if part not in (type(group), Group):
            yield from _comment(f"-- {inspect.getdoc(part)}")
        documents = _documents(part)
        for name in inspect.get_annotations(part):
            key, value = SPELLED.get(name, name), getattr(group, name)
            if key in skip:
                continue
            if isinstance(value, Group):
                yield ""
                yield from _comment(inspect.getdoc(type(value)) or "")
                yield f"{key}:"
                yield from (f"  {line}" for line in _lines(value, ()))
            else:
                yield from _comment(documents[name])
                yield f"{key}: {_yaml(value)}"


def _documents(kind: type[Group]) -> dict[str, str]:
    """The string under each of the fields that this class itself declares."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    return {
        line.target.id: str(below.value.value)
        for line, below in pairwise(tree.body)
        if isinstance(line, ast.AnnAssign)
        and isinstance(line.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
    }


def _comment(text: str) -> list[str]:
    words = " ".join(text.split())
    return [f"# {line}" for line in textwrap.wrap(words, WIDTH - 4, break_on_hyphens=False)]


def _yaml(value: Any) -> str:
    text = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6
    )
    return text.removesuffix("\n").removesuffix("\n...")


def _choices(conf: Path) -> Mapping[str, list[str]]:
    """Group -> its choices."""
    names: dict[str, list[str]] = {}
    for file in sorted(conf.glob("*/*.yaml")):
        if file.parent.name != "hydra":
            names.setdefault(file.parent.name, []).append(file.stem)
    return names
