"""What `train_simulator.py` learns from: texts whose tokens are known to belong, or not, to
thousands of labelled concepts.

1. WordNet (its `dict` folder, any 3.x) gives texts, namely examples and glosses, and concepts:
   hyponym sets, lexicographer files, adjective clusters. A word belongs to a concept if most of its
   sense-tagged uses do; an example's own word is known by sense.
2. Forms, closed classes, punctuation, single words, affixes and a few rules of context (`inside
   quotation marks`) are added.
3. Each concept has several phrasings, so that the label tower does not learn one by heart.

Membership is 1 (yes), 0 (no) or IGNORE (a word with several senses, of which some belong).
"""

from __future__ import annotations

import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from lexical_context import context_concepts
from lexical_words import CLOSED, FUNCTION_WORDS, IGNORE, MEN, WOMEN, Concept
from numpy.typing import NDArray

HELD_OUT = 0.15
"""Share of the synsets that the training never sees."""
N_PHRASINGS = 7
"""At most so many phrasings of a synset, chosen by chance."""
N_WORDS = 1500
"""So many frequent words are concepts by themselves."""
POS_FILES = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
LEXICOGRAPHER = {
    4: "acts and actions; things that people do",
    5: "animals; kinds of animals; creatures",
    6: "man-made objects; artifacts; things that people made",
    7: "qualities of people and things; attributes",
    8: "body parts; parts of the body",
    9: "thoughts and ideas; words about the mind",
    10: "communication; words about language",
    11: "events; things that happen",
    12: "feelings; feelings and emotions; emotions",
    13: "food; food and drink; things to eat",
    14: "groups of people or things; groups",
    15: "places; locations; words for places",
    16: "motives; reasons to act",
    17: "natural objects; things in nature",
    18: "people; words for persons; kinds of people",
    19: "natural phenomena",
    20: "plants; trees and flowers; kinds of plants",
    21: "possessions; money and property; wealth",
    22: "natural processes",
    23: "quantities; amounts; units of measure",
    24: "relations between things",
    25: "shapes; geometric forms",
    26: "states; conditions of people or things",
    27: "substances; materials",
    28: "time; periods of time; words about time",
    29: "verbs of the body; grooming and dressing",
    30: "verbs of change; becoming different",
    31: "verbs of thinking; thinking and knowing",
    32: "verbs of speaking; saying and telling; speech",
    33: "verbs of competing; fighting and playing games",
    34: "verbs of eating and drinking; consuming; eating",
    35: "verbs of touching; holding, hitting and cutting; contact",
    36: "verbs of making; creating and building; making things",
    37: "verbs of feeling; having emotions",
    38: "verbs of motion; moving, walking and running; movement",
    39: "verbs of perception; seeing and hearing",
    40: "verbs of having; giving and taking; buying and selling",
    41: "verbs of social life; meeting, helping and leading",
    42: "verbs of being; existing and having a quality",
    43: "verbs about weather; raining and snowing",
}
"""WordNet's lexicographer files by number; phrasings separated by semicolons."""

SPEAKERS = (
    "the man",
    "the woman",
    "the teacher",
    "the boy",
    "the girl",
    "he",
    "she",
    "his mother",
    "her father",
    "the captain",
)
SAYING = (
    "said",
    "asked",
    "answered",
    "replied",
    "whispered",
    "shouted",
    "told him",
    "thought",
    "cried",
)


MARKS = {
    ".": "full stops; periods; the end of a sentence",
    ",": "commas",
    "?": "question marks; the end of a question",
    "!": "exclamation marks",
    ";": "semicolons",
    ":": "colons",
    '"': "quotation marks",
    "'": "apostrophes and single quotes",
    "-": "hyphens and dashes",
    "(": "opening brackets; opening parentheses",
    ")": "closing brackets; closing parentheses",
}

SUFFIXES = (
    "ly",
    "ing",
    "ed",
    "er",
    "est",
    "tion",
    "ness",
    "ment",
    "ful",
    "less",
    "able",
    "ous",
    "ive",
    "al",
    "ity",
    "y",
    "s",
    "ish",
)
PREFIXES = ("un", "re", "in", "dis", "over", "sub", "con", "pre", "ex", "be")


