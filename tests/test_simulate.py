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
from interp_by_construction.llm.client import make_labeler
from interp_by_construction.simulators.exact import (
    REFERENCE_LABELS,
    expected_digit,
    plan,
    simulate_packed,
)
from interp_by_construction.simulators.files import simulate_file
from interp_by_construction.simulators.prompt import OTHER_SHOTS, SHOTS, PromptBuilder

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
    endpoint = [
        "labeler=endpoint",
        f"labeler.url={server.url}",
        f"labeler.classify_url={server.url}",
    ]
    return compose([*endpoint, f"paths.root={root}"])


def simulate(
    server: FakeServer, root: Path, lines: list[dict[str, object]]
) -> list[dict[str, object]]:
    root.mkdir()
    (root / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    simulate_file(config(server, root), root / "in.jsonl", root / "out.jsonl", "exact")
    return [json.loads(line) for line in (root / "out.jsonl").read_text().splitlines()]


def test_lines_come_back_in_order_with_one_activation_per_token(
    server: FakeServer, tmp_path: Path
) -> None:
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
        (
            f'{{"label": "{"x" * 2000}", "tokens": ["a"]}}',
            'line 1: "label" has 2000 characters; give at most 400',
        ),
        (
            '{"label": "x", "tokens": ["a", "\\ud83d"]}',
            r"line 1: \"tokens\[1\]\" is .* no valid Unicode",
        ),
        ('{"label": "x\\udc00", "tokens": ["a"]}', r"line 1: \"label\" is .* no valid Unicode"),
        ("[1]", "label"),
    ],
)
def test_malformed_lines_are_named(
    server: FakeServer, tmp_path: Path, line: str, message: str
) -> None:
    (tmp_path / "in.jsonl").write_text(line + "\n")
    with pytest.raises(ConfigError, match=message):
        simulate_file(
            config(server, tmp_path), tmp_path / "in.jsonl", tmp_path / "out.jsonl", "exact"
        )
    assert not (tmp_path / "out.jsonl").exists()


