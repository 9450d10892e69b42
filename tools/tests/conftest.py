"""What several test files of the tools use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from lexical_supervision import Supervision, build
from small_wordnet import EXTRA, halves, write_wordnet


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `dict` folder of the small WordNet."""
    path = tmp_path_factory.mktemp("dict")
    write_wordnet(path)
    return path


@pytest.fixture(scope="session")
def data(folder: Path) -> Supervision:
    return build(folder, EXTRA, halves, 1_000_000, seed=0)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Undoes what a script does, which sets the number of threads of the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
