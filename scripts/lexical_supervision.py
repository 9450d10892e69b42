"""What `train_simulator.py` learns from: texts whose tokens are known to belong, or not, to thousands of labelled concepts.

1. WordNet (its `dict` folder, any 3.x) gives texts, namely examples and glosses, and concepts: hyponym sets, lexicographer files,
   adjective clusters. A word belongs to a concept if most of its sense-tagged uses do; an example's own word is known by sense.
2. Forms, closed classes, punctuation, single words, affixes and a few rules of context (`inside quotation marks`) are added.
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
from numpy.typing import NDArray

IGNORE = 2
POS_FILES = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
LEXICOGRAPHER = {
    4: "acts and actions; things that people do", 5: "animals; kinds of animals; creatures",
    6: "man-made objects; artifacts; things that people made", 7: "qualities of people and things; attributes",
    8: "body parts; parts of the body", 9: "thoughts and ideas; words about the mind", 10: "communication; words about language",
    11: "events; things that happen", 12: "feelings; feelings and emotions; emotions", 13: "food; food and drink; things to eat",
    14: "groups of people or things; groups", 15: "places; locations; words for places", 16: "motives; reasons to act",
    17: "natural objects; things in nature", 18: "people; words for persons; kinds of people", 19: "natural phenomena",
    20: "plants; trees and flowers; kinds of plants", 21: "possessions; money and property; wealth", 22: "natural processes",
    23: "quantities; amounts; units of measure", 24: "relations between things", 25: "shapes; geometric forms",
    26: "states; conditions of people or things", 27: "substances; materials", 28: "time; periods of time; words about time",
    29: "verbs of the body; grooming and dressing", 30: "verbs of change; becoming different",
    31: "verbs of thinking; thinking and knowing", 32: "verbs of speaking; saying and telling; speech",
    33: "verbs of competing; fighting and playing games", 34: "verbs of eating and drinking; consuming; eating",
    35: "verbs of touching; holding, hitting and cutting; contact", 36: "verbs of making; creating and building; making things",
    37: "verbs of feeling; having emotions", 38: "verbs of motion; moving, walking and running; movement",
    39: "verbs of perception; seeing and hearing", 40: "verbs of having; giving and taking; buying and selling",
    41: "verbs of social life; meeting, helping and leading", 42: "verbs of being; existing and having a quality",
    43: "verbs about weather; raining and snowing",
}  # fmt: skip
"""WordNet's lexicographer files by number; phrasings separated by semicolons."""

WOMEN = (
    "Mary Alice Susan Margaret Helen Laura Julia Kate Grace Jane Martha Linda Sophie Eva Irene Betty Diana Carol Maria Sally "
    "Olivia Charlotte Hannah Rachel Judith Elena Nora Agnes Wendy Pamela"
).split()
MEN = (
    "John Peter George Henry Robert James David Thomas William Richard Frank Edward Albert Michael Steven Victor Simon Martin "
    "Andrew Philip Carl Arthur Harry Walter Roger Kevin Brian Louis Philip Dennis"
).split()
SPEAKERS = ("the man", "the woman", "the teacher", "the boy", "the girl", "he", "she", "his mother", "her father", "the captain")
SAYING = ("said", "asked", "answered", "replied", "whispered", "shouted", "told him", "thought", "cried")


