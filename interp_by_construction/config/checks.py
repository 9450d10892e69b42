"""Values that cannot work, alone or together. Every message names the field, the value and the fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from interp_by_construction.config.schema import RENAMED, SPLITS, Config
from interp_by_construction.errors import ConfigError


def check(c: Config) -> None:
    """Cross-field checks. Raises ConfigError."""
    for field_name in ("align.weight", "align.lr", "align.local_lr", "continue.lr", "trainer.weight_decay", "subject.pretrain_lr"):
        require(_get(c, field_name) >= 0, field_name, _get(c, field_name), "give a number >= 0")
    positive = (
        "align.batch_size", "continue.batch_size", "collect.top_k", "collect.window", "collect.batch_size", "label.n_candidates",
        "data.n_documents", "data.block_size", "subject.n_layers", "subject.d_model", "subject.d_mlp", "subject.n_heads",
        "labeler.concurrency", "labeler.max_num_seqs", "labeler.max_model_len", "simulate.excerpt_tokens",
        "simulate.n_fit_tokens", "simulate.n_score_tokens", "simulate.n_label_tokens", "simulate.max_align_tokens",
        "simulate.n_head_score_tokens",
        "evaluate.n_bootstrap", "evaluate.max_truth_tokens",
        "trainer.threads", "data.vocab_size", "subject.pretrain_batch",
    )  # fmt: skip
    for field_name in positive:
        require(_get(c, field_name) >= 1, field_name, _get(c, field_name), "give an integer >= 1")
    for field_name in ("align.steps", "align.local_steps", "continue.steps", "subject.pretrain_steps", "label.retries", "seed",
                       "simulate.reliability_tokens"):  # fmt: skip
        require(_get(c, field_name) >= 0, field_name, _get(c, field_name), "give an integer >= 0")
    fractions = c.data.fractions
    require(set(fractions) == set(SPLITS), "data.fractions", sorted(fractions), f"give exactly {', '.join(SPLITS)}")
    ok = abs(sum(fractions.values()) - 1) < 1e-6 and min(fractions.values()) > 0
    require(ok, "data.fractions", fractions, "give positive shares that sum to 1")
    require(c.data.kind != "text" or bool(c.data.path), "data.path", c.data.path, "give a file, a folder or a dataset name")
    require(c.data.block_size >= 8, "data.block_size", c.data.block_size, "give at least 8 tokens")
    require(c.subject.d_model % c.subject.n_heads == 0, "subject.n_heads", c.subject.n_heads, "it must divide subject.d_model")
    require(
        c.subject.kind != "hf" or bool(c.subject.path), "subject.path", c.subject.path, "give a checkpoint directory or hub name"
    )
    require(c.nodes.count is None or c.nodes.count >= 2, "nodes.count", c.nodes.count, "give at least 2, or null for all")
    matchable = c.nodes.assign == "none" or c.simulate.simulator == "head"
    fix = f"matching simulates labels with a head, but simulate.simulator={c.simulate.simulator}: set it to head, or assign=none"
    require(matchable, "nodes.assign", c.nodes.assign, fix)
    served = c.labeler.backend != "endpoint" or bool(c.labeler.url or c.labeler.classify_url)
    require(served, "labeler.url", c.labeler.url, "give the URL of a running server")
    require(c.labeler.port is None or 0 < c.labeler.port < 65536, "labeler.port", c.labeler.port, "give 1 to 65535")
    require(0 <= c.trainer.warmup < 1, "trainer.warmup", c.trainer.warmup, "give a share between 0 and 1")
    for name in (c.run, c.experiment_name):
        valid = name is None or (bool(name) and not name.startswith((".", "/")) and ".." not in Path(name).parts)
        require(valid, "run", name, "give a plain name")
    requested_layers(c, None)


def requested_layers(c: Config, n_layers: int | None) -> list[int] | None:
    """The layers that `layer` asks for, sorted; None for `all` while the number of layers is not known yet."""
    value = c.layer
    last = f"0 to {n_layers - 1}" if n_layers else "0 to the subject's last layer"
    if value == "all":
        return list(range(c.start_layer or 0, n_layers)) if n_layers else None
    layers = value if isinstance(value, list) else [value]
    for layer in layers:
        ok = isinstance(layer, int) and not isinstance(layer, bool) and layer >= 0 and (n_layers is None or layer < n_layers)
        require(ok, "layer", value, f"give a layer from {last}, a list such as [1,2], or all")
    require(bool(layers), "layer", value, f"give a layer from {last}")
    if c.start_layer is not None:
        require(c.start_layer >= 0, "start_layer", c.start_layer, f"give a layer from {last}")
        require(c.start_layer <= min(layers), "start_layer", c.start_layer, f"it must not be above layer={min(layers)}")
    return sorted(set(layers))


def require(ok: bool, name: str, value: Any, fix: str) -> None:
    if not ok:
        raise ConfigError(f"{name}={value}: {fix}")


def _get(config: Config, dotted: str) -> Any:
    value: Any = config
    for part in dotted.split("."):
        value = getattr(value, RENAMED.get(part, part))
    return value
