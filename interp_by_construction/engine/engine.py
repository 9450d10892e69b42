"""Computes what the store does not hold yet, parents first."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from interp_by_construction.engine.disk import write_json
from interp_by_construction.engine.made_with import MadeWith, after, made_with
from interp_by_construction.engine.records import to_json
from interp_by_construction.engine.runtime import Runtime
from interp_by_construction.engine.stage import Given, Job, Stage
from interp_by_construction.engine.store import COST, Artifact, Store, scratch_beside

Watch = Callable[[Stage[Any]], AbstractContextManager[None]]
"""Stage -> what is entered while it is computed."""


class Engine:
    """Decides what is computed, and keeps what it costs. Stages know nothing of the store."""

    def __init__(
        self,
        store: Store,
        runtime: Runtime | None,
        watch: Watch = lambda stage: nullcontext(),
        wait: Watch = lambda stage: nullcontext(),
    ) -> None:
        """Without a runtime the engine only looks: `get` raises LookupError for what is missing.
        wait: entered while another process computes a stage."""
        self.store, self.runtime, self.watch, self.wait = store, runtime, watch, wait
        self._known: dict[str, Artifact] = {}

    def get(self, stage: Stage[Any]) -> Artifact:
        """The finished artifact; computes it and, before it, the parents that are missing."""
        found = self.find(stage)
        if found is not None:
            return found
        runtime = self.runtime
        if runtime is None:
            raise LookupError(f"{self.store.path(stage.name, stage.fingerprint)} is missing")
        folders = {parent.fingerprint: self.get(parent).path for parent in stage.parents.values()}

        def compute(out: Path) -> dict[str, Any]:
            runtime.prepare()
            before = runtime.tokens()
            try:
                with self.watch(stage):
                    return to_json(stage.compute(Job(stage, out, runtime, folders)))
            finally:
                own = made_with(runtime.device_name, runtime.threads)
                _add_cost(out, own, runtime.tokens() - before)

        artifact = self.store.build(stage.recipe, compute, self.wait(stage))
        self._known[stage.fingerprint] = artifact
        return artifact

    def find(self, stage: Stage[Any]) -> Artifact | None:
        """The finished artifact, or None."""
        if isinstance(stage, Given):
            return Artifact(stage.name, stage.fingerprint, stage.folder)
        if stage.fingerprint not in self._known:
            found = self.store.get(stage.name, stage.fingerprint)
            if found is None:
                return None
            self._known[stage.fingerprint] = found
        return self._known[stage.fingerprint]


def given(artifact: Artifact) -> Given:
    """An artifact as the parent of a stage."""
    return Given(artifact.path, artifact.fingerprint)


def _add_cost(out: Path, own: MadeWith, tokens: int) -> None:
    """Adds to what earlier attempts cost, and to what they were made with. A failed attempt counts:
    its calls are not made again, nor are its finished phases."""
    file = scratch_beside(out) / COST
    known = json.loads(file.read_text()) if file.is_file() else {}
    tokens += known.get("labeler_tokens", 0)
    made: dict[str, Any] = {"made_with": after(known.get("made_with", {}), own)}
    write_json(file, made | ({"labeler_tokens": tokens} if tokens else {}))
