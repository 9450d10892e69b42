"""Replies of broken and hostile servers: bytes made of the honest answer, and how a call must end
that gets them."""

from __future__ import annotations

import base64
import codecs
import copy
import gzip
import json
import random
import struct
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, NamedTuple

from fake_server import Raw

Ends = Literal["error", "again", "answer"]
"""`error`: at once. `again`: the request is sent again, and an error if that fails too. `answer`:
the reply is as good as the honest one."""
Made = Raw | bytes
"""A whole reply, or the body of one with status 200."""
Make = Callable[[random.Random, dict[str, Any]], Made]
"""From the honest answer. The generator draws the details."""


class Hostile(NamedTuple):
    """One kind of reply."""

    make: Make
    ends: Ends
    slow: bool = False
    """Whether it ends by the timeout of a request."""


def reply(body: bytes, *headers: str, status: str = "200 OK", length: str | None = None) -> Raw:
    """A reply that is whole. length: the header content-length, empty for none."""
    length = str(len(body)) if length is None else length
    lines = [f"HTTP/1.1 {status}", "content-type: application/json", *headers]
    lines += [f"content-length: {length}"] if length else []
    return Raw("\r\n".join([*lines, "", ""]).encode("latin-1") + body)


def packed(answer: Any) -> bytes:
    return json.dumps(answer).encode()


def _cut(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(1, len(content) - 1)]


def _inside(answer: dict[str, Any], text: bytes) -> bytes:
    """The honest answer with one more field, which holds `text`."""
    return b'{"more": ' + text + b", " + packed(answer)[1:]


def _status(*known: str) -> Make:
    return lambda rng, answer: reply(packed(answer), status=rng.choice(known))


def _later(rng: random.Random, answer: dict[str, Any]) -> Raw:
    times = "31536000 1e999 nan -5 soon 0x10 Wed,_21_Oct_2099_07:28:00_GMT".split()
    header = f"retry-after: {rng.choice(times).replace('_', ' ')}"
    return reply(b"busy", header, status=rng.choice(("429 Busy", "503 Down")))


def _elsewhere(rng: random.Random, answer: dict[str, Any]) -> Raw:
    where = rng.choice(("/elsewhere", "//127.0.0.1:9/x", "file:///etc/passwd", "http://[", ""))
    status = rng.choice(("301 Moved", "302 Found", "303 Other", "307 Same", "308 Same"))
    return reply(packed(answer), f"location: {where}", status=status)


