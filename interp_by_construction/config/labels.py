"""From nodes to labels and simulated activations: evidence, the labeler, labels, simulators."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from interp_by_construction.config.credentials import key_ways, without_login
from interp_by_construction.config.group import (
    Group,
    above_zero,
    at_least,
    require,
    ruled,
    share,
    thread_count,
)
from interp_by_construction.errors import ConfigError


@dataclass(frozen=True)
class SelectionConfig(Group):
    """Which nodes are labelled and aligned."""

    count: int | None = ruled(
        64,
        lambda value: value == 0 or value >= 2,
        "give at least 2, 0 for none, or null for all",
    )
    """Nodes per layer that are labelled and aligned. null takes the whole layer, 0 none. The rest
    stays free."""
    fraction: float | None = share(None, "give a share between 0 and 1, or null")
    """The same amount as a share of the layer's nodes, 0 to 1. Takes the place of `count` unless
    null."""
    select: Literal["all", "variance", "random"] = "variance"
    """How they are chosen: all, those of the highest variance on the label split, or at random."""
    poles: Literal["dominant", "both"] = "dominant"
    """`dominant`: a label describes the sign with the stronger activations. `both`: where
    activations take both signs, candidates are made for each, and the sign whose best candidate
    scores higher becomes the node's pole."""

    def check(self, name: str) -> None:
        super().check(name)
        fix = f"{name}.select=all takes the whole layer: set {name}.select to variance or random"
        some, amount = self.select != "all", self.fraction
        require(some or self.count != 0, f"{name}.count", self.count, fix)
        require(some or amount in (None, 1), f"{name}.fraction", amount, fix)


@dataclass(frozen=True)
class NodesConfig(SelectionConfig):
    """What is labelled: MLP neurons, or features of a transcoder."""

    kind: Literal["neurons", "transcoder"] = "neurons"
    """`neurons` of the layer's MLP, or features of a sparse `transcoder` that takes its place
    (group `dictionary`)."""
    path: str | None = None
    """Folder of a transcoder in sparsify's format (cfg.json, sae.safetensors), or a folder that
    holds one such folder per layer, named like layers.3.mlp. null trains it (kind transcoder)."""
    assign: Literal["none", "match"] = "none"
    """`none`: a node keeps the label that the labeler gave it. `match`: labels are dealt out anew,
    each to the node whose activations it predicts best on the label split (one linear assignment
    per layer; needs simulate.simulator=head or rules)."""
    learnable: float = share(0.0, "give a weight between 0 and 1")
    """0 to 1: how much a match counts what the layer can learn, beside what its nodes do already
    (assign=match). Each label of the pool gets the r that a fresh neuron reaches on it, trained on
    what the MLP reads. A match is worth (1 - learnable) * r of the node + learnable * that r.
    Scores rise; the labels are easier ones."""

    def check(self, name: str) -> None:
        super().check(name)
        fix = f"only matched labels are chosen by it: set {name}.assign=match, or 0"
        used = self.learnable == 0 or self.assign == "match"
        require(used, f"{name}.learnable", self.learnable, fix)
        fix = f"a transcoder is read with nodes=transcoder, but nodes={self.kind}"
        used = self.path is None or self.kind == "transcoder"
        require(used, f"{name}.path", self.path, fix)


@dataclass(frozen=True)
class CollectConfig(Group):
    """What is kept of a node's activations as evidence for the labeler."""

    top_k: int = at_least(1, 20)
    """Strongest excerpts kept per node and pole."""
    n_quantiles: int = at_least(1, 5)
    """Activation quantiles that are sampled."""
    per_quantile: int = at_least(0, 3)
    """Excerpts kept per quantile."""
    n_near_misses: int = at_least(0, 5)
    """Excerpts with a top token but a low activation."""
    n_random: int = at_least(0, 5)
    """Excerpts around tokens drawn at random."""
    window: int = at_least(1, 16)
    """Tokens of an excerpt, the peak included."""
    n_bins: int = at_least(1, 50)
    """Bins of the activation histogram."""
    max_blocks: int | None = at_least(1, None, "give an integer >= 1, or null for all")
    """Use at most this many blocks of the label split. null: all."""
    batch_size: int = at_least(1, 32)
    """Blocks per forward pass."""


