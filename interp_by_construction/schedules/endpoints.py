"""Asks all endpoints that a run is going to need, before anything is computed or paid for."""

from __future__ import annotations

from interp_by_construction.config import Config
from interp_by_construction.engine.runtime import Runtime
from interp_by_construction.llm.handle import LanguageModel
from interp_by_construction.schedules.outlook import Outlook
from interp_by_construction.stages.judge import Judge


def check_endpoints(cfg: Config, ahead: Outlook, runtime: Runtime) -> None:
    """Raises LabelerError for an endpoint that is dead, refuses the key, serves another model, or
    does not give the logits of digits where they will be needed. Managed servers are not asked:
    they start when they are needed."""
    stages = [each.stage for each in ahead.missing.values() if ahead.asks(each.stage)]
    kinds = {kind for stage in stages for kind in ahead.asked[stage.fingerprint]}
    if kinds and cfg.labeler.backend == "endpoint":
        runtime.use(LanguageModel(cfg.labeler)).check(sorted(kinds))
    judge = next((each.judge for each in stages if isinstance(each, Judge) and each.judge), None)
    if judge is not None and judge.cfg.backend == "endpoint":
        runtime.use(judge).check(["classify"])
