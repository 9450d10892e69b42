"""judge: what others than the aligner say about the labels, per node, with chance and baselines
beside every score.

1. Simulation score on top, random and combined excerpts (Bills et al. 2023): by the head where the
   run has one, by the labeler's exact simulation, and by the judge's where `judge=` names another
   model.
2. Detection and fuzzing (Paulo et al. 2024): by the judge, read through its digit logits, and by
   the head.
3. Blind relabelling: the labeler labels the aligned nodes afresh, and its labels are compared with
   theirs.

Moments, all over the same nodes: `before` alignment and `final`; and of the final model `shuffled`
(other nodes' labels), `empty_label` (no label at all) and `common_label` (one label for all nodes,
the best before alignment). Everything is scored on the score split. Thresholds and the common label
are chosen on the select split (without a head the common label on the simulate split, where labels
are simulated anyway).

The final model is the one after the layer's own repair: aligned nodes are frozen, so later layers
change none of their activations (invariant 1, checked in every run).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.config import ScoresConfig, SimulateConfig
from interp_by_construction.corpus.parts import Part, part_passage
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.engine.rows import write_rows
from interp_by_construction.scoring import pairwise_correlation
from interp_by_construction.scoring.agreement import simulation_agreement, text_agreement
from interp_by_construction.scoring.detect import Answers, ask_judge, ask_simulator, items_of
from interp_by_construction.scoring.detection import TASKS
from interp_by_construction.scoring.excerpt_score import excerpt_scores, own_and_others
from interp_by_construction.scoring.score_table import ScoreTable
from interp_by_construction.simulators.exact import REFERENCE_LABELS, contrasted, simulate_packed
from interp_by_construction.subject.load import load_subject
from interp_by_construction.subject.reading import activations_on

if TYPE_CHECKING:
    from interp_by_construction.labelling.labels import Label
    from interp_by_construction.llm.client import Labeler
    from interp_by_construction.simulators.encoder import Encoder
    from interp_by_construction.simulators.head import Head

EMPTY_FOR_HEAD = "words"
"""A head has no empty label: this phrase names every word and so none. Exact simulation gets a
prompt with no label."""


class Judge(NamedTuple):
    """A language model that scores."""

    labeler: Labeler
    name: str
    """Shown in tables."""
    self_judged: bool
    """Whether it is the model that wrote the labels."""


class HeadJudge(NamedTuple):
    """The run's head; `encoded` holds the token vectors of the part `head_score`."""

    head: Head
    encoder: Encoder
    encoded: Path
    self_judged: bool


@dataclass
class Case:
    """The aligned nodes of one layer, and everything that is scored about them."""

    corpus: Path
    layer: int
    models: Mapping[str, Path]
    """before and final."""
    labels: list[str]
    nodes: NDArray[np.int64]
    poles: NDArray[np.int64]
    simulated: dict[str, NDArray]
    """What the simulate stage wrote, in the order of `labels`."""
    simulate: SimulateConfig
    scores: ScoresConfig
    seed: int
    device: Any
    _models: dict[str, Any] = field(default_factory=dict)
    _passages: dict[Part, Passage] = field(default_factory=dict)
    _read: dict[tuple[str, Passage], NDArray[np.float64]] = field(default_factory=dict)

    def text(self, part: Part) -> Passage:
        """What a part of the simulate stage reads; decoded once."""
        if part not in self._passages:
            self._passages[part] = part_passage(self.corpus, part, self.simulate)
        return self._passages[part]

    def real(self, moment: str, passage: Passage) -> NDArray[np.float64]:
        """Activations times poles, [token, node]; read once."""
        if moment not in self._models:
            self._models[moment] = load_subject(self.models[moment]).to(self.device)
        if (moment, passage) not in self._read:
            values = activations_on(self._models[moment], passage, self.layer, self.nodes)
            self._read[moment, passage] = values.astype(np.float64) * self.poles
        return self._read[moment, passage]


