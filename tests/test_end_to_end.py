"""The loop with nothing fake: real vLLM servers, the embedded instruct model, a very small
budget."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_run import SMALL
from test_cli import ibc


@pytest.mark.slow
def test_run_verify_export_simulate_with_real_vllm(tmp_path: Path) -> None:
    run = ibc(
        "run",
        *SMALL,
        "layer=1",
        "run=real",
        "logger=wandb",
        "label.n_contexts=0",
        # Fewer tokens for the language model, which is slow on processors without bfloat16.
        "label.select_tokens=64",
        "simulate.n_fit_tokens=64",
        "simulate.n_score_tokens=64",
        "simulate.reliability_tokens=0",
        "scores.enabled=true",
        "scores.detection_nodes=2",
        "scores.n_top=2",
        "scores.n_random=2",
        cwd=tmp_path,
        timeout=900,
    )
    assert run.returncode == 0, run.stderr
    assert "simulation score" in run.stdout and "tax" in run.stdout
    summary = json.loads((tmp_path / "runs" / "real" / "summary.json").read_text())
    assert summary["labeler"] == {"model": "smollm2", "backend": "vllm"}
    assert summary["invariants"] == {"frozen_identical": True, "splits_disjoint": True}
    assert summary["layers"][0]["n_distinct_labels"] == summary["layers"][0]["n_aligned"]
    assert list((tmp_path / "runs" / "real" / "logs").rglob("offline-run-*")), (
        "W&B writes offline runs"
    )

    verified = ibc("verify", "real", cwd=tmp_path)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    weights = next((tmp_path / "store" / "align").glob("*/model/model.safetensors"))
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(bytes(content))
    broken = ibc("verify", "real", cwd=tmp_path)
    assert broken.returncode == 1 and str(weights) in broken.stdout

    exported = ibc("export", "real", "at=final", "layer=1", "output=model", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    status = ibc("status", "real", cwd=tmp_path)
    assert status.returncode == 0 and "complete" in status.stdout