class Sense(NamedTuple):
    pos: str
    offset: int


@dataclass
class Synset:
    words: list[str]
    file: int
    gloss: str
    examples: list[str]
    up: list[Sense] = field(default_factory=list)
    """Hypernyms. For an adjective its attribute, the nouns derived from it and, for a satellite,
    the head of its cluster."""
    wholes: list[Sense] = field(default_factory=list)
    """What it is a part, a member or the substance of."""
    topics: list[Sense] = field(default_factory=list)
    """The field that it belongs to: sport, law, music."""


class Text(NamedTuple):
    """A training text; `senses` maps the character at which a word ends to its known sense."""

    text: str
    senses: dict[int, Sense]


class WordNet:
    """What is needed of WordNet's database files; their format is in wndb(5WN) and cntlist(5WN)."""

    def __init__(self, folder: Path) -> None:
        self.synsets: dict[Sense, Synset] = {}
        self.senses: dict[tuple[str, str], list[tuple[Sense, float]]] = defaultdict(list)
        self.exceptions: dict[str, dict[str, list[str]]] = {}
        self._ancestors: dict[tuple[Sense, int], set[Sense]] = {}
        keys: dict[str, Sense] = {}
        for pos, name in POS_FILES.items():
            for line in (folder / f"data.{name}").read_text(encoding="utf8").splitlines():
                if not line.startswith("  "):
                    self._read_synset(pos, line, keys)
            self.exceptions[pos] = {}
            for line in (folder / f"{name}.exc").read_text(encoding="utf8").splitlines():
                form, *lemmas = line.split()
                self.exceptions[pos][form] = lemmas
        self.fields = {topic for synset in self.synsets.values() for topic in synset.topics}
        counts: Counter[Sense | tuple[str, Sense]] = Counter()
        for line in (folder / "cntlist.rev").read_text(encoding="utf8").splitlines():
            key, _, count = line.split()
            if key in keys:
                counts[(key.split("%")[0], keys[key])] += int(count)
        for pos, name in POS_FILES.items():
            for line in (folder / f"index.{name}").read_text(encoding="utf8").splitlines():
                if line.startswith("  "):
                    continue
                parts = line.split()
                lemma, n = parts[0], int(parts[2])
                for rank, offset in enumerate(parts[-n:]):
                    sense = Sense(pos, int(offset))
                    # Senses are listed by frequency; the small prior stands in for what the tagged
                    # corpus did not see.
                    self.senses[lemma, pos].append(
                        (sense, counts[(lemma, sense)] + 0.5 / (1 + rank))
                    )

    def _read_synset(self, pos: str, line: str, keys: dict[str, Sense]) -> None:
        data, _, gloss = line.partition(" | ")
        parts = data.split()
        sense = Sense(pos, int(parts[0]))
        n_words = int(parts[3], 16)
        words = [parts[4 + 2 * i].split("(")[0].lower() for i in range(n_words)]
        position = 4 + 2 * n_words
        up, wholes, topics = [], [], []
        for i in range(int(parts[position])):
            symbol, offset, target, _ = parts[position + 1 + 4 * i : position + 5 + 4 * i]
            other = Sense("a" if target == "s" else target, int(offset))
            if symbol in ("#p", "#m", "#s"):
                wholes.append(other)
            if symbol == ";c":
                topics.append(other)
            is_up = (
                symbol in ("@", "@i")
                or (pos == "a" and symbol == "=")
                or (symbol == "&" and parts[2] == "s")
            )
            if is_up or (symbol == "+" and pos == "a" and target == "n"):
                up.append(other)
        definition = gloss.split('; "')[0].strip()
        self.synsets[sense] = Synset(
            words, int(parts[1]), definition, re.findall(r'"([^"]+)"', gloss), up, wholes, topics
        )
        number = {"n": 1, "v": 2, "a": 3, "r": 4}[pos] if parts[2] != "s" else 5
        for i, word in enumerate(words):
            head = ":" if number != 5 else ""
            if number != 5:
                keys[f"{word}%{number}:{parts[1]}:{int(parts[5 + 2 * i], 16):02d}:{head}"] = sense

    def lemmas(self, form: str) -> Iterator[tuple[str, str, str]]:
        """(lemma, part of speech, inflection) of every reading of a lower-case form, as morphy."""
        rules = (
            (
                "n",
                "plural",
                (
                    ("s", ""),
                    ("ses", "s"),
                    ("xes", "x"),
                    ("zes", "z"),
                    ("ches", "ch"),
                    ("shes", "sh"),
                    ("men", "man"),
                    ("ies", "y"),
                ),
            ),
            ("v", "third", (("s", ""), ("ies", "y"), ("es", "e"), ("es", ""))),
            ("v", "past", (("ed", "e"), ("ed", ""), ("ied", "y"))),
            ("v", "ing", (("ing", "e"), ("ing", ""))),
            ("a", "comparative", (("er", ""), ("er", "e"), ("ier", "y"))),
            ("a", "superlative", (("est", ""), ("est", "e"), ("iest", "y"))),
        )
        for pos in POS_FILES:
            if (form, pos) in self.senses:
                yield form, pos, "base"
            for lemma in self.exceptions[pos].get(form, []):
                if lemma != form and (lemma, pos) in self.senses:
                    yield lemma, pos, _irregular(form, pos)
        for pos, inflection, endings in rules:
            for ending, replacement in endings:
                stem = form[: len(form) - len(ending)]
                if form.endswith(ending) and len(stem) > 1:
                    for lemma in dict.fromkeys(
                        (stem + replacement, *_undoubled(stem, replacement))
                    ):
                        if (lemma, pos) in self.senses:
                            yield lemma, pos, inflection

    def readings(self, form: str) -> list[tuple[Sense, str, float]]:
        """(sense, inflection, share of its uses) of a lower-case word form; shares sum to 1."""
        found: dict[tuple[Sense, str], float] = {}
        for lemma, pos, inflection in self.lemmas(form):
            for sense, weight in self.senses[lemma, pos]:
                found[sense, inflection] = max(found.get((sense, inflection), 0.0), weight)
        total = sum(found.values())
        return [
            (sense, inflection, weight / total) for (sense, inflection), weight in found.items()
        ]

    def prominence(self, word: str, sense: Sense) -> float:
        """Share of this sense among the uses of a word as this part of speech."""
        weights = dict(self.senses.get((word.replace(" ", "_"), sense.pos), []))
        return weights.get(sense, 0.0) / max(sum(weights.values()), 1e-9)

    def ancestors(self, sense: Sense, depth: int = 12) -> set[Sense]:
        """The sense itself and all that it is a kind of."""
        if (sense, depth) in self._ancestors:
            return self._ancestors[sense, depth]
        seen = {sense}
        frontier = [sense]
        for _ in range(depth):
            frontier = [
                up
                for s in frontier
                for up in self.synsets[s].up
                if up not in seen and self._is_quality(s, up)
            ]
            seen.update(frontier)
        self._ancestors[sense, depth] = seen
        return seen

    def _is_quality(self, sense: Sense, up: Sense) -> bool:
        """From an adjective only to what it says of a thing: `happy` to happiness, `woolly` to
        none."""
        return up in self.synsets and (
            sense.pos != "a" or up.pos != "n" or self.synsets[up].file in (7, 12, 26)
        )

    def texts(self, rng: np.random.Generator) -> list[Text]:
        """Examples with their word's sense, and glosses, as sentences; some with names or as
        speech."""
        result = []
        for sense, synset in self.synsets.items():
            for example in synset.examples:
                text = _varied(_sentence(example), rng)
                result.append(Text(text, self._targets(text, sense, synset)))
            if len(synset.gloss) > 12:
                result.append(Text(_sentence(synset.gloss), {}))
        return result

    def _targets(self, text: str, sense: Sense, synset: Synset) -> dict[int, Sense]:
        words = set(synset.words)
        return {
            match.end(): sense
            for match in re.finditer(r"[A-Za-z]+", text)
            if any(
                lemma in words and pos == sense.pos
                for lemma, pos, _ in self.lemmas(match.group().lower())
            )
        }


