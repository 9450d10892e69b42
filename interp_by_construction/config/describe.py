"""The configuration in words: the files of `conf/` that hold defaults, what `ibc --help` and
`ibc run --help` show, and the fields that docs/settings.md lists."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from interp_by_construction.config.group import SPELLED, Group, dot
from interp_by_construction.config.labels import LabelerConfig
from interp_by_construction.config.run import Config

WIDTH = 100
MOST_CHANGED = (
    "run",
    "layer",
    "subject.path",
    "data.path",
    "nodes.count",
    "labeler.model",
    "simulate.simulator",
    "align.weight",
    "schedule",
    "seed",
)
"""The ten settings that people change first. Help shows these, and the others on request."""
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
    dir: ${expanded:${paths.root}}/runs/.jobs/${now:%Y-%m-%d_%H-%M-%S-%f}
  output_subdir: null  # what a run was asked for stands in its own config.yaml, checked
  sweep:
    dir: ${expanded:${paths.root}}/runs/.jobs/${now:%Y-%m-%d_%H-%M-%S-%f}
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


class Setting(NamedTuple):
    """One field of the configuration."""

    name: str
    """As people type it, such as align.weight."""
    value: Any
    meaning: str

    @property
    def typed(self) -> str:
        """The value as it is typed on a command line."""
        return _yaml(self.value)


def settings(group: Group, prefix: str = "") -> Iterator[Setting]:
    """Every field below `group` that is no group itself, in the order of `documented`."""
    for part in _parts(group):
        documents = _documents(part)
        for name in inspect.get_annotations(part):
            value, dotted = getattr(group, name), dot(prefix, name)
            if isinstance(value, Group):
                yield from settings(value, dotted)
            else:
                yield Setting(dotted, value, " ".join(documents[name].split()))


def files() -> dict[str, str]:
    """The files of `conf/` that hold defaults: name -> text.

    A labeler's fields have a file of their own, since `judge` is null or holds them, too.
    """
    whole = documented(Config(), skip=("labeler", "judge"))
    return {
        "config.yaml": f"{DEFAULTS}\n{whole}\n{HYDRA}",
        "labeler/smollm2.yaml": f"{LABELER}\n{documented(LabelerConfig())}",
    }


def short_help() -> str:
    """The most changed settings with their defaults, a line each: the end of `ibc --help`."""
    shown = [
        (f"{each.name}={each.typed}", each.meaning.partition(". ")[0])
        for each in _most_changed(Config())
    ]
    width = max(len(typed) for typed, _ in shown) + 2
    lines = "\n".join(f"  {typed:<{width}}{meaning.rstrip('.')}" for typed, meaning in shown)
    return (
        f"Settings of `ibc run` that people change first, with their defaults:\n{lines}\n\n"
        "`ibc run --help` says more of them and lists the prepared choices of each group. "
        "`ibc run --help=all`\nshows every setting.\n"
    )


def help_text(config: Config, conf: Path, whole: bool) -> str:
    """What `ibc run --help` shows: the groups of `conf`, and the most changed settings with the
    values of `config`; with `whole` (`--help=all`) every field."""
    groups = "\n".join(f"  {name}={'|'.join(names)}" for name, names in choices(conf).items())
    if whole:
        fields = f"Settings, with the values that this command line gives them:\n\n{documented(config)}\n"
    else:
        lines = "\n".join(_explained(each) for each in _most_changed(config))
        fields = (
            "Settings that people change first, with the values that this command line gives them:\n\n"
            f"{lines}\n\n`ibc run --help=all` shows every setting. "
        )
    return (
        "ibc run [GROUP=CHOICE ...] [SETTING=VALUE ...]\n\n"
        f"Groups. Each choice is a file in {conf} that sets several values at once:\n{groups}\n\n"
        f"{fields}`ibc run --hydra-help` shows Hydra's own options.\n"
    )


def _most_changed(config: Config) -> list[Setting]:
    every = {each.name: each for each in settings(config)}
    return [every[name] for name in MOST_CHANGED]


def _explained(setting: Setting) -> str:
    indent = " " * 6
    meaning = textwrap.wrap(
        setting.meaning,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )
    return "\n".join([f"  {setting.name}={setting.typed}", *meaning])


def documented(group: Group, skip: tuple[str, ...] = ()) -> str:
    """A group as YAML, a comment over each field. Its own fields come before those of its parts."""
    return "\n".join(_lines(group, skip)) + "\n"


def _parts(group: Group) -> Iterator[type[Group]]:
    """The classes that declare the group's fields, its own first."""
    yield from (part for part in type(group).__mro__ if issubclass(part, Group))


def _lines(group: Group, skip: tuple[str, ...]) -> Iterator[str]:
    for part in _parts(group):
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


def choices(conf: Path) -> Mapping[str, list[str]]:
    """Group -> its choices."""
    names: dict[str, list[str]] = {}
    for file in sorted(conf.glob("*/*.yaml")):
        if file.parent.name != "hydra":
            names.setdefault(file.parent.name, []).append(file.stem)
    return names
