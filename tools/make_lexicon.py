"""Makes the lexicon that ships with the controlled English of labels
(`interp_by_construction/truth/data/lexicon.json.gz`) from WordNet's `dict` folder, any 3.x:

    python tools/make_lexicon.py --wordnet DICT

1. A category is a lexicographer file of WordNet, or all that is a kind of some well-known synset. A
   word class is a part of speech, or an inflection of it.
2. A word form belongs to a category if more than half of its uses do. Uses are counted by the
   senses that WordNet's tagged corpus has; a small prior on the order of senses stands in for words
   that it never saw.
3. Closed-class words (`in`, `can`, `a`) are left out: their other readings are rare.

The names of the categories were chosen from WordNet alone, before any label was read by them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from lexical_supervision import Sense, WordNet

from interp_by_construction.truth.categories import LEXICON, comparisons, plural, verb_forms
from interp_by_construction.truth.closed import CLOSED_WORDS

FILES = {
    4: "actions",
    5: "animals",
    6: "man-made objects",
    7: "qualities",
    8: "body parts",
    9: "thoughts and ideas",
    10: "communication",
    11: "events",
    12: "emotions",
    13: "food",
    14: "groups",
    15: "places",
    17: "natural objects",
    18: "people",
    19: "natural phenomena",
    20: "plants",
    21: "possessions",
    22: "natural processes",
    23: "quantities",
    24: "relations",
    25: "shapes",
    26: "states",
    27: "substances",
    28: "time",
    29: "verbs of the body",
    30: "verbs of change",
    31: "verbs of thinking",
    32: "verbs of speaking",
    33: "verbs of competition",
    34: "verbs of eating and drinking",
    35: "verbs of contact",
    36: "verbs of making",
    37: "verbs of feeling",
    38: "verbs of motion",
    39: "verbs of perception",
    40: "verbs of possession",
    41: "verbs of social life",
    42: "verbs of being",
    43: "verbs of weather",
}
"""WordNet's lexicographer files by number."""

SYNSETS = {
    "birds": "bird.n.1",
    "fish": "fish.n.1 fish.n.2",
    "insects": "insect.n.1",
    "reptiles": "reptile.n.1",
    "mammals": "mammal.n.1",
    "dogs": "dog.n.1",
    "cats": "cat.n.1",
    "horses": "horse.n.1",
    "trees": "tree.n.1",
    "flowers": "flower.n.1",
    "fruit": "edible_fruit.n.1",
    "vegetables": "vegetable.n.1",
    "meat": "meat.n.1",
    "drinks": "beverage.n.1",
    "meals": "meal.n.1",
    "clothes": "clothing.n.1 footwear.n.1 footwear.n.2 headdress.n.1",
    "footwear": "footwear.n.1 footwear.n.2",
    "headgear": "headdress.n.1",
    "fabrics": "fabric.n.1",
    "jewelry": "jewelry.n.1",
    "vehicles": "vehicle.n.1",
    "ships and boats": "vessel.n.2",
    "aircraft": "aircraft.n.1",
    "buildings": "building.n.1 house.n.1",
    "rooms": "room.n.1",
    "furniture": "furniture.n.1",
    "containers": "container.n.1",
    "tools": "tool.n.1",
    "weapons": "weapon.n.1",
    "machines": "machine.n.1",
    "musical instruments": "musical_instrument.n.1",
    "toys": "plaything.n.1",
    "books": "book.n.1 book.n.2",
    "money": "money.n.1 monetary_unit.n.1 coin.n.1 currency.n.1",
    "metals": "metallic_element.n.1 alloy.n.1",
    "gems": "gem.n.2 jewel.n.1",
    "liquids": "liquid.n.1 liquid.n.3",
    "family members": "relative.n.1",
    "children": "child.n.1 child.n.2",
    "women": "woman.n.1 female.n.2",
    "men": "man.n.1 male.n.2",
    "workers": "worker.n.1",
    "leaders": "leader.n.1",
    "rulers": "sovereign.n.1",
    "soldiers": "serviceman.n.1",
    "bodies of water": "body_of_water.n.1",
    "landforms": "geological_formation.n.1",
    "roads": "road.n.1 way.n.6",
    "cities": "city.n.1",
    "countries": "country.n.2",
    "weather": "weather.n.1",
    "heavenly bodies": "celestial_body.n.1",
    "colors": "color.n.1",
    "sizes": "size.n.1",
    "ages": "age.n.1",
    "temperatures": "temperature.n.1",
    "diseases": "ill_health.n.1",
    "sounds": "sound.n.1 sound.n.4",
    "games": "game.n.1 game.n.3",
    "sports": "sport.n.1",
    "crimes": "crime.n.1",
    "sciences": "science.n.1",
    "languages": "natural_language.n.1",
    "units of measure": "unit_of_measurement.n.1",
    "parts of the day": "time_of_day.n.1 day.n.4 night.n.1 morning.n.1 evening.n.1 afternoon.n.1",
    "seasons": "season.n.2",
    "joy": "joy.n.1 happiness.n.1 happiness.n.2",
    "sadness": "sadness.n.1 sadness.n.2",
    "anger": "anger.n.1",
    "fear": "fear.n.1",
    "verbs of walking": "walk.v.1",
    "verbs of looking": "look.v.1",
    "verbs of giving": "give.v.3",
    "verbs of cutting": "cut.v.1",
    "verbs of killing": "kill.v.1",
}
"""Category -> the synsets of which its members are kinds: lemma, part of speech, number of the
sense."""