CLOSED = {
    "articles; the words a, an and the": "a an the",
    "pronouns; personal pronouns": "i you he she it we they me him her us them myself yourself himself herself itself themselves",
    "words for a man or boy; he, him and his": "he him his himself",
    "words for a woman or girl; she and her": "she her hers herself",
    "first-person pronouns; words for oneself": "i me my mine we us our ours myself ourselves",
    "second-person pronouns; words for the listener": "you your yours yourself thou thee thy",
    "plural pronouns; words for a group": "we us they them our their ours theirs",
    "possessive words; possessive pronouns": "my your his her its our their mine yours hers ours theirs whose",
    "prepositions": "in on at by for with from to of about over under between through into onto across behind beyond against "
    "during without within near after before above below around among along toward towards upon off",
    "prepositions of place; words for where something is": "in on at under over behind between near above below beside among "
    "inside outside across around through into onto along",
    "prepositions and adverbs of time; when something happened": "after before during until since when while then now soon later "
    "yesterday today tomorrow once already ago",
    "conjunctions; connecting words": "and or but because although though if while unless whereas since so nor yet",
    "contrast words; but and although": "but although though however yet despite nevertheless while whereas",
    "words that give a reason": "because since so therefore thus hence",
    "modal verbs; can, could, should": "can could may might must shall should will would cannot",
    "negations; words that deny; not and never": "not no never none nothing nobody nowhere neither nor cannot n't without",
    "question words; who, what, where": "who what where when why how which whose whom",
    "demonstratives; this and that": "this that these those",
    "forms of the verb be; is, are and was": "is are was were be been being am",
    "forms of the verb have": "have has had having",
    "forms of the verb do": "do does did doing done",
    "auxiliary verbs; helping verbs": "is are was were be been am have has had do does did will would can could "
    "may might must shall should",
    "numbers; number words; counting": "one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty "
    "hundred thousand million billion dozen",
    "ordinal numbers; first, second, third": "first second third fourth fifth sixth seventh eighth ninth tenth last",
    "quantifiers; words for how many": "all some any many much few several most more less every each both half enough",
    "intensifiers; words for how strongly": "very too so quite rather extremely really almost nearly completely totally entirely",
    "frequency words; how often": "always never often sometimes usually rarely seldom ever again frequently once twice",
    "greetings and polite words; greetings": "hello hi goodbye bye please thanks welcome sorry yes",
    "the existential word there; there": "there",
    "relative pronouns": "who which that whose whom",
    "female first names; names of girls and women; girls": " ".join(WOMEN).lower(),
    "male first names; names of boys and men; boys": " ".join(MEN).lower(),
    "first names; names of people; people's names": " ".join([*WOMEN, *MEN]).lower(),
}  # fmt: skip
"""Phrasings -> members, closed classes of English."""

MARKS = {
    ".": "full stops; periods; the end of a sentence", ",": "commas", "?": "question marks; the end of a question",
    "!": "exclamation marks", ";": "semicolons", ":": "colons", '"': "quotation marks", "'": "apostrophes and single quotes",
    "-": "hyphens and dashes", "(": "opening brackets; opening parentheses", ")": "closing brackets; closing parentheses",
}  # fmt: skip

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
    """Hypernyms; for an adjective its attribute, the nouns derived from it and, for a satellite, its cluster's head."""


class Concept(NamedTuple):
    kind: str
    name: str
    phrasings: list[str]


class Text(NamedTuple):
    """A training text; `senses` maps the character at which a word ends to its known sense."""

    text: str
    senses: dict[int, Sense]


