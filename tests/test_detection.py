"""Laws of detection and fuzzing: balanced examples, strict answers, failures that are counted."""

from __future__ import annotations

import numpy as np
import pytest

from interp_by_construction.scoring.detection import (
    Example,
    detection_examples,
    fuzzing_examples,
    grade,
    parse_answer,
    prompt,
)

WORDS = ("dog", "house", "ran", "the", "tree", ",", "sea", ".")


def excerpts(n: int = 12, length: int = 40, seed: int = 0) -> tuple[list[list[str]], np.ndarray, np.ndarray]:
    """Text in which ` dog` activates the node, the more the later it stands, and little else does."""
    rng = np.random.default_rng(seed)
    tokens = [[f" {rng.choice(WORDS[1:])}" for _ in range(length)] for _ in range(n)]
    for row in range(0, n, 2):
        tokens[row][rng.integers(length)] = " dog"
    values = rng.normal(0, 0.1, (n, length))
    values += [[(5 + row) * (token == " dog") for token in line] for row, line in enumerate(tokens)]
    is_text = np.ones((n, length), bool)
    is_text[:, -3] = False
    return tokens, values, is_text


def test_detection_is_balanced_and_true_to_the_activations() -> None:
    tokens, values, is_text = excerpts()
    examples = detection_examples(tokens, values, is_text, n=4, window=8, quantile=0.98)
    assert [example.truth for example in examples] == [True] * 4 + [False] * 4
    limit = np.sort(values[is_text])[int(0.98 * (is_text.sum() - 1))]
    active = (values > limit) & is_text
    windows = {}
    for row in range(len(tokens)):
        for start in range(0, 40, 8):
            use = [i for i in range(start, start + 8) if is_text[row, i]]
            windows[tuple(tokens[row][i] for i in use)] = active[row, use].any()
    assert all(windows[example.tokens] == example.truth for example in examples)
    assert len({example.tokens for example in examples}) == 8
    assert all(example.marked is None for example in examples)


def test_the_strongest_window_is_asked_about_first() -> None:
    tokens, values, is_text = excerpts()
    values[7, 20] = 100.0
    for choose in (detection_examples, fuzzing_examples):
        assert choose(tokens, values, is_text, n=3, window=8, quantile=0.98)[0].tokens == tuple(tokens[7][16:24])


def test_choice_depends_on_the_order_of_activations_alone() -> None:
    tokens, values, is_text = excerpts()
    first = detection_examples(tokens, values, is_text)
    assert first == detection_examples(tokens, values, is_text)
    assert first == detection_examples(tokens, np.exp(values / 4) * 7 - 3, is_text)
    assert fuzzing_examples(tokens, values, is_text, seed=5) == fuzzing_examples(tokens, np.exp(values / 4), is_text, seed=5)


def test_nodes_that_are_never_or_always_active_have_no_examples() -> None:
    tokens, values, is_text = excerpts()
    assert detection_examples(tokens, np.zeros_like(values), is_text) == []
    assert fuzzing_examples(tokens, np.zeros_like(values), is_text) == []
    assert detection_examples(tokens, values, np.zeros_like(is_text)) == []
    everywhere = np.tile(np.arange(8.0), (12, 5))
    assert detection_examples(tokens, everywhere, is_text, window=8, quantile=0.5) == []
    assert grade([], []).balanced_accuracy is None


