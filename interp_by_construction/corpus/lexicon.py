"""The words of the stories corpus by lexical concept.

Concepts are disjoint, so a word form tells its concept without context. The last tenth of each
concept's words, but at least one, is held out. Held-out words occur only in the splits `train` and
`score`, so that scores can be reported on words which labels and targets were not made from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from types import MappingProxyType


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _pairs(text: str) -> dict[str, str]:
    """`cat:meowed dog:barked` as a dictionary."""
    return dict(pair.split(":") for pair in text.split())


ANIMAL_SOUNDS = _pairs(
    "cat:meowed dog:barked rabbit:squeaked horse:neighed cow:mooed pig:oinked duck:quacked"
    " frog:croaked mouse:squeaked bird:chirped sheep:bleated goat:bleated hen:clucked bear:growled"
    " fox:yelped lion:roared tiger:roared monkey:chattered elephant:trumpeted squirrel:chattered"
    " turtle:hissed owl:hooted kitten:meowed puppy:yelped lamb:bleated bee:buzzed snake:hissed"
    " wolf:howled deer:snorted hedgehog:snorted pony:neighed parrot:squawked donkey:brayed"
    " crow:squawked chick:chirped goose:honked calf:mooed toad:croaked otter:squealed"
)
"""The sound that each animal makes; a model can predict it over distance."""

_PLURALS = _pairs(
    "mouse:mice sheep:sheep deer:deer wolf:wolves goose:geese calf:calves fox:foxes pony:ponies"
    " puppy:puppies peach:peaches cherry:cherries strawberry:strawberries mango:mangoes"
)

GIRLS = _words("Anna Lily Mia Lucy Emma Sara Zoe Ella Rosa Nina Clara Molly Amy Ruth Ivy")
BOYS = _words("Tom Ben Max Leo Sam Tim Jack Noah Paul Finn Oscar Hugo Dan Omar Felix")


BASE_WORDS: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "animals": tuple(ANIMAL_SOUNDS),
        "animal sounds": tuple(dict.fromkeys(ANIMAL_SOUNDS.values())),
        "colors": _words(
            "red blue green yellow orange purple pink brown black white gray golden silver violet"
        ),
        "family": _words(
            "mother father mom dad sister brother grandma grandpa aunt uncle cousin grandmother grandfather"
        ),
        "names": tuple(name.lower() for pair in zip(GIRLS, BOYS, strict=True) for name in pair),
        "positive feelings": _words(
            "happy glad proud excited cheerful joyful calm brave thankful pleased delighted hopeful merry content"
        ),
        "negative feelings": _words(
            "sad angry scared afraid lonely worried upset tired nervous jealous bored grumpy sorry ashamed gloomy"
        ),
        "movement": _words(
            "walked ran jumped hopped skipped climbed crawled raced hurried marched danced swam flew rushed wandered"
            " galloped strolled trotted tiptoed"
        ),
        "speech": _words(
            "said asked whispered shouted called answered replied yelled explained begged announced muttered"
        ),
        "laughing": _words("laughed smiled giggled grinned cheered beamed clapped chuckled"),
        "crying": _words("cried sobbed wept sighed sniffled wailed whimpered"),
        "perception": _words(
            "saw noticed spotted found watched discovered heard smelled recognized admired glimpsed"
        ),
        "thinking": _words(
            "thought knew hoped wished believed remembered guessed imagined decided dreamed"
        ),
        "hand actions": _words(
            "held grabbed pulled pushed threw caught lifted carried dropped touched squeezed shook tugged"
        ),
        "making": _words("built made drew painted fixed mended carved decorated sewed repaired"),
        "giving": _words("gave handed showed brought offered sent lent passed tossed"),
        "eating": _words("ate tasted chewed nibbled swallowed gobbled licked finished munched"),
        "cooking": _words("cooked baked stirred fried boiled mixed roasted heated grilled"),
        "resting": _words("slept rested sat napped snored dozed relaxed snuggled"),
        "food": _words(
            "bread soup cake cheese pie rice pasta toast jam porridge honey butter salad pizza pudding stew"
        ),
        "fruit": _words(
            "apple pear banana plum peach cherry grape lemon melon strawberry mango coconut"
        ),
        "drinks": _words("milk juice tea water cocoa lemonade coffee cider"),
        "tastes": _words("sweet sour salty bitter spicy tasty yummy delicious creamy"),
        "kitchen things": _words("cup plate bowl spoon fork pot pan jar kettle mug"),
        "body parts": _words(
            "hand arm leg foot knee head nose ear finger toe elbow tummy chin shoulder"
        ),
        "clothes": _words(
            "hat coat shirt dress scarf sweater jacket skirt cap sock boot belt glove"
        ),
        "toys": _words(
            "ball doll kite puzzle teddy robot balloon block yoyo marble puppet top whistle"
        ),
        "vehicles": _words("car bus train boat truck bike plane ship tractor wagon taxi sled"),
        "instruments": _words("drum flute piano guitar violin trumpet bell harp banjo"),
        "tools": _words("hammer shovel rope ladder basket bucket brush broom rake needle"),
        "furniture": _words("bed chair table sofa bench desk shelf cradle couch stool"),
        "places": _words(
            "park farm beach forest school market garden river lake hill zoo library village castle meadow pond"
            " city barn shop harbor"
        ),
        "nature": _words("flower tree leaf bush daisy tulip mushroom berry vine fern oak clover"),
        "sky": _words("sun moon star cloud rainbow sunshine moonlight comet"),
        "weather": _words(
            "sunny rainy windy snowy cloudy stormy foggy cold warm hot cool icy breezy"
        ),
        "time of day": _words("morning afternoon evening night noon midnight sunset dawn"),
        "days": _words("monday tuesday wednesday thursday friday saturday sunday"),
        "seasons": _words("spring summer autumn winter"),
        "numbers": _words("two three four five six seven eight nine ten twelve"),
        "size": _words("big small little tiny huge large giant short long tall enormous"),
        "touch": _words("soft hard smooth rough wooden fluffy shiny sticky wet furry dusty silky"),
        "shapes": _words("round square flat curved pointed straight crooked oval"),
        "manner": _words(
            "slowly quickly quietly loudly carefully gently happily suddenly softly bravely eagerly"
        ),
        "jobs": _words(
            "farmer baker doctor teacher sailor painter nurse pilot driver singer king queen tailor"
        ),
    }
)
"""Concept -> lower-case base forms; the last tenth is held out."""

_INFLECTED = ("animals", "fruit")
"""Concepts whose plurals occur too."""


def plural(noun: str) -> str:
    """Plural of a base form of this lexicon."""
    return _PLURALS.get(noun, noun + "s")


def n_held_out(n_words: int) -> int:
    """How many of a concept's words are held out: a tenth, but at least one."""
    return max(1, round(n_words / 10))