class WordNet:
    """The parts of WordNet's database files that are needed here. Format: wndb(5WN) and cntlist(5WN)."""

    def __init__(self, folder: Path) -> None:
        self.synsets: dict[Sense, Synset] = {}
        self.senses: dict[tuple[str, str], list[tuple[Sense, float]]] = defaultdict(list)
        self.exceptions: dict[str, dict[str, list[str]]] = {}
        keys: dict[str, Sense] = {}
        for pos, name in POS_FILES.items():
            for line in (folder / f"data.{name}").read_text(encoding="utf8").splitlines():
                if not line.startswith("  "):
                    self._read_synset(pos, line, keys)
            self.exceptions[pos] = {}
            for line in (folder / f"{name}.exc").read_text(encoding="utf8").splitlines():
                form, *lemmas = line.split()
                self.exceptions[pos][form] = lemmas
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
                    # Senses are listed by frequency; the small prior stands in for what the tagged corpus did not see.
                    self.senses[lemma, pos].append((sense, counts[(lemma, sense)] + 0.5 / (1 + rank)))

    def _read_synset(self, pos: str, line: str, keys: dict[str, Sense]) -> None:
        data, _, gloss = line.partition(" | ")
        parts = data.split()
        sense = Sense(pos, int(parts[0]))
        n_words = int(parts[3], 16)
        words = [parts[4 + 2 * i].split("(")[0].lower() for i in range(n_words)]
        position = 4 + 2 * n_words
        up = []
        for i in range(int(parts[position])):
            symbol, offset, target, _ = parts[position + 1 + 4 * i : position + 5 + 4 * i]
            is_up = symbol in ("@", "@i") or (pos == "a" and symbol == "=") or (symbol == "&" and parts[2] == "s")
            if is_up or (symbol == "+" and pos == "a" and target == "n"):
                up.append(Sense("a" if target == "s" else target, int(offset)))
        definition = gloss.split('; "')[0].strip()
        self.synsets[sense] = Synset(words, int(parts[1]), definition, re.findall(r'"([^"]+)"', gloss), up)
        number = {"n": 1, "v": 2, "a": 3, "r": 4}[pos] if parts[2] != "s" else 5
        for i, word in enumerate(words):
            head = ":" if number != 5 else ""
            if number != 5:
                keys[f"{word}%{number}:{parts[1]}:{int(parts[5 + 2 * i], 16):02d}:{head}"] = sense

    def lemmas(self, form: str) -> Iterator[tuple[str, str, str]]:
        """(lemma, part of speech, inflection) of every reading of a lower-case word form (morphy's rules)."""
        rules = (
            ("n", "plural", (("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"),
                             ("men", "man"), ("ies", "y"))),
            ("v", "third", (("s", ""), ("ies", "y"), ("es", "e"), ("es", ""))),
            ("v", "past", (("ed", "e"), ("ed", ""), ("ied", "y"))),
            ("v", "ing", (("ing", "e"), ("ing", ""))),
            ("a", "comparative", (("er", ""), ("er", "e"), ("ier", "y"))),
            ("a", "superlative", (("est", ""), ("est", "e"), ("iest", "y"))),
        )  # fmt: skip
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
                    for lemma in dict.fromkeys((stem + replacement, *_undoubled(stem, replacement))):
                        if (lemma, pos) in self.senses:
                            yield lemma, pos, inflection

    def readings(self, form: str) -> list[tuple[Sense, str, float]]:
        """(sense, inflection, share of its uses) of a lower-case word form; shares sum to 1."""
        found: dict[tuple[Sense, str], float] = {}
        for lemma, pos, inflection in self.lemmas(form):
            for sense, weight in self.senses[lemma, pos]:
                found[sense, inflection] = max(found.get((sense, inflection), 0.0), weight)
        total = sum(found.values())
        return [(sense, inflection, weight / total) for (sense, inflection), weight in found.items()]

    def ancestors(self, sense: Sense, depth: int = 12) -> set[Sense]:
        """The sense itself and all that it is a kind of."""
        seen = {sense}
        frontier = [sense]
        for _ in range(depth):
            frontier = [up for s in frontier for up in self.synsets[s].up if up not in seen and self._is_quality(s, up)]
            seen.update(frontier)
        return seen

    def _is_quality(self, sense: Sense, up: Sense) -> bool:
        """From an adjective only to what it says of a thing: `happy` to happiness, not `woolly` to wool."""
        return up in self.synsets and (sense.pos != "a" or up.pos != "n" or self.synsets[up].file in (7, 12, 26))

    def texts(self, rng: np.random.Generator) -> list[Text]:
        """Examples with their word's sense, and glosses, each as a sentence; some examples with names, some as speech."""
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
            if any(lemma in words and pos == sense.pos for lemma, pos, _ in self.lemmas(match.group().lower()))
        }


def _varied(text: str, rng: np.random.Generator) -> str:
    """Examples know few names and no dialogue: `He left.` becomes `Peter left.`, or `"He left," the man said.`"""
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
    wordnet: Path, extra: list[str], offsets: Callable[[str], list[tuple[int, int]]], n_tokens: int, seed: int
) -> Supervision:
    """extra: more sentences; offsets: (start, end) of each encoder token of a text; stops at about n_tokens."""
    net = WordNet(wordnet)
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
    types, rows = _types(chunks, ends, offsets)
    word_concepts, membership = _word_concepts(net, rows, types)
    context_concepts, context = _context_concepts([chunk.text for chunk in chunks], ends)
    return Supervision([c.text for c in chunks], ends, types, membership, context, word_concepts + context_concepts)


class Row(NamedTuple):
    """What a token is: a word (by surface form, known sense), the beginning of one, or other characters."""

    form: str
    sense: Sense | None
    fragment: bool


