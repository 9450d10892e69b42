"""Laws of the adapters that a head carries for its encoder."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_subjects import random_model

from interp_by_construction.errors import ConfigError
from interp_by_construction.llm.embedded import resolve_model
from interp_by_construction.simulators.adapter import merge
from interp_by_construction.simulators.encoder import Encoder
from interp_by_construction.simulators.head import Head


def test_an_adapter_of_another_encoder_is_refused() -> None:
    adapter = {
        "layers.0.mlp.up_proj.down": np.zeros((2, 16), np.float32),
        "layers.0.mlp.up_proj.up": np.zeros((9, 2), np.float32),
    }
    model = random_model("llama").base_model
    with pytest.raises(ConfigError, match=r"layers.0.mlp.up_proj"):
        merge(model, adapter)
    with pytest.raises(ConfigError, match=r"layers.7.mlp.up_proj"):
        merge(model, {name.replace("0", "7"): value for name, value in adapter.items()})


def test_the_shipped_heads_adapter_fits_its_encoder_and_changes_what_it_reads() -> None:
    head = Head.load()
    blocks = {int(name.split(".")[1]) for name in head.adapter}
    assert blocks == set(range(max(head.encoder_layers)))
    assert {weight.shape[0] for name, weight in head.adapter.items() if name.endswith(".down")} == {
        16
    }
    plain = Encoder.load(resolve_model(head.encoder), head.encoder_layers, "cpu")
    texts = ["The fox ran over the hill."]
    states = [next(iter(each.states(texts))) for each in (plain, head.load_encoder("cpu"))]
    assert states[0].shape == states[1].shape and not np.allclose(*states, atol=0.1)