def run(
    models: Mapping[str, Path],
    corpus: Path,
    simulated_dir: Path,
    labels: Sequence[Label],
    blind: Sequence[str | None] | None,
    layer: int,
    simulate: SimulateConfig,
    scores: ScoresConfig,
    judges: Sequence[Judge],
    head: HeadJudge | None,
    n_bootstrap: int,
    seed: int,
    out: Path,
    device: Any,
) -> dict[str, Any]:
    """models: moment (before, final) -> model directory; labels: of the layer; blind: the fresh
    label of every aligned node in their order, None where it failed (see `labelling.blind`), or no
    list at all; judges: the labeler, then a separate judge if there is one. The last one is asked
    the questions of detection and fuzzing.

    Writes `judge.safetensors` (`nodes`, and per row of the table its value for each node, NaN where
    undefined), `answers.jsonl` (every question about detection and fuzzing with its answer) and
    `blind.jsonl`. Metrics: `scores` (the table), `thresholds`, `common_label`, counts.
    """
    from safetensors.numpy import load_file, save_file

    named = [label for label in labels if label.text is not None]
    simulated = load_file(simulated_dir / "simulated.safetensors")
    nodes, poles = (
        np.array([getattr(label, key) for label in named], dtype=np.int64)
        for key in ("node", "pole")
    )
    case = Case(
        corpus,
        layer,
        models,
        [str(label.text) for label in named],
        nodes,
        poles,
        simulated,
        simulate,
        scores,
        seed,
        device,
    )
    table = ScoreTable(n_bootstrap, seed)
    metrics: dict[str, Any] = {"n_aligned": len(nodes), "common_label": None, "thresholds": {}}
    answers: list[dict[str, Any]] = []
    if len(nodes):
        select = Passage.of_split(corpus, "select", n_tokens=scores.n_select_tokens)
        by_head = None if head is None else _by_head(head, case, select)
        common = _common_label(case, judges[0], select, by_head)
        metrics["common_label"] = case.labels[common]
        _simulation_scores(case, table, judges, by_head, common)
        answers, metrics["thresholds"] = _detection(
            case, table, judges[-1], select, by_head, common
        )
        if blind is not None:
            write_rows(out / "blind.jsonl", _blind(case, table, blind, judges[0], head))
            metrics["n_blind_failed"] = sum(text is None for text in blind)
    write_rows(out / "answers.jsonl", answers)
    save_file({"nodes": nodes, "poles": poles} | table.per_node(), out / "judge.safetensors")
    judge = judges[-1].name if len(judges) > 1 else None
    return metrics | {
        "scores": table.records(),
        "judges": {"labeler": judges[0].name, "judge": judge},
    }


class _ByHead(NamedTuple):
    """The head's simulations of the nodes' own labels and, in the last column, of the empty label,
    [token, label]."""

    on_score: NDArray[np.float32]
    on_select: NDArray[np.float32]
    self_judged: bool


def _by_head(head: HeadJudge, case: Case, select: Passage) -> _ByHead:
    empty = head.head.label_vectors(head.encoder, [EMPTY_FOR_HEAD])
    vectors = np.load(head.encoded / "head_score.npy", mmap_mode="r")
    on_score = np.concatenate(
        [case.simulated["head_score"], head.head.simulate(vectors, empty)], axis=1
    )
    labels = np.concatenate([head.head.label_vectors(head.encoder, case.labels), empty])
    # In half precision, as a run stores token vectors.
    rows = [
        head.head.token_vectors(features).astype(np.float16)
        for features in head.encoder.encode(select.tokens)
    ]
    return _ByHead(
        on_score,
        np.concatenate([head.head.simulate(row, labels) for row in rows]),
        head.self_judged,
    )


def _common_label(case: Case, labeler: Judge, select: Passage, by_head: _ByHead | None) -> int:
    """The one label whose simulation has the highest mean r over all nodes before alignment; its
    column."""
    if by_head is not None:
        text, simulated = select, by_head.on_select[:, : len(case.labels)]
    else:
        text, exact = case.text("fit"), case.simulated.get("fit")
        simulated = (
            simulate_packed(
                labeler.labeler, case.labels, text.tokens, "simulate for the common label"
            )
            if exact is None
            else exact
        )
    use = text.is_text.reshape(-1)
    real, simulated = case.real("before", text)[use], simulated[use]
    r = pairwise_correlation(real, simulated)
    defined = (~np.isnan(r)).sum(axis=0)
    mean = np.where(defined > 0, np.nansum(r, axis=0) / np.maximum(defined, 1), -math.inf)
    return int(np.argmax(mean))


def _simulation_scores(
    case: Case, table: ScoreTable, judges: Sequence[Judge], by_head: _ByHead | None, common: int
) -> None:
    """Simulation score on top, random and combined excerpts, by every simulator."""
    if by_head is not None:
        text = case.text("head_score")
        _excerpt_rows(case, table, text, by_head.on_score, "head", by_head.self_judged, common)
    text = case.text("score")
    for judge in judges:
        if judge is judges[0]:
            own, reference = case.simulated["score"], case.simulated["score_reference"]
            empty = simulate_packed(
                judge.labeler, [""], text.tokens, "simulate the empty label", allow_empty=True
            )
            every = np.concatenate([own, empty], axis=1)
        else:
            asked = [*case.labels, "", *REFERENCE_LABELS]
            every = simulate_packed(
                judge.labeler, asked, text.tokens, "simulate by the judge", allow_empty=True
            )
            every, reference = (
                every[:, : len(case.labels) + 1],
                every[:, len(case.labels) + 1 :].mean(axis=1),
            )
        every = contrasted(every, reference, case.simulate.contrast)
        _excerpt_rows(case, table, text, every, judge.name, judge.self_judged, common)


