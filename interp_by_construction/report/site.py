"""Templates and files of the report: static pages that open from disk, with nothing from elsewhere.

Labels, tokens and reasons are untrusted: jinja2 escapes whatever stands in a page, what Python
assembles escapes with markupsafe, no data stands inside a script, and the pages' policy runs no
script but the report's own file.
"""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).resolve().parent
ASSETS = ("report.css", "report.js")


@cache
def environment() -> Environment:
    """Jinja with autoescape and the filters of the templates; an undefined name is an error."""
    loader = FileSystemLoader(HERE / "templates")
    made = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": shown,
        "signed": signed,
        "interval": interval,
        "words": words,
        "token": token,
    }
    return made


def render(template: str, path: Path, depth: int, **values: Any) -> None:
    """Writes one page; depth: folders between it and the assets."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        environment().get_template(template).render(root="../" * depth, **values), encoding="utf-8"
    )


def copy_assets(out: Path) -> None:
    """Puts style and script beside the pages."""
    (out / "assets").mkdir(parents=True, exist_ok=True)
    for name in ASSETS:
        shutil.copyfile(HERE / "assets" / name, out / "assets" / name)


def shown(value: Any, digits: int = 3) -> str:
    """A number for reading; what is undefined says so."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return (
            f"{value:.2g}"
            if value and (abs(value) < 10**-digits or abs(value) >= 1e5)
            else f"{value:.{digits}f}"
        )
    return str(value)


def signed(value: float | None, digits: int = 4) -> str:
    """A number with its sign; a dash where there is none."""
    return "–" if value is None else f"{value:+.{digits}f}"


def interval(value: Any, digits: int = 3) -> str:
    """`[low, high]`; nothing where there is none."""
    return "" if not value else f"[{value[0]:.{digits}f}, {value[1]:.{digits}f}]"


def words(name: Any) -> str:
    """A key as people read it."""
    return str(name).replace("_", " ")


def token(value: str) -> str:
    """Blanks that can be seen, each still one character wide."""
    return value.replace("\n", "⏎").replace("\r", "⏎").replace("\t", "⇥")