def _varied(text: str, rng: np.random.Generator) -> str:
    """Puts in names and dialogue, of which examples have few.

    `He left.` becomes `Peter left.`, or `"He left," the man said.`
    """
    for pronoun, names in (("He ", MEN), ("She ", WOMEN)):
        if text.startswith(pronoun) and rng.random() < 0.4:
            text = f"{rng.choice(names)} {text[len(pronoun) :]}"
    if rng.random() < 0.15:
        speaker = str(rng.choice(SPEAKERS if rng.random() < 0.5 else (*WOMEN, *MEN)))
        said = str(rng.choice(SAYING))
        stop = "," if text[-1] == "." else text[-1]
        text = (
            f'"{text[:-1]}{stop}" {speaker} {said}.'
            if rng.random() < 0.5
            else f'{speaker[:1].upper()}{speaker[1:]} {said}, "{text}"'
        )
    return text


def _undoubled(stem: str, replacement: str) -> tuple[str, ...]:
    """`hopped` -> `hop`."""
    return (stem[:-1],) if not replacement and len(stem) > 3 and stem[-1] == stem[-2] else ()


def _irregular(form: str, pos: str) -> str:
    if pos == "v":
        return "ing" if form.endswith("ing") else "third" if form.endswith("s") else "past"
    if pos == "n":
        return "plural"
    return "superlative" if form.endswith("st") else "comparative"


