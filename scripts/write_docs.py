"""Writes docs/stages.md from the stages themselves. `make docs` runs it; a test compares.

For every stage: name, version, what it reads, what is hashed, what its record holds.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from pathlib import Path
from typing import Any

from interp_by_construction.engine.runtime import Handle
from interp_by_construction.engine.stage import Stage
from interp_by_construction.stages import all_stages

PAGE = Path(__file__).resolve().parent.parent / "docs" / "stages.md"
HEAD = """# Stages

`make docs` writes this page from the code. A stage is a frozen dataclass in `interp_by_construction/stages/`; its artifact lies in
`store/<name>/<fingerprint>/`. All fields are hashed unless they are marked. The record is what `summary.json` holds of the artifact.
"""


def page() -> str:
    """The whole page."""
    kinds = sorted(all_stages().values(), key=lambda kind: kind.name)
    return "\n".join([HEAD, *(section(kind) for kind in kinds if kind.name != "given")])


def section(kind: type[Stage[Any]]) -> str:
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


if __name__ == "__main__":
    PAGE.write_text(page())
