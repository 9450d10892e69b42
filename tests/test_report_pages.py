"""The pages for everyone: structure, names and keyboard from the HTML, contrast from the style
sheet. Those of a run, its layers and nodes, and of a sweep."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from report_run import draw_nothing, make_sweep

from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.report.html import write_report
from interp_by_construction.report.site import HERE

VOID = {"meta", "link", "input", "br", "img", "hr"}
CSS = (HERE / "assets" / "report.css").read_text()


@dataclass
class Element:
    tag: str
    attrs: dict[str, str]
    parent: Element | None
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def all(self, *tags: str) -> Iterator[Element]:
        """Every element below this one, or those of some tags."""
        for child in self.children:
            if not tags or child.tag in tags:
                yield child
            yield from child.all(*tags)

    @property
    def whole_text(self) -> str:
        return self.text + "".join(child.whole_text for child in self.children)

    def above(self) -> Iterator[Element]:
        """Its ancestors, the nearest first."""
        if self.parent is not None:
            yield self.parent
            yield from self.parent.above()


class Parser(HTMLParser):
    """Raises AssertionError where an element is not closed in order."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.root = self.at = Element("", {}, None)
        self.feed(file.read_text(encoding="utf-8"))
        assert self.at is self.root, f"{file}: <{self.at.tag}> is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        made = Element(tag, {name: value or "" for name, value in attrs}, self.at)
        self.at.children.append(made)
        if tag not in VOID:
            self.at = made

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.at.children.append(Element(tag, {n: v or "" for n, v in attrs}, self.at))

    def handle_endtag(self, tag: str) -> None:
        assert self.at.tag == tag, f"</{tag}> closes <{self.at.tag}>"
        assert self.at.parent is not None
        self.at = self.at.parent

    def handle_data(self, data: str) -> None:
        self.at.text += data


@pytest.fixture(scope="module")
def pages(shared_run: tuple[Path, RunDirectory]) -> dict[Path, Element]:
    """One page of each kind at least."""
    root, run = shared_run
    config = yaml.safe_load((run.path / "config.yaml").read_text()) | {"seed": 1}
    make_sweep(root, run, yaml.safe_dump(config))
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        files = [write_report(root, "sweep"), write_report(root, "small")]
    report = run.path / "report"
    files += [*report.glob("layers/*.html"), *report.glob("nodes/L1/*.html")]
    return {file: Parser(file).root for file in files}


def test_every_page_has_language_title_landmarks_and_a_way_past_its_head(
    pages: dict[Path, Element],
) -> None:
    for file, page in pages.items():
        (html,) = page.all("html")
        assert html.attrs["lang"] == "en" and next(page.all("title")).text.strip(), file
        (viewport,) = [m for m in page.all("meta") if m.attrs.get("name") == "viewport"]
        assert "width=device-width" in viewport.attrs["content"]
        assert len(list(page.all("main"))) == len(list(page.all("h1"))) == 1
        assert len(list(page.all("header"))) == 1
        skip = next(page.all("a"))
        assert skip.attrs["href"] == "#main" and next(page.all("main")).attrs["id"] == "main"
        assert all(nav.attrs.get("aria-label") for nav in page.all("nav"))
        ids = [each.attrs["id"] for each in page.all() if "id" in each.attrs]
        assert len(ids) == len(set(ids)), file
        for each in page.all():
            for name in each.attrs.get("aria-labelledby", "").split():
                assert name in ids, (file, name)


def test_every_control_picture_and_table_has_a_name(pages: dict[Path, Element]) -> None:
    for file, page in pages.items():
        for control in page.all("input", "select", "textarea"):
            labelled = any(each.tag == "label" for each in control.above())
            assert labelled or control.attrs.get("aria-label"), (file, control.attrs)
        for link in page.all("a", "button", "summary"):
            assert link.whole_text.strip() or link.attrs.get("aria-label"), (file, link.attrs)
        for svg in page.all("svg"):
            if svg.attrs.get("aria-hidden") != "true":
                assert svg.attrs["role"] in ("img", "group") and svg.attrs["aria-label"], file
            if svg.attrs.get("role") == "img":
                assert next(svg.all("title")).text == svg.attrs["aria-label"]
        for head in page.all("th"):
            assert head.attrs.get("scope") in ("col", "row", "colgroup", "rowgroup"), file
        for table in page.all("table"):
            assert any(each.tag == "th" for each in table.all()), file
        for box in page.all():
            if box.attrs.get("tabindex") == "0" and box.tag == "div":
                assert box.attrs["role"] == "group" and box.attrs["aria-label"], file