def _sentence(text: str) -> str:
    text = text.strip().replace("`", "'").replace("''", "'")
    text = text[:1].upper() + text[1:]
    return text if text[-1:] in ".!?" else text + "."


class Supervision(NamedTuple):
    """Everything the training needs, apart from hidden states."""

    texts: list[str]
    """Chunks of joined sentences."""
    ends: list[list[int]]
    """Per chunk: the character at which each encoder token ends."""
    types: NDArray[np.int32]
    """[token]: row of `membership`."""
    membership: NDArray[np.uint8]
    """[type, concept]."""
    context: NDArray[np.uint8]
    """[token, context concept]: the last columns of the concepts."""
    concepts: list[Concept]


def build(
    wordnet: Path,
    extra: list[str],
    offsets: Callable[[str], list[tuple[int, int]]],
    n_tokens: int,
    seed: int,
) -> Supervision:
    """Texts of about `n_tokens` tokens, their concepts, and who belongs to what.

    extra: more sentences; offsets: (start, end) of each encoder token of a text.
    """
    net = WordNet(wordnet)
    chunks, ends = chunked(net, extra, offsets, n_tokens, seed)
    types, rows = _types(chunks, ends)
    word_concepts, membership = _word_concepts(net, rows, types)
    by_context, context = context_concepts([chunk.text for chunk in chunks], ends)
    return Supervision(
        [c.text for c in chunks], ends, types, membership, context, word_concepts + by_context
    )


def chunked(
    net: WordNet,
    extra: list[str],
    offsets: Callable[[str], list[tuple[int, int]]],
    n_tokens: int,
    seed: int,
) -> tuple[list[Text], list[list[int]]]:
    """Shuffled sentences joined to chunks, and the character at which each of their tokens ends."""
    rng = np.random.default_rng(seed)
    every = net.texts(rng) + [Text(text, {}) for text in extra]
    order = rng.permutation(len(every))
    chunks: list[Text] = []
    ends: list[list[int]] = []
    current, senses, total = "", {}, 0
    for i in order:
        text, known = every[i]
        senses |= {len(current) + end: sense for end, sense in known.items()}
        current += text + " "
        if len(current) < 380:
            continue
        chunks.append(Text(current.rstrip(), senses))
        ends.append([end for _, end in offsets(chunks[-1].text)])
        total += len(ends[-1])
        current, senses = "", {}
        if total >= n_tokens:
            break
    return chunks, ends


