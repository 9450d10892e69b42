"""The text of each token, as simulators, labelers and people read it.

1. A token is decoded behind another one. Alone it would lose its leading space with tokenizers that
   drop the space in front of a text (Llama 2, Mistral and other sentencepiece models).
2. A character that is cut into several tokens stands whole at its last token, and the tokens before
   it are empty. So no token knows more text than the subject has read, and joined tokens are the
   text.
3. Bytes that are no character, as where a block cuts one in two, are not shown.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from transformers.convert_slow_tokenizer import bytes_to_unicode

REPLACEMENT = "\ufffd"
"""What decoders write for bytes that are no whole character."""
_BEFORE = "a"
"""Text in front of a token that is decoded."""
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
"""How vocabularies of sentencepiece name a token of one byte."""


@cache
def _bytes_of() -> dict[str, int]:
    """Letter in a byte-level vocabulary -> the byte that it stands for."""
    return {letter: byte for byte, letter in bytes_to_unicode().items()}


class TokenTexts:
    """Texts of the tokens of one tokenizer. Each token is decoded once.

    separator: id of the end-of-text token, which reads as a line break; begin: of the token that a
    block begins with, which reads as nothing; None for none.
    """

    def __init__(
        self, tokenizer: Any, separator: int | None = None, begin: int | None = None
    ) -> None:
        self._tokenizer = tokenizer
        self._before = tokenizer.encode(_BEFORE, add_special_tokens=False)
        self._head = len(self._decoded(self._before))
        self._known: dict[int, str | bytes] = {}
        if begin is not None:
            self._known[begin] = ""
        if separator is not None:
            self._known[separator] = "\n"

    def of(self, ids: Iterable[Any]) -> list[str]:
        """Text of each of some consecutive tokens."""
        texts: list[str] = []
        reader = codecs.getincrementaldecoder("utf-8")("ignore")
        for token in ids:
            read = self._text(int(token))
            if isinstance(read, bytes):
                texts.append(reader.decode(read))
            else:
                # What is left of a character ends where other text begins.
                reader.reset()
                texts.append(read)
        return texts

    def alone(self, token: int) -> str:
        """Text of a token that stands in no text. A part of a character is named by its bytes, as
        <0xE4>."""
        read = self._text(int(token))
        if isinstance(read, str):
            return read
        text = read.decode("utf-8", "replace")
        return "".join(f"<0x{byte:02X}>" for byte in read) if REPLACEMENT in text else text

    def _text(self, token: int) -> str | bytes:
        """bytes where they are no whole characters."""
        if token not in self._known:
            text = self._decoded([*self._before, token])[self._head :]
            self._known[token] = self._bytes(token, text) if REPLACEMENT in text else text
        return self._known[token]

    def _bytes(self, token: int, text: str) -> bytes:
        """Of a token whose text holds a replacement character."""
        name = str(self._tokenizer.convert_ids_to_tokens(token))
        if byte := _BYTE.fullmatch(name):
            return bytes([int(byte[1], 16)])
        known = _bytes_of()
        if all(letter in known for letter in name):
            return bytes(known[letter] for letter in name)
        return text.encode("utf-8", "replace")

    def _decoded(self, ids: list[int]) -> str:
        # A clean-up would drop spaces in front of punctuation.
        return str(self._tokenizer.decode(ids, clean_up_tokenization_spaces=False))
