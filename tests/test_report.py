"""The report: every number of the summary, nothing that runs or loads from elsewhere, clear errors;
and the laws of its parts."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from report_run import copy_of, draw_nothing, make_sweep

from interp_by_construction.cli import main
from interp_by_construction.corpus.parts import part_passage
from interp_by_construction.corpus.passage import Passage, Split
from interp_by_construction.engine.rows import read_rows
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.store import Store
from interp_by_construction.errors import ConfigError
from interp_by_construction.labelling.labels import read_history
from interp_by_construction.report import (
    figures,
    layer_view,
    node_scores,
    pareto,
    pareto_chart,
    run_page,
    trees,
)
from interp_by_construction.report.charts import (
    Axis,
    Line,
    Names,
    below,
    line_chart,
    overlap,
    settled_top,
    ticks,
)
from interp_by_construction.report.facts import RunFacts
from interp_by_construction.report.html import write_report
from interp_by_construction.report.node_page import excerpt
from interp_by_construction.report.run_tables import show_tables
from interp_by_construction.stats.correlation import columnwise_correlation
from interp_by_construction.subject.load import load_subject
from interp_by_construction.subject.reading import activations_on
from interp_by_construction.sweeps.record import SweepDirectory


class Page(HTMLParser):
    """Text, tags and addresses of a page, as a browser reads them."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def addresses(self) -> Iterator[str]:
        for _, attrs in self.tags:
            yield from (str(attrs[name]) for name in ("href", "src") if attrs.get(name))


@pytest.fixture(scope="module")
def reported(shared_run: tuple[Path, RunDirectory]) -> tuple[Path, RunDirectory]:
    root, run = shared_run
    write_report(root, "small")
    return root, run


def pages(root: Path, name: str = "small") -> list[Path]:
    return sorted((root / "runs" / name / "report").rglob("*.html"))


def numbers(value: Any) -> Iterator[int | float]:
    if isinstance(value, dict):
        for item in value.values():
            yield from numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def test_a_run_without_work_has_a_report(shared_run: tuple[Path, RunDirectory]) -> None:
    """As `work.enabled=false` leaves it."""
    root, run = shared_run
    without = copy_of(run, "without")
    summary = json.loads((without.path / "summary.json").read_text())
    summary["work"] = None
    for layer in summary["layers"]:
        layer["work"] = None
    (without.path / "summary.json").write_text(json.dumps(summary))
    assert write_report(root, "without").is_file()


def test_every_number_of_the_summary_is_in_the_report(reported: tuple[Path, RunDirectory]) -> None:
    root, run = reported
    summary = json.loads((run.path / "summary.json").read_text())
    shown = set(
        re.findall(
            r"-?\d[\d.]*(?:e[-+]?\d+)?", " ".join(Page(root / "runs/small/report/index.html").text)
        )
    )
    wanted = {json.dumps(number) for number in numbers(summary)}
    assert len(wanted) > 200 and not wanted - shown
    tokens = RunFacts(run, summary, Store(root / "store")).artifacts(1)["label"].labeler_tokens
    assert tokens > 0 and f"{tokens:,}" in (root / "runs/small/report/index.html").read_text()


def test_the_cost_counts_every_artifact_once(reported: tuple[Path, RunDirectory]) -> None:
    """Over all stages and layers, and again layer by layer."""
    root, run = reported
    store = Store(root / "store")
    facts = RunFacts(run, run.summary or {}, store)
    found = run_page.cost(facts)
    *rows, last = found.rows
    everything, sums = last.total, [each for each in last.by_layer if each is not None]
    made = [each for link in run.artifacts if (each := store.get(*link)) is not None]
    assert last.name == "sum"
    assert everything.tokens == sum(each.labeler_tokens for each in made) > 0
    for of in ("seconds", "cpu_seconds"):
        shared = sum(getattr(each, of) for each in found.shared.values())
        whole = getattr(everything, of)
        assert whole + shared == pytest.approx(sum(getattr(each, of) for each in made))
        assert whole == pytest.approx(sum(getattr(row.total, of) for row in rows))
        assert whole == pytest.approx(sum(getattr(each, of) for each in sums))
    aligned = sum(layer["n_aligned"] for layer in facts.summary["layers"])
    assert found.devices == ["cpu"] and found.n_aligned == aligned
    text = " ".join(Page(root / "runs/small/report/index.html").text)
    assert f"{everything.seconds / aligned:.2f}" in text and f"{everything.cpu_seconds:.1f}" in text