class Row(NamedTuple):
    """What a token is: a word (surface form, known sense), its beginning, or other characters."""

    form: str
    sense: Sense | None
    fragment: bool


def _types(chunks: list[Text], ends: list[list[int]]) -> tuple[NDArray[np.int32], list[Row]]:
    rows: dict[Row, int] = {}
    types: list[int] = []
    for chunk, own in zip(chunks, ends, strict=True):
        words = [
            (m.start(), m.end(), m.group())
            for m in re.finditer(r"[A-Za-z]+|\d+|[^\sA-Za-z\d]+", chunk.text)
        ]
        position = 0
        for end in own:
            while position < len(words) - 1 and words[position][1] < end:
                position += 1
            start, stop, form = words[position]
            if not start < end <= stop:
                row = Row("", None, False)
            else:
                row = Row(form, chunk.senses.get(stop) if end == stop else None, end < stop)
            types.append(rows.setdefault(row, len(rows)))
    return np.array(types, dtype=np.int32), list(rows)


MIN_TOKENS = 12
MIN_FORMS = {"n": 3, "v": 2, "a": 2, "r": 2}
"""Least members of a synset, and different forms among them, that make it a concept."""


def _word_concepts(
    net: WordNet, rows: list[Row], types: NDArray[np.int32]
) -> tuple[list[Concept], NDArray[np.uint8]]:
    """Concepts that a word form, or a word with a known sense, tells without more context."""
    counts = np.bincount(types, minlength=len(rows))
    bare = _bare_lemmas(net)
    shares: dict[str, dict[object, float]] = {}
    for row in rows:
        key = f"{row.form}/{row.sense}"
        if key not in shares:
            shares[key] = _shares(net, row.form.lower(), row.sense, bare)
    totals: Counter[object] = Counter()
    forms: dict[object, Counter[str]] = defaultdict(Counter)
    for row, count in zip(rows, counts, strict=True):
        if not row.fragment:
            for name, share in shares[f"{row.form}/{row.sense}"].items():
                if share > 0.5:
                    totals[name] += int(count)
                    forms[name][row.form.lower()] += int(count)
    n_tokens = int(counts.sum())
    columns: list[object] = sorted(
        (
            name
            for name, n in totals.items()
            if MIN_TOKENS <= n < 0.2 * n_tokens and len(forms[name]) >= _least_forms(name)
        ),
        key=str,
    )
    concepts = _distinct([_describe(net, name, forms[name]) for name in columns])
    closed = _closed_concepts(rows, counts)
    membership = np.zeros((len(rows), len(columns) + len(closed)), dtype=np.uint8)
    index = {name: i for i, name in enumerate(columns)}
    for r, row in enumerate(rows):
        for name, share in shares[f"{row.form}/{row.sense}"].items():
            if name in index:
                membership[r, index[name]] = 1 if share > 0.5 else IGNORE if share > 0.12 else 0
    for i, (_, member) in enumerate(closed):
        membership[:, len(columns) + i] = [member(row) for row in rows]
    # Before a word has ended nobody can know that it belongs.
    fragments = np.array([row.fragment for row in rows])
    membership[fragments] = np.where(membership[fragments] == 1, IGNORE, membership[fragments])
    return concepts + [concept for concept, _ in closed], membership


def _least_forms(name: object) -> int:
    return MIN_FORMS[name.pos] if isinstance(name, Sense) else 3 if isinstance(name, Related) else 1


def _distinct(concepts: list[Concept]) -> list[Concept]:
    """Concepts none of whose phrasings tells a held-out concept.

    Of a held-out name nothing else is told.
    """
    secret = {phrase.lower() for c in concepts if held_out(c, HELD_OUT) for phrase in c.phrasings}
    kept = []
    for concept in concepts:
        if not held_out(concept, HELD_OUT):
            phrasings = [phrase for phrase in concept.phrasings if phrase.lower() not in secret]
            concept = concept._replace(
                phrasings=phrasings or [f"{concept.name.split(' ', 1)[-1]}, and the like"]
            )
        kept.append(concept)
    return kept


