"""collect: what the nodes of a layer do on the label split, as evidence for the labeler."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

from safetensors.torch import save_file

from interp_by_construction.config import CollectConfig, Config, SelectionConfig, only
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.engine.effort import Effort, Sizes
from interp_by_construction.engine.records import Record
from interp_by_construction.engine.rows import write_rows
from interp_by_construction.engine.stage import Job, Stage
from interp_by_construction.labelling.evidence import check_count, gather_evidence, of_model
from interp_by_construction.stages import load_model
from interp_by_construction.subject.families import d_mlp


@dataclass(frozen=True)
class CollectRecord(Record):
    """How much was looked at."""

    n_nodes: int
    """Nodes that were chosen."""
    n_opposite_poles: int
    """Of these, nodes that are also shown from their other side."""
    n_tokens: int
    n_dead: int
    """Nodes of the whole layer whose activation does not vary."""


@dataclass(frozen=True)
class Collect(Stage[CollectRecord]):
    """Collects evidence about the nodes that are chosen in one layer.

    Writes `nodes.jsonl` (the chosen nodes, by their dominant poles), `opposites.jsonl` (their other
    poles, where asked for) and `moments.safetensors` (mean and variance of the whole layer, float64
    [node]).
    """

    name = "collect"
    version = 3
    record = CollectRecord
    says = "finds the text that activates each neuron"

    corpus: Stage[Any]
    model: Stage[Any]
    layer: int
    evidence: CollectConfig
    nodes: SelectionConfig
    seed: int

    @classmethod
    def of(cls, cfg: Config, corpus: Stage[Any], model: Stage[Any], layer: int) -> Self:
        """model: the one before the layer is aligned."""
        nodes = only(SelectionConfig, cfg.nodes)
        return cls(corpus, model, layer, cfg.collect, nodes, cfg.seed)

    def effort(self, sizes: Sizes) -> Effort:
        return Effort(read=sizes.of_split("label", self.evidence.max_blocks), seconds=1)

    def compute(self, job: Job) -> CollectRecord:
        """Raises ConfigError where more nodes are asked for than there are."""
        cfg, model = self.evidence, load_model(job, self.model)
        check_count(self.nodes, self.layer, d_mlp(model, self.layer))
        found = gather_evidence(
            of_model(model, self.layer, cfg.batch_size),
            Passage.of_split(job.path(self.corpus), "label", n_blocks=cfg.max_blocks, first=True),
            self.layer,
            cfg,
            self.nodes,
            self.seed,
        )
        for file, nodes in (("nodes", found.nodes), ("opposites", found.opposites)):
            write_rows(job.out / f"{file}.jsonl", (asdict(node) for node in nodes))
        moments = {"mean": found.mean.clone(), "variance": found.variance.clone()}
        save_file(moments, job.out / "moments.safetensors")
        n_dead = int((found.variance == 0).sum())
        return CollectRecord(len(found.nodes), len(found.opposites), found.n_tokens, n_dead)
