"""The viewer artifact of a layer of a finished run: where it is, and what it is made from. Light to
import, so that `ibc show` is fast."""

from __future__ import annotations

import json

from interp_by_construction.engine.store import MANIFEST, Artifact
from interp_by_construction.report.facts import RunFacts
from interp_by_construction.subject.nodes import VIEWER_VERSION

STAGE, VIEWED = "viewer", "viewer.jsonl"


def neighbours_of(facts: RunFacts, layer: int) -> dict[str, int]:
    """The aligned layers `below` and `above` this one, as far as there are any."""
    position = facts.layers.index(layer)
    beside = {"below": position - 1, "above": position + 1}
    return {side: facts.layers[i] for side, i in beside.items() if 0 <= i < len(facts.layers)}


def viewer_parents(facts: RunFacts, layer: int) -> dict[str, Artifact]:
    """Role in the artifact's recipe -> artifact. Raises StoreError where one is gone."""
    artifacts = facts.artifacts(layer)
    found = {
        "corpus": facts.shared("corpus"),
        "simulate": artifacts["simulate"],
        "model": facts.model(layer, "final"),
    }
    if "function" in artifacts:
        found["function"] = artifacts["function"]
    beside = neighbours_of(facts, layer).items()
    return found | {f"neighbours_{side}": facts.labels(index) for side, index in beside}


def find_viewer(facts: RunFacts, layer: int) -> Artifact | None:
    """The artifact of the layer if it has been made. Raises StoreError where another one is gone.

    The recipe is compared, because only the stage itself, which imports torch, knows its
    fingerprint.
    """
    parents = {role: each.fingerprint for role, each in viewer_parents(facts, layer).items()}
    wanted = {"layer": layer, "n_promoted": facts.config.function.n_promoted}
    for file in (facts.store.root / STAGE).glob(f"[0-9a-f]*/{MANIFEST}"):
        recipe = json.loads(file.read_text())
        known = {name: recipe["config"].get(name) for name in wanted}
        if (recipe["version"], recipe["parents"], known) == (VIEWER_VERSION, parents, wanted):
            return facts.store.get(STAGE, file.parent.name)
    return None
