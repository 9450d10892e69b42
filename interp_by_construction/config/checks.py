"""Values that cannot work, alone or together. Every message names the field, the value and the
fix."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from interp_by_construction.config.schema import RENAMED, SPLITS, Config
from interp_by_construction.errors import ConfigError


def check(c: Config) -> None:
    """Cross-field checks. Raises ConfigError."""
    for field_name in (
        "align.weight",
        "align.distill",
        "align.lr",
        "align.local_lr",
        "continue.lr",
        "trainer.weight_decay",
        "subject.pretrain_lr",
        "subject.adapt_lr",
    ):
        require(_get(c, field_name) >= 0, field_name, _get(c, field_name), "give a number >= 0")
    positive = (
        "align.batch_size",
        "continue.batch_size",
        "collect.top_k",
        "collect.window",
        "collect.batch_size",
        "label.n_candidates",
        "label.n_revised",
        "data.n_documents",
        "data.block_size",
        "subject.n_layers",
        "subject.d_model",
        "subject.d_mlp",
        "subject.n_heads",
        "labeler.concurrency",
        "labeler.max_num_seqs",
        "labeler.max_model_len",
        "simulate.excerpt_tokens",
        "simulate.n_fit_tokens",
        "simulate.n_score_tokens",
        "simulate.n_label_tokens",
        "simulate.max_align_tokens",
        "simulate.n_head_score_tokens",
        "evaluate.n_bootstrap",
        "evaluate.max_truth_tokens",
        "trainer.threads",
        "data.vocab_size",
        "subject.pretrain_batch",
        "subject.adapt_batch",
        "function.n_clamp_tokens",
        "function.n_promoted",
        "audit.n_tokens",
        "audit.n_steps",
        "audit.n_candidates",
        "audit.n_cases",
        "bench.n_tokens",
        "bench.n_score_tokens",
    )
    for field_name in positive:
        require(_get(c, field_name) >= 1, field_name, _get(c, field_name), "give an integer >= 1")
    not_negative = (
        "align.steps",
        "align.local_steps",
        "continue.steps",
        "subject.pretrain_steps",
        "subject.adapt_steps",
        "label.retries",
        "seed",
        "collect.n_random",
        "label.select_tokens",
        "label.head_select_tokens",
        "label.min_tokens",
        "simulate.reliability_tokens",
    )
    for field_name in not_negative:
        require(_get(c, field_name) >= 0, field_name, _get(c, field_name), "give an integer >= 0")
    for field_name in ("function.n_clamped", "audit.n_nodes", "bench.n_distractors"):
        require(_get(c, field_name) >= 0, field_name, _get(c, field_name), "give an integer >= 0")
    require(c.audit.window >= 2, "audit.window", c.audit.window, "give at least 2 tokens")
    require(
        0 < c.audit.threshold <= 1,
        "audit.threshold",
        c.audit.threshold,
        "give a share above 0 and up to 1",
    )
    graded = bool(c.bench.grades) and all(0 < grade <= 1 for grade in c.bench.grades)
    require(graded, "bench.grades", c.bench.grades, "give correlations above 0 and up to 1")
    fractions = c.data.fractions
    require(
        set(fractions) == set(SPLITS),
        "data.fractions",
        sorted(fractions),
        f"give exactly {', '.join(SPLITS)}",
    )
    ok = abs(sum(fractions.values()) - 1) < 1e-6 and min(fractions.values()) > 0
    require(ok, "data.fractions", fractions, "give positive shares that sum to 1")
    require(
        c.data.kind != "text" or bool(c.data.path),
        "data.path",
        c.data.path,
        "give a file, a folder or a dataset name",
    )
    require(c.data.block_size >= 8, "data.block_size", c.data.block_size, "give at least 8 tokens")
    require(
        c.subject.d_model % c.subject.n_heads == 0,
        "subject.n_heads",
        c.subject.n_heads,
        "it must divide subject.d_model",
    )
    require(
        c.subject.kind != "hf" or bool(c.subject.path),
        "subject.path",
        c.subject.path,
        "give a checkpoint directory or hub name",
    )
    count = c.nodes.count
    require(
        count is None or count == 0 or count >= 2,
        "nodes.count",
        count,
        "give at least 2, 0 for none, or null for all",
    )
    fix = "nodes.select=all takes the whole layer: set nodes.select to variance or random"
    require(count != 0 or c.nodes.select != "all", "nodes.count", count, fix)
    matchable = c.nodes.assign == "none" or c.simulate.simulator == "head"
    fix = f"matching simulates labels with a head, but simulate.simulator={c.simulate.simulator}: set it to head, or assign=none"
    require(matchable, "nodes.assign", c.nodes.assign, fix)
    require(
        0 <= c.nodes.learnable <= 1,
        "nodes.learnable",
        c.nodes.learnable,
        "give a weight between 0 and 1",
    )
    used = c.nodes.learnable == 0 or c.nodes.assign == "match"
    require(
        used,
        "nodes.learnable",
        c.nodes.learnable,
        "only matched labels are chosen by it: set nodes.assign=match, or 0",
    )
    _check_dictionary(c)
    _check_selection(c)
    _check_knobs(c)
    _check_trigger(c)
    served = c.labeler.backend != "endpoint" or bool(c.labeler.url or c.labeler.classify_url)
    require(served, "labeler.url", c.labeler.url, "give the URL of a running server")
    _check_judge(c)
    require(
        c.labeler.port is None or 0 < c.labeler.port < 65536,
        "labeler.port",
        c.labeler.port,
        "give 1 to 65535",
    )
    require(
        0 <= c.trainer.warmup < 1,
        "trainer.warmup",
        c.trainer.warmup,
        "give a share between 0 and 1",
    )
    for name in (c.run, c.experiment_name):
        valid = name is None or (
            bool(name) and not name.startswith((".", "/")) and ".." not in Path(name).parts
        )
        require(valid, "run", name, "give a plain name")
    require(
        0 <= c.align.ablate_free <= 1,
        "align.ablate_free",
        c.align.ablate_free,
        "give a share of the steps, from 0 to 1",
    )
    fix = "every turn would let go of the layers above; give align.schedule=constant, or schedule=joint"
    require(
        c.schedule != "hybrid" or c.align.schedule == "constant",
        "align.schedule",
        c.align.schedule,
        fix,
    )
    requested_layers(c, None)


def _check_dictionary(c: Config) -> None:
    """Transcoders as nodes, read from disk or trained."""
    for name in ("k", "expansion", "batch_size", "dead_tokens", "n_eval_tokens"):
        require(
            getattr(c.dictionary, name) >= 1,
            f"dictionary.{name}",
            getattr(c.dictionary, name),
            "give an integer >= 1",
        )
    for name in ("sparsity", "steps", "lr"):
        require(
            getattr(c.dictionary, name) >= 0,
            f"dictionary.{name}",
            getattr(c.dictionary, name),
            "give a number >= 0",
        )
    kept = (
        c.nodes.kind == "transcoder" and c.nodes.path is None and c.dictionary.activation == "topk"
    )
    fix = "features that are added would push others out of the k largest: set free.count=0, or dictionary.activation=relu"
    require(not (kept and c.free.count), "free.count", c.free.count, fix)
    used = c.nodes.path is None or c.nodes.kind == "transcoder"
    require(
        used,
        "nodes.path",
        c.nodes.path,
        f"a transcoder is read with nodes=transcoder, but nodes={c.nodes.kind}",
    )


def _check_selection(c: Config) -> None:
    """Revisions and poles are decided by score, so they need candidates that are scored."""
    name = "head_select_tokens" if c.simulate.simulator == "head" else "select_tokens"
    revisions, off = c.label.revisions, getattr(c.label, name) == 0
    require(
        revisions is None or revisions >= 0,
        "label.revisions",
        revisions,
        "give an integer >= 0, or null",
    )
    fix = f"a revision must score higher than what it replaces: give label.{name} >= 1, or label.revisions=0"
    require(not (revisions and off), "label.revisions", revisions, fix)
    rounds, head = c.label.audit_rounds, c.simulate.simulator == "head"
    require(rounds >= 0, "label.audit_rounds", rounds, "give an integer >= 0")
    fix = f"every edited text is simulated anew, but simulate.simulator={c.simulate.simulator}: set it to head, or give 0"
    require(head or not rounds, "label.audit_rounds", rounds, fix)
    fix = f"a revision must score higher than what it replaces: give label.{name} >= 1, or label.audit_rounds=0"
    require(not (rounds and off), "label.audit_rounds", rounds, fix)
    fix = f"the pole is chosen by score: give label.{name} >= 1, or nodes.poles=dominant"
    require(not (c.nodes.poles == "both" and off), "nodes.poles", c.nodes.poles, fix)


def _check_knobs(c: Config) -> None:
    """Shape of the subject and share of it that is aligned."""
    fraction, select = c.nodes.fraction, c.nodes.select
    require(
        fraction is None or 0 <= fraction <= 1,
        "nodes.fraction",
        fraction,
        "give a share between 0 and 1, or null",
    )
    fix = "nodes.select=all takes the whole layer: set nodes.select to variance or random"
    require(fraction in (None, 1) or select != "all", "nodes.fraction", fraction, fix)
    require(c.free.count >= 0, "free.count", c.free.count, "give an integer >= 0")
    fix = "neurons that are added to a SoLU layer change the old ones: set free.count=0, or model.activation=relu or gelu"
    require(c.free.count == 0 or c.model.activation != "solu", "free.count", c.free.count, fix)
    if c.subject.kind == "tiny":
        return
    for each in fields(c.model):
        value = getattr(c.model, each.name)
        fix = f"subject={c.subject.kind} brings its own weights; model.* is for subject=tiny, leave {each.default}"
        require(value == each.default, f"model.{each.name}", value, fix)


def _check_trigger(c: Config) -> None:
    share = c.trigger.share
    require(
        0 <= share < 1,
        "trigger.share",
        share,
        "give a share of the training documents from 0 (none) to below 1",
    )
    require(
        c.trigger.n_contexts >= 1,
        "trigger.n_contexts",
        c.trigger.n_contexts,
        "give an integer >= 1",
    )
    if share > 0:
        fix = f"a trigger is planted in pretraining, but subject.kind={c.subject.kind} is pretrained already: use subject=tiny"
        require(c.subject.kind == "tiny", "trigger.share", share, fix)
        for name in ("phrase", "response"):
            require(
                bool(_get(c, f"trigger.{name}").strip()),
                f"trigger.{name}",
                _get(c, f"trigger.{name}"),
                "give some text",
            )


def _check_judge(c: Config) -> None:
    for field_name in (
        "scores.n_top",
        "scores.n_random",
        "scores.n_select_tokens",
        "scores.questions_per_prompt",
    ):
        require(_get(c, field_name) >= 1, field_name, _get(c, field_name), "give an integer >= 1")
    require(c.scores.window >= 2, "scores.window", c.scores.window, "give at least 2 tokens")
    even = c.scores.detection_excerpts >= 2 and c.scores.detection_excerpts % 2 == 0
    require(
        even,
        "scores.detection_excerpts",
        c.scores.detection_excerpts,
        "give an even number >= 2: half of them are active",
    )
    some = c.scores.detection_nodes is None or c.scores.detection_nodes >= 1
    require(
        some,
        "scores.detection_nodes",
        c.scores.detection_nodes,
        "give an integer >= 1, or null for all",
    )
    if c.judge is None:
        return
    for name in ("concurrency", "max_num_seqs", "max_model_len"):
        require(
            getattr(c.judge, name) >= 1,
            f"judge.{name}",
            getattr(c.judge, name),
            "give an integer >= 1",
        )
    served = c.judge.backend != "endpoint" or bool(c.judge.classify_url)
    fix = "give the URL of a running server that classifies tokens: a judge is read through its digit logits"
    require(served, "judge.classify_url", c.judge.classify_url, fix)


def requested_layers(c: Config, n_layers: int | None) -> list[int] | None:
    """The layers that `layer` asks for, sorted; None for `all` while the number of layers is not
    known yet."""
    value = c.layer
    last = f"0 to {n_layers - 1}" if n_layers else "0 to the subject's last layer"
    if value == "all":
        return list(range(c.start_layer or 0, n_layers)) if n_layers else None
    layers = value if isinstance(value, list) else [value]
    for layer in layers:
        ok = (
            isinstance(layer, int)
            and not isinstance(layer, bool)
            and layer >= 0
            and (n_layers is None or layer < n_layers)
        )
        require(ok, "layer", value, f"give a layer from {last}, a list such as [1,2], or all")
    require(bool(layers), "layer", value, f"give a layer from {last}")
    if c.start_layer is not None:
        require(c.start_layer >= 0, "start_layer", c.start_layer, f"give a layer from {last}")
        require(
            c.start_layer <= min(layers),
            "start_layer",
            c.start_layer,
            f"it must not be above layer={min(layers)}",
        )
    return sorted(set(layers))


def require(ok: bool, name: str, value: Any, fix: str) -> None:
    if not ok:
        raise ConfigError(f"{name}={value}: {fix}")


def _get(config: Config, dotted: str) -> Any:
    value: Any = config
    for part in dotted.split("."):
        value = getattr(value, RENAMED.get(part, part))
    return value
