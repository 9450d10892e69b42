"""Speed and size of `ibc report` for a layer of 3,000 labelled nodes.

    python scripts/bench_report.py [--nodes 3000] [--keep DIR]

The targets are 60 s, and a first page under 2 MB. The pipeline itself makes the run, with a labeler
that answers nonsense and a head of random weights: what is measured depends on the number of nodes
and on the amount of text, not on what the labels say.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=3000)
    parser.add_argument("--keep", type=Path, help="leave run, store and report there")
    arguments = parser.parse_args()
    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True, exist_ok=True)
        bench(arguments.nodes, arguments.keep.resolve())
        return
    with tempfile.TemporaryDirectory() as directory:
        bench(arguments.nodes, Path(directory))


def bench(n_nodes: int, root: Path) -> None:
    from interp_by_construction.report.html import write_report

    start = time.monotonic()
    make_run(n_nodes, root)
    print(f"made a run of {n_nodes} labelled nodes in {time.monotonic() - start:.0f} s")
    for attempt in ("first report", "again, viewer artifact found"):
        start = time.monotonic()
        first = write_report(root, "bench")
        print(f"{attempt}: {time.monotonic() - start:.1f} s")
    pages = list(first.parent.rglob("*.html"))
    total = sum(file.stat().st_size for file in first.parent.rglob("*") if file.is_file())
    layer = next((first.parent / "layers").glob("*.html"))
    nodes = [page.stat().st_size for page in (first.parent / "nodes").rglob("*.html")]
    print(
        f"first page {first.stat().st_size:,} bytes; layer page {layer.stat().st_size:,}; a node {sum(nodes) // len(nodes):,}"
    )
    print(f"{len(pages):,} pages, {total:,} bytes in all")


def make_run(n_nodes: int, root: Path) -> None:
    from fake_server import FakeServer
    from random_head import write_random_head
    from small_run import config

    from interp_by_construction import pipeline

    head = write_random_head(root / "head.safetensors")
    with FakeServer() as server:
        more = (
            "run=bench",
            "layer=1",
            f"subject.d_mlp={n_nodes}",
            f"nodes.count={n_nodes}",
            "simulate.simulator=head",
            f"simulate.head={head}",
            "simulate.n_head_score_tokens=8192",
            "simulate.n_score_tokens=64",
            "label.n_candidates=1",
            "label.head_select_tokens=0",
            "label.n_contexts=0",
            "data.n_documents=3000",
            "scores.enabled=false",
        )
        pipeline.run(config(server, root, *more))


if __name__ == "__main__":
    main()