def test_every_table_comes_with_a_line_on_how_to_read_it(pages: dict[Path, Element]) -> None:
    n_tables = 0
    for file, page in pages.items():
        for table in page.all("table"):
            sections = [each for each in table.above() if each.tag == "section"]
            hints = [
                hint
                for section in sections
                for hint in section.all("p")
                if hint.attrs.get("class") == "how" and hint.whole_text.strip()
            ]
            assert hints, (file, table.whole_text[:80])
            n_tables += 1
    assert n_tables > 50


def test_the_run_page_opens_with_the_ending_then_neurons_then_tables(
    pages: dict[Path, Element], shared_run: tuple[Path, RunDirectory]
) -> None:
    page = pages[shared_run[1].path / "report" / "index.html"]
    (main,) = page.all("main")
    names = [s.attrs.get("aria-labelledby") for s in main.children if s.tag == "section"]
    assert names[:3] == ["made", "neurons", "layers"]
    opening = main.children[0]
    assert not list(opening.all("table")) and len(list(opening.all("svg"))) == 1


def test_wide_things_scroll_in_their_own_boxes(pages: dict[Path, Element]) -> None:
    """The page itself stays as wide as a phone: every table but the two that wrap is in a box."""
    for file, page in pages.items():
        for table in page.all("table"):
            boxed = any("scroll" in each.attrs.get("class", "").split() for each in table.above())
            assert boxed or "edges" in table.attrs.get("class", ""), file
    # Nothing is wider than 360 px, but where that is said of wide screens or scrolls.
    narrow = re.sub(r"@media \((?:min|max)-width[^{]*\{(?:[^{}]*\{[^{}]*\})*[^{}]*\}", "", CSS)
    for name, value in re.findall(r"(min-width|[^-]width): ([\d.]+)rem", narrow):
        assert float(value) * 16 <= 320, (name, value)


def schemes() -> dict[str, dict[str, str]]:
    """Light and dark: name of a variable -> its value."""
    blocks = re.findall(r":root \{([^}]*)\}", CSS)
    light, dark = (dict(re.findall(r"--([\w]+): ([^;]+);", block)) for block in blocks)
    return {"light": light, "dark": light | dark}


Colour = tuple[float, float, float]


def colour(value: str) -> Colour:
    if not value.startswith("#"):
        red, green, blue = map(float, value.split())
        return red, green, blue
    digits = value[1:] if len(value) == 7 else "".join(2 * each for each in value[1:])
    red, green, blue = (int(digits[i : i + 2], 16) for i in (0, 2, 4))
    return float(red), float(green), float(blue)


def over(top: Colour, share: float, below: Colour) -> Colour:
    red, green, blue = (share * a + (1 - share) * b for a, b in zip(top, below, strict=True))
    return red, green, blue


def contrast(one: Colour, other: Colour) -> float:
    """https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio"""

    def luminance(each: Colour) -> float:
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
            for c in (value / 255 for value in each)
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_known_colours() -> None:
    assert contrast(colour("#fff"), colour("#000000")) == pytest.approx(21.0)
    assert contrast(colour("#777"), colour("#ffffff")) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_colour_schemes(scheme: str) -> None:
    """4.5:1 for text, 3:1 for lines, bars and the borders of controls."""
    own = {name: colour(value) for name, value in schemes()[scheme].items()}
    grounds = ("bg", "panel", "warn")
    for text in ("ink", "dim", "link", "accent", "control"):
        for ground in grounds[:2] if text in ("accent", "control") else grounds:
            assert contrast(own[text], own[ground]) >= 4.5, (text, ground)
    chosen = over(own["accent"], 0.09, own["panel"])
    assert contrast(own["ink"], chosen) >= 4.5
    # A border in `dim` marks a control; lines and bars are drawn on a panel or the page.
    for line in ("dim", "accent", "c0", "c1", "c2", "c3", "c4", "c5"):
        assert min(contrast(own[line], own[each]) for each in ("bg", "panel")) >= 3.0, line
    shades = re.findall(r"\.([pn]\d) \{ background: rgb\(var\(--(hot|cold)\) / ([.\d]+)\)", CSS)
    assert len(shades) == 18
    for name, of, share in shades:
        painted = over(own[of], float(share), own["panel"])
        assert contrast(own["ink"], painted) >= 4.5, name


def test_focus_is_seen_and_nothing_takes_it_away() -> None:
    assert re.search(r":focus-visible \{ outline: 2px solid", CSS)
    removed = re.findall(r"([^{}]*)\{[^}]*outline: none", CSS)
    # The points of the plot show it by their mark.
    assert [each.strip() for each in removed] == [".point"] and ".point:focus .mark" in CSS
