"""Configuration: `schema` holds one dataclass per YAML group, `checks` what cannot work, `convert`
the way from YAML to them.

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
from interp_by_construction.config.fingerprint import NEUTRAL, fingerprinted
from interp_by_construction.config.schema import (
    NOT_IDENTITY,
    SPLITS,
    AlignConfig,
    AuditConfig,
    BenchConfig,
    CollectConfig,
    Config,
    ContinueConfig,
    DataConfig,
    DictionaryConfig,
    EvaluateConfig,
    FreeConfig,
    FunctionConfig,
    LabelConfig,
    LabelerConfig,
    LoggerConfig,
    ModelConfig,
    NodesConfig,
    PathsConfig,
    ScoresConfig,
    SimulateConfig,
    SubjectConfig,
    TrainerConfig,
    TriggerConfig,
    WorkConfig,
)

__all__ = [
    "AlignConfig",
    "AuditConfig",
    "BenchConfig",
    "CollectConfig",
    "Config",
    "ContinueConfig",
    "DataConfig",
    "DictionaryConfig",
    "EvaluateConfig",
    "FreeConfig",
    "FunctionConfig",
    "LabelConfig",
    "LabelerConfig",
    "LoggerConfig",
    "ModelConfig",
    "NEUTRAL",
    "NOT_IDENTITY",
    "NodesConfig",
    "PathsConfig",
    "SPLITS",
    "ScoresConfig",
    "SimulateConfig",
    "SubjectConfig",
    "TrainerConfig",
    "TriggerConfig",
    "WorkConfig",
    "check",
    "compose",
    "conf_dir",
    "fingerprinted",
    "from_dict",
    "from_saved",
    "identity",
    "requested_layers",
    "to_dict",
]