class Related(NamedTuple):
    """A concept beside the hyponym sets: `parts` or `topic` of a synset, or a word's readings."""

    relation: str
    of: Sense
    word: str


def _bare_lemmas(net: WordNet) -> dict[Sense, list[Related]]:
    """Nouns with several frequent senses, by sense: as a label such a word means all of them."""
    found: dict[Sense, list[Related]] = defaultdict(list)
    for (lemma, pos), senses in net.senses.items():
        total = sum(weight for _, weight in senses)
        strong = [sense for sense, weight in senses if weight > 0.2 * total]
        wide = pos == "n" and len(strong) > 1 and total > 4 and "_" not in lemma
        if wide and not any(_is_held_out(net, sense) for sense in strong):
            for sense in strong:
                found[sense].append(Related("lemma", strong[0], lemma))
    return found


def _is_held_out(net: WordNet, sense: Sense) -> bool:
    return held_out(Concept(f"synset {sense.pos}", _synset_name(net, sense), []), HELD_OUT)


def _synset_name(net: WordNet, sense: Sense) -> str:
    return f"{sense.pos}{sense.offset} {net.synsets[sense].words[0]}"


CLASSES = {
    "n": (
        "nouns",
        "words that are nouns",
        "all nouns",
        "common nouns",
        "naming words",
        "things and ideas",
        "nouns of any kind",
    ),
    "v": (
        "verbs",
        "words that are verbs",
        "all verbs",
        "action words",
        "doing words",
        "verbs of any kind",
        "actions and states",
    ),
    "a": (
        "adjectives",
        "words that are adjectives",
        "all adjectives",
        "describing words",
        "qualities",
        "adjectives of any kind",
    ),
    "r": (
        "adverbs",
        "words that are adverbs",
        "all adverbs",
        "manner words",
        "words that modify verbs",
        "adverbs of any kind",
    ),
}
INFLECTIONS = {
    "past": "past tense",
    "ing": "-ing form",
    "plural": "plural",
    "third": "third person",
    "base": "base form",
}


def _shares(
    net: WordNet, form: str, known: Sense | None, bare: dict[Sense, list[Related]]
) -> dict[object, float]:
    """Share of a word form's uses that belongs to each concept (a Sense, or a string for
    others)."""
    found: dict[object, float] = defaultdict(float)
    readings = net.readings(form)
    if known is not None:
        inflections = [i for sense, i, _ in readings if sense == known] or ["base"]
        readings = [(known, inflection, 1 / len(inflections)) for inflection in inflections]
    for sense, inflection, share in readings:
        if form in FUNCTION_WORDS:
            share *= 0.1
        ancestors = net.ancestors(sense)
        for ancestor in ancestors:
            found[ancestor] += share
        for related in _related(net, ancestors, bare):
            found[related] += share
        files = (
            {net.synsets[ancestor].file for ancestor in net.ancestors(sense) if ancestor.pos != "r"}
            if sense.pos == "a"
            else set()
        )
        for file in files | {net.synsets[sense].file}:
            if file in LEXICOGRAPHER:
                found[f"file {file}"] += share
                if 29 <= file <= 43 and inflection in ("past", "ing"):
                    found[f"file {file} {inflection}"] += share
                if 4 <= file <= 28 and inflection == "plural":
                    found[f"file {file} plural"] += share
        found[f"pos {sense.pos}"] += share
        if inflection != "base":
            found[f"form {inflection}"] += share
    return found


def _related(net: WordNet, ancestors: set[Sense], bare: dict[Sense, list[Related]]) -> set[Related]:
    """Bare lemmas, parts and topics that a sense with these ancestors belongs to."""
    found = {related for ancestor in ancestors for related in bare.get(ancestor, [])}
    topics = ancestors | {
        up for a in ancestors for topic in net.synsets[a].topics for up in net.ancestors(topic)
    }
    wholes = {whole for ancestor in ancestors for whole in net.synsets[ancestor].wholes}
    for relation, senses in (("parts", wholes), ("topic", topics & net.fields)):
        found |= {
            Related(relation, sense, net.synsets[sense].words[0])
            for sense in senses
            if not _is_held_out(net, sense)
        }
    return found


