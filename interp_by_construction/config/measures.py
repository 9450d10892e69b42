"""What is measured on a finished run, on how much text."""

from __future__ import annotations

from dataclasses import dataclass

from interp_by_construction.config.group import Group, at_least, ruled


@dataclass(frozen=True)
class EvaluateConfig(Group):
    """Losses and scores."""

    max_test_blocks: int | None = at_least(1, None, "give an integer >= 1, or null for all")
    """Use at most this many blocks of the test split for LM losses. null: all."""
    max_truth_tokens: int = at_least(1, 16384)
    """Use at most this many tokens of the score split for the ground truth (data=stories)."""
    n_bootstrap: int = at_least(1, 1000)
    """Bootstrap resamples for intervals."""
    batch_size: int = at_least(1, 16)
    """Blocks per forward pass."""


@dataclass(frozen=True)
class FunctionConfig(Group):
    """What single nodes do to the output."""

    n_clamped: int = at_least(0, 8)
    """Aligned nodes that are also clamped one by one, a seeded sample per layer."""
    n_clamp_tokens: int = at_least(1, 4096)
    """Tokens of the test split on which clamped losses are measured."""
    n_promoted: int = at_least(1, 10)
    """Output tokens listed per node, promoted and suppressed."""


@dataclass(frozen=True)
class SearchConfig(Group):
    """How text is searched for on which label and node disagree."""

    n_tokens: int = at_least(1, 4096)
    """Tokens of the select split that are searched."""
    n_nodes: int = at_least(0, 6)
    """Aligned nodes for which text is edited, a seeded sample per layer."""
    n_steps: int = at_least(1, 3)
    """Token substitutions per edited text."""
    n_candidates: int = at_least(1, 4)
    """Substitutions tried per step."""
    window: int = at_least(2, 24, "give at least 2 tokens")
    """Longest text that is edited, in subject tokens. It ends at the token that is judged."""
    threshold: float = ruled(0.5, lambda value: 0 < value <= 1, "give a share above 0 and up to 1")
    """Real and simulated disagree when they differ by more than this share of the node's range."""
    n_cases: int = at_least(1, 5)
    """Excerpts of the search kept per node and kind of disagreement."""


@dataclass(frozen=True)
class AuditConfig(SearchConfig):
    """An audit of labels."""

    enabled: bool = True
    """Whether a run with simulate.simulator=head or rules looks for text on which label and node
    disagree."""


@dataclass(frozen=True)
class WorkConfig(Group):
    """How much of the work is done by aligned nodes, free nodes and what is around the MLPs."""

    enabled: bool = True
    """Whether losses are measured without free nodes, aligned nodes and whole MLPs, per layer and
    for all layers at once."""
    removed: bool = True
    """Whether the rest is also retrained with each layer's MLP replaced by its mean output: what
    the layer is worth, beside the tax. Costs as much training as the control for every layer and,
    from the second layer on, once more for all at once."""


@dataclass(frozen=True)
class BenchConfig(Group):
    """`ibc bench truth`: planted nodes with a known concept."""

    grades: list[float] = ruled(
        [1.0, 0.7, 0.4, 0.2],
        lambda given: bool(given) and all(0 < grade <= 1 for grade in given),
        "give correlations above 0 and up to 1",
    )
    """Correlation of the planted nodes with their concept, one set of nodes for each."""
    n_tokens: int = at_least(1, 16384)
    """Tokens of the label split that planted nodes are labelled and matched on."""
    n_score_tokens: int = at_least(1, 8192)
    """Tokens of the score split that a head simulates; simulator=exact uses
    simulate.n_score_tokens."""
    n_distractors: int = at_least(0, 12)
    """Nodes of two concepts, and nodes of pure noise."""


@dataclass(frozen=True)
class ScoringConfig(Group):
    """Excerpts and questions by which labels are judged."""

    n_top: int = at_least(1, 10)
    """Top-activating excerpts per node for the simulation score on excerpts."""
    n_random: int = at_least(1, 10)
    """Random excerpts per node for the same."""
    window: int = at_least(2, 16, "give at least 2 tokens")
    """Tokens of an excerpt."""
    detection_excerpts: int = ruled(
        4,
        lambda value: value >= 2 and value % 2 == 0,
        "give an even number >= 2: half of them are active",
    )
    """Excerpts per node for detection, half of them active, and for fuzzing. An even number."""
    detection_nodes: int | None = at_least(1, 24, "give an integer >= 1, or null for all")
    """Nodes that a language model judges, evenly spread over the aligned ones. null: all. A head
    judges all of them."""
    questions_per_prompt: int = at_least(1, 1)
    """Questions in one prompt. More are cheaper, but a small judge answers only the first of them
    well."""
    n_select_tokens: int = at_least(1, 4096)
    """Tokens of the select split on which thresholds and the common label are chosen."""
    blind: bool = True
    """Whether the labeler labels the aligned nodes afresh, without seeing their labels, so that
    both can be compared."""


@dataclass(frozen=True)
class ScoresConfig(ScoringConfig):
    """Scores by the judge, on excerpts and by blind relabelling."""

    enabled: bool = True
    """Whether these scores are measured."""
