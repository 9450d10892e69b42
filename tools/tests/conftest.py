"""What several test files of the tools use. Light to import, as the process that deals tests out
imports it too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from small_wordnet import EXTRA, halves, write_wordnet

if TYPE_CHECKING:
    from lexical_supervision import Supervision


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `dict` folder of the small WordNet."""
    path = tmp_path_factory.mktemp("dict")
    write_wordnet(path)
    return path


@pytest.fixture(scope="session")
def data(folder: Path) -> Supervision:
    from lexical_supervision import build

    return build(folder, EXTRA, halves, 1_000_000, seed=0)


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint like the embedded one, with its tokenizer, but narrow, of two blocks, and with
    random weights: reading text with it takes no time."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from interp_by_construction.llm.embedded import resolve_model

    path, source = tmp_path_factory.mktemp("small"), Path(resolve_model("smollm2"))
    config = AutoConfig.from_pretrained(source)
    config.num_hidden_layers, config.layer_types = 2, None
    config.hidden_size, config.intermediate_size = 64, 96
    config.num_attention_heads, config.num_key_value_heads, config.head_dim = 4, 2, 16
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (path / name).write_bytes((source / name).read_bytes())
    return path


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Undoes what a script does, which sets the number of threads of the whole process."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
