"""The audit finds a disagreement that was built in, finds none where there is none, and counts what
is undefined."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from stage_jobs import compute, given, labelled

from interp_by_construction.config import (
    AuditConfig,
    SearchConfig,
    SubjectConfig,
    TextAmounts,
    only,
)
from interp_by_construction.corpus.parts import part_passage
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.corpus.tokenize import (
    build_blocks,
    save_tokenizer,
    separator_id,
    train_tokenizer,
)
from interp_by_construction.engine.runtime import Handle, Runtime
from interp_by_construction.labelling.audit_cases import Auditor, worst_cases
from interp_by_construction.scoring.audit import read_cases
from interp_by_construction.scoring.calibration import Calibration
from interp_by_construction.scoring.hotflip import Editor, Nodes, Simulate, Start
from interp_by_construction.scoring.mining import disagreement, mined, window_before
from interp_by_construction.simulators.base import Simulation
from interp_by_construction.stages.audit import Audit, AuditRecord
from interp_by_construction.subject.hooks import activations
from interp_by_construction.subject.load import save_subject, tiny_model, untie

WORDS = "the dog saw a cat and ran to old red house by sea while birds sang loud songs under green trees near our little town".split()
NODE, KNOWN, SECRET = 5, " cat", " sea"
CFG = dataclasses.replace(
    AuditConfig(), n_tokens=400, n_nodes=3, n_steps=1, n_candidates=2, window=8, n_cases=2
)


class World(NamedTuple):
    """A corpus, and a model whose node fires on two words of which its label names one."""

    path: Path
    model: Any
    tokenizer: Any


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    path = tmp_path_factory.mktemp("audit")
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 30)) for _ in range(90)]
    tokenizer = train_tokenizer(texts, 400)
    save_tokenizer(tokenizer, path / "tokenizer")
    end = separator_id(tokenizer)
    for offset, split in enumerate(("select", "simulate", "label")):
        chosen = range(offset * 30, offset * 30 + 30)
        parts = [np.array([*tokenizer.encode(texts[i]), end], dtype=np.int32) for i in chosen]
        build_blocks(parts, list(chosen), 16, path / "blocks" / split, split)
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"held_out": [False] * 90}), path / "documents.parquet")
    cfg = dataclasses.replace(SubjectConfig(), n_layers=1, d_model=16, d_mlp=24, n_heads=2)
    model: Any = tiny_model(cfg, len(tokenizer), 16, seed=0, eos_token_id=end)
    untie(model)
    block = model.transformer.h[0]
    with torch.no_grad():
        # Context is switched off, and one direction of the embedding says whether the token is one
        # of the two.
        model.transformer.wpe.weight.zero_()
        block.attn.c_proj.weight.zero_()
        model.transformer.wte.weight[:, 0] = 0.0
        for word in (KNOWN, SECRET):
            (token,) = tokenizer.encode(word)
            model.transformer.wte.weight[token] = 0.0
            model.transformer.wte.weight[token, 0] = 0.2
        block.mlp.c_fc.weight[:, NODE] = 0.0
        block.mlp.c_fc.weight[0, NODE] = 1.0
        block.mlp.c_fc.bias[NODE] = -1.0
    save_subject(model, path / "model")
    return World(path, model, tokenizer)


def says_known(texts: Sequence[Sequence[str]]) -> list[NDArray[np.float32]]:
    """The label's word, one column."""
    return [
        np.array([[float(token == KNOWN)] for token in text], dtype=np.float32) for text in texts
    ]


def perfect(world: World, nodes: NDArray[np.int64]) -> Simulate:
    """A simulation that is the node itself."""
    ids = {str(world.tokenizer.decode([i])): i for i in range(len(world.tokenizer))} | {
        "\n": separator_id(world.tokenizer)
    }

    def simulate(texts: Sequence[Sequence[str]]) -> list[NDArray[np.float32]]:
        with torch.no_grad():
            return [
                activations(world.model, 0, torch.tensor([[ids[token] for token in text]]))[0][
                    :, nodes
                ].numpy()
                for text in texts
            ]

    return simulate


