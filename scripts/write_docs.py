"""Writes docs/stages.md from the stages themselves. `make docs` runs it; a test compares.

For every stage: name, version, what it reads, what is hashed, what its record holds.
"""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

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
    for field in dataclasses.fields(kind):
        note = "parent" if "Stage" in str(field.type) else "value"
        note = "not hashed" if field.metadata.get("unhashed") else note
        rows.append(f"| `{field.name}` | `{str(field.type).replace('|', 'or')}` | {note} |")
    held = ", ".join(f"`{field.name}`" for field in dataclasses.fields(kind.record))
    return (
        f"## {kind.name} (version {kind.version})\n\n{text}\n\n"
        + "\n".join(rows)
        + f"\n\nRecord: {held}.\n"
    )


if __name__ == "__main__":
    PAGE.write_text(page())
