"""Laws of node access, loading and saving."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from tiny_subjects import FAMILIES, LENGTH, random_model, tokens
from transformers import AutoModelForCausalLM, BertConfig

from interp_by_construction.config import SubjectConfig
from interp_by_construction.errors import SubjectError
from interp_by_construction.subject import families
from interp_by_construction.subject.hooks import activations, capture
from interp_by_construction.subject.load import (
    load_subject,
    save_subject,
    source_checkpoint,
    tiny_model,
    untie,
)


@pytest.mark.parametrize("name", FAMILIES)
def test_stopped_pass_equals_full_pass(name: str) -> None:
    model, input_ids = random_model(name), tokens()
    for layer in range(families.n_layers(model)):
        stopped = activations(model, layer, input_ids)
        with capture(model, layer) as captured:
            model(input_ids)
        assert stopped.shape == (3, LENGTH, families.d_mlp(model, layer)) == (3, LENGTH, 24)
        assert torch.equal(stopped, captured.of(input_ids))
        assert stopped.requires_grad


@pytest.mark.parametrize("name", FAMILIES)
def test_activations_are_what_the_output_projection_reads(name: str) -> None:
    """Adding e * (output direction of a node) where the projection writes equals adding e to the
    node."""
    model, input_ids = random_model(name), tokens()
    projection = families.mlp_out(model, 1)
    bump = torch.zeros(24)
    bump[5] = 0.5
    with torch.no_grad():
        handle = projection.register_forward_pre_hook(lambda _m, args: (args[0] + bump, *args[1:]))
        by_node = model(input_ids).logits
        handle.remove()
        direction = families.output_directions(model, 1)[5]
        handle = projection.register_forward_hook(lambda _m, _a, out: out + 0.5 * direction)
        by_direction = model(input_ids).logits
        handle.remove()
    torch.testing.assert_close(by_node, by_direction, atol=1e-4, rtol=1e-4)


def test_stop_runs_nothing_above_and_later_passes_are_whole() -> None:
    model, input_ids = random_model("gpt2"), tokens()
    ran: list[int] = []
    handles = [
        block.register_forward_hook(lambda *_, i=i: ran.append(i))
        for i, block in enumerate(families.blocks(model))
    ]
    activations(model, 1, input_ids)
    assert ran == [0]
    ran.clear()
    model(input_ids)
    assert ran == [0, 1, 2]
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("name", FAMILIES)
def test_untied_and_reloaded_model_has_the_same_logits(name: str, tmp_path: Path) -> None:
    model, input_ids = random_model(name), tokens()
    before = model(input_ids).logits
    untie(model)
    assert torch.equal(model(input_ids).logits, before)
    assert model.get_output_embeddings().weight is not model.get_input_embeddings().weight
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(2.0)
    doubled = model(input_ids).logits
    save_subject(model, tmp_path)
    assert torch.equal(load_subject(tmp_path)(input_ids).logits, doubled)
    assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path)(input_ids).logits, doubled)


def test_equal_weights_give_equal_bytes(tmp_path: Path) -> None:
    model = tiny_model(SubjectConfig(), 50, 16, seed=3, eos_token_id=0)
    untie(model)
    save_subject(model, tmp_path / "a")
    save_subject(load_subject(tmp_path / "a"), tmp_path / "b")
    digests = [
        {
            file.name: hashlib.sha256(file.read_bytes()).hexdigest()
            for file in (tmp_path / side).iterdir()
        }
        for side in "ab"
    ]
    assert digests[0] == digests[1] and "model.safetensors" in digests[0]


def test_tiny_model_depends_on_its_seed_alone() -> None:
    torch.manual_seed(0)
    first = tiny_model(SubjectConfig(), 50, 16, seed=3).state_dict()
    torch.manual_seed(1)
    again, other = (
        tiny_model(SubjectConfig(), 50, 16, seed=3).state_dict(),
        tiny_model(SubjectConfig(), 50, 16, seed=4),
    )
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["transformer.wte.weight"], other.transformer.wte.weight)


def test_dropout_is_off_after_loading(tmp_path: Path) -> None:
    model = random_model("gpt2")
    model.config.resid_pdrop = 0.5
    save_subject(model, tmp_path)
    loaded, input_ids = load_subject(tmp_path), tokens()
    expected = loaded(input_ids).logits
    assert torch.equal(loaded.train()(input_ids).logits, expected)


def test_errors_name_the_value_and_the_fix(tmp_path: Path) -> None:
    with pytest.raises(SubjectError, match=r"bert.*gpt2, gpt_neo"):
        families.family_of(BertConfig())
    with pytest.raises(SubjectError, match="nowhere"):
        load_subject(tmp_path / "nowhere")
    with pytest.raises(SubjectError, match=r"layer 3 .* 0 to 2"):
        families.block(random_model("gpt2"), 3)
    with pytest.raises(SubjectError, match=r"subject.path"):
        source_checkpoint(SubjectConfig(kind="hf"))
    with pytest.raises(SubjectError, match="n_heads=5"):
        tiny_model(SubjectConfig(n_heads=5), 50, 16, 0)


def test_a_checkpoint_that_is_kept_in_memory_is_as_if_read_again(tmp_path: Path) -> None:
    """Small checkpoints are read once: copies share no weight, and a changed file is read anew."""
    model = random_model("gpt2")
    save_subject(model, tmp_path)
    first = load_subject(tmp_path)
    with torch.no_grad():
        next(first.parameters()).add_(1)
    second = load_subject(tmp_path)
    for (name, here), (_, there) in zip(
        model.named_parameters(), second.named_parameters(), strict=True
    ):
        assert torch.equal(here, there), name
    save_subject(first, tmp_path)
    third = load_subject(tmp_path)
    assert torch.equal(next(third.parameters()), next(first.parameters()))
