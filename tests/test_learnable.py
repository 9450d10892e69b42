"""What a fresh neuron can learn, and labels that are dealt out by it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_subjects import FAMILIES, random_model

from interp_by_construction.config import compose
from interp_by_construction.errors import ConfigError
from interp_by_construction.subject.dictionary import describe_dictionaries, gated, put_in_place
from interp_by_construction.subject.families import mlp_in
from interp_by_construction.subject.transcoder import Shape, Transcoder
from interp_by_construction.training.readout import readout_correlations


def test_what_the_input_shows_is_learned_and_what_it_does_not_show_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    read = torch.randn(2000, 8, generator=generator)
    held_out = torch.arange(2000) % 2 == 1
    directions = torch.randn(8, 2, generator=generator)
    wanted = torch.stack(
        [
            torch.relu(read @ directions[:, 0] - 2.0),
            torch.relu(-3.0 * (read @ directions[:, 1])),
            torch.rand(2000, generator=generator),
            torch.full((2000,), 0.5),
        ],
        dim=1,
    )
    r = readout_correlations(read, wanted, held_out, seed=0)
    assert (r[:2] > 0.95).all() and abs(r[2]) < 0.15 and np.isnan(r[3])
    # Neither units of the input nor those of the labels matter, and the outcome is the seed's.
    scaled = readout_correlations(1e3 * read + 5.0, 1e-2 * wanted, held_out, seed=0)
    np.testing.assert_allclose(scaled[:2], r[:2], atol=0.01)
    np.testing.assert_array_equal(readout_correlations(read, wanted, held_out, seed=0), r)


def test_held_out_tokens_are_not_trained_on() -> None:
    generator = torch.Generator().manual_seed(1)
    read, wanted = torch.randn(400, 4, generator=generator), torch.rand(400, 2, generator=generator)
    held_out = torch.arange(400) >= 200
    r = readout_correlations(read, wanted, held_out, seed=0)
    other = torch.where(held_out[:, None], -wanted, wanted)
    np.testing.assert_allclose(readout_correlations(read, other, held_out, seed=0), -r, atol=1e-9)


def test_a_gated_neuron_learns_what_only_a_gated_neuron_can_do() -> None:
    generator = torch.Generator().manual_seed(2)
    read = torch.randn(4000, 6, generator=generator)
    gate, up = torch.randn(2, 6, 3, generator=generator)
    wanted = torch.nn.functional.silu(read @ gate) * (read @ up)
    held_out = torch.arange(4000) % 2 == 1
    ungated = readout_correlations(read, wanted, held_out, seed=0)
    assert (readout_correlations(read, wanted, held_out, seed=0, gated=True) > ungated + 0.05).all()


@pytest.mark.parametrize("family", [*FAMILIES])
def test_layers_with_two_input_projections_are_gated_unless_a_dictionary_is_in_their_place(
    family: str,
) -> None:
    model = random_model(family)
    assert gated(model.config, 1) == (len(mlp_in(model, 1)) == 2)
    put_in_place(model, 1, Transcoder(Shape(16, 32, None, False)))
    describe_dictionaries(model)
    assert [gated(model.config, layer) for layer in (0, 1)] == [
        len(mlp_in(model, layer)) == 2 for layer in (0, 1)
    ]
    assert not gated(model.config, 1)


@pytest.mark.parametrize(
    "given", [["nodes.learnable=1.5"], ["nodes.learnable=0.5", "nodes.assign=none"]]
)
def test_impossible_weights_are_named(given: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"nodes.learnable"):
        compose(["experiment=demo", *given])
