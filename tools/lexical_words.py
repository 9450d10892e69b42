"""The closed classes of English, first names, and what a concept is."""

from __future__ import annotations

from typing import NamedTuple

IGNORE = 2


class Concept(NamedTuple):
    kind: str
    name: str
    phrasings: list[str]


WOMEN = (
    "Mary Alice Susan Margaret Helen Laura Julia Kate Grace Jane Martha Linda Sophie Eva Irene Betty Diana Carol Maria Sally "
    "Olivia Charlotte Hannah Rachel Judith Elena Nora Agnes Wendy Pamela"
).split()
MEN = (
    "John Peter George Henry Robert James David Thomas William Richard Frank Edward Albert Michael Steven Victor Simon Martin "
    "Andrew Philip Carl Arthur Harry Walter Roger Kevin Brian Louis Philip Dennis"
).split()
CLOSED = {
    "articles; the words a, an and the": "a an the",
    "pronouns; personal pronouns; words that replace a noun; words for the speaker, the listener and others": "i you he "
    "she it we they me him her us them myself yourself himself herself itself themselves",
    "words for a man or boy; he, him and his": "he him his himself",
    "words for a woman or girl; she and her": "she her hers herself",
    "first-person pronouns; words for oneself": "i me my mine we us our ours myself ourselves",
    "second-person pronouns; words for the listener": "you your yours yourself thou thee thy",
    "plural pronouns; words for a group": "we us they them our their ours theirs",
    "possessive words; possessive pronouns": "my your his her its our their mine yours hers ours theirs whose",
    "prepositions; words that show a relation; words of place and direction before a noun": "in on at by for with "
    "from to of about over under between through into onto across behind beyond against "
    "during without within near after before above below around among along toward towards upon off",
    "prepositions of place; words for where something is": "in on at under over behind between near above below beside among "
    "inside outside across around through into onto along",
    "prepositions and adverbs of time; when something happened": "after before during until since when while then now soon later "
    "yesterday today tomorrow once already ago",
    "conjunctions; connecting words; words that join clauses": "and or but because although though if while unless "
    "whereas since so nor yet",
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
}
"""Phrasings -> members, closed classes of English."""

FUNCTION_WORDS = {word for members in CLOSED.values() for word in members.split()} - set(
    "may second last half can will must".split()
)