class GivenSimulation(Simulation):
    """What a function says."""

    def __init__(self, simulate: Simulate) -> None:
        self._simulate = simulate

    def __call__(self, texts: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        return np.concatenate(self._simulate(texts))


@dataclasses.dataclass(frozen=True)
class GivenSimulator(Handle[Any]):
    """Says the same whatever the labels are."""

    simulate: Simulate
    contrast: bool = True
    identity = "given"

    def open(self, runtime: Runtime) -> Any:
        return lambda labels: GivenSimulation(self.simulate)


def audited(
    world: World, out: Path, nodes: NDArray[np.int64], poles: NDArray[np.int64], simulate: Simulate
) -> AuditRecord:
    """The stage, on labels that say what `simulate` does."""
    texts, folder = TextAmounts(n_head_score_tokens=320), out.parent / f"{out.name} simulated"
    folder.mkdir(parents=True)
    tokens = part_passage(world.path, "calibrate", texts).tokens
    said = np.concatenate(simulate(tokens))[:, : len(nodes)]
    save_file({"calibrate": np.ascontiguousarray(said)}, folder / "simulated.safetensors")
    save_file({"nodes": nodes, "poles": poles}, folder / "targets.safetensors")
    labels = labelled(out.parent / f"{out.name} labels", nodes.tolist(), poles.tolist())
    simulator: Any = GivenSimulator(simulate)
    model = given(world.path)
    stage = Audit(
        corpus=model,
        simulate=given(folder),
        layer=0,
        simulator=simulator,
        texts=texts,
        before=model,
        final=model,
        labels=labels,
        search=only(SearchConfig, CFG),
        batch_size=4,
        seed=0,
    )
    return compute(stage, out)


def editor(world: World) -> tuple[Editor, Start]:
    one = np.ones(1)
    calibration = Calibration(3.0 * one, 0 * one, np.zeros(1, np.bool_), np.zeros(1, np.bool_))
    nodes = Nodes(0, np.array([NODE]), np.array([1]), calibration, 0 * one, 2.8 * one)
    words = sorted({world.tokenizer.encode(f" {word}")[0] for word in WORDS})
    made = Editor(world.model, world.tokenizer, nodes, says_known, np.array(words), "cpu")
    ids = tuple(world.tokenizer.encode("the old red house by the dog"))
    (start,) = made.measured([Start(0, 1, ids, "agreeing", 0)])
    return made, start


def test_gradient_finds_the_disagreeing_token_and_chance_finds_it_less_often(world: World) -> None:
    edit, start = editor(world)
    (found,) = edit.search([start], 1, 2, None)
    assert found.swaps == ({"position": 6, "old": " dog", "new": SECRET},)
    assert found.gap > 0.5 > start.gap
    assert edit.n_tried == 2
    by_chance = [
        edit.search([start], 1, 2, np.random.default_rng(seed))[0].gap > 0.5 for seed in range(40)
    ]
    assert edit.n_tried == 2 + 40 * 2
    assert sum(by_chance) < 10


def test_the_known_word_raises_both_and_is_not_kept(world: World) -> None:
    edit, start = editor(world)
    edit.allowed = edit.allowed[edit.allowed != world.tokenizer.encode(SECRET)[0]]
    with torch.no_grad():
        edit.table = edit.embedding(edit.allowed)
    (found,) = edit.search([start], 2, 3, None)
    assert found.gap < 0.1 and KNOWN not in [
        swap["new"] for swap in found.swaps if swap["position"] == 6
    ]


def test_the_gradient_is_that_of_finite_differences(world: World) -> None:
    edit, start = editor(world)
    alive = dataclasses.replace(start, ids=(*start.ids[:-1], world.tokenizer.encode(KNOWN)[0]))
    (gradient,) = edit._gradients([alive])
    base = world.model.transformer.wte(torch.tensor([alive.ids])).detach()
    step = torch.zeros_like(base)
    step[0, -1, 2] = 1e-3

    def node(inputs: torch.Tensor) -> float:
        seen: list[torch.Tensor] = []
        handle = world.model.transformer.h[0].mlp.c_proj.register_forward_pre_hook(
            lambda _, args: seen.append(args[0])
        )
        with torch.no_grad():
            world.model(inputs_embeds=inputs)
        handle.remove()
        return float(seen[0][0, -1, NODE])

    assert node(base) > 0
    assert float(gradient[-1, 2]) == pytest.approx(
        (node(base + step) - node(base - step)) / 2e-3, rel=1e-2, abs=1e-2
    )


def test_every_edit_is_read_back_as_its_tokens(world: World) -> None:
    edit, start = editor(world)
    edit.allowed = torch.arange(len(world.tokenizer))
    with torch.no_grad():
        edit.table = edit.embedding(edit.allowed)
    for rng in (None, np.random.default_rng(0)):
        (found,) = edit.search([start], 3, 4, rng)
        assert world.tokenizer.encode("".join(edit.tokens(found.ids))) == list(found.ids)


def test_run_finds_the_word_that_the_label_leaves_out(world: World, tmp_path: Path) -> None:
    found = audited(world, tmp_path / "first", np.array([NODE]), np.array([1]), says_known)
    assert found.before == found.final
    final = found.final
    assert final is not None
    share = np.mean(
        [
            token == SECRET
            for text in Passage.of_split(world.path, "select", n_blocks=25, first=True).tokens
            for token in text
        ]
    )
    # Calibration gives the missing word's activations a mean that is not 0; the word itself still
    # stands out.
    assert final.rate == final.rate_real_high == pytest.approx(share, abs=0.02)
    assert final.rate_strong is not None and final.rate_strong > 0.3
    assert final.rate_simulated_high == 0
    agreeing = final.search.agreeing
    assert agreeing.rate_hotflip is not None and agreeing.rate_hotflip > 0
    assert agreeing.rate_before == 0
    texts = read_cases(tmp_path / "first")
    cases = worst_cases(texts)
    assert list(cases) == [NODE]
    assert worst_cases(case for case in texts if case.gap > 0.5)[NODE].wrong == []
    worst = cases[NODE].missed[0]
    assert worst.tokens[worst.peak] == SECRET and worst.activations[worst.peak] > 1
    assert read_cases(tmp_path / "first", "before") == texts
    again = audited(world, tmp_path / "again", np.array([NODE]), np.array([1]), says_known)
    assert again == found
    first, second = (tmp_path / name / "audit.jsonl" for name in ("first", "again"))
    assert first.read_bytes() == second.read_bytes()
    (line,) = found.lines()
    assert line.startswith("audit, before -> final: label and node differ by more than 0.5")


def test_the_auditor_hands_the_missing_word_to_a_revision_and_nothing_where_the_label_is_right(
    world: World,
) -> None:
    asked: list[Sequence[str]] = []

    def simulator(labels: Sequence[str]) -> Simulate:
        asked.append(labels)
        return says_known if labels == ["cat"] else perfect(world, np.array([NODE]))

    auditor = Auditor(world.model, world.path, 0, simulator, CFG, 4, 0)
    examples = auditor.counter_examples([(NODE, 1, "cat")], 5)[NODE]
    assert [excerpt.tokens[excerpt.peak] for excerpt in examples.missed] == [
        SECRET
    ] and examples.wrong == []
    assert (
        auditor.counter_examples([(NODE, 1, "cat or sea")], 5) == {}
        and auditor.counter_examples([], 5) == {}
    )
    assert asked == [["cat"], ["cat or sea"]]


def test_a_perfect_simulation_is_never_contradicted(world: World, tmp_path: Path) -> None:
    nodes, poles = np.array([NODE, 2, 7]), np.array([1, -1, 1])
    simulate = perfect(world, nodes)

    def poled(texts: Sequence[Sequence[str]]) -> list[NDArray[np.float32]]:
        return [values * poles.astype(np.float32) for values in simulate(texts)]

    found = audited(world, tmp_path / "out", nodes, poles, poled)
    final = found.final
    assert final is not None
    assert (final.rate, final.rate_real_high, final.rate_simulated_high) == (0, 0, 0)
    for outcome in (final.search.mined, final.search.agreeing):
        assert outcome.rate_hotflip == outcome.rate_random == 0
    assert all(case.gap < 1e-4 for case in read_cases(tmp_path / "out"))


def test_rates_count_by_kind_and_leave_undefined_ones_out() -> None:
    calibration = Calibration(*np.zeros((2, 3)), *np.zeros((2, 3), np.bool_))
    nodes = Nodes(
        0, np.arange(3), np.ones(3, np.int64), calibration, np.zeros(3), np.array([1.0, 1.0, 0.0])
    )
    gaps, real = np.zeros((1, 5, 3)), np.zeros((1, 5, 3))
    gaps[0, :, 0] = [0.6, -0.7, 0.4, np.nan, 0.9]
    real[0, :, 0] = [0.9, 0.1, 0.8, 1.0, 0.2]
    gaps[..., 2] = np.nan
    is_text = np.array([[True, True, True, False, True]])
    gaps[0, 3] = np.nan
    rates = disagreement(gaps, real, nodes, is_text, 0.5)
    assert (
        rates.all[:2].tolist() == [0.75, 0]
        and rates.real_high[0] == 0.5
        and rates.simulated_high[0] == 0.25
    )
    assert rates.strong[0] == 0.5 and np.isnan(rates.strong[1]) and np.isnan(rates.all[2])


def test_mined_cases_are_the_largest_of_their_kind_one_per_block() -> None:
    gaps = np.full((3, 4, 1), np.nan)
    gaps[0, :, 0], gaps[1, :, 0], gaps[2, :, 0] = (
        [0.9, 0.8, -0.1, 0],
        [0.1, 0.3, -0.5, 0],
        [-0.2, 0, -0.3, -0.1],
    )
    found = [(case.direction, case.row, case.position) for case in mined(gaps, 2)]
    assert found == [(1, 0, 0), (1, 1, 1), (-1, 1, 2), (-1, 2, 2)]


def test_the_window_begins_with_a_word_of_the_same_document() -> None:
    tokens, documents = (
        [" The", " end", "\n", " On", "ce", " he", " ran"],
        np.array([0, 0, 0, 1, 1, 1, 1]),
    )
    assert window_before(tokens, documents, 6, 24) == slice(3, 7)
    assert window_before(tokens, documents, 6, 3) == slice(5, 7)
    assert window_before(tokens, documents, 1, 24) == slice(0, 2)


def test_a_layer_without_labels_is_not_audited(world: World, tmp_path: Path) -> None:
    none = np.zeros(0, np.int64)
    found = audited(world, tmp_path / "out", none, none, says_known)
    assert found.n_nodes == 0 and found.final is None and list(found.lines()) == []
    assert read_cases(tmp_path / "out") == []
