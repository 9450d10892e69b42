"""Templates and files of the report: static pages that open from disk and load nothing else.

Labels, tokens and reasons are untrusted. Jinja escapes them in templates, and Python code escapes
them with markupsafe. No data is inside a script, and the pages' policy allows no script but the
report's own file.
"""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from interp_by_construction.shown import page

HERE = Path(__file__).resolve().parent
ASSETS = ("report.css", "report.js")


@cache
def environment() -> Environment:
    """Jinja with autoescape and the filters of the templates; an undefined name is an error."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
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
    html = environment().get_template(template).render(root="../" * depth, **values)
    path.write_text(page(html), encoding="utf-8")


def copy_assets(out: Path) -> None:
    """Copies style sheet and script to the pages."""
    (out / "assets").mkdir(parents=True, exist_ok=True)
    for name in ASSETS:
        shutil.copyfile(HERE / "assets" / name, out / "assets" / name)


def shown(value: Any, digits: int = 3) -> str:
    """A number for reading; a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        extreme = value and (abs(value) < 10**-digits or abs(value) >= 1e5)
        return f"{value:.2g}" if extreme else f"{value:.{digits}f}"
    return str(value)


def signed(value: float | None, digits: int = 4) -> str:
    """A number with its sign; a dash where there is none."""
    return "–" if value is None else f"{value:+.{digits}f}"


def interval(value: Any, digits: int = 3) -> str:
    """`[low, high]`; nothing where there is none."""
    return "" if not value else f"[{value[0]:.{digits}f}, {value[1]:.{digits}f}]"


def words(name: Any) -> str:
    """A key with spaces for underscores."""
    return str(name).replace("_", " ")


def token(value: str) -> str:
    """A token with visible line breaks and tabs, each one character wide."""
    return value.replace("\n", "⏎").replace("\r", "⏎").replace("\t", "⇥")
