"""A stage: a frozen dataclass whose fields are all that its result is computed from.

1. Fields are hashed: values and dataclasses of values by content, parent stages by their
   fingerprints, handles (a language model, a checkpoint on disk) by their identities. Nobody writes
   a fingerprint by hand.
2. `compute` sees the fields and a `Job`, which opens parents and handles that are fields, and no
   others. So nothing can be read that is not hashed.
3. `engine.runtime.Runtime` holds what cannot change a result (device, threads, tracker).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from interp_by_construction.engine.effort import Effort, Sizes
from interp_by_construction.engine.records import Record
from interp_by_construction.engine.runtime import Handle, Runtime
from interp_by_construction.engine.store import Recipe, scratch_beside

R = TypeVar("R", bound=Record)
T = TypeVar("T")


@dataclass(frozen=True)
class Stage(Generic[R]):
    """Base of all stages. A subclass is a frozen dataclass with the names below."""

    name: ClassVar[str]
    """Also the stage's folder in the store."""
    version: ClassVar[int]
    """Raise it when the same fields start to give another result."""
    record: ClassVar[type[Record]]
    """Type of what `compute` returns."""
    says: ClassVar[str] = ""
    """What it does in a few plain words, as the terminal shows it behind its name."""

    def compute(self, job: Job) -> R:
        """Writes the artifact's files below `job.out`; returns its record."""
        raise NotImplementedError

    def effort(self, sizes: Sizes) -> Effort | None:
        """What there is to do, for the estimate of its time; None where nobody knows."""
        return None

    @cached_property
    def recipe(self) -> Recipe:
        """What is hashed. Raises TypeError for a field of a kind that must not be."""
        config: dict[str, Any] = {}
        identity: dict[str, str] = {}
        for name, value in _hashed(self):
            if isinstance(value, Handle):
                identity[name] = value.identity
            elif not isinstance(value, Stage) and not _stages(value):
                config[name] = canonical(value, f"{self.name}.{name}")
        parents = {role: parent.fingerprint for role, parent in self.parents.items()}
        return Recipe(self.name, self.version, config, parents, identity)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over name, version and hashed fields, 32 hex digits."""
        return self.recipe.fingerprint

    @cached_property
    def parents(self) -> dict[str, Stage[Any]]:
        """Role -> stage whose artifact is read. A field with several stages gives `field_0` or
        `field_name`."""
        found: dict[str, Stage[Any]] = {}
        for name, value in _hashed(self):
            if isinstance(value, Stage):
                found[name] = value
            else:
                found |= {f"{name}_{key}": each for key, each in _stages(value).items()}
        return found

    @property
    def shown_layer(self) -> int | None:
        """The layer that progress, logs and curves name."""
        return getattr(self, "layer", None)


def unhashed(default: Any = None) -> Any:
    """A field that cannot change the result, such as a name that is only shown."""
    return field(default=default, metadata={"unhashed": True}, compare=False)


def _hashed(stage: Stage[Any]) -> Iterator[tuple[str, Any]]:
    for each in dataclasses.fields(stage):
        if not each.metadata.get("unhashed"):
            yield each.name, getattr(stage, each.name)


def _stages(value: Any) -> dict[str, Stage[Any]]:
    """The stages of a tuple (by place) or a mapping (by key); empty for anything else."""
    if isinstance(value, tuple):
        items: dict[str, Any] = {str(i): each for i, each in enumerate(value)}
    elif isinstance(value, Mapping):
        items = {str(key): each for key, each in value.items()}
    else:
        return {}
    return items if items and all(isinstance(each, Stage) for each in items.values()) else {}


def canonical(value: Any, where: str) -> Any:
    """`value` as JSON that is equal for equal values. Raises TypeError, naming `where`, for what
    must not be hashed: paths, handles inside other values, NaN, other objects."""
    finite = isinstance(value, float) and math.isfinite(value)
    if value is None or isinstance(value, bool | int | str) or finite:
        return value
    if isinstance(value, list | tuple):
        return [canonical(each, f"{where}[{i}]") for i, each in enumerate(value)]
    if isinstance(value, Mapping):
        return {str(key): canonical(each, f"{where}.{key}") for key, each in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type | Stage | Handle):
        names = [each.name for each in dataclasses.fields(value)]
        return {name: canonical(getattr(value, name), f"{where}.{name}") for name in names}
    raise TypeError(f"{where}: {type(value).__name__} cannot be hashed; give values or a parent")


@dataclass(frozen=True)
class Given(Stage[Record]):
    """An artifact, or a folder like one, that exists already. It stands in for a stage."""

    name = "given"
    version = 1
    record = Record

    folder: Path = unhashed()
    known_as: str = ""
    """Its fingerprint."""

    @property
    def fingerprint(self) -> str:
        return self.known_as

    @property
    def parents(self) -> dict[str, Stage[Any]]:
        return {}


@dataclass(frozen=True)
class Job:
    """What one computation may touch besides the fields of its stage."""

    stage: Stage[Any]
    out: Path
    """The artifact's folder while it is made."""
    runtime: Runtime
    folders: Mapping[str, Path]
    """Fingerprint -> folder of each parent."""

    @property
    def scratch(self) -> Path:
        """For checkpoints: found again after a kill, no part of the artifact."""
        return scratch_beside(self.out)

    def path(self, parent: Stage[Any]) -> Path:
        """Folder of a parent's artifact. Raises KeyError for a stage that is not a parent."""
        return self.folders[parent.fingerprint]

    def model(self, parent: Stage[Any]) -> Path:
        """The checkpoint in a parent's artifact."""
        return self.path(parent) / "model"

    def use(self, handle: Handle[T]) -> T:
        """Opens a handle of the stage. Raises KeyError for one that is not a field of it."""
        if handle.identity not in self.stage.recipe.identity.values():
            raise KeyError(f"{handle.identity} is no field of stage {self.stage.name}")
        return self.runtime.use(handle)

    def tracked(self) -> AbstractContextManager[Any]:
        """The stage's logger, finished at the end of the block."""
        return self.runtime.tracker(self.stage.name, self.stage.shown_layer)
