"""Words of some meanings, by WordNet: what topics and next words are about."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sequences import DAYS, MONTHS
from table import Mask, Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from lexical_supervision import Sense, WordNet

ROOTS: dict[str, tuple[str, ...]] = {
    "animals": ("n animal 0",),
    "birds": ("n bird 0",),
    "food and drink": ("n food 0", "n food 1", "n beverage 0"),
    "parts of the body": ("n body_part 0",),
    "family members": ("n relative 0",),
    "clothes": ("n clothing 0", "n footwear 0", "n headdress 0"),
    "weather": ("n weather 0", "n precipitation 2", "n wind 0", "n storm 0"),
    "the sea and rivers": ("n body_of_water 0", "n shore 0", "n vessel 1"),
    "ships and boats": ("n vessel 1", "n sailor 0"),
    "money": ("n money 0", "n coin 0", "n monetary_unit 0", "n payment 0"),
    "plants and trees": ("n plant 1",),
    "houses and rooms": ("n building 0", "n room 0", "n dwelling 0"),
    "furniture": ("n furniture 0",),
    "vehicles": ("n vehicle 0",),
    "times of day and year": (
        "n day 3",
        "n season 1",
        "n time_of_day 0",
        "n calendar_day 0",
        "n calendar_month 0",
    ),
    "occupations": ("n worker 0", "n professional 0", "n servant 0", "n official 0"),
    "weapons and fighting": ("n weapon 0", "n fight 0", "n war 0", "n soldier 0"),
    "tools": ("n tool 0", "n implement 0"),
    "light and fire": ("n light 0", "n fire 0", "n lamp 0", "n flame 0"),
    "colors": ("n color 0", "a chromatic 0"),
    "books and letters": ("n publication 0", "n document 0", "n letter 0"),
    "music": ("n musical_instrument 0", "n song 0", "n singing 0", "v sing 0", "v sing 1"),
    "sleep": ("n sleep 0", "v sleep 0", "n bed 0"),
    "motion": ("v travel 0",),
    "speech": ("v talk 0", "v tell 0", "v express 1"),
    "seeing and hearing": ("v perceive 0", "v look 0"),
    "thinking": ("v think 2", "v think 0", "v know 0"),
    "joy": ("n joy 0", "n happiness 0", "n pleasure 0", "v enjoy 0", "n laugh 0"),
    "sadness": ("n sadness 0", "n sorrow 0", "n grief 0", "v weep 0"),
    "anger": ("n anger 0", "n annoyance 0"),
    "fear": ("n fear 0", "v fear 0"),
    "love": ("n love 0", "n affection 0", "v love 0"),
    "illness": ("n illness 0", "n symptom 0", "n wound 0"),
}
"""Name -> part of speech, word and number of the sense, from which all kinds belong."""
PRAISE = "good fine beautiful lovely charming excellent splendid delightful pleasant noble brave kind handsome perfect happy glad delighted best pretty admirable amiable agreeable sweet wonderful magnificent"
BLAME = "bad wicked horrid dreadful terrible cruel ugly nasty evil foolish stupid silly disagreeable wretched miserable worst awful unpleasant vile hateful horrible mean rude selfish"


def categories(t: Table, net: WordNet) -> dict[str, Mask]:
    """Rows whose word mostly has one of the meanings, by the name of each category."""
    roots = {
        name: {net.senses[word, pos][int(rank)][0] for pos, word, rank in map(str.split, own)}
        for name, own in ROOTS.items()
    }
    forms = {str(form) for form in np.unique(t.low[t.word])}
    members: dict[str, set[str]] = {name: set() for name in ROOTS}
    for form in forms:
        shares = dict.fromkeys(ROOTS, 0.0)
        for sense, _, share in net.readings(form):
            above = net.ancestors(sense)
            for name, own in roots.items():
                if above & own:
                    shares[name] += share
        for name, share in shares.items():
            if share > 0.5:
                members[name].add(form)
    # Names are no toads, and `may` is mostly no month.
    common = ~t.tagged("NNP", "NNPS", "MD")
    found = {name: t.among(sorted(own)) & common for name, own in members.items()}
    dates = " ".join([*DAYS, *MONTHS]).lower()
    found["times of day and year"] |= t.among(dates) & t.tagged("NNP")
    found["praise"], found["blame"] = t.among(PRAISE), t.among(BLAME)
    return found


def shown(sense: Sense, net: WordNet) -> str:
    """Words and gloss of a sense."""
    return f"{', '.join(net.synsets[sense].words)}: {net.synsets[sense].gloss}"
