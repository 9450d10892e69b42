"""The configuration: one dataclass per YAML group, in files by what they configure (`text`,
`labels`, `training`, `measures`, `run`); `checks` for what cannot work together; `convert` for the
way from YAML to them.

Hydra composes the YAML files of `conf/`. Below the command line nobody sees a DictConfig. Nothing
here imports torch or transformers, so that `ibc --help` and `ibc status` stay fast.
"""

from interp_by_construction.config.checks import check, requested_layers
from interp_by_construction.config.convert import (
    compose,
    conf_dir,
    from_dict,
    from_saved,
    identity,
    to_dict,
)
from interp_by_construction.config.group import (
    Group,
    only,
)
from interp_by_construction.config.labels import (
    AskConfig,
    ChoiceConfig,
    CollectConfig,
    LabelConfig,
    LabelerConfig,
    MatchConfig,
    NodesConfig,
    PoolConfig,
    SelectionConfig,
    ServerConfig,
    SimulateConfig,
    SimulatorConfig,
    TextAmounts,
)
from interp_by_construction.config.measures import (
    AuditConfig,
    BenchConfig,
    EvaluateConfig,
    FunctionConfig,
    ScoresConfig,
    ScoringConfig,
    SearchConfig,
    WorkConfig,
)
from interp_by_construction.config.removed import refuse_typed
from interp_by_construction.config.run import (
    NOT_IDENTITY,
    Config,
    LoggerConfig,
    PathsConfig,
)
from interp_by_construction.config.text import (
    SPLITS,
    AdaptConfig,
    CorpusConfig,
    DataConfig,
    ModelConfig,
    PlantConfig,
    SubjectConfig,
    TinyConfig,
    TriggerConfig,
)
from interp_by_construction.config.training import (
    AlignConfig,
    AlignKnobs,
    ContinueConfig,
    DictionaryConfig,
    FreeConfig,
    OptimizerConfig,
    Pace,
    RuntimeConfig,
    TrainerConfig,
)

__all__ = [
    "NOT_IDENTITY",
    "SPLITS",
    "AdaptConfig",
    "AlignConfig",
    "AlignKnobs",
    "AskConfig",
    "AuditConfig",
    "BenchConfig",
    "ChoiceConfig",
    "CollectConfig",
    "Config",
    "ContinueConfig",
    "CorpusConfig",
    "DataConfig",
    "DictionaryConfig",
    "EvaluateConfig",
    "FreeConfig",
    "FunctionConfig",
    "Group",
    "LabelConfig",
    "LabelerConfig",
    "LoggerConfig",
    "MatchConfig",
    "ModelConfig",
    "NodesConfig",
    "OptimizerConfig",
    "Pace",
    "PathsConfig",
    "PlantConfig",
    "PoolConfig",
    "RuntimeConfig",
    "ScoresConfig",
    "ScoringConfig",
    "SearchConfig",
    "SelectionConfig",
    "ServerConfig",
    "SimulateConfig",
    "SimulatorConfig",
    "SubjectConfig",
    "TextAmounts",
    "TinyConfig",
    "TrainerConfig",
    "TriggerConfig",
    "WorkConfig",
    "check",
    "compose",
    "conf_dir",
    "from_dict",
    "from_saved",
    "identity",
    "only",
    "refuse_typed",
    "requested_layers",
    "to_dict",
]
