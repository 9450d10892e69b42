"""Laws of uneven widths: widening keeps the function, saving and padding lose nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_subjects import FAMILIES, random_model, tokens
from transformers import AutoModelForCausalLM

from interp_by_construction.subject import families
from interp_by_construction.subject.hooks import activations
from interp_by_construction.subject.load import load_subject, save_subject
from interp_by_construction.subject.widen import pad, widen, widths


@pytest.mark.parametrize("name", FAMILIES)
def test_widening_keeps_the_function_and_the_node_ids(name: str) -> None:
    model, input_ids = random_model(name), tokens()
    before, nodes = model(input_ids).logits, activations(model, 1, input_ids)
    rows = [direction.clone() for direction in families.input_directions(model, 1)]
    widen(model, 1, 7, seed=3)
    assert widths(model) == [24, 31, 24]
    torch.testing.assert_close(model(input_ids).logits, before, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(
        activations(model, 1, input_ids)[..., :24], nodes, atol=1e-6, rtol=1e-6
    )
    assert not families.output_directions(model, 1)[24:].any()
    for old, new in zip(rows, families.input_directions(model, 1), strict=True):
        assert torch.equal(new[:24], old)
        assert 0.5 < float(new[24:].std() / old.std()) < 2, (
            "new rows have the scale of the old ones"
        )


@pytest.mark.parametrize("name", FAMILIES)
def test_new_neurons_learn(name: str) -> None:
    model, input_ids = random_model(name), tokens()
    widen(model, 1, 7, seed=3)
    model(input_ids, labels=input_ids).loss.backward()
    weight = families.mlp_out(model, 1).weight.grad
    assert (weight if families.family_of(model).conv1d else weight.T)[24:].any(1).sum() > 3


@pytest.mark.parametrize("name", FAMILIES)
def test_uneven_widths_survive_saving_and_padding(name: str, tmp_path: Path) -> None:
    model, input_ids = random_model(name), tokens()
    widen(model, 1, 7, seed=3)
    widen(model, 2, 3, seed=3)
    with torch.no_grad():
        families.mlp_out(model, 1).weight.add_(0.1)
    expected = model(input_ids).logits
    save_subject(model, tmp_path / "a")
    again = load_subject(tmp_path / "a")
    assert widths(again) == [24, 31, 27] and torch.equal(again(input_ids).logits, expected)
    save_subject(again, tmp_path / "b")
    for name in ("model.safetensors", "mlp_widths.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert pad(again) == [7, 0, 4]
    save_subject(again, tmp_path / "b")
    assert not (tmp_path / "b/mlp_widths.json").exists()
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "b").eval()
    torch.testing.assert_close(plain(input_ids).logits, expected, atol=1e-6, rtol=1e-6)


def test_new_rows_depend_on_the_seed_alone() -> None:
    first, again, other = (random_model("llama") for _ in range(3))
    for model, seed in ((first, 3), (again, 3), (other, 4)):
        torch.manual_seed(seed + int(model is again))
        widen(model, 1, 2, seed)
    rows = [families.input_directions(model, 1)[0][24:] for model in (first, again, other)]
    assert torch.equal(rows[0], rows[1]) and not torch.equal(rows[0], rows[2])
