"""Any nested JSON as tables, so that a new key of the summary needs no change here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from interp_by_construction.report.site import shown, words

MAX_COLUMNS = 9


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of everything that is neither a mapping nor a list of mappings or
    lists."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}" if path else str(key))
    elif _nested(value):
        for i, item in enumerate(value):
            yield from leaves(item, f"{path}[{i}]")
    else:
        yield path, value


def exact(value: Any) -> str:
    """All digits, as in the JSON file."""
    return json.dumps(value, ensure_ascii=False)


def tree(value: Any) -> Markup:
    """Tables of a nested value. Mappings of plain values become the rows of one table, and plain
    values a list of names and values."""
    if not isinstance(value, Mapping):
        return _list(value) if isinstance(value, list) else Markup(f"<p>{escape(shown(value))}</p>")
    single = {key: item for key, item in value.items() if not _nested(item)}
    nested = {key: item for key, item in value.items() if _nested(item)}
    rows = {
        key: item for key, item in nested.items() if isinstance(item, Mapping) and _is_row(item)
    }
    parts = [_pairs(single)] if single else []
    if len(rows) > 1 and len(_columns(rows)) <= MAX_COLUMNS:
        parts.append(_matrix(rows))
        nested = {key: item for key, item in nested.items() if key not in rows}
    parts += [
        f'<section class="branch"><h4>{escape(words(key))}</h4>{tree(item)}</section>'
        for key, item in nested.items()
    ]
    return Markup("".join(parts))


def _nested(value: Any) -> bool:
    return isinstance(value, Mapping) or (
        isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value)
    )


def _is_row(value: Mapping[str, Any]) -> bool:
    return bool(value) and not any(_nested(item) for item in value.values())


def _list(values: Sequence[Any]) -> Markup:
    if values and all(isinstance(item, Mapping) and _is_row(item) for item in values):
        return Markup(_matrix({str(i): item for i, item in enumerate(values)}))
    if not _nested(list(values)):
        return Markup(f"<p>{escape(_cell(list(values)))}</p>")
    return tree({str(i): item for i, item in enumerate(values)})


def _pairs(values: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(words(key))}</th><td>{escape(_cell(item))}</td></tr>'
        for key, item in values.items()
    )
    return f'<div class="scroll"><table class="pairs"><tbody>{rows}</tbody></table></div>'


def _columns(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for row in rows.values() for key in row))


def _matrix(rows: Mapping[str, Mapping[str, Any]]) -> str:
    columns = _columns(rows)
    head = "".join(f'<th scope="col">{escape(words(column))}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(words(name))}</th>'
        + "".join(
            f"<td>{escape(_cell(row[column]) if column in row else '')}</td>" for column in columns
        )
        + "</tr>"
        for name, row in rows.items()
    )
    return f'<div class="scroll"><table><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(shown(item, 4) for item in value)}]" if value else "none"
    return shown(value, 4)
