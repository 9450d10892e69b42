"""Subjects that ship with the package, and when a run takes one of them.

1. Each folder below `data/` holds a checkpoint, its tokenizer and `card.json`. The card holds the
   settings that the subject was trained with. `tools/make_subject.py` writes all of it.
2. Settings decide the weights: those of the corpus, the shape, the optimizer, the trigger and the
   seed (`settings`). A run with subject=tiny takes a shipped subject if all of them are equal, and
   the text is the same. Else it trains its own.
3. Values are compared, and no fingerprint. So a setting that is added later changes nothing for a
   subject that ships, as long as its default is what was done before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from interp_by_construction.config import (
    Config,
    CorpusConfig,
    ModelConfig,
    OptimizerConfig,
    PlantConfig,
    TinyConfig,
    only,
)
from interp_by_construction.corpus import content_identity
from interp_by_construction.llm.handle import Checkpoint

SHIPPED = Path(__file__).parent / "data"
"""Folder of the subjects that ship."""

PARTS = {
    "data": CorpusConfig,
    "subject": TinyConfig,
    "model": ModelConfig,
    "trainer": OptimizerConfig,
    "trigger": PlantConfig,
}
"""Group of the configuration -> the part of it that decides the weights."""
SHOWN = 4
"""Differing settings that a message names."""


@dataclass(frozen=True)
class Shipped(Checkpoint):
    """A subject of the package. As for any checkpoint, its weights are its identity."""

    @property
    def name(self) -> str:
        """That of its folder."""
        return Path(self.source).name

    @cached_property
    def card(self) -> dict[str, Any]:
        """`settings`, `text` (hash of the text), `sha256` (of the weights), `planted`, losses."""
        return json.loads((Path(self.source) / "card.json").read_text())


class Choice(NamedTuple):
    """The subject that a run with subject=tiny starts from."""

    shipped: Shipped | None
    """None where the run trains it."""
    why: str
    """Why it is trained, in one line."""


def settings(cfg: Config) -> dict[str, Any]:
    """All settings that decide the weights of a subject that is trained from scratch, as people
    type them: dotted name -> value. The text itself is no setting (`content_identity`)."""
    found: dict[str, Any] = {"seed": cfg.seed}
    for group, part in PARTS.items():
        values = asdict(only(part, getattr(cfg, group)))
        if part is PlantConfig and not values["share"]:
            # Nothing is planted, so no words matter.
            values = {"share": values["share"]}
        found |= {f"{group}.{name}": value for name, value in values.items()}
    return found


def choose(cfg: Config, folder: Path = SHIPPED) -> Choice:
    """The shipped subject whose settings are those of `cfg`, or why there is none.

    Args:
        folder: that of the shipped subjects, one folder each.
    """
    why = f"The subject is pretrained for {cfg.subject.pretrain_steps} steps, which takes a while"
    there = [Shipped(str(file.parent)) for file in sorted(folder.glob("*/card.json"))]
    if not there:
        return Choice(None, f"{why}: no subject ships in {folder}.")
    found = {each: _differing(cfg, each) for each in there}
    nearest = min(there, key=lambda each: len(found[each]))
    differing = found[nearest]
    if differing:
        more = f" and {len(differing) - SHOWN} more" if len(differing) > SHOWN else ""
        listed = ", ".join(differing[:SHOWN]) + more
        return Choice(None, f"{why}: the nearest that ships, {nearest.name}, differs in {listed}.")
    if cfg.subject.pretrain:
        return Choice(None, f"{why}: subject.pretrain=true, although {nearest.name} ships.")
    return Choice(nearest, "")


def _differing(cfg: Config, shipped: Shipped) -> list[str]:
    """Each setting in which they differ, with its value and the shipped one. A setting that one of
    them lacks has its default."""
    defaults = settings(Config()) | {f"trigger.{k}": v for k, v in asdict(PlantConfig()).items()}
    wanted: Mapping[str, Any] = defaults | settings(cfg)
    had: Mapping[str, Any] = defaults | shipped.card["settings"]
    differing = [
        name
        if isinstance(had.get(name), dict)
        else f"{name}={wanted.get(name)} (there {had.get(name)})"
        for name in {**wanted, **had}
        if wanted.get(name) != had.get(name)
    ]
    # Hashing a text takes a while, so it comes last.
    if not differing and content_identity(cfg.data) != shipped.card["text"]:
        differing.append("the text")
    return differing
