"""The documents that a corpus is made of, and the split of each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import repeat
from typing import NamedTuple, Self

from interp_by_construction.config import SPLITS, DataConfig
from interp_by_construction.config.text import APART
from interp_by_construction.corpus.splits import assign
from interp_by_construction.corpus.stories import Story, generate
from interp_by_construction.corpus.text import Reading, shipped_split
from interp_by_construction.corpus.words import count_words
from interp_by_construction.errors import CorpusError

MIN_BLOCKS = 4
"""Fewest blocks of any split. With fewer, losses and scores mean nothing."""


class Document(NamedTuple):
    """What is known of a document beside its text."""

    sha256: str
    n_words: int
    held_out: bool
    split: str | None
    """None where it is drawn, once the sizes of all documents are known."""


@dataclass
class Source:
    """What a corpus is made of, and what is known of the documents that were read so far."""

    stories: Iterable[tuple[Story, str | None]]
    """Each document and its split."""
    reading: Reading | None = None
    documents: list[Document] = field(default_factory=list)
    n_repeats: int = 0
    """Documents that were read before."""

    @classmethod
    def of(cls, cfg: DataConfig) -> Self:
        """Reads nothing yet. Raises CorpusError for too few stories."""
        if cfg.kind == "stories":
            if cfg.n_documents < len(SPLITS):
                raise CorpusError(
                    f"data.n_documents={cfg.n_documents} cannot fill the splits: give at least 1000"
                )
            # The split comes first: it decides which templates and words a story may use.
            splits = assign([1.0] * cfg.n_documents, cfg.fractions, cfg.seed)
            return cls(zip(generate(splits, cfg.seed), splits, strict=True))
        reading = Reading(cfg)
        shipped = cfg.split == "shipped"
        given = iter(shipped_split()) if shipped else repeat(None)
        pairs = zip(reading, given, strict=shipped)
        return cls(((Story(text, False), split) for text, split in pairs), reading)

    def texts(self) -> Iterator[str]:
        """Each text once, so that no text is in two splits. Raises CorpusError as `Reading`."""
        seen: set[str] = set()
        for story, split in self.stories:
            digest = hashlib.sha256(story.text.encode()).hexdigest()
            if digest in seen:
                self.n_repeats += 1
                continue
            seen.add(digest)
            n_words = count_words(story.text)
            self.documents.append(Document(digest, n_words, story.held_out, split))
            yield story.text

    def members(self, cfg: DataConfig) -> dict[str, list[int]]:
        """Documents of each split, after all texts have been read. Raises CorpusError for too few
        of them."""
        known = [document.split for document in self.documents if document.split is not None]
        splits = known or self._drawn(cfg)
        found = {
            split: [i for i, own in enumerate(splits) if own == split] for split in (*SPLITS, APART)
        }
        if not found[APART]:
            del found[APART]
        return found

    def _drawn(self, cfg: DataConfig) -> list[str]:
        sizes = [document.n_words for document in self.documents]
        if len(sizes) < len(SPLITS):
            repeats = f" ({self.n_repeats} repeats left out)" if self.n_repeats else ""
            raise CorpusError(
                f"the corpus {cfg.path} is too small: {len(sizes)} documents{repeats} with about "
                f"{sum(sizes)} tokens; about {needed(cfg)} tokens in at least {len(SPLITS)} "
                "documents are needed. Give more text."
            )
        return assign(sizes, cfg.fractions, cfg.seed)


def needed(cfg: DataConfig) -> int:
    """Tokens that give the smallest split its minimum. Rounding costs each split up to a block."""
    return round(
        (MIN_BLOCKS + 1) * cfg.block_size / max(min(cfg.fractions[split] for split in SPLITS), 1e-6)
    )
