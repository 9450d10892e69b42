#!/usr/bin/env python3
"""Assigns the shipped tales to splits: `python tools/split_tales.py TALES.jsonl.gz OUT.tsv`.

1. Documents that tell one story are one unit. Found by rare words that two books share, and by
   `RETELLINGS`.
2. Books of `BUNDLED` go to `train`: one of their documents holds several fables.
   Books of `BOOKS_APART` are `apart`: text of another source.
3. Every other book of at least 30 documents gives one unit to every split. The remaining units go,
   in random order, to the split that is furthest below its share of words.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse.csgraph import connected_components

from interp_by_construction.config.text import APART, TALES_FRACTIONS

BUNDLED = ("The Fables of Aesop", "Three Hundred Aesop's Fables")
BOOKS_APART = (
    "The Happy Prince and Other Tales",
    "The Wonderful Wizard of Oz",
    "Japanese Fairy Tales",
)
MIN_DOCUMENTS = 30
SIMILAR = 0.29
"""Cosine of two documents. Above it all pairs of different books were retellings, when read."""
SEED = 0

RETELLINGS = (
    ("Little Red-Cap", "Little Red Riding Hood", "The True History of Little Golden Hood"),
    ("The Shoes That Were Danced to Pieces", "The Twelve Dancing Princesses", "Kate Crackernuts"),
    ("Cinderella", "Cinderella, or the Little Glass Slipper", "Fair, Brown, and Trembling"),
    ("Briar-Rose", "The Sleeping Beauty in the Wood"),
    ("The Twelve Brothers", "The Six Swans", "The Wild Swans", "The Seven Ravens"),
    ("Old Sultan", "The War of the Wolf and the Fox"),
    ("The Golden Bird", "The Golden Mermaid", "The Golden Blackbird"),
    ("The Master-Thief", "The Master Thief"),
    ("The Three Little Pigs", "The Story of the Three Little Pigs"),
    ("Tom Tit Tot", "Rumpelstiltskin"),
    ("Cap O' Rushes", "Allerleirauh", "The Dirty Shepherdess", "The Goose-Girl at the Well"),
    ("The Rose-Tree", "The Juniper-Tree"),
    ("The Three Sillies", "The Six Sillies", "Clever Elsie"),
    ("The Well of the World's End", "The Frog-King, or Iron Henry"),
    ("Gold-Tree and Silver-Tree", "Little Snow-white"),
    ("The Battle of the Birds", "The Master-Maid", "Nix Nought Nothing"),
    ("Mr. Fox", "The Robber Bridegroom", "Blue Beard", "Fitcher's Bird"),
    ("Molly Whuppie", "Little Thumb"),
    ("The Princess on the Glass Hill", "The Seven Foals"),
    ("East of the Sun and West of the Moon", "The Black Bull of Norroway", "Soria Moria Castle"),
    (
        "The Wishing-Table, the Gold-Ass, and the Cudgel in the Sack",
        "The Ass, the Table, and the Stick",
    ),
    ("Doctor Knowall", "Harisarman"),
    ("The Singing Bone", "Binnorie"),
    ("Hans in Luck", "Mr. Vinegar"),
    (
        "The Little Folks' Presents",
        "How an Old Man Lost His Wen",
        "The Story of Hok Lee and the Dwarfs",
    ),
    ("The Bremen Town-Musicians", "How Jack Went to Seek His Fortune", "Jack and His Comrades"),
    (
        "The Little Peasant",
        "Little Claus and Big Claus",
        "Hudden and Dudden and Donald O'Neary",
        "The Biter Bit",
    ),
    ("The Louse and the Flea", "Titty Mouse and Tatty Mouse"),
    ("The Golden Goose", "The Magic Swan"),
    ("Mother Holle", "The Three Heads of the Well"),
    ("Punchkin", "The Death of Koshchei the Deathless"),
    ("The Charmed Ring", "The Magic Ring"),
    ("The Three Feathers", "Puddocky"),
    ("The Cat and the Mouse in Partnership", "Cat and Mouse in Partnership"),
)
"""Titles that tell one story in other words, by the tale types that folklorists list."""


@dataclass(frozen=True)
class Tale:
    """One document."""

    text: str
    title: str
    book: str

    @property
    def n_words(self) -> int:
        return len(self.text.split())


def stories(tales: Sequence[Tale]) -> np.ndarray:
    """Number of the story that each document tells, int [n_documents]."""
    counts = [
        Counter(word for word in re.findall(r"[a-z]+", tale.text.lower()) if len(word) > 2)
        for tale in tales
    ]
    frequency = Counter(word for count in counts for word in count)
    rare = [word for word, n in frequency.items() if 2 <= n <= 0.3 * len(tales)]
    column = {word: i for i, word in enumerate(rare)}
    vectors = np.zeros((len(tales), len(column)), np.float32)
    for row, count in enumerate(counts):
        for word in count.keys() & column.keys():
            weight = math.log(len(tales) / frequency[word])
            vectors[row, column[word]] = (1 + math.log(count[word])) * weight
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    books = np.array([tale.book for tale in tales])
    same = (vectors @ vectors.T > SIMILAR) & (books[:, None] != books[None])
    titles = {tale.title for tale in tales}
    for group in RETELLINGS:
        unknown = set(group) - titles
        if unknown:
            raise SystemExit(f"no tale is called {', '.join(sorted(unknown))}")
        rows = np.array([i for i, tale in enumerate(tales) if tale.title in group])
        same[np.ix_(rows, rows)] = True
    for title in titles:
        rows = np.array([i for i, tale in enumerate(tales) if tale.title == title])
        same[np.ix_(rows, rows)] = True
    return connected_components(same, directed=False)[1]


def split(tales: Sequence[Tale], story: np.ndarray) -> list[str]:
    """Name of the split of each document."""
    members: dict[int, list[int]] = {}
    for i, number in enumerate(story.tolist()):
        members.setdefault(number, []).append(i)
    sizes = np.array([tale.n_words for tale in tales])
    found: dict[int, str] = {}
    used = dict.fromkeys(TALES_FRACTIONS, 0.0)

    def put(number: int, name: str) -> None:
        for i in members[number]:
            found[i] = name
        used[name] += float(sizes[members[number]].sum())

    books = Counter(tale.book for tale in tales)
    for number, rows in members.items():
        of = {tales[i].book for i in rows}
        if of & set(BOOKS_APART):
            # A retelling of theirs in another book may not be learned, but is no other source.
            for i in rows:
                found[i] = APART if tales[i].book in BOOKS_APART else "test"
        elif of & set(BUNDLED):
            put(number, "train")
    order = np.random.default_rng(SEED).permutation(list(members)).tolist()
    total = sizes[[tale.book not in BOOKS_APART for tale in tales]].sum()
    for book in sorted(name for name, n in books.items() if n >= MIN_DOCUMENTS):
        for name in TALES_FRACTIONS if book not in BUNDLED else ():
            if any(found.get(i) == name and tales[i].book == book for i in range(len(tales))):
                continue
            free = (n for n in order if members[n][0] not in found)
            put(next(n for n in free if {tales[i].book for i in members[n]} == {book}), name)
    for number in order:
        if members[number][0] not in found:
            put(
                number,
                min(TALES_FRACTIONS, key=lambda name: used[name] / (TALES_FRACTIONS[name] * total)),
            )
    return [found[i] for i in range(len(tales))]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tales", type=Path)
    parser.add_argument("out", type=Path)
    paths = parser.parse_args()
    lines = gzip.decompress(paths.tales.read_bytes()).decode().splitlines()
    rows = [json.loads(line) for line in lines]
    tales = [Tale(row["text"], row["title"], row["book"]) for row in rows]
    story = stories(tales)
    with paths.out.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(["split", "story", "book", "title"])
        for tale, number, name in zip(tales, story, split(tales, story), strict=True):
            writer.writerow([name, number, tale.book, tale.title])


if __name__ == "__main__":
    main()
