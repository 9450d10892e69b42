"""The configuration: one dataclass per YAML group, in files by what they configure (`text`,
`labels`, `training`, `measures`, `run`); `checks` for what cannot work together; `convert` for the
way from YAML to them.

Hydra composes the YAML files of `conf/`. Below the command line nobody sees a DictConfig. Nothing
here imports torch or transformers, so that `ibc --help` and `ibc status` stay fast.
"""

from interp_by_construction.config.checks import refuse_typed, requested_layers
from interp_by_construction.config.convert import (
    compose,
    conf_dir,
    from_dict,
    from_saved,
    identity,
    register_resolvers,
    to_dict,
)
from interp_by_construction.config.group import Group, only
from interp_by_construction.config.labels import (
    AskConfig,
    CollectConfig,
    LabelConfig,
    LabelerConfig,
    NodesConfig,
    SelectionConfig,
    SimulateConfig,
    TextAmounts,
)
from interp_by_construction.config.measures import (
    AuditConfig,
    FunctionConfig,
    ScoringConfig,
    SearchConfig,
)
from interp_by_construction.config.paths import user_path
from interp_by_construction.config.run import NOT_IDENTITY, Config, LoggerConfig
from interp_by_construction.config.text import (
    SPLITS,
    AdaptConfig,
    CorpusConfig,
    DataConfig,
    ModelConfig,
    PlantConfig,
    SubjectConfig,
    TinyConfig,
)
from interp_by_construction.config.training import (
    AlignConfig,
    AlignKnobs,
    ContinueConfig,
    DictionaryConfig,
    OptimizerConfig,
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
    "CollectConfig",
    "Config",
    "ContinueConfig",
    "CorpusConfig",
    "DataConfig",
    "DictionaryConfig",
    "FunctionConfig",
    "Group",
    "LabelConfig",
    "LabelerConfig",
    "LoggerConfig",
    "ModelConfig",
    "NodesConfig",
    "OptimizerConfig",
    "PlantConfig",
    "ScoringConfig",
    "SearchConfig",
    "SelectionConfig",
    "SimulateConfig",
    "SubjectConfig",
    "TextAmounts",
    "TinyConfig",
    "TrainerConfig",
    "compose",
    "conf_dir",
    "from_dict",
    "from_saved",
    "identity",
    "only",
    "refuse_typed",
    "register_resolvers",
    "requested_layers",
    "to_dict",
    "user_path",
]
