"""Passages with series of numbers, days, months and letters, which books hold few of."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = (
    "January February March April May June July August September October November December".split()
)
WORDS = "one two three four five six seven eight nine ten eleven twelve".split()
ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth".split()
LETTERS = list("abcdefghijklmnop")
PEOPLE = "the farmer,the baker,our neighbour,the clerk,her cousin,the old sailor,the teacher,the painter,my brother,the gardener".split(
    ","
)
THINGS = "letters,bottles,visitors,wagons,lanterns,boxes,books,coins,barrels,chairs,baskets,horses,candles,loaves".split(
    ","
)
DID = "counted,sold,found,carried,ordered,painted,moved,lost,bought,opened".split(",")
LINES = (
    "On {day} {who} {did} {n} {what}, on {day} {n}, and on {day} {n}.",
    "In {month} there were {n} {what}; in {month} there were {n}.",
    "Chapter {n} speaks of {what}, chapter {n} of {who}, and chapter {n} of nothing at all.",
    "The {nth} box held {what}, the {nth} was empty, and the {nth} belonged to {who}.",
    "{Who} {did} {word} {what}, then {word}, then {word} more.",
    "Room {letter} is for {what}, room {letter} is locked, and room {letter} is where {who} sleeps.",
    "They met in {month}, wrote to each other in {month}, and parted in {month}.",
    "Page {n}, page {n}, page {n}: {who} turned them without a word.",
    "On {day} it rained, on {day} {who} came, and by {day} the {what} were gone.",
    "The count went {word}, {word}, {word}, {word}, and still {who} was not content.",
)


def passage(rng: random.Random) -> str:
    """Some lines whose series mostly rise by one, or rise, fall, or jump."""
    series: dict[str, Callable[[], str]] = {
        "n": _series(rng, [str(n) for n in range(rng.randint(1, 60), 120)]),
        "day": _series(rng, DAYS),
        "month": _series(rng, MONTHS),
        "word": _series(rng, WORDS),
        "nth": _series(rng, ORDINALS),
        "letter": _series(rng, LETTERS),
        "what": lambda: rng.choice(THINGS),
        "did": lambda: rng.choice(DID),
        "who": lambda: rng.choice(PEOPLE),
    }
    lines = []
    for line in rng.sample(LINES, rng.randint(3, 4)):
        while "{" in line:
            start, stop = line.index("{"), line.index("}")
            name = line[start + 1 : stop]
            said = series[name.lower()]()
            line = (
                line[:start]
                + (said[0].upper() + said[1:] if name[0].isupper() else said)
                + line[stop + 1 :]
            )
        lines.append(line)
    return " ".join(lines)


def _series(rng: random.Random, order: Sequence[str]) -> Callable[[], str]:
    at = rng.randrange(len(order) // 2)

    def following() -> str:
        nonlocal at
        found = order[at]
        step = 1 if rng.random() < 0.6 else rng.choice((-3, -1, 2, 3, 4))
        at = (at + step) % len(order)
        return found

    return following
