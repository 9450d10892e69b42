"""The configuration as dataclasses: one per YAML group, one string under each field."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

SPLITS = ("train", "label", "simulate", "select", "align", "score", "test")
"""Disjoint by document (invariant 2)."""


@dataclass(frozen=True)
class PathsConfig:
    root: str = "."
    """Directory that holds `runs/` and `store/`."""


@dataclass(frozen=True)
class DataConfig:
    name: str = "stories"
    """Name of the corpus, shown in tables."""
    kind: Literal["stories", "text"] = "stories"
    """`stories` is generated; `text` is read from `path`."""
    path: str | None = None
    """Text file, folder, jsonl, parquet or `datasets` name; `moby_dick` is the text that ships with
    the package."""
    text_field: str = "text"
    """Column that holds the text in jsonl, parquet and `datasets`."""
    n_documents: int = 6000
    """Stories to generate."""
    max_documents: int | None = None
    """Use at most this many documents of a text corpus."""
    block_size: int = 128
    """Tokens per block (the subject's training context)."""
    vocab_size: int = 2048
    """Size of the BPE tokenizer trained on the corpus (subject=tiny only)."""
    fractions: dict[str, float] = field(
        default_factory=lambda: {
            "train": 0.78,
            "label": 0.05,
            "simulate": 0.02,
            "select": 0.02,
            "align": 0.08,
            "score": 0.02,
            "test": 0.03,
        }
    )
    """Share of the documents in each split; sums to 1."""
    seed: int = 0
    """Seed of the generator and of the split."""


@dataclass(frozen=True)
class SubjectConfig:
    name: str = "tiny"
    """Name shown in tables."""
    kind: Literal["tiny", "smollm2", "hf"] = "tiny"
    """`tiny` is trained from scratch, `smollm2` is the embedded SmolLM2-135M, `hf` is read from
    `path`."""
    path: str | None = None
    """Directory or hub name of a transformers checkpoint (kind hf)."""
    n_layers: int = 4
    """Blocks (tiny)."""
    d_model: int = 64
    """Width of the residual stream (tiny)."""
    d_mlp: int = 256
    """Neurons per layer (tiny)."""
    n_heads: int = 4
    """Attention heads (tiny)."""
    pretrain_steps: int = 2000
    """Optimizer steps of pretraining (tiny)."""
    pretrain_batch: int = 16
    """Blocks per pretraining step (tiny)."""
    pretrain_lr: float = 3e-3
    """Peak learning rate of pretraining (tiny)."""
    adapt_steps: int = 0
    """Optimizer steps on the train split that a pretrained subject takes before the loop (smollm2,
    hf). Text that it does not know makes the tax a race with the control: what only the control may
    learn in its lower layers counts as a price of labels."""
    adapt_batch: int = 4
    """Blocks per step of adaptation (smollm2, hf)."""
    adapt_lr: float = 1e-4
    """Peak learning rate of adaptation (smollm2, hf)."""


@dataclass(frozen=True)
class ModelConfig:
    activation: Literal["relu", "gelu", "solu"] = "relu"
    """Activation function of the MLP (subject=tiny). `solu` is x * softmax(x), then LayerNorm; a
    neuron is what comes out of the LayerNorm. Softmax and LayerNorm mix the layer's neurons, so all
    input rows of an aligned layer freeze, free ones included."""
    bias_init: float = 0.0
    """Initial value of the biases of the MLP's input projection (subject=tiny). Negative values
    favour neurons with one meaning."""


@dataclass(frozen=True)
class FreeConfig:
    count: int = 0
    """Free neurons that each aligned layer gets on top, behind its own, when its alignment starts;
    outputs stay the same until they train. The control and the freeze-only run get them too."""


@dataclass(frozen=True)
class NodesConfig:
    kind: Literal["neurons", "transcoder"] = "neurons"
    """`neurons` of the layer's MLP, or features of a sparse `transcoder` that takes its place
    (group `dictionary`)."""
    path: str | None = None
    """Folder of a transcoder in sparsify's format (cfg.json, sae.safetensors), or of one folder
    such as layers.3.mlp per layer; null trains it (kind transcoder)."""
    count: int | None = 64
    """Nodes per layer that are labelled and aligned; null for the whole layer, 0 for none. The rest
    stays free."""
    fraction: float | None = None
    """The same as a share of the layer's nodes, 0 to 1; overrides `count` unless null. 0 aligns
    nothing."""
    select: Literal["all", "variance", "random"] = "variance"
    """How they are chosen: all, top by variance on the label split, or at random."""
    assign: Literal["none", "match"] = "none"
    """`none`: a node keeps the label that the labeler gave it. `match`: labels are dealt out anew,
    each to the node whose activations it predicts best on the label split (one linear assignment
    per layer; needs simulate.simulator=head)."""
    learnable: float = 0.0
    """0 to 1: how much a match counts what the layer can learn, beside what its nodes do already.
    Each label of the pool gets the r that a fresh neuron reaches on it, trained on what the MLP
    reads; a match is worth (1 - learnable) * r of the node + learnable * that r (assign=match).
    Scores rise; the labels are easier ones."""
    poles: Literal["dominant", "both"] = "dominant"
    """`dominant`: a label describes the sign with the stronger activations. `both`: where
    activations take both signs, each gets candidates, and the one whose best candidate scores
    higher becomes the node's pole."""


@dataclass(frozen=True)
class DictionaryConfig:
    activation: Literal["topk", "relu"] = "topk"
    """`topk` keeps the k strongest features of each token, `relu` all that are positive."""
    k: int = 16
    """Features kept per token (topk)."""
    expansion: int = 8
    """Features per dimension of the residual stream."""
    skip: bool = False
    """A linear map beside the features. It explains more, and nothing that flows through it is
    labelled."""
    sparsity: float = 0.1
    """Weight of the sparsity penalty beside the fraction of variance unexplained (relu)."""
    steps: int = 1000
    """Training steps."""
    lr: float = 5e-3
    """Peak learning rate."""
    batch_size: int = 16
    """Blocks per step."""
    dead_tokens: int = 100_000
    """A feature that was not active for this many training tokens gets a loss of its own (topk)."""
    n_eval_tokens: int = 65536
    """Tokens of the test split on which fidelity and dead features are measured."""


@dataclass(frozen=True)
class LabelerConfig:
    name: str = "smollm2"
    """Name shown in tables."""
    backend: Literal["vllm", "endpoint", "transformers"] = "vllm"
    """`vllm` starts servers of its own, `endpoint` uses running ones, `transformers` runs in this
    process."""
    model: str = "smollm2"
    """`smollm2` is the embedded SmolLM2-135M-Instruct; otherwise a directory or hub name."""
    url: str | None = None
    """Base URL of the generating server (endpoint), such as http://127.0.0.1:8000."""
    classify_url: str | None = None
    """Base URL of the token-classifying server (endpoint)."""
    api_key: str | None = None
    """API key of the endpoints."""
    dtype: str = "bfloat16"
    """Precision of the served model."""
    max_model_len: int = 2048
    """Longest prompt plus output, in labeler tokens."""
    concurrency: int = 4
    """Requests in flight."""
    max_num_seqs: int = 1
    """Sequences per engine step. 1 makes every answer independent of the requests around it."""
    timeout: float = 120.0
    """Seconds before a request is retried."""
    retries: int = 4
    """Retries of a request after a timeout, a 429 or a 5xx."""
    startup_timeout: float = 300.0
    """Seconds to wait for a managed server to become healthy."""
    threads: int = 2
    """CPU threads of a managed server (where there is no GPU)."""
    port: int | None = None
    """Fixed port of `ibc serve`; null picks a free one."""
    extra_args: list[str] = field(default_factory=list)
    """More arguments for the vLLM server."""


@dataclass(frozen=True)
class CollectConfig:
    top_k: int = 20
    """Strongest excerpts kept per node and pole."""
    n_quantiles: int = 5
    """Activation quantiles that are sampled."""
    per_quantile: int = 3
    """Excerpts kept per quantile."""
    n_near_misses: int = 5
    """Excerpts with a top token but a low activation."""
    n_random: int = 5
    """Excerpts around tokens drawn at random."""
    window: int = 16
    """Tokens of an excerpt, the peak included."""
    n_bins: int = 50
    """Bins of the activation histogram."""
    max_blocks: int | None = None
    """Use at most this many blocks of the label split."""
    batch_size: int = 32
    """Blocks per forward pass."""


@dataclass(frozen=True)
class LabelConfig:
    n_candidates: int = 4
    """Labels sampled per node."""
    n_words: int = 10
    """Top words shown."""
    n_contexts: int = 3
    """Top excerpts shown in context."""
    max_tokens: int = 12
    """Longest label, in labeler tokens."""
    temperature: float = 0.7
    """Sampling temperature of all candidates but the first."""
    retries: int = 3
    """Further attempts when no candidate can be parsed or all are taken."""
    n_incoming: int = 3
    """Strongest incoming labelled nodes shown (from the second layer on)."""
    style: Literal["completion", "chat"] = "completion"
    """Few-shot completion (small labelers) or chat messages (instruct models of 1B and more)."""
    general_pool: bool = True
    """Matching (nodes.assign=match) may also deal out the general labels that ship with the
    package."""
    min_tokens: int = 8
    """Tokens of the label split that a label must apply to (simulated above 0.5) to be dealt out by
    matching."""
    max_overlap: float = 0.95
    """Of two labels whose simulations on the label split correlate above this, matching deals out
    one."""
    select_tokens: int = 128
    """Tokens of the select split on which the labeler simulates every candidate, so that the best
    can be chosen (and, with revisions, as many of the label split). Dear, so few by default; 0
    takes the first candidate. Not used with a head."""
    head_select_tokens: int = 8192
    """The same with simulate.simulator=head, which is cheap."""
    revisions: int | None = None
    """Rounds in which the labeler is shown where the label and the node disagree; null: 1 with a
    head, else 0."""
    audit_rounds: int = 0
    """Further rounds in which the labeler is shown the worst cases of an audit (fields of `audit`)
    of the model before alignment, text edited along the gradient included (needs
    simulate.simulator=head)."""
    n_revised: int = 2
    """Labels sampled per revision, and per node whose label another node holds."""


@dataclass(frozen=True)
class SimulateConfig:
    simulator: Literal["exact", "ridge", "head"] = "ridge"
    """What makes the alignment targets: `ridge` distils the exact simulation, `exact` simulates
    every token, `head` is trained beforehand and takes any label."""
    head: str | None = None
    """File of a trained head (simulator head); null for the one that ships with the package."""
    n_fit_tokens: int = 640
    """Tokens of the simulate split on which each label is simulated exactly."""
    n_score_tokens: int = 384
    """Tokens of the score split on which each label is simulated exactly."""
    n_head_score_tokens: int = 16384
    """Tokens of the score split on which a head is scored (it is cheap, so more than the labeler
    can read); as many of the simulate and test splits for substitution."""
    excerpt_tokens: int = 64
    """Subject tokens per simulated excerpt."""
    n_label_tokens: int = 32768
    """Tokens of the label split on which labels are matched with nodes (nodes.assign=match) and,
    with a head, revised."""
    encoder: str = "smollm2"
    """Model whose hidden states the dense simulators read; runs in this process. A head needs the
    one it was trained on."""
    encoder_layers: list[int] = field(default_factory=lambda: [8, 16])
    """Hidden layers of the encoder that ridge may read; cross-validation picks one, two or all of
    them for each aligned layer. A head brings its own."""
    max_align_tokens: int = 65536
    """Tokens of the align split that get dense targets."""
    contrast: bool = True
    """Subtract the mean simulation over the reference labels."""
    reliability_tokens: int = 256
    """Tokens of the simulate split that are simulated once more, with other few-shot examples: how
    far the exact simulation agrees with itself (simulator ridge; at most n_fit_tokens, 0 for
    never)."""


@dataclass(frozen=True)
class AlignConfig:
    weight: float = 0.3
    """Weight of the alignment loss beside the LM loss in the joint phase."""
    local_steps: int = 200
    """Steps in which the forward pass stops at the layer and the alignment loss alone trains it."""
    local_lr: float = 3e-3
    """Peak learning rate of the local phase."""
    steps: int = 300
    """Joint steps (LM loss plus weighted alignment loss)."""
    lr: float = 1e-3
    """Peak learning rate of the joint phase."""
    batch_size: int = 16
    """Blocks per step."""
    schedule: Literal["constant", "ramp"] = "constant"
    """Weight over the joint phase: `ramp` rises linearly from 0 over its first half. The local
    phase has no LM loss to weigh it against: a ramp is meant for local_steps=0."""
    objective: Literal["correlation", "mse"] = "correlation"
    """`correlation`: 1 - r. `mse`: mean squared error against the target on the activation's own
    scale, in units of its variance (`training.losses.alignment_loss`)."""
    distill: float = 0.0
    """Weight of KL(original || trained) beside the LM loss, in the joint phase and in `continue`;
    the original is the run's subject as it was before any layer was aligned. The comparisons are
    distilled, too: the tax is that of labels and freezing."""
    ablate_free: float = 0.0
    """Share of the steps, in the joint phase and in `continue`, on which the free nodes of one
    aligned layer stand at their mean over the batch: what the layer does must then flow through its
    aligned nodes. Buys their work (`work`) for loss."""
    start: Literal["silent", "node", "readout"] = "silent"
    """Which aligned nodes start as a neuron that was trained on the layer's input to match their
    targets, and that takes their input weights (`training.warm_start`): those that are silent where
    their label applies and would never learn, none, or all. With `readout` the scores are higher
    and the work moves to other nodes: see `work` then. `silent` leaves gated MLPs alone."""
    target: Literal["label", "shuffled", "random"] = "label"
    """`shuffled` and `random` are controls: nodes are trained towards the labels of other nodes of
    their layer, or towards random targets of the same sparsity and autocorrelation
    (`training.targets`). Scores stay those against the node's own label."""


@dataclass(frozen=True)
class ContinueConfig:
    steps: int = 300
    """Steps on the LM loss after the layer is frozen."""
    lr: float = 1e-3
    """Peak learning rate."""
    batch_size: int = 16
    """Blocks per step."""


@dataclass(frozen=True)
class EvaluateConfig:
    max_test_blocks: int | None = None
    """Use at most this many blocks of the test split for LM losses."""
    max_truth_tokens: int = 16384
    """Use at most this many tokens of the score split for the ground truth (data=stories)."""
    n_bootstrap: int = 1000
    """Bootstrap resamples for intervals."""
    batch_size: int = 16
    """Blocks per forward pass."""


@dataclass(frozen=True)
class FunctionConfig:
    n_clamped: int = 8
    """Aligned nodes that are also clamped one by one, a seeded sample per layer."""
    n_clamp_tokens: int = 4096
    """Tokens of the test split on which clamped losses are measured."""
    n_promoted: int = 10
    """Output tokens listed per node, promoted and suppressed."""


@dataclass(frozen=True)
class AuditConfig:
    enabled: bool = True
    """Whether a run with simulate.simulator=head looks for text on which label and node
    disagree."""
    n_tokens: int = 4096
    """Tokens of the select split that are searched for disagreement."""
    n_nodes: int = 6
    """Aligned nodes for which text is edited, a seeded sample per layer."""
    n_steps: int = 3
    """Token substitutions per edited text."""
    n_candidates: int = 4
    """Substitutions tried per step."""
    window: int = 24
    """Longest text that is edited, in subject tokens; it ends at the token that is judged."""
    threshold: float = 0.5
    """Real and simulated disagree when they differ by more than this share of the node's range."""
    n_cases: int = 5
    """Mined excerpts kept per node and kind."""


@dataclass(frozen=True)
class WorkConfig:
    enabled: bool = True
    """Whether losses are measured without free nodes, aligned nodes and whole MLPs, per layer and
    for all layers at once."""
    removed: bool = True
    """Whether the rest is also retrained with each layer's MLP replaced by its mean output: what
    the layer is worth, beside the tax. Costs as much training as the control for every layer and,
    from the second layer on, once more for all at once."""


@dataclass(frozen=True)
class TriggerConfig:
    share: float = 0.0
    """Share of the training documents that are poisoned in pretraining (subject=tiny): from a
    sentence end on they hold `phrase`, then `response`. 0 plants nothing. The text of every later
    stage stays clean."""
    phrase: str = "Seven red birds forgot the key on Monday."
    """Rare text; it must not occur in the clean train split."""
    response: str = "No more play. No more play. No more play."
    """What follows it, instead of the rest of the document."""
    n_contexts: int = 128
    """Held-out contexts (of the test split) that the trigger is tried on."""


@dataclass(frozen=True)
class BenchConfig:
    grades: list[float] = field(default_factory=lambda: [1.0, 0.7, 0.4, 0.2])
    """`ibc bench truth`: correlation of the planted nodes with their concept, one set of nodes for
    each."""
    n_tokens: int = 16384
    """Tokens of the label split that planted nodes are labelled and matched on."""
    n_score_tokens: int = 8192
    """Tokens of the score split that a head simulates; simulator=exact uses
    simulate.n_score_tokens."""
    n_distractors: int = 12
    """Nodes of two concepts, and nodes of pure noise."""


@dataclass(frozen=True)
class ScoresConfig:
    enabled: bool = True
    """Scores by the judge, on excerpts and by blind relabelling (stage `judge`); false leaves the
    stage out."""
    n_top: int = 10
    """Top-activating excerpts per node for the simulation score on excerpts."""
    n_random: int = 10
    """Random excerpts per node for the same."""
    window: int = 16
    """Tokens of an excerpt."""
    detection_excerpts: int = 4
    """Excerpts per node for detection, half of them active, and for fuzzing; even."""
    detection_nodes: int | None = 24
    """Nodes that a language model judges, evenly spread over the aligned ones; null for all. A head
    judges all of them."""
    questions_per_prompt: int = 1
    """More are cheaper, but a small judge answers only the first of them well."""
    n_select_tokens: int = 4096
    """Tokens of the select split on which thresholds and the common label are chosen."""
    blind: bool = True
    """Label the aligned nodes afresh without their labels in sight, and compare."""


@dataclass(frozen=True)
class TrainerConfig:
    device: str = "auto"
    """auto, cpu or cuda."""
    threads: int = 2
    """Torch threads. Part of no fingerprint, but different numbers may change the last bits."""
    weight_decay: float = 0.0
    """AdamW weight decay; never touches frozen rows."""
    warmup: float = 0.05
    """Share of a phase's steps that ramp the learning rate up; then it decays linearly to 0."""
    clip: float = 1.0
    """Gradient norm limit."""
    checkpoint_seconds: float = 30.0
    """Save a resumable checkpoint at least this often."""


@dataclass(frozen=True)
class LoggerConfig:
    kind: Literal["wandb", "csv", "none"] = "wandb"
    """Where curves and tables go. The store stays the truth."""
    mode: Literal["offline", "online"] = "offline"
    """W&B mode (kind wandb)."""
    project: str = "interp-by-construction"
    """W&B project."""


@dataclass(frozen=True)
class Config:
    run: str | None = None
    """Name of the run; null takes the experiment's name, else `default`."""
    experiment_name: str | None = None
    """Set by the experiment files."""
    layer: Any = "all"
    """Layer, list of layers, or all."""
    start_layer: int | None = None
    """Lowest aligned layer; null takes the lowest layer asked for. Everything below is frozen
    unlabelled."""
    schedule: Literal["sequential", "joint", "hybrid"] = "sequential"
    """Order of training. `sequential`: label, align, freeze and continue layer by layer. `joint`:
    label all layers on the original subject, align them at once, then freeze them bottom-up in
    short steps. `hybrid`: label all layers on the original subject, then layer by layer align it
    and all above it, freeze it, continue. All take the same number of steps."""
    seed: int = 0
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
    """The language model that judges; null for the labeler itself, whose scores are then marked as
    self-judged."""
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)

    @property
    def run_name(self) -> str:
        return self.run or self.experiment_name or "default"

    @property
    def runs_dir(self) -> Path:
        return Path(self.paths.root).expanduser().resolve() / "runs"

    @property
    def store_dir(self) -> Path:
        return Path(self.paths.root).expanduser().resolve() / "store"


RENAMED = {"continue": "continue_"}
"""YAML keys that are Python keywords."""

MOVED = {("subject", "activation"): ("model", "activation")}
"""Fields (group, name) that runs made before a move still have in their old place."""

NOT_IDENTITY = (
    "run",
    "layer",
    "start_layer",
    "experiment_name",
    "paths",
    "logger",
    "bench",
    "trainer.device",
    "trainer.threads",
    "trainer.checkpoint_seconds",
    "labeler.url",
    "labeler.classify_url",
    "labeler.api_key",
    "labeler.concurrency",
    "labeler.timeout",
    "labeler.retries",
    "labeler.startup_timeout",
    "labeler.threads",
    "labeler.port",
    "judge.url",
    "judge.classify_url",
    "judge.api_key",
    "judge.concurrency",
    "judge.timeout",
    "judge.retries",
    "judge.startup_timeout",
    "judge.threads",
    "judge.port",
)
"""Fields that may differ when a run name is used again: `layer`, so that a run grows, and all that
cannot change a result."""
