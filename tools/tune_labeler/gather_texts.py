"""Gathers the texts of the supervision: public-domain books, WordNet's examples and glosses, and
series of numbers and days.

    python tools/tune_labeler/gather_texts.py --books BOOKS --wordnet DICT --out texts.jsonl.gz

BOOKS is a folder with one folder for each book, as Standard Ebooks publishes them: public-domain
text in `src/epub/text/*.xhtml`, its markup CC0. A passage is some neighbouring paragraphs of one
book. `parse_texts.py` parses the result.

One line: {"book": name, "text": ..., "senses": {character at which a word ends: [pos, offset]}}
"""

from __future__ import annotations

import argparse
import gzip
import html
import json
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import sequences

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from lexical_supervision import WordNet, chunked

SHORTEST, LONGEST = 45, 110
"""Words of a passage. A paragraph that is longer alone is left out."""
QUOTES = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "\u2060": None, "\u00a0": " "})
PARAGRAPH = re.compile(r"<p\b[^>]*>(.*?)</p>", re.DOTALL)
FRONT = ("titlepage", "imprint", "colophon", "uncopyright", "halftitlepage", "endnotes", "toc")
"""Files of a book that are not its text."""


def paragraphs(book: Path) -> Iterator[str]:
    """The plain paragraphs of a book, in order, with straight quotation marks."""
    files = [f for f in (book / "src/epub/text").glob("*.xhtml") if f.stem not in FRONT]
    for file in sorted(files, key=lambda f: [int(n) for n in re.findall(r"\d+", f.stem)]):
        for inner in PARAGRAPH.findall(file.read_text(encoding="utf-8")):
            text = html.unescape(re.sub(r"<[^>]+>", "", inner)).translate(QUOTES)
            text = re.sub(r"\s*[—–]+\s*", " - ", text)
            yield " ".join(text.split())


def passages(book: Path) -> Iterator[str]:
    """Neighbouring paragraphs of `SHORTEST` to `LONGEST` words together."""
    current: list[str] = []
    n = 0
    for text in paragraphs(book):
        length = len(text.split())
        if n + length > LONGEST:
            current, n = [], 0
        if length > LONGEST:
            continue
        current.append(text)
        n += length
        if n >= SHORTEST:
            yield " ".join(current)
            current, n = [], 0


def words_of(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"\S+", text)]


def main() -> None:
    args = arguments()
    rng = random.Random(args.seed)
    lines = []
    for book in sorted(args.books.iterdir()):
        own = list(passages(book))
        rng.shuffle(own)
        lines += [{"book": book.name, "text": text, "senses": {}} for text in own[: args.most]]
    lines += [
        {"book": "sequences", "text": sequences.passage(rng), "senses": {}}
        for _ in range(args.sequences)
    ]
    chunks, _ = chunked(WordNet(args.wordnet), [], words_of, args.words, args.seed)
    lines += [
        {"book": "wordnet", "text": text, "senses": {end: list(s) for end, s in senses.items()}}
        for text, senses in chunks
    ]
    rng.shuffle(lines)
    with gzip.open(args.out, "wt", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    sys.stdout.write(f"{len(lines)} texts, {sum(len(words_of(x['text'])) for x in lines)} words\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--books", type=Path, required=True)
    parser.add_argument("--wordnet", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=600, help="passages of one book")
    parser.add_argument("--sequences", type=int, default=200, help="passages of `sequences.py`")
    parser.add_argument("--words", type=int, default=200_000, help="of WordNet's texts")
    return parser.parse_args()


if __name__ == "__main__":
    main()