def _describe(net: WordNet, name: object, forms: Counter[str]) -> Concept:
    """Phrasings of a concept; members that illustrate it are the frequent ones."""
    shown = [form for form, _ in forms.most_common(12) if len(form) > 2]
    examples = [
        ", ".join(shown[a:b]) for a, b in ((0, 2), (0, 3), (2, 5), (3, 7)) if len(shown) >= b
    ]
    if isinstance(name, Sense):
        return _describe_synset(net, name, shown, examples)
    if isinstance(name, Related):
        word = name.word.replace("_", " ")
        title = {
            "lemma": [word, _plural(word)],
            "parts": [f"parts of a {word}", f"{word} parts", f"what belongs to a {word}"],
            "topic": [f"{word} terms", f"words about {word}", f"{word}-related words"],
        }[name.relation]
        return Concept(name.relation, f"{name.relation} {name.of.offset} {word}", title)
    kind, *rest = str(name).split()
    if kind == "file":
        base = [phrase.strip() for phrase in LEXICOGRAPHER[int(rest[0])].split(";")]
        if len(rest) > 1:
            base = [_inflected(phrase, rest[1]) for phrase in base]
        return Concept("file", str(name), base + [f"{base[0]}, such as {e}" for e in examples])
    if kind == "pos":
        return Concept("class", str(name), list(CLASSES[rest[0]]))
    title = {
        "past": ["past-tense verbs", "verbs in the past tense", "past actions", "the past tense"],
        "ing": ["verbs ending in -ing", "-ing forms of verbs"],
        "plural": [
            "plural nouns",
            "plurals",
            "nouns in the plural",
            "words for several things",
            "the plural",
        ],
        "third": ["third-person verbs", "verbs ending in -s"],
        "comparative": ["comparatives", "comparative adjectives"],
        "superlative": ["superlatives", "superlative adjectives"],
    }[rest[0]]
    return Concept("class", str(name), title)


def _describe_synset(net: WordNet, name: Sense, shown: list[str], examples: list[str]) -> Concept:
    synset = net.synsets[name]
    words = [word.replace("_", " ") for word in synset.words if word.isascii()][:3]
    gloss = re.sub(r"\([^)]*\)", "", synset.gloss).split(";")[0].strip()
    parents = [net.synsets[up].words[0].replace("_", " ") for up in synset.up if up in net.synsets]
    # A bare word that mostly means something else says little; a held-out concept keeps its name,
    # that it stays comparable.
    keep = _is_held_out(net, name)
    named = [word for word in words if keep or net.prominence(word, name) > 0.2]
    if words and name.pos == "n":
        named += [_plural(word) for word in named or words[:1]] + [
            f"kinds of {words[0]}",
            f"words for {_plural(words[0])}",
        ]
    elif words and name.pos == "v":
        named += [_gerund(word) for word in words] + [
            f"verbs like {words[0]}",
            f"ways to {words[0]}",
        ]
    elif words:
        named += [f"words like {words[0]}", f"{words[0]} things"]
    phrasings = named + [f"words about {words[0]}"] * bool(words)
    if words and parents:
        phrasings.append(f"{words[0]} ({parents[0]})")
    stem = (
        {"n": _plural, "v": _gerund}.get(name.pos, "words like {}".format)(words[0])
        if words
        else ""
    )
    phrasings += [f"{stem}, such as {e}" for e in examples[:2] if stem]
    if 8 < len(gloss) < 110:
        phrasings.append(gloss)
    if words and examples:
        phrasings.append(
            f"{examples[-1]} and other {_plural(words[0]) if name.pos == 'n' else 'words'}"
        )
    if len(shown) >= 3:
        phrasings += [", ".join(shown[:5]), f"things like {shown[0]}, {shown[1]} and {shown[2]}"]
    distinct = list(dict.fromkeys(phrasings))
    # The first one is how the concept is tested; encoding all of the rest would take most of the
    # time.
    rng = np.random.default_rng(name.offset)
    rest = [distinct[1 + i] for i in sorted(rng.permutation(len(distinct) - 1)[: N_PHRASINGS - 1])]
    return Concept(f"synset {name.pos}", _synset_name(net, name), [*distinct[:1], *rest])