PARTS = {"n": "nouns", "v": "verbs", "a": "adjectives", "r": "adverbs"}
QUALITIES = {7, 12, 26}
"""Files of the nouns for what an adjective says of a thing."""
SHARE = 0.5
"""A form belongs to a category if more than this share of its uses does."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--wordnet",
        type=Path,
        required=True,
        help="folder with data.noun, index.noun, noun.exc, cntlist.rev, ...",
    )
    parser.add_argument("--out", type=Path, default=LEXICON)
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    made = lexicon(WordNet(chosen.wordnet))
    write(made, chosen.out)
    n_words = sum(len(words.split()) for row in made["words"] for words in row["words"].values())
    print(f"{chosen.out}: {len(made['categories'])} categories, {n_words} entries")


def write(made: dict[str, list], file: Path) -> None:
    """Without a time and a name, so that the same words give the same bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(made, separators=(",", ":"), sort_keys=True).encode()
    with file.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as zipped:
        zipped.write(text)


def lexicon(
    net: WordNet, synsets: Mapping[str, str] = MappingProxyType(SYNSETS)
) -> dict[str, list]:
    """What is written: the categories, and rows of words that belong to the same of them.

    A row's words stand under what follows from them: `n` with regular plurals, `v` and `a` with all
    regular forms, `alone` as they are.
    """
    roots = _roots(net, synsets)
    categories = [*PARTS.values(), "plural nouns", "past-tense verbs"]
    categories += [name for name in (*FILES.values(), *roots) if name not in categories]
    number = {name: i for i, name in enumerate(categories)}
    lemmas = {
        lemma: pos
        for (lemma, pos) in reversed(net.senses)
        if re.fullmatch("[a-z]{2,}", lemma) and lemma not in CLOSED_WORDS
    }
    known: dict[str, tuple[int, ...]] = {}

    def of(form: str) -> tuple[int, ...]:
        if form not in known:
            named = () if form in CLOSED_WORDS else _categories(net, form, roots)
            known[form] = tuple(sorted(number[name] for name in named))
        return known[form]

    irregular = {
        form
        for exceptions in net.exceptions.values()
        for form in exceptions
        if re.fullmatch("[a-z]{2,}", form)
    }
    rows: dict[tuple[int, ...], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    implied: set[str] = set()
    # `postmen` is no exception in WordNet, and no regular plural either.
    men = {f"{lemma[:-3]}men" for lemma in lemmas if lemma.endswith("man")}
    wanted = set(lemmas) | irregular | men
    plurals, pasts = number["plural nouns"], number["past-tense verbs"]
    for lemma in lemmas:
        own = of(lemma)
        for kind, forms, gained in (
            ("n", (plural(lemma),), {0: plurals}),
            ("v", verb_forms(lemma), {1: pasts}),
            ("a", comparisons(lemma), {}),
        ):
            name = {"n": "nouns", "v": "verbs", "a": "adjectives"}[kind]
            if (lemma, kind) not in net.senses:
                continue
            expected = [
                tuple(sorted({*own} | ({gained[i]} if i in gained else set())))
                for i in range(len(forms))
            ]
            if number[name] in own and [of(form) for form in forms] == expected:
                rows[own][kind].add(lemma)
                implied |= {lemma, *forms}
            else:
                wanted |= set(forms)
    for form in wanted - implied:
        if of(form):
            rows[of(form)]["alone"].add(form)
    return {
        "categories": categories,
        "words": [
            {
                "of": list(own),
                "words": {k: " ".join(sorted(v)) for k, v in sorted(words.items()) if v},
            }
            for own, words in sorted(rows.items())
            if own
        ],
    }


def _roots(net: WordNet, synsets: Mapping[str, str]) -> dict[str, set[Sense]]:
    """Category -> its synsets. Senses are numbered as WordNet's index lists them."""
    found = {}
    for name, kinds in synsets.items():
        found[name] = set()
        for each in kinds.split():
            lemma, pos, number = each.rsplit(".", 2)
            found[name].add(net.senses[lemma, pos][int(number) - 1][0])
    return found


def _categories(net: WordNet, form: str, roots: dict[str, set[Sense]]) -> Iterable[str]:
    """The categories that more than half of the uses of a form belong to."""
    shares: dict[str, float] = defaultdict(float)
    for sense, inflection, share in net.readings(form):
        ancestors = net.ancestors(sense)
        names = {PARTS[sense.pos]}
        names |= {name for name, own in roots.items() if own & ancestors}
        files = {net.synsets[sense].file}
        if sense.pos == "a":
            # An adjective is in the files of what it says of a thing.
            files = {net.synsets[each].file for each in ancestors if each.pos == "n"} & QUALITIES
        names |= {FILES[file] for file in files if file in FILES}
        names |= {"plural nouns"} if (sense.pos, inflection) == ("n", "plural") else set()
        names |= {"past-tense verbs"} if (sense.pos, inflection) == ("v", "past") else set()
        for name in names:
            shares[name] += share
    return [name for name, share in shares.items() if share > SHARE]


if __name__ == "__main__":
    main()
