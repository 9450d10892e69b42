"""Labels of nodes that are planted to measure a labeler (`ibc bench truth planted=rules`), several
of each kind of rule.

All of them can be read by `truth.language`, which gives their truth on any text. They were written
before any answer to them was read.
"""

from __future__ import annotations

KINDS: dict[str, tuple[str, ...]] = {
    "word": ("the word 'said'", "the word 'but'", "the word 'she'", "the word 'little'"),
    "words": (
        "the words 'his' and 'her'",
        "the words 'come', 'went' and 'took'",
        "the words 'king' and 'son'",
        "the words 'at' and 'upon'",
    ),
    "form": (
        "words ending in -ing",
        "words ending in -ed",
        "words ending in -ly",
        "capitalized words",
        "long words",
    ),
    "class": ("pronouns", "prepositions", "articles", "numbers", "modal verbs", "conjunctions"),
    "meaning": ("animals", "family members", "body parts", "food", "colors"),
    "position": (
        "the first word of a sentence",
        "the second word of a sentence",
        "words after the tenth word of a sentence",
        "the first word of a quotation",
    ),
    "neighbour": (
        "words after a comma",
        "the word after 'the'",
        "the word after 'with'",
        "words after a pronoun",
        "words after a preposition",
    ),
    "word in context": (
        "the word 'and' after a comma",
        "the word 'the' after a preposition",
        "the word 'to' after a verb",
        "the word 'you' inside quotation marks",
    ),
    "class in context": (
        "nouns after an adjective",
        "verbs after 'to'",
        "pronouns inside quotation marks",
        "pronouns at the beginning of a sentence",
        "prepositions after a verb",
    ),
    "quotation": ("words inside quotation marks", "words outside quotation marks"),
    "repetition": (
        "words that occurred before in the text",
        "names that occurred before in the text",
        "words that occur for the first time",
    ),
    "sentence": ("words in a question", "verbs in a sentence with a negation"),
}
"""Kind -> labels."""