def _inflected(phrase: str, inflection: str) -> str:
    return {
        "past": f"{phrase}, in the past tense",
        "ing": f"{phrase}, ending in -ing",
        "plural": f"{phrase}, in the plural",
    }[inflection]


def _plural(word: str) -> str:
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "z", "ch", "sh")) else "s")


def _gerund(word: str) -> str:
    first, *rest = word.split(" ")
    first = (
        first[:-1] + "ing"
        if first.endswith("e") and not first.endswith(("ee", "ye", "oe")) and len(first) > 2
        else first + "ing"
    )
    return " ".join([first, *rest])


def _closed_concepts(
    rows: list[Row], counts: NDArray
) -> list[tuple[Concept, Callable[[Row], int]]]:
    """Closed classes, punctuation, single words, affixes, capitals: known from the form alone."""
    result: list[tuple[Concept, Callable[[Row], int]]] = []

    def add(kind: str, phrasings: list[str], member: Callable[[str], bool]) -> None:
        result.append(
            (
                Concept(kind, phrasings[0], phrasings),
                lambda row: int(bool(row.form) and member(row.form)),
            )
        )

    for title, members in CLOSED.items():
        chosen = frozenset(members.split())
        phrasings = [phrase.strip() for phrase in title.split(";")]
        shown = ", ".join(members.split()[:3])
        add(
            "closed",
            [*phrasings, f"{phrasings[0]}, such as {shown}"],
            lambda form, c=chosen: form.lower() in c,
        )  # type: ignore[misc]
    for mark, title in MARKS.items():
        add(
            "mark",
            [phrase.strip() for phrase in title.split(";")] + [f"the mark {mark}"],
            lambda form, m=mark: form.startswith(m),
        )  # type: ignore[misc]
    add("mark", ["punctuation", "punctuation marks"], lambda form: not form[0].isalnum())
    add("mark", ["ends of sentences", "sentence-final punctuation"], lambda form: form[0] in ".!?")
    add("mark", ["digits", "numbers written in digits", "numerals"], lambda form: form.isdigit())
    for suffix in SUFFIXES:
        phrases = [
            f"words ending in -{suffix}",
            f"words that end with {suffix}",
            f"the suffix -{suffix}",
        ]
        add(
            "affix",
            phrases,
            lambda form, s=suffix: len(form) > len(s) + 2 and form.lower().endswith(s),
        )  # type: ignore[misc]
    for prefix in (*PREFIXES, *"abcdefghilmnoprstw"):
        phrases = [f"words starting with {prefix}", f"words that begin with {prefix}-"]
        add(
            "affix",
            phrases,
            lambda form, p=prefix: len(form) > len(p) + 2 and form.lower().startswith(p),
        )  # type: ignore[misc]
    add(
        "affix",
        ["capitalized words", "words with a capital letter"],
        lambda form: form[0].isupper(),
    )
    add(
        "affix",
        ["long words", "words of many letters"],
        lambda form: form.isalpha() and len(form) >= 9,
    )
    add(
        "affix",
        ["short words", "words of one or two letters"],
        lambda form: form.isalpha() and len(form) <= 2,
    )
    frequent: Counter[str] = Counter()
    for row, count in zip(rows, counts, strict=True):
        if row.form.isalpha() and not row.fragment:
            frequent[row.form.lower()] += int(count)
    for word, _ in frequent.most_common(N_WORDS):
        phrases = [f"the word {word}", f"the word '{word}'", f"'{word}'"]
        add("word", phrases, lambda form, w=word: form.lower() == w)  # type: ignore[misc]
    return result


def held_out(concept: Concept, share: float) -> bool:
    """Whether a synset concept is kept out of training. Its name decides, so it never changes."""
    return (
        concept.kind.startswith("synset")
        and zlib.crc32(concept.name.encode()) % 1000 < 1000 * share
    )