def _forms(concept: str, words: Sequence[str]) -> frozenset[str]:
    plurals = map(plural, words) if concept in _INFLECTED else ()
    return frozenset([*words, *plurals])


LEXICON: dict[str, frozenset[str]] = {
    concept: _forms(concept, words) for concept, words in BASE_WORDS.items()
}
"""Concept -> all lower-case word forms that occur in the stories."""

HELD_OUT: dict[str, frozenset[str]] = {
    concept: _forms(concept, words[-n_held_out(len(words)) :])
    for concept, words in BASE_WORDS.items()
}
"""Concept -> the word forms that occur only in the splits `train` and `score`."""

_WORD = re.compile(r"[^\W\d_]+")


def words_of(text: str) -> list[str]:
    """Lower-case words of a text, in order."""
    return [match.group().lower() for match in _WORD.finditer(text)]


def words_at(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, stop and lower-case form of each word of a text, in order."""
    for match in _WORD.finditer(text):
        yield match.start(), match.end(), match.group().lower()


def concept_mask(tokens: Sequence[str], concept: str) -> list[bool]:
    """Whether each token overlaps a word of a concept.

    tokens: decoded; joined they give the text. All pieces of a word are marked. The white space
    before a word is not part of it. Raises KeyError for a concept that is not in `LEXICON`.
    """
    members = LEXICON[concept]
    text = "".join(tokens)
    inside = bytearray(len(text))
    for start, stop, word in words_at(text):
        if word in members:
            inside[start:stop] = b"\x01" * (stop - start)
    mask, at = [], 0
    for token in tokens:
        mask.append(any(inside[at : at + len(token)]))
        at += len(token)
    return mask