def test_fuzzing_marks_an_active_token_and_an_inactive_one_of_its_kind() -> None:
    tokens, values, is_text = excerpts()
    examples = fuzzing_examples(tokens, values, is_text, n=5, window=8, quantile=0.99)
    assert [example.truth for example in examples] == [True, False] * (len(examples) // 2)
    assert len(examples) > 2
    for right, wrong in zip(examples[::2], examples[1::2], strict=True):
        assert right.tokens == wrong.tokens
        assert right.marked is not None and wrong.marked is not None and right.marked != wrong.marked
        assert right.tokens[right.marked] == " dog"
        assert any(c.isalnum() for c in wrong.tokens[wrong.marked]) and wrong.tokens[wrong.marked] != " dog"


def test_end_of_text_is_neither_shown_nor_counted() -> None:
    tokens, values, is_text = excerpts()
    for row in tokens:
        row[-3] = "END"
    for choose in (detection_examples, fuzzing_examples):
        examples = choose(tokens, values, is_text, window=8)
        assert examples and all("END" not in example.tokens for example in examples)
        wild = values.copy()
        wild[:, -3] = 1e6
        assert choose(tokens, wild, is_text, window=8) == examples


def test_shapes_are_checked() -> None:
    tokens, values, is_text = excerpts()
    with pytest.raises(ValueError, match=r"\[excerpt, pos\]"):
        detection_examples(tokens[:3], values, is_text)
    with pytest.raises(ValueError, match="window=41"):
        detection_examples(tokens, values, is_text, window=41)


def test_prompts_hold_label_and_text_on_a_line_each_and_end_where_the_answer_belongs() -> None:
    tokens = (" A", " <<", "red", "\n", " dog", " sat")
    marked = prompt("pets\nand\nanimals", Example(tuple(t.replace("<", " ") for t in tokens), 4, True))
    assert marked.endswith("\n\nLabel: pets and animals\nText: A red <<dog>> sat\nAnswer:")
    plain = prompt("pets", Example(tokens[:1] + tokens[4:], None, True))
    assert plain.endswith("\n\nLabel: pets\nText: A dog sat\nAnswer:")
    for text in (marked, plain):
        assert text.count("Answer: yes") == text.count("Answer: no") == 2
    assert "<<" not in plain


def test_text_cannot_pose_as_a_mark() -> None:
    tokens, values, is_text = excerpts()
    tokens = [[token.replace("house", "<<house>>").replace("ran", "<") for token in row] for row in tokens]
    for example in fuzzing_examples(tokens, values, is_text, window=8):
        text = prompt("label", example).split("Text: ")[-1]
        assert text.count("<<") == text.count(">>") == 1 and text.count("<") == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (" yes", True), ("Yes.", True), ("NO\nyes", False), ("**No**, it does not", False), ('"yes"', True),
        ("", None), ("\n", None), ("maybe", None), ("yes or no", None), ("No, yes", None), ("yesterday", None),
        ("no-one", None), ("nothing", None), ("1", None), ("The answer is yes", None), ("not sure", None), ("noyes", None),
    ],
)  # fmt: skip
def test_answers_are_read_strictly(text: str, said: bool | None) -> None:
    assert parse_answer(text) is said


def test_balanced_accuracy_equals_the_mean_of_recalls() -> None:
    truth = [True] * 4 + [False] * 6
    answers = ["yes", "yes", "no", "what?", "no", "no", "no", "no", "yes", ""]
    result = grade([Example(("a",), None, t) for t in truth], answers)
    # By hand: 2 of 3 readable yes-examples, 4 of 5 readable no-examples.
    assert result.balanced_accuracy == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert (result.n_yes, result.n_no, result.n_failed) == (3, 5, 2)


@pytest.mark.parametrize("answer", ["yes", "no"])
def test_one_answer_to_everything_is_chance_however_unbalanced(answer: str) -> None:
    examples = [Example(("a",), None, t) for t in [True] * 9 + [False]]
    assert grade(examples, [answer] * 10).balanced_accuracy == 0.5


def test_failures_are_no_answers() -> None:
    examples = [Example(("a",), None, t) for t in (True, True, False)]
    result = grade(examples, ["yes", "no", "hm"])
    assert result.balanced_accuracy is None and (result.n_yes, result.n_no, result.n_failed) == (2, 0, 1)
    with pytest.raises(ValueError, match="2 answers to 3"):
        grade(examples, ["yes", "no"])


def test_a_perfect_reader_scores_one_and_its_opposite_zero() -> None:
    tokens, values, is_text = excerpts()
    for choose in (detection_examples, fuzzing_examples):
        examples = choose(tokens, values, is_text, window=8, quantile=0.99)
        answers = ["yes" if example.truth else "no" for example in examples]
        assert grade(examples, answers).balanced_accuracy == 1
        assert grade(examples, ["no" if answer == "yes" else "yes" for answer in answers]).balanced_accuracy == 0