def _types(
    chunks: list[Text], ends: list[list[int]], offsets: Callable[[str], list[tuple[int, int]]]
) -> tuple[NDArray[np.int32], list[Row]]:
    rows: dict[Row, int] = {}
    types: list[int] = []
    for chunk, own in zip(chunks, ends, strict=True):
        words = [(m.start(), m.end(), m.group()) for m in re.finditer(r"[A-Za-z]+|\d+|[^\sA-Za-z\d]+", chunk.text)]
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


def _word_concepts(net: WordNet, rows: list[Row], types: NDArray[np.int32]) -> tuple[list[Concept], NDArray[np.uint8]]:
    """Concepts that a word form, or a word with a known sense, tells without more context."""
    counts = np.bincount(types, minlength=len(rows))
    shares: dict[str, dict[object, float]] = {}
    for row in rows:
        key = f"{row.form}/{row.sense}"
        if key not in shares:
            shares[key] = _shares(net, row.form.lower(), row.sense)
    totals: Counter[object] = Counter()
    forms: dict[object, Counter[str]] = defaultdict(Counter)
    for row, count in zip(rows, counts, strict=True):
        if not row.fragment:
            for name, share in shares[f"{row.form}/{row.sense}"].items():
                if share > 0.5:
                    totals[name] += int(count)
                    forms[name][row.form.lower()] += int(count)
    n_tokens = int(counts.sum())
    least = max(30, n_tokens // 8000)
    kept = [
        name
        for name, n in totals.items()
        if least <= n < 0.2 * n_tokens and (not isinstance(name, Sense) or len(forms[name]) >= (3 if name.pos == "a" else 4))
    ]
    concepts: list[Concept] = []
    columns: list[object] = []
    for name in sorted(kept, key=str):
        concepts.append(_describe(net, name, forms[name]))
        columns.append(name)
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


INFLECTIONS = {"past": "past tense", "ing": "-ing form", "plural": "plural", "third": "third person", "base": "base form"}


def _shares(net: WordNet, form: str, known: Sense | None) -> dict[object, float]:
    """Share of the uses of a word form that belongs to each concept (a Sense, or a string for the others)."""
    found: dict[object, float] = defaultdict(float)
    readings = net.readings(form)
    if known is not None:
        inflections = [i for sense, i, _ in readings if sense == known] or ["base"]
        readings = [(known, inflection, 1 / len(inflections)) for inflection in inflections]
    for sense, inflection, share in readings:
        if form in FUNCTION_WORDS:
            share *= 0.1
        for ancestor in net.ancestors(sense):
            found[ancestor] += share
        files = (
            {net.synsets[ancestor].file for ancestor in net.ancestors(sense) if ancestor.pos != "r"} if sense.pos == "a" else set()
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


FUNCTION_WORDS = {word for members in CLOSED.values() for word in members.split()} - {
    "may",
    "second",
    "last",
    "half",
    "can",
    "will",
    "must",
}


def _describe(net: WordNet, name: object, forms: Counter[str]) -> Concept:
    """Phrasings of a concept; members that illustrate it are the frequent ones."""
    shown = [form for form, _ in forms.most_common(12) if len(form) > 2]
    examples = [", ".join(shown[a:b]) for a, b in ((0, 2), (0, 3), (2, 5), (3, 7)) if len(shown) >= b]
    if isinstance(name, Sense):
        synset = net.synsets[name]
        words = [word.replace("_", " ") for word in synset.words if word.isascii()][:3]
        gloss = re.sub(r"\([^)]*\)", "", synset.gloss).split(";")[0].strip()
        named = list(words)
        if name.pos == "n":
            named += [_plural(word) for word in words] + [f"kinds of {words[0]}", f"words for {_plural(words[0])}"] if words else []
        elif name.pos == "v":
            named += [_gerund(word) for word in words] + [f"verbs like {words[0]}", f"ways to {words[0]}"] if words else []
        else:
            named += [f"words like {words[0]}", f"{words[0]} things"] if words else []
        phrasings = named + [f"words about {words[0]}"] * bool(words)
        phrasings += [f"{named[min(len(words), len(named) - 1)]}, such as {e}" for e in examples[:2]] if named else []
        if 8 < len(gloss) < 90:
            phrasings.append(gloss)
        if words and examples:
            phrasings.append(f"{examples[-1]} and other {_plural(words[0]) if name.pos == 'n' else 'words'}")
        return Concept(f"synset {name.pos}", f"{name.pos}{name.offset} {synset.words[0]}", list(dict.fromkeys(phrasings)))
    kind, *rest = str(name).split()
    if kind == "file":
        base = [phrase.strip() for phrase in LEXICOGRAPHER[int(rest[0])].split(";")]
        if len(rest) > 1:
            base = [_inflected(phrase, rest[1]) for phrase in base]
        return Concept("file", str(name), base + [f"{base[0]}, such as {e}" for e in examples])
    if kind == "pos":
        titles = {"n": "nouns", "v": "verbs", "a": "adjectives", "r": "adverbs"}
        title = titles[rest[0]]
        return Concept("class", str(name), [title, f"words that are {title}", f"all {title}"])
    title = {
        "past": ["past-tense verbs", "verbs in the past tense", "what happened, in the past tense"],
        "ing": ["verbs ending in -ing", "-ing forms of verbs"],
        "plural": ["plural nouns", "plurals", "nouns in the plural"], "third": ["third-person verbs", "verbs ending in -s"],
        "comparative": ["comparatives", "comparative adjectives"], "superlative": ["superlatives", "superlative adjectives"],
    }[rest[0]]  # fmt: skip
    return Concept("class", str(name), title)


def _inflected(phrase: str, inflection: str) -> str:
    return {"past": f"{phrase}, in the past tense", "ing": f"{phrase}, ending in -ing", "plural": f"{phrase}, in the plural"}[
        inflection
    ]


def _plural(word: str) -> str:
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "z", "ch", "sh")) else "s")


