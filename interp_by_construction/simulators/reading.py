"""How a language model reads the text behind which each subject token stands, without a look at
later text.

Where a tokenizer cuts a text depends on what comes next: ` hou` is one token at the end of a text,
and no token where ` house` goes on. So the tokens of a whole text tell at ` hou` that the word goes
on. Two ways avoid that:

- `prefix_tree`: every prefix that ends with a subject token is cut on its own. Prefixes share most
  of their tokens, so together they are a tree with few branches, and one pass reads it if each
  token attends to its ancestors alone. The model sees each prefix as it would see any text.
- `settled`: one sequence, for models behind an interface that takes nothing else. Where the tokens
  of a longer prefix would replace some that were read, the text is cut there and goes on.

Both depend, at each subject token, on the text up to its end only, whatever the tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

READING = "prefixes"
"""In the identity of every simulator: what a model reads of a text belongs to what it answers."""

WINDOW = 16
"""Subject tokens whose prefixes are cut at once."""

AHEAD = 8
"""The same for one sequence, which is often cut anew."""

LONG = 64
"""Tokens of an unbroken part of one sequence, after which a place is looked for to begin anew."""

OVERLAP = 8
"""Subject tokens in front of a window that are cut again with it."""

BREAK = "\n"
"""A text that no tokenizer joins with the word behind it."""

Cut = Callable[[list[str]], list[list[int]]]
"""Some texts -> the token ids of each."""


def cutter(tokenizer: Any) -> Cut:
    """Cuts as a transformers tokenizer does. Nothing in a text counts as a special token: texts are
    not trusted."""

    def cut(texts: list[str]) -> list[list[int]]:
        if not tokenizer.is_fast:
            read = tokenizer(texts, add_special_tokens=False, split_special_tokens=True)
            return list(read["input_ids"])
        # The same without the objects that transformers makes of each text.
        backend = tokenizer.backend_tokenizer
        backend.encode_special_tokens = True
        backend.no_truncation()
        backend.no_padding()
        return [read.ids for read in backend.encode_batch_fast(texts, add_special_tokens=False)]

    return cut


@dataclass(frozen=True)
class PrefixTree:
    """Token ids of all prefixes of a text that end with a subject token."""

    ids: NDArray[np.int64]
    """[node], parents before children."""
    parents: NDArray[np.int64]
    """[node], -1 for the first token of a prefix."""
    depths: NDArray[np.int64]
    """Tokens in front of a node in its prefixes, [node]: its position."""
    ends: NDArray[np.int64]
    """The node at which the prefix of each subject token ends, [token]; -1 for a prefix without
    tokens."""

    def ancestors(self) -> NDArray[np.bool_]:
        """Which nodes [node, node] a node is made from: those on its way from the root, and
        itself."""
        found = np.eye(len(self.ids), dtype=np.bool_)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                found[node] |= found[parent]
        return found

    def behind(self, ids: Sequence[int]) -> PrefixTree:
        """The same tree behind some tokens that every prefix begins with."""
        n = len(ids)
        if not n:
            return self
        return PrefixTree(
            np.concatenate([np.asarray(ids, dtype=np.int64), self.ids]),
            np.concatenate([np.arange(n) - 1, np.where(self.parents < 0, n - 1, self.parents + n)]),
            np.concatenate([np.arange(n), self.depths + n]),
            np.where(self.ends < 0, -1, self.ends + n),
        )


def prefix_tree(cut: Cut, pieces: Sequence[str]) -> PrefixTree:
    """pieces: the text of each subject token, in order."""
    ids: list[int] = []
    parents: list[int] = []
    depths: list[int] = []
    known: dict[tuple[int, int], int] = {}
    ends = []
    for path in prefix_ids(cut, pieces):
        node = -1
        for depth, token in enumerate(path):
            found = known.get((node, token))
            if found is None:
                found = known[node, token] = len(ids)
                ids.append(token)
                parents.append(node)
                depths.append(depth)
            node = found
        ends.append(node)
    every = (np.array(values, dtype=np.int64) for values in (ids, parents, depths, ends))
    return PrefixTree(*every)


def prefix_ids(cut: Cut, pieces: Sequence[str]) -> Iterator[list[int]]:
    """Token ids of each prefix that ends with a piece, in order.

    A long text is cut in windows. A window begins some pieces before its own first one, where
    cutting the rest alone has just given the same tokens as cutting the whole. Where there is no
    such place, the window before is lengthened.
    """
    ends = np.cumsum([len(piece) for piece in pieces]).tolist()
    text = "".join(pieces)
    head: list[int] = []
    start = 0
    for first in range(0, len(ends), WINDOW):
        own = ends[first : first + WINDOW]
        paths = _continued(cut, text, start, own)
        yield from (head + path for path in paths)
        earlier = [at for at in own[-1 - OVERLAP : -1] if at > start]
        if paths and (split := _split(cut, text, start, own[-1], earlier, paths[-1])):
            start, n = split
            head = head + paths[-1][:n]


def settled(cut: Cut, pieces: Sequence[str]) -> tuple[list[int], NDArray[np.int64]]:
    """Token ids of a text as one sequence, and how many of them have been read at the end of each
    piece, [piece].

    The tokens of a piece are appended to those of the pieces before it. They are what the tokenizer
    makes of all of them together, where that begins with the tokens that were read; else the text
    is cut in front of the piece.
    """
    ends = np.cumsum([len(piece) for piece in pieces]).tolist()
    text = "".join(pieces)
    closed: list[int] = []
    open_: list[int] = []
    start = before = 0
    known: dict[int, list[int]] = {}
    reads = []
    for i, end in enumerate(ends):
        ahead = ends[i : i + AHEAD]
        if end not in known:
            # So that the time does not grow with the square of the length.
            earlier = [at for at in ends[max(0, i - OVERLAP) : i] if start < at < before]
            if len(open_) > LONG and (split := _split(cut, text, start, before, earlier, open_)):
                start, n = split
                closed, open_ = closed + open_[:n], open_[n:]
            known = dict(zip(ahead, _continued(cut, text, start, ahead), strict=True))
        if known[end][: len(open_)] != open_:
            closed, open_, start = closed + open_, [], before
            known = dict(zip(ahead, _continued(cut, text, start, ahead), strict=True))
        open_, before = known[end], end
        reads.append(len(closed) + len(open_))
    return closed + open_, np.array(reads, dtype=np.int64)


def _split(
    cut: Cut, text: str, start: int, end: int, earlier: Sequence[int], ids: list[int]
) -> tuple[int, int] | None:
    """The first of some earlier ends where cutting the text up to there and the rest alone gives
    the tokens that cutting both together gave, and how many of them stand before it."""
    for at in earlier:
        (front,) = _continued(cut, text, start, [at])
        (back,) = _continued(cut, text, at, [end])
        if back and front + back == ids:
            return at, len(front)
    return None


def _continued(cut: Cut, text: str, start: int, ends: Sequence[int]) -> list[list[int]]:
    """Token ids of the text from `start` to each end. Some tokenizers put a space in front of every
    text: what goes on in the middle is cut behind a line break, which is taken off again."""
    plain = [text[start:end] for end in ends]
    if not start:
        return cut(plain)
    (front,), behind = cut([BREAK]), cut([BREAK + piece for piece in plain])
    n = len(front)
    # Each on its own: no text decides how a shorter one is cut.
    return [
        ids[n:] if ids[:n] == front else alone
        for ids, alone in zip(behind, cut(plain), strict=True)
    ]
