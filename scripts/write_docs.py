"""Writes docs/stages.md and docs/settings.md from the code. `make docs` runs it; tests compare.

Stages: name, version, what is hashed, what the record holds. Settings: every field of the
configuration with its default and meaning, and the prepared choices of each group.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import typing
from pathlib import Path
from typing import Any

from interp_by_construction.config import NOT_IDENTITY, Config, conf_dir
from interp_by_construction.config.describe import MOST_CHANGED, Setting, choices, settings
from interp_by_construction.config.group import RENAMED, Group
from interp_by_construction.engine.runtime import Handle
from interp_by_construction.engine.stage import Stage
from interp_by_construction.stages import all_stages

DOCS = Path(__file__).resolve().parent.parent / "docs"
STAGES = """# Stages

`make docs` writes this page from the code. A stage is a frozen dataclass in `interp_by_construction/stages/`; its artifact lies in
`store/<name>/<fingerprint>/`. All fields are hashed unless they are marked. The record is what `summary.json` holds of the artifact.
"""
SETTINGS = """# Settings

`make docs` writes this page from the dataclasses in `interp_by_construction/config/`.

A command line sets values in two ways. `align.weight=1` sets one field. `data=tales` picks a choice of the group `data`: a file of
`conf/` that sets several fields at once. What you type wins over choices, and choices win over the defaults below. `ibc run --help`
shows the ten settings that people change first: {first}.

A run's name can be used again to go on with the run. These fields may then differ: {free}. All others must be the same.
"""
ABOUT = {
    "": "These belong to no group.",
    "experiment": "A prepared set-up. It sets values of all other groups.",
    "judge": "The language model that judges. A choice of this group has the same fields as `labeler`.",
}
"""What is said of the groups that no dataclass stands for."""


def pages() -> dict[str, str]:
    """Name of the file in docs/ -> its text."""
    return {"stages.md": stages_page(), "settings.md": settings_page()}


def stages_page() -> str:
    """All stages by name."""
    kinds = sorted(all_stages().values(), key=lambda kind: kind.name)
    return "\n".join([STAGES, *(stage_section(kind) for kind in kinds if kind.name != "given")])


def stage_section(kind: type[Stage[Any]]) -> str:
    """One stage."""
    text = inspect.cleandoc(kind.__doc__ or "")
    rows = ["| field | type | |", "| --- | --- | --- |"]
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        note = "not hashed" if field.metadata.get("unhashed") else hashed_as(hints[field.name])
        rows.append(f"| `{field.name}` | `{str(field.type).replace('|', 'or')}` | {note} |")
    held = ", ".join(f"`{field.name}`" for field in dataclasses.fields(kind.record))
    return (
        f"## {kind.name} (version {kind.version})\n\n`{kind.name}` {kind.says}.\n\n{text}\n\n"
        + "\n".join(rows)
        + f"\n\nRecord: {held}.\n"
    )


def hashed_as(hint: Any) -> str:
    """How a field of this type enters the fingerprint."""
    kinds = [hint, *typing.get_args(hint)]
    kinds += [typing.get_origin(each) for each in kinds]
    if any(inspect.isclass(each) and issubclass(each, Stage) for each in kinds):
        return "parent: its fingerprint is hashed"
    if any(inspect.isclass(each) and issubclass(each, Handle) for each in kinds):
        return "handle: its identity is hashed"
    return "value: it is hashed"


def settings_page() -> str:
    """Fields without a group, then the experiments, then one section for each group."""
    config = Config()
    prepared = choices(conf_dir())

    def group_of(setting: Setting) -> str:
        group, dot, _ = setting.name.partition(".")
        return group if dot or group in prepared else ""

    alone_first = sorted(settings(config), key=lambda each: "." in each.name)
    by_group = itertools.groupby(alone_first, group_of)
    sections = [settings_section(config, name, list(fields)) for name, fields in by_group]
    first, *groups = sections
    head = SETTINGS.format(first=names(MOST_CHANGED), free=names(NOT_IDENTITY))
    return "\n".join([head, first, settings_section(config, "experiment", []), *groups])


def settings_section(config: Config, group: str, fields: list[Setting]) -> str:
    """One group: what it is, its choices, and its fields."""
    held = getattr(config, RENAMED.get(group, group), None)
    about = inspect.cleandoc(type(held).__doc__ or "") if isinstance(held, Group) else ABOUT[group]
    parts = [f"## {group or 'The run as a whole'}", " ".join(about.split())]
    lines = [
        f"- `{group}={name}`: {choice(group, name)}" for name in choices(conf_dir()).get(group, [])
    ]
    parts += ["\n".join(lines)] if lines else []
    if fields:
        rows = ["| setting | default | meaning |", "| --- | --- | --- |"]
        rows += [
            f"| `{each.name}` | `{each.typed}` | {each.meaning.replace('|', chr(92) + '|')} |"
            for each in fields
        ]
        parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"


def choice(group: str, name: str) -> str:
    """What the comment at the top of the choice's file says."""
    lines = (conf_dir() / group / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
    text = " ".join(line.removeprefix("#").strip() for line in comment if "@package" not in line)
    return text.removeprefix("Made by `python -m interp_by_construction.config`. ")


def names(fields: tuple[str, ...]) -> str:
    """A list within a sentence."""
    return ", ".join(f"`{name}`" for name in fields)


if __name__ == "__main__":
    for file, text in pages().items():
        (DOCS / file).write_text(text, encoding="utf-8")