@dataclass(frozen=True)
class ServerConfig(Group):
    """How a language model is reached. Changes no answer."""

    url: str | None = None
    """Base URL of the generating server, such as http://127.0.0.1:8000 (backend endpoint)."""
    classify_url: str | None = None
    """Base URL of the token-classifying server (backend endpoint)."""
    api_key_file: str | None = None
    """File that holds the API key of the endpoints, and that nobody else may read (mode 0600). null
    takes the environment variable IBC_LABELER_API_KEY, for a judge IBC_JUDGE_API_KEY."""
    concurrency: int = at_least(1, 4)
    """Requests in flight."""
    timeout: float = above_zero(120.0)
    """Seconds before a request is retried."""
    retries: int = at_least(0, 4)
    """Retries of a request after a timeout, a 429 or a 5xx."""
    startup_timeout: float = above_zero(300.0)
    """Seconds to wait for a managed server to become healthy."""
    threads: int = thread_count(2)
    """CPU threads of a managed server (where there is no GPU)."""
    port: int | None = ruled(None, lambda value: 0 < value < 65536, "give 1 to 65535")
    """Fixed port of `ibc serve`. null picks a free one."""

    def __post_init__(self) -> None:
        # No configuration holds a password, whoever makes it.
        for name in ("url", "classify_url"):
            if (url := getattr(self, name)) is not None:
                object.__setattr__(self, name, without_login(str(url)))

    def check(self, name: str) -> None:
        super().check(name)
        for each in ("url", "classify_url"):
            if (url := getattr(self, each)) is not None:
                fix = "give a URL such as http://127.0.0.1:8000"
                require(_is_base_url(url), f"{name}.{each}", url, fix)


@dataclass(frozen=True)
class LabelerConfig(ServerConfig):
    """The language model that labels and simulates. The group `judge` has the same fields."""

    name: str = "smollm2"
    """Name shown in tables."""
    backend: Literal["vllm", "endpoint", "transformers"] = "vllm"
    """`vllm` starts servers of its own. `endpoint` uses running ones. `transformers` runs in this
    process."""
    model: str = "smollm2"
    """The language model that writes the labels. `smollm2` is the embedded SmolLM2-135M-Instruct.
    Otherwise a directory or hub name."""
    tokenizer: str | None = None
    """Directory or hub name of the model's tokenizer, where `model` is only a name that an endpoint
    serves (backend endpoint). null takes `model`."""
    revision: str | None = None
    """Branch, tag or commit of a model on the hub. null: what the hub has now. Fingerprints hold
    the commit."""
    adapter: str | None = None
    """Safetensors file of a low-rank adapter that was trained to label, simulate and judge
    (`tools/tune_labeler`). It is merged into the model's weights, and the model is asked by short
    prompts. null: the plain model."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the served model. auto: bfloat16, or float32 on CPUs that compute faster in
    it."""
    max_model_len: int = at_least(1, 2048)
    """Longest prompt plus output, in labeler tokens."""
    max_num_seqs: int = at_least(1, 1)
    """Sequences per engine step. 1 makes every answer independent of the requests around it."""
    extra_args: list[str] = field(default_factory=list)
    """More arguments for the vLLM server."""

    def check(self, name: str) -> None:
        super().check(name)
        if any(re.match(r"--api[-_]key\b", each) for each in self.extra_args):
            raise ConfigError(
                f"{name}.extra_args: everybody on this machine can read a key on a command line; "
                f"leave it out: {key_ways(name)}"
            )
        served = self.backend != "endpoint" or bool(self.url or self.classify_url)
        require(served, f"{name}.url", self.url, "give the URL of a running server")
        fix = "the other backends read the tokenizer of the model: leave it null"
        own = self.tokenizer is None or self.backend == "endpoint"
        require(own, f"{name}.tokenizer", self.tokenizer, fix)


def _is_base_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname)
        # Reading an impossible port raises.
        return known and parts.port != 0 and not ("@" in url or parts.query or parts.fragment)
    except ValueError:
        return False


@dataclass(frozen=True)
class AskConfig(Group):
    """How the labeler is asked for labels."""

    n_candidates: int = at_least(1, 4)
    """Labels sampled per node."""
    n_words: int = at_least(0, 10)
    """Top words shown. A labeler with an adapter is shown what it was trained on."""
    n_contexts: int = at_least(0, 3)
    """Top excerpts shown in context (not to a labeler with an adapter)."""
    max_tokens: int = at_least(1, 12)
    """Longest label, in labeler tokens."""
    temperature: float = at_least(0, 0.7)
    """Sampling temperature of all candidates but the first."""
    retries: int = at_least(0, 3)
    """Further attempts when no candidate can be parsed or all are taken."""
    n_incoming: int = at_least(0, 3)
    """Strongest incoming labelled nodes shown (from the second layer on)."""
    style: Literal["completion", "chat"] = "completion"
    """Few-shot completion (small labelers) or chat messages (instruct models of 1B and more)."""
    revisions: int | None = at_least(0, None, "give an integer >= 0, or null")
    """Rounds in which the labeler is shown where the label and the node disagree. null: 1 with a
    head, else 0."""
    n_revised: int = at_least(1, 2)
    """Labels sampled per revision, and per node whose label another node holds."""