def test_bytes_that_are_no_text_are_refused(server: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        simulate_file(
            config(server, tmp_path), tmp_path / "in.jsonl", tmp_path / "out.jsonl", "exact"
        )


def test_expected_digit_is_the_mean_under_the_softmax() -> None:
    logits = np.log(
        np.array([[0.5, 0, 0, 0, 0, 0, 0, 0, 0, 0.5], [0, 1, 0, 0, 0, 0, 0, 0, 0, 0]]) + 1e-30
    )
    np.testing.assert_allclose(
        expected_digit((logits + 3).astype(np.float32)), [4.5, 1.0], rtol=1e-5
    )


def test_packed_values_are_read_where_each_token_has_been_read(
    server: FakeServer, tmp_path: Path
) -> None:
    cfg = config(server, tmp_path)
    # "unbelievably" is several labeler tokens. "Apple" and "fox" are one each, but the subject
    # reads them in parts, and so does the labeler.
    excerpts = [["The", " dog", " unbelievably", "!"], ["A", "pple", " a", " fo", "x", ""]]
    with make_labeler(cfg.labeler, tmp_path / "calls.sqlite", tmp_path) as labeler:
        values = simulate_packed(labeler, ["animals", REFERENCE_LABELS[0]], excerpts, "test")
        builder = PromptBuilder(labeler.tokenizer, labeler.digits)

        def ids(text: str) -> list[int]:
            return list(labeler.tokenizer.encode(text, add_special_tokens=False))

        first = builder.shots + ids("\nLabel: animals\nText:")
        second = first + ids(" The dog unbelievably!") + ids("\n") + ids("\nLabel: animals\nText:")
        read = [
            first + ids(text)
            for text in (" The", " The dog", " The dog unbelievably", " The dog unbelievably!")
        ]
        for part in (" A", "pple", " a", " fo", "x", ""):
            second += ids(part)
            read.append(list(second))
    assert len(ids(" unbelievably")) > 1 and len(ids(" fox")) == len(ids(" Apple")) == 1
    np.testing.assert_allclose(
        values[:, 0], [float(expected_digit(fake_logits(prompt))[-1]) for prompt in read], rtol=1e-6
    )


def test_a_column_depends_on_label_and_texts_alone(server: FakeServer, tmp_path: Path) -> None:
    """Whatever other labels there are, however long, in whatever order; many excerpts, so that
    several packs are needed."""
    cfg = config(server, tmp_path)
    rng = np.random.default_rng(0)
    excerpts = [
        [f" {word}" for word in rng.choice(["dog", "fox", "unbelievably", "ran", "é"], size=60)]
        for _ in range(50)
    ]
    long = "things that are " + "very " * 70 + "large"
    with make_labeler(cfg.labeler, tmp_path / "calls.sqlite", tmp_path) as labeler:
        packs = list(plan(labeler, ["animals"], excerpts).prompts())
        assert (
            len(packs) > 2 and max(len(prompt.ids) for prompt in packs) <= cfg.labeler.max_model_len
        )
        alone = {
            label: simulate_packed(labeler, [label], excerpts, "alone")[:, 0]
            for label in ("animals", "動物", long)
        }
        together = simulate_packed(
            labeler, ["colors", long, "動物", "animals"], excerpts, "together"
        )
    for column, label in enumerate(["colors", long, "動物", "animals"]):
        if label in alone:
            np.testing.assert_array_equal(together[:, column], alone[label])
    assert np.isfinite(together).all() and together.std() > 0
    assert not np.array_equal(together[:, 2], together[:, 3]), (
        "a label in another script is a label of its own"
    )


def test_batches_of_prompts_change_nothing(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from interp_by_construction.simulators import exact

    cfg, labels, excerpts = (
        config(server, tmp_path),
        ["animals", "colors", "food"],
        [[" a", " fox"]] * 3,
    )
    with make_labeler(cfg.labeler, tmp_path / "calls.sqlite", tmp_path) as labeler:
        whole = simulate_packed(labeler, labels, excerpts, "test")
        monkeypatch.setattr(exact, "BATCH", 2)
        np.testing.assert_array_equal(simulate_packed(labeler, labels, excerpts, "test"), whole)
        packing = plan(labeler, labels, excerpts)
        assert packing.n_labeler_tokens == sum(len(prompt.ids) for prompt in packing.prompts())


def test_few_shot_sets_are_disjoint_and_rate_every_word() -> None:
    for label, text, rating in (*SHOTS, *OTHER_SHOTS):
        assert len(text.split()) == len(rating) and rating.isdigit(), label
    first, second = (
        {word.lower() for label, text, _ in shots for word in (label, *text.split())}
        for shots in (SHOTS, OTHER_SHOTS)
    )
    function_words = {
        "a",
        "an",
        "and",
        "the",
        "to",
        "on",
        "at",
        "in",
        "she",
        "he",
        "his",
        "her",
        "him",
        "i",
        "my",
    }
    assert first & second <= function_words


def test_an_excerpt_that_does_not_fit_is_an_error_not_a_zero(
    server: FakeServer, tmp_path: Path
) -> None:
    cfg = config(server, tmp_path)
    with (
        make_labeler(cfg.labeler, tmp_path / "calls.sqlite", tmp_path) as labeler,
        pytest.raises(LabelerError, match="max_model_len"),
    ):
        simulate_packed(labeler, ["animals"], [[" word"] * 5000], "test")


@pytest.mark.parametrize(
    ("label", "message"),
    [(" \n", "empty label"), ("x" * 2000, "a label of 2000 characters.*at most 400")],
)
def test_labels_that_cannot_be_simulated_are_refused_before_any_call(
    tmp_path: Path, label: str, message: str
) -> None:
    with FakeServer() as fresh:
        cfg = config(fresh, tmp_path)
        with (
            make_labeler(cfg.labeler, tmp_path / "calls.sqlite", tmp_path) as labeler,
            pytest.raises(LabelerError, match=message),
        ):
            simulate_packed(labeler, ["animals", label], [[" a"]], "test")
        assert fresh.requests == []


def test_special_tokens_in_labels_and_texts_are_text(server: FakeServer, tmp_path: Path) -> None:
    cfg = config(server, tmp_path)
    with make_labeler(cfg.labeler, tmp_path / "calls.sqlite", tmp_path) as labeler:
        special = set(labeler.tokenizer.all_special_ids)
        prompt = next(plan(labeler, ["<|im_end|> words"], [["<|im_start|>", " a"]]).prompts())
    assert special and not special & set(prompt.ids)


def test_a_server_that_returns_too_few_positions_is_an_error_that_names_the_line(
    server: FakeServer, tmp_path: Path
) -> None:
    (tmp_path / "in.jsonl").write_text(
        json.dumps({"label": "animals", "tokens": ["short", " answer"]}) + "\n"
    )
    with FakeServer() as fresh:
        fresh.logits_of = lambda prompt: (
            fake_logits(prompt)[1:] if len(prompt) > 100 else fake_logits(prompt)
        )
        with pytest.raises(
            LabelerError, match=r"in\.jsonl, line 1: .*gave logits for .* positions"
        ):
            simulate_file(
                config(fresh, tmp_path), tmp_path / "in.jsonl", tmp_path / "out.jsonl", "exact"
            )
    assert not (tmp_path / "out.jsonl").exists()


def test_long_texts_are_cut_to_the_labelers_context(server: FakeServer, tmp_path: Path) -> None:
    tokens = ["日本語の長い文章" * 3] * 300
    out = simulate(server, tmp_path / "long", [{"label": "animals", "tokens": tokens}])
    assert len(out[0]["activations"]) == 300 and np.isfinite(out[0]["activations"]).all()  # type: ignore[arg-type, call-overload]
    with pytest.raises(
        LabelerError, match=r"line 2: an excerpt of .* does not fit into labeler.max_model_len"
    ):
        simulate(
            server, tmp_path / "token", [LINES[0], {"label": "animals", "tokens": ["word " * 3000]}]
        )
