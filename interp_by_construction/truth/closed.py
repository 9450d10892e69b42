"""The closed classes of English: word classes that can be listed, and the marks.

A contraction belongs to the classes of its parts: `don't` is a form of `do` and a negation.
"""

from __future__ import annotations

from types import MappingProxyType

_SHORT = {"'m": "am", "'re": "are", "'ve": "have", "'ll": "will", "n't": "not"}
_ODD = {"can't": "can", "cannot": "can", "won't": "will", "shan't": "shall"}


def parts(word: str) -> tuple[str, ...]:
    """A lower-case word, and what it is contracted from: `don't` -> `don't`, `do`, `not`. `'s` is
    taken off alone, since it stands for a possessor, `is` or `has`."""
    if word in _ODD:
        return (word, _ODD[word], "not")
    for ending, full in _SHORT.items():
        if word.endswith(ending) and len(word) > len(ending):
            return (word, word.removesuffix(ending), full)
    return (word, word[:-2]) if word.endswith("'s") and len(word) > 2 else (word,)


_FIRST_SINGULAR, _FIRST_PLURAL = "i me my mine myself", "we us our ours ourselves"
_FIRST = f"{_FIRST_SINGULAR} {_FIRST_PLURAL}"
_SECOND = "you your yours yourself yourselves thou thee thy thine thyself ye"
_HE, _SHE, _IT = "he him his himself", "she her hers herself", "it its itself"
_THEY = "they them their theirs themselves"
_PLACE = (
    "in on at under over behind between near above below beneath beside besides among amongst amid inside "
    "outside across around through into onto along against beyond upon within underneath off opposite"
)
_SUBORDINATING = "because although though if while unless whereas since until when whenever before after as that whether lest"
_COORDINATING = "and or but nor yet so"
_MODALS = "can could may might must shall should will would ought cannot"
_BE = "be am is are was were been being"
_HAVE, _DO = "have has had having", "do does did doing done"
_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety "
    "hundred thousand million billion dozen"
)

_CLASSES = {
    "articles": "a an the",
    "definite articles": "the",
    "indefinite articles": "a an",
    "pronouns": f"{_FIRST} {_SECOND} {_HE} {_SHE} {_IT} {_THEY} one oneself",
    "personal pronouns": "i me you he him she her it we us they them thou thee ye",
    "subject pronouns": "i you he she it we they thou ye",
    "object pronouns": "me you him her it us them thee",
    "possessive pronouns": "my mine your yours his her hers its our ours their theirs thy thine",
    "reflexive pronouns": (
        "myself yourself himself herself itself ourselves yourselves themselves oneself thyself"
    ),
    "first-person pronouns": _FIRST,
    "second-person pronouns": _SECOND,
    "third-person pronouns": f"{_HE} {_SHE} {_IT} {_THEY}",
    "male pronouns": _HE,
    "female pronouns": _SHE,
    "singular pronouns": f"{_FIRST_SINGULAR} {_HE} {_SHE} {_IT} yourself",
    "plural pronouns": f"{_FIRST_PLURAL} {_THEY} yourselves",
    "indefinite pronouns": (
        "somebody someone something anybody anyone anything everybody everyone everything nobody "
        "none nothing"
    ),
    "relative pronouns": "who whom whose which that",
    "prepositions": (
        f"{_PLACE} by for with without from to of about toward towards during before after since "
        "until till except like despite per via unto up down out past than as"
    ),
    "prepositions of place": _PLACE,
    "prepositions of direction": "to into onto toward towards from through across up down out off",
    "prepositions of time": "after before during until till since by throughout",
    "conjunctions": f"{_COORDINATING} {_SUBORDINATING}",
    "coordinating conjunctions": _COORDINATING,
    "subordinating conjunctions": _SUBORDINATING,
    "modal verbs": _MODALS,
    "forms of be": _BE,
    "forms of have": _HAVE,
    "forms of do": _DO,
    "auxiliary verbs": f"{_MODALS} {_BE} {_HAVE} {_DO}",
    "negations": "not no never none nothing nobody nowhere neither nor cannot without hardly",
    "question words": "who what where when why how which whose whom",
    "demonstratives": "this that these those",
    "quantifiers": (
        "all some any many much few several most more less every each both half enough no little"
    ),
    "determiners": (
        "a an the this that these those my your his her its our their thy all some any many much "
        "few several most more less every each both no"
    ),
    "intensifiers": (
        "very too so quite rather extremely really almost nearly completely totally entirely"
    ),
    "number words": _NUMBERS,
    "ordinals": (
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth last"
    ),
    "weekdays": "monday tuesday wednesday thursday friday saturday sunday",
    "months": (
        "january february march april may june july august september october november december"
    ),
    "interjections": "oh ah alas hello hi goodbye bye yes hurrah hooray wow hey o eh aha ho",
    "titles": "mr mrs ms miss dr sir madam lady lord king queen prince princess captain professor",
}
CLASSES = MappingProxyType({name: frozenset(words.split()) for name, words in _CLASSES.items()})
"""Class -> its members in lower case."""

FUNCTION_CLASSES = (
    "articles, pronouns, prepositions, conjunctions, auxiliary verbs, negations, question words, "
    "demonstratives, quantifiers, determiners"
).split(", ")
FUNCTION_WORDS = frozenset().union(*(CLASSES[name] for name in FUNCTION_CLASSES))

CLOSED_WORDS = FUNCTION_WORDS | CLASSES["number words"] | CLASSES["interjections"]
"""Words that the lexicon leaves out, since their other readings are rare."""

MARKS = MappingProxyType(
    {
        "full stops": ".",
        "commas": ",",
        "question marks": "?",
        "exclamation marks": "!",
        "semicolons": ";",
        "colons": ":",
        "quotation marks": '"“”«»„',
        "apostrophes": "'’‘",
        "dashes": "-–—",
        "opening parentheses": "(",
        "closing parentheses": ")",
        "brackets": "[]",
    }
)
"""Name -> the characters."""
