"""Invariant 1: frozen is frozen, bit for bit, and nothing more is frozen than has to be."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from tiny_subjects import FAMILIES, random_model, tokens
from torch import Tensor, nn

from interp_by_construction.subject import families
from interp_by_construction.subject.freeze import (
    FreezeGuard,
    frozen_below,
    frozen_digest,
    frozen_for_align,
    frozen_for_continue,
    frozen_for_local,
    upstream,
)
from interp_by_construction.subject.hooks import activations
from interp_by_construction.subject.load import untie

NODES = [1, 4, 17]


def _scramble(model: nn.Module, frozen: Mapping[str, Tensor | None]) -> None:
    """The worst that training could do: every entry that is not frozen becomes something else."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            mask = frozen.get(name, torch.zeros_like(parameter, dtype=torch.bool))
            if mask is not None:
                parameter.copy_(
                    torch.where(mask, parameter, parameter + torch.randn_like(parameter))
                )


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("name", FAMILIES)
def test_nothing_that_may_train_reaches_the_aligned_activations(name: str, layer: int) -> None:
    model, input_ids = random_model(name), tokens()
    untie(model)
    before = activations(model, layer, input_ids)[..., NODES]
    _scramble(model, frozen_for_continue(model, layer, NODES))
    after = activations(model, layer, input_ids)
    assert torch.equal(after[..., NODES], before)


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("name", FAMILIES)
def test_frozen_is_exactly_what_has_gradient(name: str, layer: int) -> None:
    """What the aligned activations depend on, by autograd, is what is frozen; nothing free is
    held."""
    model, input_ids = random_model(name), tokens()
    untie(model)
    activations(model, layer, input_ids)[..., NODES].square().sum().backward()
    frozen = upstream(model, layer, NODES)
    for parameter_name, parameter in model.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        assert reached == (parameter_name in frozen), parameter_name
        mask = frozen.get(parameter_name)
        if mask is not None:
            assert parameter.grad is not None and not parameter.grad[~mask].any(), parameter_name


def test_gated_rows_are_frozen_in_both_projections_and_free_rows_are_not() -> None:
    frozen = upstream(random_model("llama"), 1, NODES)
    for projection in ("gate_proj", "up_proj"):
        mask = frozen[f"model.layers.1.mlp.{projection}.weight"]
        assert mask is not None and mask.any(1).nonzero().flatten().tolist() == NODES
    assert "model.layers.1.mlp.down_proj.weight" not in frozen


def test_bias_entries_are_frozen_with_their_rows() -> None:
    mask = upstream(random_model("gpt2"), 1, NODES)["transformer.h.1.mlp.c_fc.bias"]
    assert mask is not None and mask.nonzero().flatten().tolist() == NODES


def test_parallel_attention_stays_trainable() -> None:
    assert "gpt_neox.layers.1.attention.dense.weight" not in upstream(
        random_model("gpt_neox"), 1, NODES
    )
    assert (
        upstream(random_model("gpt_neox_serial"), 1, NODES)[
            "gpt_neox.layers.1.attention.dense.weight"
        ]
        is None
    )


def test_below_start_layer_everything_freezes_and_from_layer_0_nothing() -> None:
    model = random_model("gpt2")
    untie(model)
    below = frozen_below(model, 1)
    assert {
        "transformer.wte.weight",
        "transformer.wpe.weight",
        "transformer.h.0.mlp.c_proj.weight",
    } <= set(below)
    assert not any(
        name.startswith(("transformer.h.1.", "transformer.ln_f", "lm_head")) for name in below
    )
    assert frozen_below(model, 0) == {} == frozen_for_align(model, 0, None)
    assert frozen_for_align(model, 1, None) == below
    with pytest.raises(ValueError, match="cannot be aligned after"):
        frozen_for_align(model, 1, (1, NODES))


def test_align_trains_the_output_projection_and_free_rows_below() -> None:
    model = random_model("gpt2")
    frozen = frozen_for_align(model, 2, (1, NODES))
    assert (
        "transformer.h.1.mlp.c_proj.weight" not in frozen
        and "transformer.h.2.attn.c_attn.weight" not in frozen
    )
    mask = frozen["transformer.h.1.mlp.c_fc.weight"]
    assert mask is not None and mask.any() and not mask.all()
    # Once layer 2 is frozen they are upstream of it.
    later = frozen_for_continue(model, 2, NODES)
    assert (
        later["transformer.h.1.mlp.c_proj.weight"] is None
        and later["transformer.h.1.mlp.c_fc.weight"] is None
    )


def test_frozen_sets_only_grow() -> None:
    for name in FAMILIES:
        model = random_model(name)
        smaller, larger = upstream(model, 1, NODES), upstream(model, 2, [])
        assert all(larger[key] is None for key in smaller)


def test_local_phase_trains_one_block_only() -> None:
    model = random_model("llama")
    untie(model)
    frozen = frozen_for_local(model, 1, None)
    assert {name for name, _ in model.named_parameters() if name not in frozen} == {
        name for name, _ in model.named_parameters() if name.startswith("model.layers.1.")
    }


def _train(model: nn.Module, guard: FreezeGuard, restore: bool = True) -> None:
    optimizer = torch.optim.AdamW(guard.trainable(), lr=0.05, weight_decay=0.3)
    for step in range(4):
        input_ids = tokens(seed=step)
        model(input_ids, labels=input_ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if restore:
            guard.restore()


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox", "opt"])
def test_training_with_decay_and_momentum_leaves_frozen_bits(name: str) -> None:
    model, input_ids = random_model(name), tokens()
    untie(model)
    frozen = frozen_for_continue(model, 1, NODES)
    before, digest = activations(model, 1, input_ids), frozen_digest(model, frozen)
    guard = FreezeGuard(model, frozen)
    _train(model, guard)
    guard.release()
    after = activations(model, 1, input_ids)
    assert (
        torch.equal(after[..., NODES], before[..., NODES])
        and frozen_digest(model, frozen) == digest
    )
    assert not torch.equal(after, before), "free nodes must have trained"
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_without_the_guards_restore_the_law_breaks() -> None:
    """The test above can fail: weight decay alone moves frozen rows when nobody puts them back."""
    model = random_model("gpt2")
    untie(model)
    frozen = frozen_for_continue(model, 1, NODES)
    digest = frozen_digest(model, frozen)
    _train(model, FreezeGuard(model, frozen), restore=False)
    assert frozen_digest(model, frozen) != digest


def test_a_tied_head_cannot_be_frozen_by_accident() -> None:
    model = random_model("llama")
    with pytest.raises(ValueError, match="untie"):
        FreezeGuard(model, frozen_below(model, 1))


def test_masked_gradients_are_zero_before_clipping() -> None:
    model, input_ids = random_model("gpt2"), tokens()
    untie(model)
    frozen = upstream(model, 1, NODES)
    FreezeGuard(model, frozen)
    model(input_ids, labels=input_ids).loss.backward()
    weight = families.mlp_in(model, 1)[0].weight
    mask = frozen["transformer.h.1.mlp.c_fc.weight"]
    assert mask is not None and isinstance(weight, Tensor) and weight.grad is not None
    assert not weight.grad[mask].any() and weight.grad[~mask].any()