def _gerund(word: str) -> str:
    first, *rest = word.split(" ")
    first = (
        first[:-1] + "ing" if first.endswith("e") and not first.endswith(("ee", "ye", "oe")) and len(first) > 2 else first + "ing"
    )
    return " ".join([first, *rest])


def _closed_concepts(rows: list[Row], counts: NDArray) -> list[tuple[Concept, Callable[[Row], int]]]:
    """Closed classes, punctuation, single words, affixes, capitals: known from the form alone."""
    result: list[tuple[Concept, Callable[[Row], int]]] = []

    def add(kind: str, phrasings: list[str], member: Callable[[str], bool]) -> None:
        result.append((Concept(kind, phrasings[0], phrasings), lambda row: int(bool(row.form) and member(row.form))))

    for title, members in CLOSED.items():
        chosen = frozenset(members.split())
        phrasings = [phrase.strip() for phrase in title.split(";")]
        shown = ", ".join(members.split()[:3])
        add("closed", [*phrasings, f"{phrasings[0]}, such as {shown}"], lambda form, c=chosen: form.lower() in c)  # type: ignore[misc]
    for mark, title in MARKS.items():
        add("mark", [phrase.strip() for phrase in title.split(";")] + [f"the mark {mark}"], lambda form, m=mark: form.startswith(m))  # type: ignore[misc]
    add("mark", ["punctuation", "punctuation marks"], lambda form: not form[0].isalnum())
    add("mark", ["ends of sentences", "sentence-final punctuation"], lambda form: form[0] in ".!?")
    add("mark", ["digits", "numbers written in digits", "numerals"], lambda form: form.isdigit())
    for suffix in SUFFIXES:
        phrases = [f"words ending in -{suffix}", f"words that end with {suffix}", f"the suffix -{suffix}"]
        add("affix", phrases, lambda form, s=suffix: len(form) > len(s) + 2 and form.lower().endswith(s))  # type: ignore[misc]
    for prefix in (*PREFIXES, *"abcdefghilmnoprstw"):
        phrases = [f"words starting with {prefix}", f"words that begin with {prefix}-"]
        add("affix", phrases, lambda form, p=prefix: len(form) > len(p) + 2 and form.lower().startswith(p))  # type: ignore[misc]
    add("affix", ["capitalized words", "words with a capital letter"], lambda form: form[0].isupper())
    add("affix", ["long words", "words of many letters"], lambda form: form.isalpha() and len(form) >= 9)
    add("affix", ["short words", "words of one or two letters"], lambda form: form.isalpha() and len(form) <= 2)
    frequent: Counter[str] = Counter()
    for row, count in zip(rows, counts, strict=True):
        if row.form.isalpha() and not row.fragment:
            frequent[row.form.lower()] += int(count)
    for word, _ in frequent.most_common(700):
        phrases = [f"the word {word}", f"the word '{word}'", f"'{word}'", f"{word}, as a word"]
        add("word", phrases, lambda form, w=word: form.lower() == w)  # type: ignore[misc]
    return result


