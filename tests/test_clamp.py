"""Laws of clamping, and of the direct path from a node to the logits."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_function import ALIGNED, NODES, POLES, text_of
from test_function import corpus as corpus
from tiny_subjects import FAMILIES, random_model, tokens

from interp_by_construction.scoring import clamp
from interp_by_construction.scoring.calibration import Calibration
from interp_by_construction.scoring.clamp import Budget, Clamped, Clamping, otsu
from interp_by_construction.scoring.substitution import AlignedLayer
from interp_by_construction.subject.direct_path import direct_logits
from interp_by_construction.subject.families import n_layers, output_directions
from interp_by_construction.subject.hooks import activations, capture
from interp_by_construction.subject.interventions import replaced
from interp_by_construction.subject.losses import token_nats

IDENTITY = Calibration(np.ones(3), np.zeros(3), np.zeros(3, np.bool_), np.zeros(3, np.bool_))


@pytest.mark.parametrize("family", FAMILIES)
def test_clamping_to_the_own_activation_changes_nothing(family: str) -> None:
    model, ids = random_model(family), tokens()
    with torch.no_grad():
        real = activations(model, 1, ids)[..., NODES]
    where = torch.rand(real.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    with replaced(model, 1, torch.as_tensor(NODES), real, where):
        clamped = token_nats(model, ids)
    np.testing.assert_array_equal(clamped, token_nats(model, ids))


def test_each_node_is_clamped_at_its_own_places(corpus: Path) -> None:
    model, ids = random_model("gpt2"), tokens()
    where = torch.zeros((*ids.shape, 3), dtype=torch.bool)
    where[0, 2, 0] = where[1, 5, 2] = True
    with torch.no_grad(), capture(model, 1) as untouched:
        model(ids)
    seen: list[torch.Tensor] = []
    with replaced(model, 1, torch.as_tensor(NODES), torch.full((1,), 7.0), where):
        handle = model.transformer.h[1].mlp.c_proj.register_forward_pre_hook(
            lambda _, args: seen.append(args[0])
        )
        with torch.no_grad():
            model(ids)
        handle.remove()
    before = untouched.of(ids)
    changed = (seen[0] != before).nonzero().tolist()
    assert changed == [[0, 2, NODES[0]], [1, 5, NODES[2]]]


def test_the_simulation_that_is_the_activation_changes_no_loss_anywhere(corpus: Path) -> None:
    model = random_model("gpt2")
    text = text_of(corpus, model, "test")
    assert POLES[1] == -1
    clamping = Clamping(np.quantile(text.on_text(), 0.8, axis=0), np.full(3, 5.0))
    (change,) = clamp.losses(model, Clamped(ALIGNED, text, IDENTITY, clamping), [[0, 1, 2]], 4)
    assert change.on["simulated"] == pytest.approx(0, abs=1e-6) and change.off[
        "simulated"
    ] == pytest.approx(0, abs=1e-6)
    assert change.n_on > 0 and change.n_off > 0
    assert abs(change.on["high_on"]) > 1e-4


def test_changes_equal_a_loop_over_single_predictions(corpus: Path) -> None:
    model = random_model("gpt2")
    text = text_of(corpus, model, "test")
    clamping = Clamping(
        np.full(3, np.quantile(text.on_text()[:, 1], 0.7)), np.array([1.0, 3.0, 2.0])
    )
    changes = clamp.losses(model, Clamped(ALIGNED, text, IDENTITY, clamping), [[1], [0, 2]], 3)
    ids, is_text = torch.as_tensor(text.passage.ids), text.passage.is_text
    sums: dict[str, list[float]] = {"on": [], "off": []}
    for block in range(len(ids)):
        applies = (text.values[block, :, 1] > clamping.threshold[1]) & is_text[block]
        with replaced(
            model,
            1,
            torch.tensor([int(NODES[1])]),
            torch.tensor([3.0 * POLES[1]]),
            torch.as_tensor(applies)[None],
        ):
            (clamped,) = token_nats(model, ids[block : block + 1])
        difference = clamped - token_nats(model, ids[block : block + 1])[0]
        for position, value in enumerate(difference):
            if is_text[block, position]:
                sums["on" if applies[position] else "off"].append(value)
    assert (changes[0].n_on, changes[0].n_off) == (len(sums["on"]), len(sums["off"]))
    assert changes[0].on["high_on"] == pytest.approx(np.mean(sums["on"]), abs=1e-5)
    assert changes[0].off["high_on"] == pytest.approx(np.mean(sums["off"]), abs=1e-5)


def test_a_label_that_applies_nowhere_has_no_change_there(corpus: Path) -> None:
    model = random_model("gpt2")
    text = text_of(corpus, model, "test")
    (change,) = clamp.losses(
        model,
        Clamped(ALIGNED, text, IDENTITY, Clamping(np.full(3, 1e9), np.ones(3))),
        [[0]],
        4,
    )
    assert change.n_on == 0 and change.on["zero_on"] is None and change.off["zero_on"] == 0


def test_the_threshold_divides_two_groups_and_is_undefined_for_one_value() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0.1, 0.03, 950), rng.normal(0.8, 0.05, 50)])
    assert 0.2 < otsu(values) < 0.7
    assert math.isnan(otsu(np.full(20, 0.3))) and math.isnan(otsu(np.zeros(0)))


def test_a_constant_simulation_is_counted_not_clamped(corpus: Path) -> None:
    model = random_model("gpt2")
    fitted, tested = (text_of(corpus, model, split) for split in ("simulate", "test"))
    constant = fitted._replace(values=np.where(np.arange(3) == 1, 0.5, fitted.values))
    layer = AlignedLayer(ALIGNED, tested, constant, tested)
    budget = Budget(8, 10**6, 4, 0)
    record, nodes = clamp.measure_clamping(model, layer, IDENTITY, budget, "final")
    assert record.n_undefined == 1 and record.n_single == 2
    assert sorted(each["node"] for each in nodes) == sorted(int(NODES[i]) for i in (0, 2))


@pytest.mark.parametrize("family", FAMILIES)
def test_direct_logits_have_one_row_per_node_in_every_family(family: str) -> None:
    model: Any = random_model(family)
    logits = direct_logits(model, 1, NODES)
    assert logits.shape == (3, model.config.vocab_size) and torch.isfinite(logits).all()
    np.testing.assert_allclose(logits.mean(dim=1), 0, atol=1e-5)


def test_promoted_tokens_are_those_of_a_frozen_final_norm() -> None:
    """Brute force: the node's write is added to real residual streams, the norm's scale stays what
    it was."""
    model: Any = random_model("gpt2")
    last = n_layers(model) - 1
    norm, head = model.transformer.ln_f, model.lm_head
    streams: list[torch.Tensor] = []
    handle = norm.register_forward_pre_hook(lambda _, args: streams.append(args[0]))
    with torch.no_grad():
        model(tokens())
    handle.remove()
    stream = streams[0].reshape(-1, streams[0].shape[-1])
    scale = (stream.var(dim=1, unbiased=False, keepdim=True) + norm.eps).sqrt()

    def frozen(x: torch.Tensor) -> torch.Tensor:
        return head((x - x.mean(dim=1, keepdim=True)) / scale * norm.weight + norm.bias)

    with torch.no_grad():
        for node, effect in zip(NODES, direct_logits(model, last, NODES), strict=True):
            difference = frozen(stream + 0.1 * output_directions(model, last)[node]) - frozen(
                stream
            )
            expected = (difference - difference.mean(dim=1, keepdim=True)) * scale / 0.1
            np.testing.assert_allclose(expected, effect.expand_as(expected), atol=1e-3)


def test_an_rms_norm_multiplies_by_its_factor() -> None:
    for family in ("llama", "gemma"):
        model: Any = random_model(family)
        last = n_layers(model) - 1
        weight = model.model.norm.weight + (1 if family == "gemma" else 0)
        expected = (output_directions(model, last)[NODES] * weight) @ model.lm_head.weight.T
        expected = expected - expected.mean(dim=1, keepdim=True)
        np.testing.assert_allclose(direct_logits(model, last, NODES), expected.detach(), atol=1e-5)
