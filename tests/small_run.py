"""The whole loop in seconds: a small subject, a fake labeler behind the real HTTP interface."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fake_server import FakeServer

from interp_by_construction.config import Config, compose
from interp_by_construction.engine.run_directory import RunDirectory

SMALL = [
    "layer=[1,2]",
    "logger=none",
    "trainer.threads=1",
    "trainer.helper=never",
    "data.n_documents=450",
    "data.vocab_size=512",
    "subject.pretrain_steps=6",
    "subject.d_mlp=32",
    "subject.d_model=16",
    "nodes.count=4",
    "simulate.n_fit_tokens=128",
    "simulate.n_score_tokens=128",
    "simulate.excerpt_tokens=32",
    "simulate.max_align_tokens=640",
    "simulate.encoder_layers=[1]",
    "align.local_steps=3",
    "align.steps=3",
    "continue.steps=3",
    "align.batch_size=2",
    "continue.batch_size=2",
    "evaluate.max_test_blocks=4",
    "evaluate.max_truth_tokens=2048",
    "evaluate.n_bootstrap=50",
    "label.n_candidates=2",
    "collect.max_blocks=16",
    "audit.n_tokens=640",
    "audit.n_nodes=2",
    "audit.n_steps=1",
    "audit.n_candidates=2",
    "audit.window=8",
    "function.n_clamp_tokens=128",
    "simulate.n_head_score_tokens=1024",
    "label.head_select_tokens=640",
    "scores.n_select_tokens=1024",
    # Judging takes a quarter of a run; tests/test_judge.py does.
    "scores.enabled=false",
    "work.removed=false",
]

QUICK = (
    "label.select_tokens=0",
    "simulate.reliability_tokens=0",
    "simulate.n_fit_tokens=64",
    "simulate.n_score_tokens=64",
)
"""For runs that are about training. With equal settings they have text, labels and targets in
common (`Stock.link`)."""


def overrides(server: FakeServer, root: Path, *more: str) -> list[str]:
    """Command-line overrides of a run below `root`."""
    endpoint = [
        "labeler=endpoint",
        f"labeler.url={server.url}",
        f"labeler.classify_url={server.url}",
    ]
    return [*SMALL, *endpoint, f"paths.root={root}", "run=small", *more]


def config(server: FakeServer, root: Path, *more: str) -> Config:
    return compose(overrides(server, root, *more))


def store_hashes(root: Path) -> dict[str, str]:
    """Relative path -> sha256 of every artifact file but the manifests, which hold seconds."""
    store = root / "store"
    files = (
        f
        for f in store.rglob("*")
        if f.is_file() and f.name != "manifest.json" and not f.name.startswith(".")
    )
    return {
        f.relative_to(store).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest()
        for f in files
        if len(f.relative_to(store).parts) > 2 and not f.relative_to(store).parts[1].startswith(".")
    }


def matched(server: FakeServer, root: Path, head: Path, *more: str) -> Config:
    """The same with a head, which also deals out the labels. A head called `second.safetensors`
    beside it scores, too."""
    second = head.with_name("second.safetensors")
    own = (
        "simulate.simulator=head",
        f"simulate.head={head}",
        "nodes.assign=match",
        "simulate.n_label_tokens=640",
        *([f"simulate.second_head={second}"] if second.is_file() else []),
    )
    return config(server, root, *own, "label.general_pool=false", *more)


def run_hashes(run: RunDirectory) -> dict[str, str]:
    """The same of the artifacts of one run."""
    folders = [run.store.path(*each) for each in run.artifacts]
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    return {
        file.relative_to(run.store.root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.name != "manifest.json"
    }
