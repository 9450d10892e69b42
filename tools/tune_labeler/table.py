"""Parsed passages as one table with a row for each word or mark, and masks over its rows."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Table:
    """Rows of all passages one after the other; arrays are [row]."""

    texts: list[str]
    """Of each passage."""
    books: list[str]
    """That each passage is from."""
    senses: list[dict[int, tuple[str, int]]]
    """Of each passage: the character at which a word ends -> its known sense."""
    passage: NDArray[np.int64]
    start: NDArray[np.int64]
    """First character in the passage's text."""
    end: NDArray[np.int64]
    form: NDArray[np.str_]
    """As it is written."""
    lemma: NDArray[np.str_]
    tag: NDArray[np.str_]
    """Penn Treebank part of speech."""
    relation: NDArray[np.str_]
    """To its head."""
    head: NDArray[np.int64]
    """Row of its head; its own for the root of a sentence."""
    sentence: NDArray[np.int64]
    """Number of its sentence among those of all passages."""

    @classmethod
    def load(cls, path: Path, most: int | None = None) -> Table:
        """Reads what `parse_texts.py` wrote, the first `most` texts (None: all)."""
        texts, books, senses = [], [], []
        columns: defaultdict[str, list] = defaultdict(list)
        n_sentences = 0
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for i, line in enumerate(islice(file, most)):
                found = json.loads(line)
                text, words = found["text"], found["words"]
                texts.append(text)
                books.append(found["book"])
                senses.append({int(end): (s[0], s[1]) for end, s in found["senses"].items()})
                first = len(columns["form"])
                for start, end, lemma, tag, relation, head, sentence in words:
                    columns["passage"].append(i)
                    columns["start"].append(start)
                    columns["end"].append(end)
                    columns["form"].append(text[start:end])
                    columns["lemma"].append(lemma)
                    columns["tag"].append(tag)
                    columns["relation"].append(relation)
                    columns["head"].append(first + head)
                    columns["sentence"].append(n_sentences + sentence)
                n_sentences += 1 + max(word[6] for word in words)
        return cls(
            texts, books, senses, **{name: np.array(values) for name, values in columns.items()}
        )

    def __len__(self) -> int:
        return len(self.form)

    @cached_property
    def low(self) -> NDArray[np.str_]:
        return np.char.lower(self.form)

    @cached_property
    def word(self) -> Mask:
        """No mark, no number in digits, no piece such as `'s`."""
        return np.char.isalpha(np.char.replace(np.char.replace(self.form, "-", ""), "'", "")) & (
            np.char.find(self.form, "'") != 0
        )

    def among(self, words: str | list[str]) -> Mask:
        """Rows with one of these lower-case forms."""
        return np.isin(self.low, words.split() if isinstance(words, str) else words)

    def tagged(self, *tags: str) -> Mask:
        return np.isin(self.tag, tags)

    def related(self, *relations: str) -> Mask:
        return np.isin(self.relation, relations)

    def headed(self, mask: Mask) -> Mask:
        """Rows whose head is in the mask."""
        return mask[self.head]

    def heads_of(self, mask: Mask) -> Mask:
        """Rows that are the head of a row in the mask."""
        found = np.zeros(len(self), dtype=bool)
        found[self.head[mask]] = True
        return found

    def before(self, mask: Mask, steps: int = 1) -> Mask:
        """Rows that stand so many rows before one of the mask, in the same passage."""
        found = np.zeros(len(self), dtype=bool)
        found[:-steps] = mask[steps:] & (self.passage[:-steps] == self.passage[steps:])
        return found

    def behind(self, mask: Mask, steps: int = 1) -> Mask:
        """Rows that stand so many rows behind one of the mask, in the same passage."""
        found = np.zeros(len(self), dtype=bool)
        found[steps:] = mask[:-steps] & (self.passage[:-steps] == self.passage[steps:])
        return found

    def sentences_with(self, mask: Mask, least: int = 1) -> Mask:
        """All rows of sentences in which so many rows are in the mask."""
        counts = np.bincount(self.sentence[mask], minlength=int(self.sentence[-1]) + 1)
        return counts[self.sentence] >= least

    def so_far(self, mask: Mask) -> Mask:
        """Rows that stand behind a row of the mask in the same sentence."""
        running = np.cumsum(mask) - mask
        return running > running[self.sentence_start]

    @cached_property
    def sentence_start(self) -> NDArray[np.int64]:
        """Row with which each row's sentence begins."""
        return np.searchsorted(self.sentence, self.sentence)

    @cached_property
    def place(self) -> NDArray[np.int64]:
        """Words of the sentence up to this one, itself included."""
        running = np.cumsum(self.word)
        return running - (running - self.word)[self.sentence_start]

    @cached_property
    def quoted(self) -> Mask:
        """Inside quotation marks, the marks left out."""
        mark = self.form == '"'
        first = np.searchsorted(self.passage, self.passage)
        running = np.cumsum(mark)
        inside = (running - (running - mark)[first]) % 2 == 1
        return inside & ~mark

    @cached_property
    def opens_quote(self) -> Mask:
        return (self.form == '"') & self.before(self.quoted)

    @cached_property
    def closes_quote(self) -> Mask:
        return (self.form == '"') & ~self.opens_quote

    @cached_property
    def bracketed(self) -> Mask:
        first = np.searchsorted(self.passage, self.passage)
        change = (self.form == "(").astype(int) - (self.form == ")")
        running = np.cumsum(change)
        return ((running - (running - change)[first]) > 0) & (self.form != "(")

    @cached_property
    def name(self) -> Mask:
        """Names of people and places, as tagged and capitalised."""
        capital = np.char.isupper(np.array([form[:1] for form in self.form]))
        return self.tagged("NNP", "NNPS") & capital & self.word

    @cached_property
    def occurrence(self) -> NDArray[np.int64]:
        """How often the lower-case form stood in the passage before, [row]."""
        return self._counted(self.passage)

    @cached_property
    def occurrence_in_sentence(self) -> NDArray[np.int64]:
        return self._counted(self.sentence)

    def _counted(self, groups: NDArray[np.int64]) -> NDArray[np.int64]:
        found = np.zeros(len(self), dtype=np.int64)
        seen: dict[tuple[int, str], int] = {}
        for row, key in enumerate(zip(groups.tolist(), self.low.tolist(), strict=True)):
            found[row] = seen.get(key, 0)
            seen[key] = found[row] + 1
        return found

    @cached_property
    def copied(self) -> Mask:
        """Rows that come behind a word as they did the last time it stood in the passage."""
        found = np.zeros(len(self), dtype=bool)
        last: dict[tuple[int, str], str] = {}
        low, passage = self.low.tolist(), self.passage.tolist()
        for row in range(1, len(self)):
            if passage[row] == passage[row - 1]:
                key = passage[row], low[row - 1]
                found[row] = last.get(key) == low[row]
                last[key] = low[row]
        return found