def _chunks(rng: random.Random, body: bytes) -> bytes:
    n = rng.randrange(1, 40)
    parts = [body[i : i + n] for i in range(0, len(body), n)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


def _chunked(end: bytes) -> Make:
    return lambda rng, answer: reply(
        _chunks(rng, packed(answer)) + end, "transfer-encoding: chunked", length=""
    )


def _strange_chunk(rng: random.Random, answer: dict[str, Any]) -> Raw:
    size = rng.choice((b"zz", b"-1", b"f" * 40, b"", b"0x10", b"\xff"))
    return _chunked(size + b"\r\n" + packed(answer))(rng, answer)  # type: ignore[return-value]


def _length_too_small(rng: random.Random, answer: dict[str, Any]) -> Raw:
    body = packed(answer)
    return reply(body, length=str(rng.randrange(1, len(body))))


@cache
def _packed_spaces() -> bytes:
    """A quarter of a gigabyte."""
    packing = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    return b"".join(packing.compress(b" " * 2**20) for _ in range(2**8)) + packing.flush()


def _bomb(rng: random.Random, answer: dict[str, Any]) -> Raw:
    if rng.random() < 0.5:
        return reply(gzip.compress(_packed_spaces(), 9), "content-encoding: gzip, gzip")
    return reply(_packed_spaces(), "content-encoding: gzip")


def _other_packing(rng: random.Random, answer: dict[str, Any]) -> Raw:
    return reply(packed(answer), f"content-encoding: {rng.choice(('br', 'zstd', 'x', '???'))}")


def _not_packed(rng: random.Random, answer: dict[str, Any]) -> Raw:
    return reply(packed(answer), f"content-encoding: {rng.choice(('gzip', 'deflate'))}")


def _no_http(rng: random.Random, answer: dict[str, Any]) -> Raw:
    known = (b"SSH-2.0-OpenSSH_9.6\r\n", b"\x15\x03\x01\x00\x02\x02\x28", rng.randbytes(99), b"\0")
    return Raw(rng.choice((*known, b"HTTP/1.1 two OK\r\n\r\n", b"\r\n\r\n")))


def _with_bytes(*known: bytes) -> Make:
    """Inside a text of the answer."""
    return lambda rng, answer: _inside(answer, b'"' + rng.choice(known) + b'"')


def _with_value(*known: bytes) -> Make:
    return lambda rng, answer: _inside(answer, rng.choice(known))


def _body(*known: bytes) -> Make:
    return lambda rng, answer: rng.choice(known)


def _deep(rng: random.Random, answer: dict[str, Any]) -> bytes:
    return _inside(answer, rng.choice((b"[", b'{"a":')) * rng.randrange(10**4, 10**6))


def _many(rng: random.Random, answer: dict[str, Any]) -> bytes:
    """30 MB of JSON that take much more once they are read."""
    part = rng.choice((b"[],", b"{},", b'{"a":1},', b"1.5,", b'"a",'))
    return _inside(answer, b"[" + part * (30 * 10**6 // len(part)) + b"0]")


def _long(rng: random.Random, answer: dict[str, Any]) -> bytes:
    """30 MB of text, of which one letter outside the plane of most makes four times as many."""
    return _inside(answer, '"\U0001f600'.encode() + b"a" * 30 * 10**6 + b'"')


def _model(rng: random.Random, answer: dict[str, Any]) -> bytes:
    said = rng.choice(("other", "", "\x1b[2J\r\n", "\ud83d", "\u202e", "x" * 10**6, "smollm"))
    return packed(answer | {"model": said})


def _key(answer: dict[str, Any]) -> str:
    """Where the results stand."""
    return "data" if "data" in answer else "choices"


def _without_results(rng: random.Random, answer: dict[str, Any]) -> bytes:
    return packed({name: value for name, value in answer.items() if name != _key(answer)})


def _other_results(rng: random.Random, answer: dict[str, Any]) -> bytes:
    others = (None, {}, [], [None], "text", 7, True, [[]], [{}], {"0": answer[_key(answer)]})
    return packed(answer | {_key(answer): rng.choice(others)})


def _twice(rng: random.Random, answer: dict[str, Any]) -> bytes:
    results = answer[_key(answer)]
    return packed(answer | {_key(answer): [*results, rng.choice(results)]})


def _and_another(rng: random.Random, answer: dict[str, Any]) -> Raw:
    """The reply comes twice, as if the second were that to the next request."""
    return Raw(2 * reply(packed(answer)).sent, closes=False)


def _hints(rng: random.Random, answer: dict[str, Any]) -> Raw:
    early = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * rng.randrange(1, 9)
    return Raw(early + reply(packed(answer)).sent)


_ERRORS = ("400 Bad", "401 Who", "403 No", "404 None", "405 No", "413 Big", "418 Tea", "600 x")
_FAILS = ("429 Busy", "500 Bug", "502 Bad", "503 Down", "504 Late", "529 Full")
_LENGTHS = ("many", "-5", "1e3", "5, 7", "0x10", "9" * 40)
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"

TRANSPORT: dict[str, Hostile] = {
    "refusal": Hostile(_status(*_ERRORS), "error"),
    "failure": Hostile(_status(*_FAILS), "again"),
    "later": Hostile(_later, "again"),
    "elsewhere": Hostile(_elsewhere, "error"),
    "no content": Hostile(lambda rng, answer: reply(b"", status="204 No", length=""), "error"),
    "a part": Hostile(
        lambda rng, answer: reply(_cut(rng, packed(answer)), status="206 Part"), "error"
    ),
    "early hints": Hostile(_hints, "answer"),
    "hints without end": Hostile(
        lambda rng, answer: Raw(b"", b"HTTP/1.1 102 Wait\r\n\r\n", 0.02), "again", True
    ),
    "other protocol": Hostile(
        lambda rng, answer: reply(b"", "upgrade: x", status="101 Other"), "again"
    ),
    "dripping head": Hostile(lambda rng, answer: Raw(_HEAD + b"x-", b"a", 0.02), "again", True),
    "dripping body": Hostile(
        lambda rng, answer: Raw(
            _HEAD + b"\r\n" + _cut(rng, packed(answer)), rng.choice((b" ", b"1")), 0.02
        ),
        "again",
        True,
    ),
    "nothing": Hostile(lambda rng, answer: Raw(b""), "again"),
    "cut head": Hostile(lambda rng, answer: Raw(_cut(rng, _HEAD)), "again"),
    "cut body": Hostile(
        lambda rng, answer: reply(_cut(rng, packed(answer)), length=str(len(packed(answer)))),
        "again",
    ),
    "length too large": Hostile(
        lambda rng, answer: reply(packed(answer), length=str(10 ** rng.randrange(6, 15))), "again"
    ),
    "length too small": Hostile(_length_too_small, "error"),
    "no length": Hostile(
        lambda rng, answer: reply(packed(answer), length=rng.choice(_LENGTHS)), "again"
    ),
    "two lengths": Hostile(
        lambda rng, answer: reply(packed(answer), f"content-length: {rng.randrange(9)}"), "again"
    ),
    "until it closes": Hostile(lambda rng, answer: reply(packed(answer), length=""), "answer"),
    "cut without length": Hostile(
        lambda rng, answer: reply(_cut(rng, packed(answer)), length=""), "error"
    ),
    "chunks": Hostile(_chunked(b"0\r\n\r\n"), "answer"),
    "strange chunk": Hostile(_strange_chunk, "again"),
    "cut chunks": Hostile(_chunked(b""), "again"),
    "bomb": Hostile(_bomb, "error"),
    "packed": Hostile(
        lambda rng, answer: reply(gzip.compress(packed(answer)), "content-encoding: gzip"), "answer"
    ),
    "packed otherwise": Hostile(_other_packing, "error"),
    "not packed": Hostile(_not_packed, "again"),
    "long header": Hostile(
        lambda rng, answer: reply(packed(answer), f"x-long: {'a' * 2**20}"), "again"
    ),
    "headers without end": Hostile(
        lambda rng, answer: Raw(_HEAD, b"x-more: and more\r\n" * 999), "again"
    ),
    "flood": Hostile(
        lambda rng, answer: Raw(_HEAD + b"\r\n", rng.choice((b" ", b"[", b"\xff")) * 2**20), "error"
    ),
    "no HTTP": Hostile(_no_http, "again"),
    "twice": Hostile(_and_another, "answer"),
}
"""What HTTP itself can do."""

BODIES: dict[str, Hostile] = {
    "a page": Hostile(
        _body(b"", b"<!DOCTYPE html><title>Sign in</title>", b"\n" * 9, b"OK", b"null{}"), "error"
    ),
    "no object": Hostile(_body(b"null", b"[]", b'"text"', b"3", b"true"), "error"),
    "no UTF-8": Hostile(_with_bytes(b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf8\x88"), "error"),
    "UTF-16": Hostile(
        lambda rng, answer: json.dumps(answer).encode(rng.choice(("utf-16", "utf-16-le"))), "error"
    ),
    "byte order mark": Hostile(lambda rng, answer: codecs.BOM_UTF8 + packed(answer), "answer"),
    "control characters": Hostile(_with_bytes(b"\x00", b"\x1b[2J", b"\n", b"\r\x07"), "error"),
    "half a letter": Hostile(_with_bytes(rb"\ud83d", rb"\udfff\ud800"), "answer"),
    "no number": Hostile(_with_value(b"1e999", b"-1e999", b"NaN", b"-Infinity"), "error"),
    "long number": Hostile(_with_value(b"9" * 9999, b"9" * 10**6), "error"),
    "deep": Hostile(_deep, "error"),
    "many values": Hostile(_many, "error"),
    "long text": Hostile(_long, "error"),
    "other model": Hostile(_model, "error"),
    "an error": Hostile(
        _body(b'{"error": {"message": "full"}}', b'{"detail": "\\u001b"}'), "error"
    ),
    "no results": Hostile(_without_results, "error"),
    "other results": Hostile(_other_results, "error"),
    "one more result": Hostile(_twice, "error"),
}
"""What any JSON can do."""


def _spoken(change: Callable[[random.Random, str], Any]) -> Make:
    """The answer with another text."""

    def make(rng: random.Random, answer: dict[str, Any]) -> bytes:
        changed = copy.deepcopy(answer)
        (choice,) = changed["choices"]
        holder, key = (choice, "text") if "text" in choice else (choice["message"], "content")
        holder[key] = change(rng, holder[key])
        choice["finish_reason"] = rng.choice(("stop", "length", None, "\x1b[2J", "x" * 10**5, 7))
        return packed(changed)

    return make


def _no_message(rng: random.Random, answer: dict[str, Any]) -> bytes:
    (choice,) = answer["choices"]
    others: list[Any] = [None, "text", [], 7, {}]
    key = "text" if "text" in choice else "message"
    wrong = {name: value for name, value in choice.items() if name != key}
    if key == "message" and rng.random() < 0.5:
        wrong |= {key: rng.choice(others)}
    return packed(answer | {"choices": [wrong]})


TEXTS: dict[str, Hostile] = {
    "no text": Hostile(_spoken(lambda rng, text: None), "again"),
    "a text of another kind": Hostile(
        _spoken(lambda rng, text: rng.choice((7, 1.5, True, [text], {"text": text}))), "error"
    ),
    "thinks first": Hostile(
        _spoken(lambda rng, text: f"{rng.choice(('<think>', ''))}Hm.\n</think>\n\n{text}"), "answer"
    ),
    "no message": Hostile(_no_message, "error"),
}


def _rows(answer: dict[str, Any]) -> list[list[float]]:
    numbers = base64.b64decode(answer["data"][0]["data"])
    return [list(row) for row in struct.iter_unpack("<10f", numbers)]


def _logits(change: Callable[[random.Random, list[list[Any]]], Any], coded: bool = False) -> Make:
    """The answer with other rows, as base64 if `coded`."""

    def make(rng: random.Random, answer: dict[str, Any]) -> bytes:
        changed = change(rng, _rows(answer))
        if coded:
            flat = [value for row in changed for value in row]
            changed = base64.b64encode(struct.pack(f"<{len(flat)}f", *flat)).decode()
        return packed(answer | {"data": [answer["data"][0] | {"data": changed}]})

    return make


def _one(*values: Any) -> Callable[[random.Random, list[list[Any]]], Any]:
    """Rows of which one number is one of these."""

    def change(rng: random.Random, rows: list[list[Any]]) -> Any:
        row = rng.choice(rows)
        row[rng.randrange(len(row))] = rng.choice(values)
        return rows

    return change


_INF = float("inf")
LOGITS: dict[str, Hostile] = {
    "as a list": Hostile(_logits(lambda rng, rows: rows), "answer"),
    "rows too few": Hostile(_logits(lambda rng, rows: rows[1:], True), "error"),
    "rows too many": Hostile(_logits(lambda rng, rows: [*rows, rows[0]], True), "error"),
    "rows too long": Hostile(_logits(lambda rng, rows: [[*row, 0.0] for row in rows]), "error"),
    "ragged": Hostile(_logits(lambda rng, rows: [rows[0][: rng.randrange(9)], *rows[1:]]), "error"),
    "deeper": Hostile(_logits(lambda rng, rows: [rows]), "error"),
    "not finite": Hostile(_logits(_one(_INF, -_INF, float("nan")), True), "error"),
    "no numbers": Hostile(_logits(_one("1", None, True, [], {}, 1e300, 10**400)), "error"),
    "no base64": Hostile(
        _logits(lambda rng, rows: rng.choice(("%%%", "AAA", "AAAA", "", "\ud83d"))), "error"
    ),
    "no rows": Hostile(_logits(lambda rng, rows: rng.choice((None, 7, {}, [], True))), "error"),
}


def _choices(change: Callable[[random.Random, list[dict[str, Any]]], Any]) -> Make:
    """The answer with other log-probabilities. A copy of its choices is changed."""
    return lambda rng, answer: packed(
        answer | {"choices": change(rng, copy.deepcopy(answer["choices"]))}
    )


def _other(field: str, *values: Any) -> Make:
    """One choice has another value in a field."""

    def change(rng: random.Random, choices: list[dict[str, Any]]) -> Any:
        rng.choice(choices)[field] = rng.choice(values)
        return choices

    return _choices(change)


def _other_logprob(*values: Any) -> Make:
    def change(rng: random.Random, choices: list[dict[str, Any]]) -> Any:
        ((digit, _),) = rng.choice(choices)["prompt_logprobs"][-1].items()
        for choice in choices:
            if digit in choice["prompt_logprobs"][-1]:
                choice["prompt_logprobs"][-1][digit]["logprob"] = rng.choice(values)
        return choices

    return _choices(change)


def _index(rng: random.Random, choices: list[dict[str, Any]]) -> Any:
    choice = rng.choice(choices)
    choice["index"] = rng.choice((-1, 10, "1", None, [1], choice["index"] + 0.5))
    return choices


def _same_index(rng: random.Random, choices: list[dict[str, Any]]) -> Any:
    one, other = rng.sample(choices, 2)
    one["index"] = other["index"]
    return choices


def _other_length(rng: random.Random, choices: list[dict[str, Any]]) -> Any:
    choice = rng.choice(choices)
    given = choice["prompt_logprobs"]
    choice["prompt_logprobs"] = given[1:] if rng.random() < 0.5 else [None, *given]
    return choices


LOGPROBS: dict[str, Hostile] = {
    "another order": Hostile(
        _choices(lambda rng, choices: rng.sample(choices, len(choices))), "answer"
    ),
    "the same index": Hostile(_choices(_same_index), "error"),
    "another index": Hostile(_choices(_index), "error"),
    "one less": Hostile(_choices(lambda rng, choices: rng.sample(choices, 9)), "error"),
    "none given": Hostile(_other("prompt_logprobs", None, [], 7, "text", {}), "error"),
    "of another length": Hostile(_choices(_other_length), "error"),
    "no probability": Hostile(_other_logprob("x", None, True, [], 1e300, 10**400), "error"),
    "above certainty": Hostile(_other_logprob(0.5, 7, 1e30), "error"),
    "of other tokens": Hostile(
        _choices(lambda rng, choices: [c | {"prompt_logprobs": [None, {}, {}]} for c in choices]),
        "error",
    ),
}

REPLIES: dict[str, dict[str, Hostile]] = {
    "completion": TRANSPORT | BODIES | TEXTS,
    "chat": TRANSPORT | BODIES | TEXTS,
    "digits": TRANSPORT | BODIES | LOGITS,
    "digit_logprobs": TRANSPORT | BODIES | LOGPROBS,
}
"""Kind of call -> name -> reply."""


def hostile(kind: str, name: str, seed: int) -> Callable[[dict[str, Any]], Raw]:
    """A reply of that name, the same each time that it is made of the same answer."""

    def made(answer: dict[str, Any]) -> Raw:
        one = REPLIES[kind][name].make(random.Random(f"{kind} {name} {seed}"), answer)
        return reply(one) if isinstance(one, bytes) else one

    return made
