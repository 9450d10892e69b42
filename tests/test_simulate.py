"""Simulation as a tool, and the exact simulator's prompt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_server import FakeServer, fake_logits

from interp_by_construction.config import Config, compose
from interp_by_construction.errors import ConfigError, LabelerError
from interp_by_construction.labeler.client import make_labeler
from interp_by_construction.simulators.exact import REFERENCE_LABELS, PromptBuilder, expected_digit, simulate_packed
from interp_by_construction.simulators.files import simulate_file

LINES = [
    {"label": "animals", "tokens": ["The", " dog", " saw", " a", " fox", "."]},
    {"label": "colors", "tokens": []},
    {"label": "animals", "tokens": ["A", " red", "\n", "", " héllo"]},
    {"label": "a label\nof two lines", "tokens": ["word"] * 300},
]


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


def config(server: FakeServer, root: Path) -> Config:
    endpoint = ["labeler=endpoint", f"labeler.url={server.url}", f"labeler.classify_url={server.url}"]
    return compose([*endpoint, f"paths.root={root}"])


def simulate(server: FakeServer, root: Path, lines: list[dict[str, object]]) -> list[dict[str, object]]:
    root.mkdir()
    (root / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    simulate_file(config(server, root), root / "in.jsonl", root / "out.jsonl", "exact")
    return [json.loads(line) for line in (root / "out.jsonl").read_text().splitlines()]


def test_lines_come_back_in_order_with_one_activation_per_token(server: FakeServer, tmp_path: Path) -> None:
    out = simulate(server, tmp_path / "a", LINES)
    assert [{k: line[k] for k in ("label", "tokens")} for line in out] == LINES
    assert [len(line["activations"]) for line in out] == [len(line["tokens"]) for line in LINES]  # type: ignore[arg-type]
    assert all(np.isfinite(line["activations"]).all() for line in out)


def test_a_line_depends_on_that_line_alone(server: FakeServer, tmp_path: Path) -> None:
    together = simulate(server, tmp_path / "together", LINES)
    backwards = simulate(server, tmp_path / "backwards", LINES[::-1])
    alone = [simulate(server, tmp_path / f"alone{i}", [line])[0] for i, line in enumerate(LINES)]
    assert together == backwards[::-1] == alone


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1: not JSON"),
        ('{"label": "", "tokens": ["a"]}', "label"),
        ('{"label": "x", "tokens": "abc"}', "list of strings"),
        ('{"tokens": ["a"]}', "label"),
        ("[1]", "label"),
    ],
)
def test_malformed_lines_are_named(server: FakeServer, tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "in.jsonl").write_text(line + "\n")
    with pytest.raises(ConfigError, match=message):
        simulate_file(config(server, tmp_path), tmp_path / "in.jsonl", tmp_path / "out.jsonl", "exact")
    assert not (tmp_path / "out.jsonl").exists()


def test_bytes_that_are_no_text_are_refused(server: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        simulate_file(config(server, tmp_path), tmp_path / "in.jsonl", tmp_path / "out.jsonl", "exact")


def test_expected_digit_is_the_mean_under_the_softmax() -> None:
    logits = np.log(np.array([[0.5, 0, 0, 0, 0, 0, 0, 0, 0, 0.5], [0, 1, 0, 0, 0, 0, 0, 0, 0, 0]]) + 1e-30)
    np.testing.assert_allclose(expected_digit((logits + 3).astype(np.float32)), [4.5, 1.0], rtol=1e-5)


def test_packed_values_are_read_at_each_tokens_last_labeler_token(server: FakeServer, tmp_path: Path) -> None:
    cfg = config(server, tmp_path)
    excerpts = [["The", " dog", " unbelievably", "!"], [" a", " fox"]]
    with make_labeler(cfg.labeler, tmp_path / "calls.sqlite", tmp_path) as labeler:
        values = simulate_packed(labeler, ["animals", REFERENCE_LABELS[0]], excerpts, "test")
        builder = PromptBuilder(labeler.tokenizer)
        ids, expected = builder.shots, []
        for excerpt in excerpts:
            ids = ids + builder.label("animals")
            for token in excerpt:
                ids = ids + labeler.tokenizer.encode(token, add_special_tokens=False)
                expected.append(float(expected_digit(fake_logits(ids))[-1]))
            ids = ids + labeler.tokenizer.encode("\n", add_special_tokens=False)
    np.testing.assert_allclose(values[:, 0], expected, rtol=1e-6)


def test_an_excerpt_that_does_not_fit_is_an_error_not_a_zero(server: FakeServer, tmp_path: Path) -> None:
    cfg = config(server, tmp_path)
    with (
        make_labeler(cfg.labeler, tmp_path / "calls.sqlite", tmp_path) as labeler,
        pytest.raises(LabelerError, match="max_model_len"),
    ):
        simulate_packed(labeler, ["animals"], [[" word"] * 5000], "test")
