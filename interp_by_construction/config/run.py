"""The whole configuration, and which of its fields may differ when a run goes on."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from interp_by_construction.config.group import Group, at_least, is_plain_name, require
from interp_by_construction.config.labels import (
    CollectConfig,
    LabelConfig,
    LabelerConfig,
    NodesConfig,
    ServerConfig,
    SimulateConfig,
)
from interp_by_construction.config.measures import (
    AuditConfig,
    BenchConfig,
    EvaluateConfig,
    FunctionConfig,
    ScoresConfig,
    WorkConfig,
)
from interp_by_construction.config.paths import user_path
from interp_by_construction.config.text import (
    DataConfig,
    ModelConfig,
    SubjectConfig,
    TriggerConfig,
)
from interp_by_construction.config.training import (
    AlignConfig,
    ContinueConfig,
    DictionaryConfig,
    FreeConfig,
    RuntimeConfig,
    TrainerConfig,
)


@dataclass(frozen=True)
class PathsConfig(Group):
    """Where everything is written."""

    root: str = "."
    """Directory that holds `runs/` and `store/`."""


@dataclass(frozen=True)
class LoggerConfig(Group):
    """Where curves and tables go, beside the store."""

    kind: Literal["wandb", "csv", "none"] = "wandb"
    """`wandb` is Weights & Biases, `csv` files in the run's directory, `none` nothing."""
    mode: Literal["offline", "online"] = "offline"
    """W&B mode (kind wandb)."""
    project: str = "interp-by-construction"
    """W&B project."""


@dataclass(frozen=True)
class Config(Group):
    """The whole configuration."""

    run: str | None = None
    """Name of the run and of its folder below runs/. null takes the experiment's name, else
    `default`."""
    experiment_name: str | None = None
    """Set by the experiment files."""
    layer: Any = "all"
    """Layer to label and align, counted from 0: a number, a list such as [1,2], or all."""
    start_layer: int | None = None
    """Lowest aligned layer. null takes the lowest layer asked for. Everything below is frozen
    unlabelled."""
    schedule: Literal["sequential", "joint"] = "sequential"
    """Order of training: layer by layer, or all layers at once. `sequential`: label, align, freeze
    and continue layer by layer. `joint`: label all layers on the original subject, align them at
    once, then freeze them bottom-up in short steps. Both take the same number of steps."""
    seed: int = at_least(0, 0)
    """Seed of everything random in the run."""
    paths: PathsConfig = field(default_factory=PathsConfig)
    data: DataConfig = field(default_factory=DataConfig)
    subject: SubjectConfig = field(default_factory=SubjectConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    nodes: NodesConfig = field(default_factory=NodesConfig)
    free: FreeConfig = field(default_factory=FreeConfig)
    dictionary: DictionaryConfig = field(default_factory=DictionaryConfig)
    labeler: LabelerConfig = field(default_factory=LabelerConfig)
    collect: CollectConfig = field(default_factory=CollectConfig)
    label: LabelConfig = field(default_factory=LabelConfig)
    simulate: SimulateConfig = field(default_factory=SimulateConfig)
    align: AlignConfig = field(default_factory=AlignConfig)
    continue_: ContinueConfig = field(default_factory=ContinueConfig)
    """Key `continue` in YAML and on the command line."""
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    function: FunctionConfig = field(default_factory=FunctionConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)
    bench: BenchConfig = field(default_factory=BenchConfig)
    scores: ScoresConfig = field(default_factory=ScoresConfig)
    work: WorkConfig = field(default_factory=WorkConfig)
    trigger: TriggerConfig = field(default_factory=TriggerConfig)
    judge: LabelerConfig | None = None
    """The language model that judges. null for the labeler itself, whose scores are then marked as
    self-judged."""
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)

    @property
    def run_name(self) -> str:
        """Name of the run: its own, else the experiment's."""
        return self.run or self.experiment_name or "default"

    @property
    def runs_dir(self) -> Path:
        """Absolute directory of all runs."""
        return user_path(self.paths.root, "paths.root").resolve() / "runs"

    @property
    def store_dir(self) -> Path:
        """Absolute directory of all artifacts."""
        return user_path(self.paths.root, "paths.root").resolve() / "store"

    def check(self, name: str = "") -> None:
        super().check(name)
        for field_name in ("run", "experiment_name"):
            given = getattr(self, field_name)
            require(given is None or is_plain_name(given), field_name, given, "give a plain name")


NOT_IDENTITY = (
    "run",
    "layer",
    "start_layer",
    "experiment_name",
    "paths",
    "logger",
    "bench",
    *(f"trainer.{each.name}" for each in fields(RuntimeConfig)),
    *(f"{group}.{each.name}" for group in ("labeler", "judge") for each in fields(ServerConfig)),
)
"""Fields and groups that may differ when a run name is used again: `layer`, so that a run grows,
and all that cannot change a result."""