CONTEXT = (
    ["first words of a sentence", "the start of a sentence", "sentence beginnings", "the first word of a sentence"],
    ["words inside quotation marks", "quoted speech", "dialogue", "words inside quotes"],
    ["words after the", "nouns after the word the", "the word after 'the'"],
    ["words after a", "the word after 'a' or 'an'"],
    ["words after to", "the word after 'to'"],
    ["words after of", "the word after 'of'"],
    ["words after and", "the word after 'and'"],
    ["words after a negation", "negated words", "words that are denied"],
    ["names", "proper names", "capitalized names", "names of people and places"],
    ["words after a comma", "the word after a comma"],
    ["words after he or she", "what he or she does", "the word after a pronoun"],
    ["words that occurred before", "repeated words", "words repeated in the text"],
    ["words inside brackets", "text in parentheses"],
    ["words after a preposition", "the word after a preposition"],
    ["words after is or was", "words that follow the verb be"],
)
"""Phrasings of the concepts that depend on what stands before the word, in the order of `_context_row`."""


def _context_concepts(texts: list[str], ends: list[list[int]]) -> tuple[list[Concept], NDArray[np.uint8]]:
    concepts = [Concept("context", phrasings[0], phrasings) for phrasings in CONTEXT]
    rows: list[list[int]] = []
    for text, own in zip(texts, ends, strict=True):
        words = _context_words(text)
        position = 0
        for end in own:
            while position < len(words) - 1 and words[position][1] < end:
                position += 1
            start, stop, flags = words[position]
            if not start < end <= stop:
                rows.append([0] * len(CONTEXT))
            else:
                rows.append(flags if end == stop else [IGNORE if flag else 0 for flag in flags])
    return concepts, np.array(rows, dtype=np.uint8)


def _context_words(text: str) -> list[tuple[int, int, list[int]]]:
    """(start, end, membership in each context concept) of every word and mark."""
    result = []
    quoted = bracketed = False
    before: list[str] = []
    seen: set[str] = set()
    prepositions = set(CLOSED["prepositions"].split())
    for match in re.finditer(r"[A-Za-z]+|\d+|[^\sA-Za-z\d]", text):
        form = match.group()
        low = form.lower()
        last = before[-1] if before else "."
        word = form.isalpha()
        first = last in ".!?" or (last in "\"'" and len(before) > 1 and before[-2] in ".!?,:")
        recent = [w for w in before[-4:]]
        if form == '"':
            quoted = not quoted
        if form in "()":
            bracketed = form == "("
        flags = [
            word and first, word and quoted, word and last == "the", word and last in ("a", "an"), word and last == "to",
            word and last == "of", word and last == "and",
            word and any(w in ("not", "no", "never", "without", "nothing", "t") for w in recent) and low not in ("t", "not", "no"),
            word and form[0].isupper() and not first and low != "i", word and last == ",", word and last in ("he", "she"),
            word and low in seen and low not in FUNCTION_WORDS, word and bracketed, word and last in prepositions,
            word and last in ("is", "was", "are", "were"),
        ]  # fmt: skip
        result.append((match.start(), match.end(), [int(flag) for flag in flags]))
        before.append(low)
        seen.add(low)
    return result or [(0, 0, [0] * len(CONTEXT))]


def held_out(concept: Concept, share: float) -> bool:
    """Whether a synset concept is kept out of training; decided by its name, so that it never changes."""
    return concept.kind.startswith("synset") and zlib.crc32(concept.name.encode()) % 1000 < 1000 * share