def test_the_cards_say_what_the_tax_leaves_out(
    reported: tuple[Path, RunDirectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the loss flows, and the loss over the other models; each only where the summary has
    it."""
    draw_nothing(monkeypatch)
    root, run = reported
    copy = root / "runs" / "carded"
    shutil.copytree(run.path, copy, ignore=shutil.ignore_patterns("report", ".lock"))
    over = {
        "over_original": 0.01234,
        "over_original_ci95": [0.0111, 0.0133],
        "over_freeze_only": -0.0056,
    }
    said = [
        "+0.0123 final − original",
        "[0.0111, 0.0133]",
        "-0.0056 final − freeze-only",
        "0.87 of the loss through free nodes",
    ]
    for loss, share, shown in (
        (over | {"over_freeze_only_ci95": None}, {"value": 0.87, "ci95": [0.8, 0.93]}, said),
        ({}, {"value": None, "ci95": None}, []),
    ):
        summary = run.summary or {}
        kept = {key: value for key, value in summary["loss"].items() if not key.startswith("over_")}
        changed = summary | {"loss": kept | loss, "work": summary["work"] | {"share_free": share}}
        (copy / "summary.json").write_text(json.dumps(changed))
        cards = cards_of(root, "carded")
        assert [each for each in said if each in cards] == shown and (
            "[0.80, 0.93]" in cards
        ) == bool(shown)


def cards_of(root: Path, name: str) -> str:
    text = " ".join(" ".join(Page(write_report(root, name, labelled_only=True)).text).split())
    return text[text.index("tax, nats per token") : text.index("What interpretability costs")]


def test_what_a_distilled_run_is_compared_with_is_named(
    reported: tuple[Path, RunDirectory],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its control is no model of the text alone, which nobody would guess from the word."""
    draw_nothing(monkeypatch)
    root, run = reported
    copy = RunDirectory(root / "runs" / "distilled")
    shutil.copytree(run.path, copy.path, ignore=shutil.ignore_patterns("report", ".lock"))
    summary = run.summary or {}
    for distill, said in ((0.0, False), (3.0, True)):
        changed = summary | {"align": summary["align"] | {"distill": distill}}
        (copy.path / "summary.json").write_text(json.dumps(changed))
        show_tables(copy)
        assert ("align.distill=3" in capsys.readouterr().out) == said
        assert (
            "all but the original distilled to it (align.distill=3.00)"
            in cards_of(root, "distilled")
        ) == said


def test_final_minus_original_is_that_of_the_losses_whoever_wrote_them() -> None:
    run = facts(0.1, 0.6, 0, 1.0)
    older = pareto.points_of([(run, "a")])[0]
    run.summary["loss"]["over_original"] = 1.1 - 1.25
    assert pareto.points_of([(run, "a")])[
        0
    ] == older and "final − original -0.1500" in pareto_chart.describe(older, "score")


def test_cpu_seconds_that_were_not_recorded_are_not_zero() -> None:
    known, older = run_page.Cost(1.0, 2.0, 3), run_page.Cost(4.0, None, 0)
    assert known + known == run_page.Cost(2.0, 4.0, 6)
    assert known + older == run_page.Cost(5.0, None, 3)


def test_every_node_has_a_page_with_its_label_and_scores(
    reported: tuple[Path, RunDirectory],
) -> None:
    root, run = reported
    rows = pq.read_table(run.path / "nodes.parquet").to_pylist()
    for row in rows:
        page = Page(
            root
            / "runs"
            / "small"
            / "report"
            / "nodes"
            / f"L{row['layer']}"
            / f"{row['node']}.html"
        )
        text = " ".join(" ".join(page.text).split())
        if row["status"] == "aligned":
            assert " ".join(row["label"].split()) in text
            lines = [attrs.get("class") for _, attrs in page.tags]
            assert lines.count("line real") == lines.count("line simulated") > 10
            assert (
                "Worst disagreements" in text
                and "History of the label" in text
                and "promotes" in text
            )
            assert "Strongest incoming" in text and "Strongest outgoing" in text
    assert len(list((root / "runs/small/report/nodes").rglob("*.html"))) == len(rows) == 64


HOSTILE = "</td></script><script>alert(1)</script> & \"names\" <img src=x onerror='alert(1)'>"


def test_labels_tokens_and_reasons_are_text_and_nothing_else(
    reported: tuple[Path, RunDirectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every text that comes from a model or a corpus, on every kind of page."""
    draw_nothing(monkeypatch)
    root, run = reported
    hostile = root / "runs" / "hostile"
    shutil.copytree(run.path, hostile, ignore=shutil.ignore_patterns("report", ".lock"))
    table = pq.read_table(run.path / "nodes.parquet")
    rows = [
        row | {"label": HOSTILE, "top_tokens": [HOSTILE], "promotes": [HOSTILE]}
        for row in table.to_pylist()
    ]
    pq.write_table(table.from_pylist(rows, schema=table.schema), hostile / "nodes.parquet")

    def tampered(record: dict[str, Any]) -> dict[str, Any]:
        record |= {"tokens": [HOSTILE] * len(record["tokens"])} if "tokens" in record else {}
        record |= {"promotes": [HOSTILE]} if "promotes" in record else {}
        return record | (
            {"excerpts": [tampered(each) for each in record["excerpts"]]}
            if "excerpts" in record
            else {}
        )

    def history(path: Path) -> list[Any]:
        return [dataclasses.replace(each, text=HOSTILE, why=HOSTILE) for each in read_history(path)]

    monkeypatch.setattr(
        layer_view,
        "read_rows",
        lambda path: [tampered(each) for each in read_rows(path)],
    )
    monkeypatch.setattr(layer_view, "read_history", history)
    write_report(root, "hostile")
    n_shown = 0
    for file in pages(root, "hostile"):
        page = Page(file)
        scripts = [str(attrs.get("src")) for tag, attrs in page.tags if tag == "script"]
        assert len(scripts) == 1 and scripts[0].endswith("assets/report.js")
        assert not [tag for tag, _ in page.tags if tag == "img"]
        assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
        n_shown += "<script>alert(1)</script>" in "".join(page.text)
    assert n_shown >= 66
    tokens = ['</script><img src=x onerror="alert(1)">', "a", "\n", "'\"&"]
    made = excerpt(
        {"tokens": tokens, "real": [1.0, 0.0, -0.5, 0.2], "simulated": [0.0] * 4, "peak": 0}, 1.0
    )
    assert "<img" not in made and "</script>" not in made and "⏎" in made


def test_every_address_is_in_the_folder_and_nothing_loads_from_elsewhere(
    reported: tuple[Path, RunDirectory],
) -> None:
    root, _ = reported
    checked = set()
    for file in pages(root):
        for address in Page(file).addresses():
            assert not re.match(r"(https?:)?//", address), (file, address)
            target = (file.parent / address.partition("#")[0]).resolve()
            if address.startswith(("#", "data:")) or target in checked:
                continue
            assert target.is_file() and (root / "runs" / "small" / "report") in target.parents, (
                file,
                address,
            )
            checked.add(target)
    for name in ("report.css", "report.js"):
        assert "http" not in (root / "runs/small/report/assets" / name).read_text()
    for metric in ("score", "truth", "labelled"):
        figures = root / "runs/small/report/figures"
        assert (figures / f"pareto_{metric}.png").read_bytes().startswith(b"\x89PNG")
        assert "tax (nats per token, held out)" in (figures / f"pareto_{metric}.svg").read_text()


def test_the_viewer_shows_what_the_models_do(reported: tuple[Path, RunDirectory]) -> None:
    """Activations are those of the final model, the strongest first."""
    from safetensors.numpy import load_file

    root, run = reported
    store, state = Store(root / "store"), run.state
    (viewer,) = [
        p
        for p in (root / "store/viewer").glob("[0-9a-f]*")
        if json.loads((p / "metrics.json").read_text())["layer"] == 1
    ]
    records = {record["node"]: record for record in read_rows(viewer / "viewer.jsonl")}
    scores = load_file(
        store.path("evaluate", state["layers"]["1"]["evaluate"]) / "scores.safetensors"
    )
    corpus = store.path("corpus", state["shared"]["corpus"])
    model = store.path("continue", state["layers"]["2"]["continue"]) / "model"
    assert set(scores["nodes"].tolist()) <= set(records) and len(records) == 32
    node = int(scores["nodes"][0])
    record = records[node]
    blocks = np.array(sorted({e["block"] for e in record["excerpts"]}))
    passage = Passage(Split(corpus, "score"), blocks, 128)
    real = activations_on(load_subject(model), passage, 1, np.array([node])).reshape(-1, 128)
    for shown in record["excerpts"]:
        row = real[int(np.searchsorted(blocks, shown["block"]))] * record["pole"]
        windows = np.lib.stride_tricks.sliding_window_view(row, len(shown["real"]))
        assert np.isclose(windows, shown["real"], rtol=1e-3, atol=1e-6).all(axis=1).any()
        assert shown["real"][shown["peak"]] == max(shown["real"]) or shown["kind"] not in (
            "top",
            "quantile",
        )
    peaks = [max(e["real"]) for e in record["excerpts"] if e["kind"] == "top"]
    assert peaks == sorted(peaks, reverse=True) and peaks[0] <= record["largest"] * 1.001
    kinds = {e["kind"] for each in records.values() for e in each["excerpts"]}
    assert kinds >= {"top", "quantile", "simulated"}


def test_the_viewer_simulates_what_the_score_is_of(reported: tuple[Path, RunDirectory]) -> None:
    """What it shows beside the activations is, on one rising line per node, the simulation whose r
    with them over the whole of that text is `score.final`.
    """
    from safetensors.numpy import load_file

    root, run = reported
    store, links, corpus = Store(root / "store"), run.state["layers"], run.state["shared"]["corpus"]
    (viewer,) = [
        p
        for p in (root / "store/viewer").glob("[0-9a-f]*")
        if json.loads((p / "metrics.json").read_text())["layer"] == 1
    ]
    records = {record["node"]: record for record in read_rows(viewer / "viewer.jsonl")}
    scores = load_file(store.path("evaluate", links["1"]["evaluate"]) / "scores.safetensors")
    text = part_passage(store.path("corpus", corpus), "head_score", run.config().simulate)
    use, (n, length) = text.is_text, text.is_text.shape
    said = load_file(store.path("simulate", links["1"]["simulate"]) / "simulated.safetensors")[
        "head_score"
    ].reshape(n, length, -1)
    model = store.path("continue", links["2"]["continue"]) / "model"
    read = activations_on(load_subject(model), text, 1, scores["nodes"])
    real = read.reshape(n, length, -1) * scores["poles"]
    r = columnwise_correlation(real[use], said[use])
    np.testing.assert_allclose(r, scores["final"], atol=1e-6)
    slopes = []
    for column, node in enumerate(scores["nodes"].tolist()):
        pairs = []
        for shown in records[node]["excerpts"]:
            row, width = text.blocks.tolist().index(shown["block"]), len(shown["tokens"])
            starts = [
                at for at in range(length) if text.tokens[row][at : at + width] == shown["tokens"]
            ]
            (start,) = [
                at
                for at in starts
                if np.allclose(
                    real[row, at : at + width, column], shown["real"], rtol=1e-3, atol=1e-6
                )
            ]
            pairs += zip(said[row, start : start + width, column], shown["simulated"], strict=True)
        raw, line = np.array(pairs, np.float64).T
        slope, offset = np.polyfit(raw, line, 1)
        np.testing.assert_allclose(line, slope * raw + offset, atol=1e-3 * np.abs(line).max())
        slopes.append(slope)
    # Without slope, which is what a label gets that says the opposite, a line hides what was
    # simulated.
    assert np.isfinite(r).any() and min(slopes) > -1e-9 and max(slopes) > 1e-6


def test_circuit_weights_are_those_of_the_direct_path(reported: tuple[Path, RunDirectory]) -> None:
    """One edge, seen from both of its ends."""
    root, _ = reported
    layers = {
        json.loads((p / "metrics.json").read_text())["layer"]: p
        for p in (root / "store/viewer").glob("[0-9a-f]*")
    }
    lower, upper = ({r["node"]: r for r in read_rows(layers[i] / "viewer.jsonl")} for i in (1, 2))
    outgoing = {
        (node, other): weight for node, r in lower.items() for other, weight in r["outgoing"]
    }
    incoming = {
        (other, node): weight for node, r in upper.items() for other, weight in r["incoming"]
    }
    shared = set(outgoing) & set(incoming)
    assert shared and all(
        abs(outgoing[edge] - incoming[edge]) <= 1e-3 * abs(incoming[edge]) + 1e-6 for edge in shared
    )
    assert all(abs(r["incoming"][0][1]) >= abs(r["incoming"][-1][1]) for r in upper.values())


def test_a_sweep_says_what_is_missing_and_links_every_run(
    reported: tuple[Path, RunDirectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_nothing(monkeypatch)
    root, run = reported
    changed = yaml.safe_load((run.path / "config.yaml").read_text()) | {"seed": 1}
    changed["align"] = changed["align"] | {"weight": 0.7}
    make_sweep(root, run, yaml.safe_dump(changed))
    (root / "runs/sweep/sweep.json").write_text(
        json.dumps({"jobs": [{"number": n, "overrides": []} for n in range(6)]})
    )
    page = Page(write_report(root, "sweep"))
    text = " ".join(page.text)
    assert "2 of 6 jobs finished" in text and "the loss became nan at step 3" in text
    assert "jobs 2, 4, 5 : missing (it never began)" in " ".join(text.split())
    assert "align.weight=0.7, seed=1" in text
    points = [
        attrs for tag, attrs in page.tags if tag == "a" and "point" in str(attrs.get("class"))
    ]
    assert {attrs["href"] for attrs in points} == {"jobs/0/index.html", "jobs/3/index.html"}
    assert all(
        "tax" in str(attrs["aria-label"]) and "align.weight = " in str(attrs["aria-label"])
        for attrs in points
    )
    assert (root / "runs/sweep/report/jobs/3/nodes/L1/0.html").is_file()


def test_bad_runs_are_refused(
    reported: tuple[Path, RunDirectory], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _root, run = reported
    for name, change, named in (
        ("old", lambda s: s | {"schema": 0}, "schema=0"),
        ("older", lambda s: {k: v for k, v in s.items() if k != "loss"}, "lacks loss"),
    ):
        path = tmp_path / "runs" / name
        path.mkdir(parents=True)
        (path / "config.yaml").write_text((run.path / "config.yaml").read_text())
        (path / "summary.json").write_text(json.dumps(change(run.summary)))
        with pytest.raises(ConfigError, match=named):
            write_report(tmp_path, name)
    SweepDirectory(tmp_path / "runs" / "empty").plan([["seed=0"]])
    with pytest.raises(ConfigError, match=r"no finished layer.*empty/0: missing"):
        write_report(tmp_path, "empty")
    for name, named in (("old", "schema=0"), ("nope", "nope")):
        with pytest.raises(SystemExit) as ended:
            main(["report", name, f"paths.root={tmp_path}"])
        assert ended.value.code == 2 and named in capsys.readouterr().err


# The parts.


def facts(tax: float, score: float | None, seed: int, weight: float, **more: Any) -> RunFacts:
    layer = {
        "layer": 0,
        "n_aligned": 4,
        "score": {m: {"mean": score, "ci95": None} for m in ("before", "final")},
    } | more
    loss = {
        "tax": tax,
        "tax_ci95": [tax - 0.1, tax + 0.1],
        "control": 1.0,
        "freeze_only": 1.5,
        "original": 1.25,
        "final": 1.0 + tax,
    }
    summary = {"loss": loss, "layers": [layer], "complete": True}
    made = RunFacts(RunDirectory(Path(f"/runs/s/{seed}{weight}")), summary, Store(Path("/none")))
    # Stands in for the config, which has many more fields.
    made.__dict__["identity"] = {"seed": seed, "align.weight": weight, "nodes.count": 4}
    return made


def test_seeds_of_one_setting_are_one_mean_with_their_range() -> None:
    runs = [
        (facts(tax, score, seed, weight), "x")
        for seed, weight, tax, score in [
            (0, 1.0, 0.1, 0.6),
            (1, 1.0, 0.3, 0.8),
            (0, 5.0, 0.9, 0.9),
            (1, 5.0, 1.1, 0.7),
        ]
    ]
    settings = pareto.settings_of(pareto.points_of(runs))
    assert [setting.label for setting in settings] == ["weight 1.0", "weight 5.0"]
    assert settings[0].spread("tax") == pytest.approx((0.1, 0.2, 0.3))
    assert settings[0].spread("score") == pytest.approx((0.6, 0.7, 0.8))
    # The dearer setting is better, so both are on the front; were it worse, it would not be.
    assert pareto.front(settings, "score") == [pytest.approx((0.2, 0.7)), pytest.approx((1.0, 0.8))]
    worse = pareto.settings_of(pareto.points_of([runs[0], (facts(0.9, 0.5, 0, 5.0), "y")]))
    assert pareto.front(worse, "score") == [pytest.approx((0.1, 0.6))]


def test_controls_are_marked_and_those_without_a_score_stand_on_the_axis() -> None:
    own, none = facts(0.1, 0.6, 0, 1.0), facts(0.2, None, 0, 2.0, n_aligned=0, n_failed_labels=0)
    shuffled = facts(0.3, 0.1, 0, 3.0)
    shuffled.summary["align"] = {"control": "shuffled"}
    assert [pareto.control_of(each) for each in (own, none, shuffled)] == [
        "",
        "free nodes only",
        "shuffled targets",
    ]
    points = pareto.points_of([(own, "a"), (none, "b"), (shuffled, "c")])
    drawn = str(pareto_chart.pareto_svg(points, pareto.references([own]), "score"))
    assert drawn.count('class="mark control"') == 4 and drawn.count('class="mark run"') == 1
    assert (
        "no aligned node to score" in drawn and pareto_chart.pareto_svg(points, [], "truth") is None
    )
    own.summary["work"] = {"share_free": {"value": 0.91, "ci95": None}}
    hidden = pareto.points_of([(own, "a"), (none, "b")])
    assert "0.91 of the loss flows through free nodes" in pareto_chart.describe(hidden[0], "score")
    assert pareto.settings_of(hidden)[0].spread("through_free") == pytest.approx((0.91, 0.91, 0.91))
    assert pareto.settings_of(hidden)[0].spread("labelled") == pytest.approx((0.09, 0.09, 0.09))
    # A control in which it was not measured stands on the axis.
    drawn = str(pareto_chart.pareto_svg(hidden, pareto.references([own]), "labelled"))
    assert drawn.count('class="mark') == 2
    assert (
        "share through labelled nodes 0.090" in drawn and "not measured; shown on the axis" in drawn
    )
    assert pareto.settings_of(hidden)[1].spread("through_free") is None
    assert pareto.front(pareto.settings_of(points), "score") == [(0.1, 0.6)]


def test_an_unfinished_run_is_in_no_mean_and_not_on_the_front() -> None:
    """However good its fewer layers look; it is drawn, hollow, and says why."""
    runs = [
        (facts(tax, score, seed, 1.0), "x")
        for seed, tax, score in [(0, 0.1, 0.6), (1, 0.3, 0.8), (2, 0.0, 0.99)]
    ]
    runs[2][0].summary["complete"] = False
    points = pareto.points_of(runs)
    (setting,) = pareto.settings_of(points)
    assert len(setting.points) == 2 and setting.spread("tax") == pytest.approx((0.1, 0.2, 0.3))
    assert pareto.front([setting], "score") == [pytest.approx((0.2, 0.7))]
    # Its comparisons cover fewer layers too.
    runs[2][0].summary["loss"]["freeze_only"] = 7.0
    beside = pareto.references([each for each, _ in runs])
    assert beside == pareto.references([each for each, _ in runs[:2]])
    drawn = str(pareto_chart.pareto_svg(points, beside, "score"))
    assert drawn.count('class="mark run unfinished"') == 1 and drawn.count('class="mark run"') == 2
    assert "unfinished" in pareto_chart.describe(
        points[2], "score"
    ) and "unfinished" not in pareto_chart.describe(points[1], "score")
    # By itself it has a page, a plot and comparisons all the same.
    alone = pareto.points_of(runs[2:])
    assert not pareto.settings_of(alone) and len(pareto.references([runs[2][0]])) == 2
    assert 'class="mark run unfinished"' in str(
        pareto_chart.pareto_svg(alone, pareto.references([runs[2][0]]), "score")
    )


def test_a_node_page_has_every_score_before_and_after_in_one_row() -> None:
    """Whatever the columns of nodes.parquet: none is lost, and one that is undefined is told from
    one that was not measured."""
    columns = [
        "score_before",
        "score_after",
        "score_final",
        "score_shuffled",
        "score_exact",
        "score_exact_before",
        "truth_r",
        "truth_r_before",
        "truth_rule_auc",
        "detection_auc_head",
        "detection_auc_head_before",
        "blind_same_text",
        "new_thing",
        "new_thing_before",
    ]
    row: dict[str, Any] = {name: float(i) for i, name in enumerate(columns)}
    titles = {
        "detection": "detection, p > 0.5",
        "detection_auc": "detection, AUC",
        "blind_same_text": "blind relabelling, same label",
    }
    made = node_scores.score_rows(
        row | {"layer": 1, "label": "animals", "truth_concept": "animal", "truth_rule": None},
        titles,
    )
    moments = {(each.name, each.by): each.moments for each in made}
    assert moments["simulation r, all text", "simulator"] == {
        "before": 0.0,
        "after": 1.0,
        "final": 2.0,
        "shuffled": 3.0,
    }
    assert moments["simulation r, all text", "labeler, exact"] == {"final": 4.0, "before": 5.0}
    assert moments["ground truth, r", "corpus"] == {"final": 6.0, "before": 7.0}
    assert moments["detection, AUC", "head"] == {"final": 9.0, "before": 10.0}
    assert moments["blind relabelling, same label", "text"] == {"final": 11.0}
    assert moments["new thing", ""] == {"final": 12.0, "before": 13.0}
    assert sorted(value for each in moments.values() for value in each.values()) == sorted(
        row.values()
    )
    undefined, known = node_scores.score_rows(
        {"truth_r": None, "truth_r_before": None, "new": 0.0}, titles
    )
    assert known.defined and not undefined.defined


def figure_of(points: list[pareto.Point], beside: list[pareto.Point]) -> Any:
    from matplotlib.figure import Figure

    made = Figure()
    figures._draw(made, points, beside, "score", "r")
    made.draw_without_rendering()
    return made.axes[0]


@pytest.mark.parametrize("n_runs", [2, 40])
def test_figures_for_papers_show_and_name_every_control(n_runs: int) -> None:
    """Those without a score on the axis, where they do not stretch it; however many settings there
    are."""
    runs = [(facts(0.1 + i / 100, 0.5 + i / 100, 0, float(i + 1)), "x") for i in range(n_runs)]
    none = [facts(0.2, None, 0, 99.0 + i, n_aligned=0, n_failed_labels=0) for i in range(2)]
    shuffled = facts(0.3, 0.55, 0, 98.0)
    shuffled.summary["align"] = {"control": "shuffled"}
    unfinished = facts(0.15, 0.52, 0, 97.0)
    unfinished.summary["complete"] = False
    beside = pareto.references([runs[0][0]])
    plain = figure_of(pareto.points_of([*runs, (shuffled, "c"), (unfinished, "u")]), beside)
    axes = figure_of(
        pareto.points_of(
            [*runs, *((each, "n") for each in none), (shuffled, "c"), (unfinished, "u")]
        ),
        beside,
    )
    assert axes.get_ylim() == plain.get_ylim()
    names = [text.get_text() for text in (axes.get_legend() or axes.figure.legends[0]).get_texts()]
    assert names.count("free nodes only (no value, on the axis)") == 1 and {
        "shuffled targets",
        "unfinished run",
    } <= set(names)
    assert len(names) == len(set(names)) and sum(name.startswith("weight") for name in names) == (
        2 if n_runs == 2 else 0
    )
    marks = [line for line in axes.lines if line.get_marker() == "D" and line.get_ydata()[0] == 0.0]
    assert len(marks) == 2 and all(
        mark.get_window_extent().y0 < axes.get_window_extent().y0 for mark in marks
    )


def test_settings_are_named_by_what_tells_them_apart() -> None:
    def point(**values: str) -> pareto.Point:
        setting = tuple((key.replace("_", "."), value) for key, value in values.items())
        return pareto.Point("", "", 0.0, None, 0.5, None, None, None, setting, "", "")

    points = [
        point(align_weight=w, nodes_count="8", free_count=f)
        for w in ("1", "3")
        for f in ("0", "64")
    ]
    points.append(point(align_weight="1", nodes_count="0", free_count="0"))
    assert pareto.labels_of(points) == [
        "weight 1, free.count 0",
        "weight 1, free.count 64",
        "weight 3, free.count 0",
        "weight 3, free.count 64",
        "weight 1, nodes.count 0, free.count 0",
    ]


def test_names_stand_on_nothing() -> None:
    """In a crowd some marks stay unnamed; one by itself is named."""
    x, y = Axis(0.0, 1.0, 72.0, 744.0), Axis(0.0, 1.0, 388.0, 14.0)
    random = np.random.default_rng(0)
    marks = [(x(a), y(b)) for a, b in random.uniform(0.0, 0.5, (30, 2))]
    names = Names(x, y, [*marks, (x(0.9), y(0.9))])
    drawn = [names.text(mark, "weight 1.0") for mark in marks]
    assert 0 < sum(map(bool, drawn)) < 30 and names.text((x(0.9), y(0.9)), "alone")
    texts = names.taken[31:]
    assert not any(
        overlap(a, b) for i, a in enumerate(texts) for b in [*names.taken[:31], *texts[:i]]
    )
    assert all(
        left >= 72 and right <= 744 and top >= 14 and bottom <= 388
        for left, top, right, bottom in texts
    )


def test_a_steep_start_leaves_the_chart_and_the_rest_of_its_curve_is_drawn() -> None:
    """Of a curve of 6 to 0.8 nats the last hundredths matter; the legend says what is not drawn."""
    steep = Line("steep", [(0.0, 6.0), (4.0, 2.0), (8.0, 0.9), (50.0, 0.8), (100.0, 0.78)])
    calm = Line("calm", [(0.0, 0.8), (50.0, 0.85), (100.0, 0.79)])
    top = settled_top([steep, calm])
    assert top == 0.85 and settled_top([calm]) == 0.85
    (piece,) = below(steep.points, top)
    assert piece[0][1] == top and 8.0 < piece[0][0] < 50.0 and piece[1:] == steep.points[3:]
    assert below(calm.points, top) == [calm.points] and below(
        [(0.0, 0.1), (1.0, 9.0), (2.0, 0.2)], 1.0
    )[1][-1] == (2.0, 0.2)
    chart = line_chart([steep, calm], "x", "y", "d")
    assert "above the chart up to 6" in chart and chart.count("above the chart") == 1
    assert "above the chart" not in line_chart([calm], "x", "y", "d")


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (-0.003, 0.017), (7.1, 7.6), (-1e-9, 1e-9), (0.0, 123456.0)]
)
def test_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 8 and min(found) >= low - 1e-12 and max(found) <= high + 1e-12


def test_unknown_nested_keys_become_tables_with_all_their_values() -> None:
    value = {
        "a": 1,
        "b": {"x": {"p": 0.25, "q": [1, 2]}, "y": {"p": 0.5, "q": None}},
        "c": [{"k": "<b>"}],
        "d": [[1, 2], [3, 4]],
    }
    made = str(trees.tree(value))
    assert (
        all(part in made for part in ("0.2500", "0.5000", "&lt;b&gt;", "[1, 2]", "[3, 4]"))
        and "<b>" not in made
    )
    assert dict(trees.leaves(value)) == {
        "a": 1,
        "b.x.p": 0.25,
        "b.x.q": [1, 2],
        "b.y.p": 0.5,
        "b.y.q": None,
        "c[0].k": "<b>",
        "d[0]": [1, 2],
        "d[1]": [3, 4],
    }
