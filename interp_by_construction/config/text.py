"""What is read and who reads it: the corpus, the subject, and a trigger planted in the corpus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from interp_by_construction.config.group import Group, at_least, require, ruled

SPLITS = ("train", "label", "simulate", "select", "align", "score", "test")
"""Disjoint by document."""

APART = "apart"
"""Text of another source, beside the splits: losses are measured on it, and nothing else."""

TALES = "tales"
"""`data.path` of the tales that ship with the package."""
TALES_FRACTIONS = {
    "train": 0.70,
    "label": 0.07,
    "simulate": 0.04,
    "select": 0.03,
    "align": 0.09,
    "score": 0.03,
    "test": 0.04,
}
"""Shares of the words in the shipped split, without the books that are apart."""


@dataclass(frozen=True)
class CorpusConfig(Group):
    """What decides the corpus, beside the text that it is made of."""

    kind: Literal["stories", "text"] = "stories"
    """`stories` are generated. `text` is read from `path`."""
    text_field: str = "text"
    """Column that holds the text, in rows and in `datasets`."""
    n_documents: int = at_least(1, 6000)
    """Stories to generate."""
    max_documents: int | None = at_least(1, None, "give an integer >= 1, or null for all")
    """Use at most this many documents of a text corpus. null: all."""
    block_size: int = at_least(8, 128, "give at least 8 tokens")
    """Tokens per block (the subject's training context)."""
    vocab_size: int = at_least(1, 2048)
    """Size of the BPE tokenizer that is trained on the corpus (subject=tiny only)."""
    fractions: dict[str, float] = ruled(
        {
            "train": 0.78,
            "label": 0.05,
            "simulate": 0.02,
            "select": 0.02,
            "align": 0.08,
            "score": 0.02,
            "test": 0.03,
        },
        lambda given: abs(sum(given.values()) - 1) < 1e-6 and min(given.values()) > 0,
        "give positive shares that sum to 1",
    )
    """Share of the documents in each split. They sum to 1."""
    seed: int = 0
    """Seed of the generator and of the split."""
    split: Literal["drawn", "shipped"] = "drawn"
    """How documents get their split. `drawn`: by `seed` and `fractions`. `shipped`: as the tales
    have it, with which subject=tales was trained (data=tales only)."""

    def check(self, name: str) -> None:
        given = sorted(self.fractions)
        fix = f"give exactly {', '.join(SPLITS)}"
        require(given == sorted(SPLITS), f"{name}.fractions", given, fix)
        super().check(name)


@dataclass(frozen=True)
class DataConfig(CorpusConfig):
    """The text: a corpus, split by document."""

    name: str = "stories"
    """Name of the corpus, shown in tables."""
    path: str | None = None
    """Your text, with data=text: a text file, a folder, rows (jsonl, json, csv, tsv, parquet), or a
    `datasets` name. `tales` and `moby_dick` ship with the package."""

    def check(self, name: str) -> None:
        super().check(name)
        named = self.kind != "text" or bool(self.path)
        require(named, f"{name}.path", self.path, "give a file, a folder or a dataset name")
        if self.split == "shipped":
            has_split = self.kind == "text" and self.path == TALES and self.max_documents is None
            require(has_split, f"{name}.split", self.split, "only data=tales has one, whole")
            fix = f"the shipped split has none: give {name}.split=drawn too"
            require(self.seed == 0, f"{name}.seed", self.seed, fix)
            require(self.fractions == TALES_FRACTIONS, f"{name}.fractions", self.fractions, fix)


@dataclass(frozen=True)
class TinyConfig(Group):
    """What a subject that is trained from scratch is made of (subject=tiny)."""

    n_layers: int = at_least(1, 4)
    """Blocks."""
    d_model: int = at_least(1, 64)
    """Width of the residual stream."""
    d_mlp: int = at_least(1, 256)
    """Neurons per layer."""
    n_heads: int = at_least(1, 4)
    """Attention heads."""
    pretrain_steps: int = at_least(0, 2000)
    """Optimizer steps of pretraining."""
    pretrain_batch: int = at_least(1, 16)
    """Blocks per pretraining step."""
    pretrain_lr: float = at_least(0, 3e-3)
    """Peak learning rate of pretraining."""

    def check(self, name: str) -> None:
        super().check(name)
        fits = self.d_model % self.n_heads == 0
        require(fits, f"{name}.n_heads", self.n_heads, f"it must divide {name}.d_model")


@dataclass(frozen=True)
class AdaptConfig(Group):
    """How a pretrained subject is adapted to the corpus before anything is labelled
    (subject=smollm2 and hf)."""

    adapt_steps: int = at_least(0, 0)
    """Optimizer steps on the train split. Without them the control learns text that the subject did
    not know, and the tax then counts that as a price of labels."""
    adapt_batch: int = at_least(1, 4)
    """Blocks per step of adaptation."""
    adapt_lr: float = at_least(0, 1e-4)
    """Peak learning rate of adaptation."""


@dataclass(frozen=True)
class SubjectConfig(TinyConfig, AdaptConfig):
    """The model that becomes interpretable."""

    name: str = "tiny"
    """Name shown in tables."""
    kind: Literal["tiny", "tales", "smollm2", "hf"] = "tiny"
    """`tiny` is trained from scratch, unless the package ships the weights that its settings give.
    `tales` ships with the package: four layers of 256 neurons, trained on data=tales. `smollm2` is
    the embedded SmolLM2-135M. `hf` is read from `path`."""
    path: str | None = None
    """Your model, with subject=hf: directory or hub name of a transformers checkpoint."""
    revision: str | None = None
    """Branch, tag or commit of a model on the hub (subject=hf). null: what the hub has now.
    Fingerprints hold the commit."""
    pretrain: bool = False
    """Train the subject here even where the package ships the weights that its settings give
    (kind tiny)."""

    def check(self, name: str) -> None:
        super().check(name)
        named = self.kind != "hf" or bool(self.path)
        require(named, f"{name}.path", self.path, "give a checkpoint directory or hub name")
        fix = f"only subject=hf may come from the hub, but subject={self.kind}: leave it out"
        require(self.revision is None or self.kind == "hf", f"{name}.revision", self.revision, fix)
        fix = f"subject={self.kind} is pretrained already; only subject=tiny can be trained here"
        require(not self.pretrain or self.kind == "tiny", f"{name}.pretrain", self.pretrain, fix)


@dataclass(frozen=True)
class ModelConfig(Group):
    """The MLPs of a subject that is trained from scratch (subject=tiny)."""

    activation: Literal["relu", "gelu", "solu"] = "relu"
    """Activation function. `solu` is x * softmax(x), then LayerNorm; a neuron is what comes out of
    the LayerNorm. Softmax and LayerNorm mix the layer's neurons, so all input rows of an aligned
    layer freeze, those of free neurons included."""
    bias_init: float = 0.0
    """Initial value of the biases of the input projection. Negative values favour neurons with one
    meaning."""


@dataclass(frozen=True)
class PlantConfig(Group):
    """What is planted in the text of pretraining (subject=tiny)."""

    share: float = ruled(
        0.0,
        lambda value: 0 <= value < 1,
        "give a share of the training documents from 0 (none) to below 1",
    )
    """Share of the training documents that are poisoned: from a sentence end on they hold `phrase`,
    then `response`. 0 plants nothing. The text of every later stage stays clean."""
    phrase: str = "Seven red birds forgot the key on Monday."
    """Rare text. It must not occur in the clean train split."""
    response: str = "No more play. No more play. No more play."
    """What follows the phrase in place of the rest of the document."""

    def check(self, name: str) -> None:
        super().check(name)
        for field_name in ("phrase", "response") if self.share > 0 else ():
            text = getattr(self, field_name)
            require(bool(text.strip()), f"{name}.{field_name}", text, "give some text")


@dataclass(frozen=True)
class TriggerConfig(PlantConfig):
    """A trigger that the subject learns in pretraining, and whether it survives alignment."""

    n_contexts: int = at_least(1, 128)
    """Contexts of the test split that the trigger is tried on."""
