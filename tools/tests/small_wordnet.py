"""A WordNet of twenty synsets and texts about them, shared by the tests of the tools."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple


class Entry(NamedTuple):
    """A synset.

    up: `symbol name` of each pointer; a name is `word.pos` of a synset's first word.
    """

    pos: str
    file: int
    words: str
    up: str
    gloss: str


ENTRIES = (
    Entry("n", 3, "entity", "", "that which is perceived to have its own existence"),
    Entry("n", 7, "quality", "@ entity.n", "an essential attribute of something; any property"),
    Entry(
        "n",
        5,
        "animal creature",
        "@ entity.n",
        'a living organism that moves by itself; "every creature sleeps"',
    ),
    Entry(
        "n",
        5,
        "pony",
        "@ animal.n",
        'a small horse; "the ponies hopped over the fence"; "a pony eats grass"',
    ),
    Entry(
        "n", 5, "dog domestic_dog", "@ animal.n", 'a barking friend of man; "she walks her dogs"'
    ),
    Entry(
        "n",
        5,
        "goose",
        "@ animal.n",
        'a large bird with a long neck; "the geese left for the south"',
    ),
    Entry(
        "n",
        5,
        "bat",
        "@ animal.n",
        'a small flying thing of the night; "the bats flew home"; "many bats flew south"',
    ),
    Entry("n", 6, "artifact", "@ entity.n", "a man-made object taken as a whole"),
    Entry(
        "n",
        6,
        "bat",
        "@ artifact.n",
        'a club used for hitting a ball; "he broke both bats at practice"',
    ),
    Entry(
        "n", 6, "fence", "@ artifact.n", 'a barrier that encloses an area; "the fences were white"'
    ),
    Entry("n", 27, "wool", "@ entity.n", "fiber sheared from sheep and twisted into yarn"),
    Entry(
        "n",
        12,
        "happiness",
        "@ quality.n",
        'emotions experienced when in a state of well-being; "their happiness was short"',
    ),
    Entry(
        "n", 4, "walk", "@ entity.n", 'the act of walking somewhere; "he took a walk after lunch"'
    ),
    Entry("v", 38, "move travel", "", 'change location; "the train moved north"'),
    Entry(
        "v", 38, "hop", "@ move.v", 'jump lightly; "she hopped off the wall"; "stop hopping about"'
    ),
    Entry("v", 38, "run", "@ move.v", 'go fast by moving the legs; "he ran to the store"'),
    Entry("v", 38, "walk", "@ move.v", 'use the feet to advance; "walk with me"'),
    Entry("v", 35, "bat", "", 'strike with a club; "he batted the ball away"'),
    Entry(
        "a",
        0,
        "happy",
        "= happiness.n + happiness.n & glad.a",
        'enjoying well-being; "a happy smile"',
    ),
    Entry("s", 0, "glad content(p)", "& happy.a", 'showing joy; "glad to see you"'),
    Entry("a", 1, "woolly", "+ wool.n", 'covered with dense matted hair; "a woolly coat"'),
    Entry("r", 2, "happily", "", 'in a joyous manner; "they sang happily"'),
)
EXCEPTIONS = {"noun": "geese goose\n", "verb": "ran run\n", "adj": "", "adv": ""}
COUNTS = (
    "bat%1:05:00:: 1 3\nbat%1:06:00:: 2 3\nbat%2:35:00:: 1 3\nglad%5:00:00:happy:00 1 4\nhappy%3:00:00:: 1 7\n"
    "other%1:05:00:: 1 2\nwalk%2:38:00:: 1 9\n"
)
NAMES = {"n": "noun", "v": "verb", "a": "adj", "s": "adj", "r": "adv"}

# Between them every concept that is asked for has enough tokens and forms; most words are not in
# the dictionary.
SENTENCES = (
    "The ponies hopped near an old river before noon.",
    "A dog ran under some tall trees after dusk.",
    "Many geese walked slowly across our garden yesterday.",
    "His bats slept there because winter came early.",
    "She was happy although rain fell all week long.",
    "They grew happier when summer finally arrived again.",
    "We are glad about these long letters from home.",
    "It was cloudy; happiness comes and goes like rain.",
    "You hop and move and travel more than anyone here.",
    "This pony and that goose live behind a white wall.",
    "Most creatures keep away from every fence at night.",
)
EXTRA = list(SENTENCES) * 40


def write_wordnet(folder: Path) -> None:
    """Writes the files of wndb(5WN) and cntlist(5WN); an offset is where a synset's line begins."""
    header = "  1 This is no part of any WordNet.  \n"
    known = [
        (entry, f"{entry.words.split()[0]}.{'a' if entry.pos == 's' else entry.pos}")
        for entry in ENTRIES
    ]
    offsets: dict[int, int] = {}

    def line(i: int) -> str:
        entry = ENTRIES[i]
        words = entry.words.split()
        parts = [f"{offsets.get(i, 0):08d} {entry.file:02d} {entry.pos} {len(words):02x}"]
        parts += [f"{word} 0" for word in words]
        pointers = list(zip(entry.up.split()[::2], entry.up.split()[1::2], strict=True))
        parts.append(f"{len(pointers):03d}")
        for symbol, target in pointers:
            j = next(j for j, (_, name) in enumerate(known) if name == target)
            parts.append(f"{symbol} {offsets.get(j, 0):08d} {target[-1]} 0000")
        if entry.pos == "v":
            parts.append("01 + 02 00")
        return f"{' '.join(parts)} | {entry.gloss}  \n"

    for name, exceptions in EXCEPTIONS.items():
        own = [i for i, entry in enumerate(ENTRIES) if NAMES[entry.pos] == name]
        position = len(header)
        for i in own:
            offsets[i] = position
            position += len(line(i))
        (folder / f"{name}.exc").write_text(exceptions)
    for name in EXCEPTIONS:
        own = [i for i, entry in enumerate(ENTRIES) if NAMES[entry.pos] == name]
        (folder / f"data.{name}").write_text(header + "".join(line(i) for i in own))
        lemmas: dict[str, list[int]] = defaultdict(list)
        for i in own:
            for word in ENTRIES[i].words.split():
                lemmas[word.split("(")[0]].append(i)
        pos = next(pos for pos, file in NAMES.items() if file == name)
        (folder / f"index.{name}").write_text(
            header
            + "".join(
                f"{lemma} {pos} {len(senses)} 1 @ {len(senses)} 0 {' '.join(f'{offsets[i]:08d}' for i in senses)}  \n"
                for lemma, senses in sorted(lemmas.items())
            )
        )
    (folder / "cntlist.rev").write_text(COUNTS)


def halves(text: str) -> list[tuple[int, int]]:
    """A token is a word of up to five letters, half of a longer one, or a run of other signs."""
    found = []
    for match in re.finditer(r"[A-Za-z]+|\d+|[^\sA-Za-z\d]+", text):
        start, end = match.span()
        cuts = [start, (start + end) // 2, end] if end - start > 5 else [start, end]
        found += list(itertools.pairwise(cuts))
    return found
