"""Whichever write, flush or rename of a commit fails, there is one line with the path, and the next
attempt gives the reference."""

from __future__ import annotations

import builtins
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults.campaign import drawn
from faults.test_power_cut import RECIPE, _files, _stage

from interp_by_construction.engine import store as store_module
from interp_by_construction.engine.store import Store
from interp_by_construction.errors import StoreError

CALLS = ("rename", "replace", "mkdir", "fsync")


class _Failing:
    """The k-th operation on files fails."""

    def __init__(self, k: int, number: int) -> None:
        self.left, self.number, self.failed = k, number, False

    def __call__(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def tried(*given: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                self.failed = True
                raise OSError(self.number, os.strerror(self.number))
            return call(*given, **named)

        return tried

    def around(self, patch: pytest.MonkeyPatch) -> None:
        for name in CALLS:
            patch.setattr(os, name, self(getattr(os, name)))
        opened = builtins.open

        def open_(file: Any, mode: str = "r", *given: Any, **named: Any) -> Any:
            return (self(opened) if set(mode) & set("wxa+") else opened)(
                file, mode, *given, **named
            )

        patch.setattr(builtins, "open", open_)
        patch.setattr(io, "open", open_)


def test_a_failed_operation_is_one_line_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    reference = Store(tmp_path / "reference").build(RECIPE, _stage)
    expected = _files(reference.path)
    counted = _Failing(10**9, errno.EIO)
    with monkeypatch.context() as patch:
        counted.around(patch)
        Store(tmp_path / "counted").build(RECIPE, _stage)
    n_operations = 10**9 - counted.left
    assert n_operations > 30
    refusals = "ENOSPC EDQUOT EIO EROFS EMFILE ESTALE ENODEV".split()
    numbers = [getattr(errno, name) for name in refusals]
    cases = [(k + 1, number) for k in range(n_operations) for number in numbers]
    for k, number in drawn(cases, 40):
        folder = tmp_path / f"{k}-{number}"
        failing = _Failing(k, number)
        with monkeypatch.context() as patch:
            failing.around(patch)
            said = str(folder)
            try:
                Store(folder).build(RECIPE, _stage)
            except StoreError as error:
                said = str(error)
        assert failing.failed, "so many operations there are"
        assert str(folder) in said and "\n" not in said, (k, number)
        found = Store(folder).get("stage", RECIPE.fingerprint)
        assert found is None or Store(folder).verify("stage", RECIPE.fingerprint) == []
        made = Store(folder).build(RECIPE, _stage)
        assert _files(made.path) == expected, (k, number)


def test_an_error_that_is_no_fault_of_a_disk_stays_itself() -> None:
    with pytest.raises(FileNotFoundError), store_module.disk_errors(Path("x")):
        raise FileNotFoundError(errno.ENOENT, "gone")
