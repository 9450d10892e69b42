"""audit: text on which label and node disagree (`scoring.audit`). Top-activating examples cannot
show it; one has to look for it.

Both for the model before alignment and for the aligned one. Aligned nodes are frozen when the layer
is done, so that the model right after alignment stands for the final one. Labels that are not final
yet are audited in the same way, on the label split, and the cases serve to revise them
(`labelling.audit_cases`). No text of the score split is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from interp_by_construction.config import AuditConfig
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.engine.rows import write_rows
from interp_by_construction.scoring.audit import AuditedLabels, audit, simulated
from interp_by_construction.scoring.hotflip import Simulate
from interp_by_construction.subject.interventions import Simulated
from interp_by_construction.subject.load import load_subject
from interp_by_construction.subject.nodes import AlignedNodes

SPLIT = "select"


def run(
    models: Mapping[str, Path],
    corpus: Path,
    calibrated: Simulated,
    aligned: AlignedNodes,
    simulate: Simulate,
    cfg: AuditConfig,
    batch_size: int,
    seed: int,
    out: Path,
    device: Any,
) -> dict[str, Any]:
    """models: moment (before, final) -> model directory; calibrated: simulations of the simulate
    split.

    Writes `audit.jsonl`, one case per line (`scoring.audit.Case`). Returns rates and the outcome of
    the search per moment.
    """
    passage = Passage.of_split(corpus, SPLIT, n_tokens=cfg.n_tokens)
    metrics: dict[str, Any] = {
        "layer": aligned.layer,
        "n_nodes": len(aligned.nodes),
        "n_tokens": int(passage.is_text.sum()),
        "threshold": cfg.threshold,
        **dict.fromkeys(models),
    }
    rows: list[dict[str, Any]] = []
    if len(aligned.nodes):
        said = simulated(passage, simulate, f"audit layer {aligned.layer}: simulate")
        labels = AuditedLabels(aligned, simulate, calibrated, said)
        for moment, path in models.items():
            model: Any = load_subject(path)
            cases, record = audit(model.to(device), labels, cfg, batch_size, seed, moment)
            rows += [case.row(moment) for case in cases]
            metrics[moment] = asdict(record)
    write_rows(out / "audit.jsonl", rows)
    return metrics