@dataclass(frozen=True)
class LabelConfig(AskConfig):
    """How labels are made, chosen and dealt out."""

    select_tokens: int = at_least(0, 128)
    """Tokens of the select split on which the labeler simulates every candidate, so that the best
    can be chosen (and, with revisions, as many of the label split). Costly, so few by default. 0
    takes the first candidate. Not used with simulate.simulator=head or rules."""
    head_select_tokens: int = at_least(0, 8192)
    """The same with simulate.simulator=head or rules, which are cheap."""
    general_pool: bool = True
    """Whether the general labels that ship with the package are dealt out, too
    (nodes.assign=match). They say what many nodes do, but the labeler did not write them."""
    min_score: float | None = ruled(
        None, lambda value: -1 <= value <= 1, "give a correlation between -1 and 1, or null"
    )
    """The least r between a node and the simulation of its label. A node without a label that
    reaches it is left free. It is measured on the text on which labels are chosen: the select
    split, or, with nodes.assign=match, the label split. null: any label counts."""
    min_tokens: int = at_least(0, 8)
    """Tokens of the label split that a label must apply to (simulated above 0.5) to be dealt
    out."""
    max_overlap: float = share(0.95, "give a correlation between 0 and 1")
    """Of two labels whose simulations on the label split correlate above this, one is dealt out."""
    audit_rounds: int = at_least(0, 0)
    """Further rounds in which the labeler is shown the worst cases of an audit (fields of `audit`)
    of the model before alignment, text edited along the gradient included (needs
    simulate.simulator=head or rules)."""


@dataclass(frozen=True)
class TextAmounts(Group):
    """How much text is simulated."""

    n_fit_tokens: int = at_least(1, 640)
    """Tokens of the simulate split on which each label is simulated exactly."""
    n_score_tokens: int = at_least(0, 384)
    """Tokens of the score split on which each label is simulated exactly. 0 for never: scores by
    exact simulation are then undefined (needs simulate.simulator=head or rules, and
    scores.enabled=false)."""
    n_head_score_tokens: int = at_least(1, 16384)
    """Tokens of the score split on which a head is scored. A head is cheap, so these are more than
    the labeler can read. Substitution reads as many of the simulate split and of the test split."""
    excerpt_tokens: int = at_least(1, 64)
    """Subject tokens per simulated excerpt."""
    n_label_tokens: int = at_least(1, 32768)
    """Tokens of the label split on which labels are matched with nodes (nodes.assign=match) and,
    with a head, revised."""
    max_align_tokens: int = at_least(1, 65536)
    """Tokens of the align split that get dense targets."""


@dataclass(frozen=True)
class SimulateConfig(TextAmounts):
    """How labels are turned into simulated activations."""

    simulator: str = "ridge"
    """What predicts activations from a label and a text, and so makes the targets of alignment.
    `exact`: the labeler reads label and text and rates every token. `ridge`: a ridge regression per
    label, from an encoder's hidden states to exact simulations. `head`: a network that was trained
    beforehand and takes any label. `rules`: no model; the label is read as a rule, such as `nouns
    after a comma`. A node without a label that can be read is left free."""
    head: str | None = None
    """File of a trained head (simulator head). null takes the one that ships with the package."""
    second_head: str | None = None
    """File of a head that only scores, beside the one that makes the targets (simulator head). It
    must read the encoder of the first. null: no second score."""
    encoder: str = "smollm2"
    """Model whose hidden states ridge and head read; it runs in this process. A head needs the one
    that it was trained on."""
    encoder_layers: list[int] = ruled(
        [8, 16],
        lambda given: bool(given) and min(given) >= 0,
        "give one layer or more, counted from 0",
    )
    """Hidden layers of the encoder that ridge may read. Cross-validation picks one, two or all of
    them for each aligned layer. A head brings its own."""
    contrast: bool = True
    """Subtract each token's mean simulation over a fixed set of general labels. A small labeler has
    habits that do not depend on the label."""
    reliability_tokens: int = at_least(0, 256)
    """Tokens of the simulate split that are simulated once more, with other few-shot examples: how
    far the exact simulation agrees with itself (simulator ridge; at most n_fit_tokens; 0 for
    never)."""