def _excerpt_rows(
    case: Case,
    table: ScoreTable,
    text: Passage,
    simulated: NDArray,
    judge: str,
    self_judged: bool,
    common: int,
) -> None:
    """simulated: [token, label]: the nodes' own labels, then the empty one."""
    windows = text.windows(case.scores.window)
    for moment in ("before", "final"):
        scores = excerpt_scores(
            case.real(moment, text),
            simulated,
            windows,
            case.scores.n_top,
            case.scores.n_random,
            (case.seed, case.layer),
        )
        for variant, r in scores.items():
            own, others = own_and_others(r)
            row = (f"simulation_{variant}", judge, self_judged)
            table.add(*row, moment, own)
            if moment == "final":
                table.add(*row, "shuffled", others)
                table.add(*row, "empty_label", r[:, -1])
                table.add(*row, "common_label", r[:, common])


def _detection(
    case: Case,
    table: ScoreTable,
    judge: Judge,
    select: Passage,
    by_head: _ByHead | None,
    common: int,
) -> tuple[list[dict[str, Any]], dict[str, dict[str, float | None]]]:
    """Detection and fuzzing by the judge and by the head; all answers of the judge, and the fitted
    thresholds."""
    text, window, n = case.text("head_score"), case.scores.window, case.scores.detection_excerpts
    seed = (case.seed, case.layer)
    windows = text.windows(window)
    items = {
        moment: items_of(case.real(moment, text), windows, n, seed)
        for moment in ("before", "final")
    }
    fit_items = items_of(case.real("final", select), select.windows(window), n, seed)
    by_judge = ask_judge(
        judge.labeler,
        case.labels,
        text.flat_tokens,
        items,
        select.flat_tokens,
        fit_items,
        case.scores.detection_nodes,
        case.scores.questions_per_prompt,
        case.seed,
    )
    results = [(judge.name, judge.self_judged, by_judge)]
    if by_head is not None:
        detector = ask_simulator(
            by_head.on_score, items, by_head.on_select, fit_items, common, case.seed
        )
        results.append(("head", by_head.self_judged, detector))
    thresholds: dict[str, dict[str, float | None]] = {}
    for name, self_judged, answers in results:
        thresholds[name] = {task: _finite(answers.threshold[task]) for task in TASKS}
        for method, moment, values in answers.scores(len(case.labels)):
            table.add(method, name, self_judged, moment, values, answers.n_not_asked)
    return _records(case, by_judge), thresholds


def _records(case: Case, answers: Answers) -> list[dict[str, Any]]:
    """One per question on the score split."""
    return [
        {
            "node": int(case.nodes[item.row]),
            "task": item.task,
            "moment": moment,
            "label": question.label,
            "text": question.text,
            "truth": item.truth,
            "logit": float(value),
        }
        for moment, asked in answers.asked.items()
        for item, question, value in zip(
            asked, answers.questions[moment], answers.values[moment], strict=True
        )
    ]


def _blind(
    case: Case,
    table: ScoreTable,
    blind: Sequence[str | None],
    labeler: Judge,
    head: HeadJudge | None,
) -> list[dict[str, Any]]:
    """Agreement of the fresh labels with the nodes' own, against that with other nodes' labels."""
    fresh = [text for text in blind if text is not None]
    has_blind = np.array([text is not None for text in blind], dtype=np.bool_)
    if head is not None:
        judge, self_judged, own = "head", head.self_judged, case.simulated["head_score"]
        vectors = np.load(head.encoded / "head_score.npy", mmap_mode="r")
        simulated = head.head.simulate(vectors, head.head.label_vectors(head.encoder, fresh))
        use = case.text("head_score").is_text.reshape(-1)
    else:
        judge, self_judged = labeler.name, labeler.self_judged
        text = case.text("score")
        reference, use = case.simulated["score_reference"], text.is_text.reshape(-1)
        own = contrasted(case.simulated["score"], reference, case.simulate.contrast)
        simulated = (
            simulate_packed(labeler.labeler, fresh, text.tokens, "simulate blind labels")
            if fresh
            else own[:, :0]
        )
        simulated = contrasted(simulated, reference, case.simulate.contrast)
    pairs = {
        "simulation": simulation_agreement(own[use], simulated[use], has_blind)
    } | text_agreement(case.labels, blind)
    for name, values in pairs.items():
        agreement, chance = own_and_others(values)
        # Both labels come from the labeler, so comparing their texts is the labeler agreeing with
        # itself.
        scorer, own_model = (judge, self_judged) if name == "simulation" else (None, True)
        table.add(f"blind_{name}", scorer, own_model, "final", agreement)
        table.add(f"blind_{name}", scorer, own_model, "shuffled", chance)
    r = own_and_others(pairs["simulation"])[0]
    return [
        {"node": int(node), "own": case.labels[i], "blind": blind[i], "r": _finite(r[i])}
        for i, node in enumerate(case.nodes)
    ]


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
