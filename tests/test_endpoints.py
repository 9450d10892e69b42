"""Laws of endpoints that are strange, broken or hostile: a reply is an answer, or it is asked for
again, or it ends in one clear error. What is wrong is never cached, and nothing waits for ever."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fake_server import Failure, FakeServer, Raw, fake_logits, fake_text
from labeler_clients import complete, config, labeler

from interp_by_construction.errors import LabelerError
from interp_by_construction.llm import http_call
from interp_by_construction.llm.backend import Job, Sampling
from interp_by_construction.llm.client import Labeler
from interp_by_construction.llm.http_call import Reply, is_loopback
from interp_by_construction.llm.replies import Silence, answer_of, is_same_model, spoken

PROMPT = [1, 2]
DIGIT_IDS = list(range(10))
JOBS = {
    "completion": Job("completion", {"prompt": "a"}),
    "chat": Job("chat", {"messages": []}),
    "digits": Job("digits", {"prompt": PROMPT}),
    "digit_logprobs": Job("digit_logprobs", {"prompt": PROMPT, "digits": DIGIT_IDS}),
}


def row(value: Any = -1.0) -> list[Any]:
    return [value] * 10


def choices(value: Any = -1.0, length: int = 3, n: int = 10) -> dict[str, Any]:
    """Log-probabilities as vLLM gives them."""
    last = [{str(i): {"logprob": value}} for i in range(n)]
    lists = [[None, *[{}] * (length - 2), last[i]] for i in range(n)]
    return {"choices": [{"index": i, "prompt_logprobs": each} for i, each in enumerate(lists)]}


TEN = choices()["choices"]
GOOD = {
    "completion": {"choices": [{"text": "yes"}]},
    "chat": {"choices": [{"message": {"content": "yes"}}]},
    "digits": {"data": [{"data": [row(), row()]}]},
    "digit_logprobs": choices(),
}


def read(kind: str, body: Any) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return answer_of(JOBS[kind], Reply(200, raw, httpx.Headers()), "http://host", "org/model").value


@pytest.mark.parametrize("kind", JOBS)
def test_a_true_reply_is_read(kind: str) -> None:
    value = read(kind, GOOD[kind] | {"model": "org/model", "usage": {"total_tokens": "many"}})
    assert value == "yes" if isinstance(value, str) else np.isfinite(value).all()


@pytest.mark.parametrize("kind", JOBS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><title>Sign in</title></html>",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b"{}",
        b'{"choices": null, "data": null}',
        b'{"choices": [], "data": []}',
        b'{"choices": {}, "data": {}}',
        b'{"choices": [null], "data": [null]}',
        b'{"choices": [{"message": 5, "text": 5, "index": 0}], "data": [{"data": 5}]}',
        b'{"choices": [{"message": {"content": ["x"]}, "text": ["x"]}], "data": [{"data": {}}]}',
        b'{"usage": 1e999}',
        b'{"x": NaN}',
        b'{"x": -Infinity}',
        b'{"x": ' + b"[" * 200_000,
        b'{"x": ' + b"9" * 10_000 + b"}",
        b'{"error": {"message": "overloaded"}}',
    ],
    ids=lambda body: body[:40].decode("utf-8", "replace"),
)
def test_what_is_no_answer_is_a_clear_error(kind: str, body: bytes) -> None:
    with pytest.raises(LabelerError, match=r"^http://host (gave|gives no)") as error:
        read(kind, body)
    assert len(str(error.value)) < 600 and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("completion", {"choices": [{"text": "a"}, {"text": "b"}]}),
        ("digits", {"data": [{"data": [row()]}]}),
        ("digits", {"data": [{"data": [row(), row(), row()]}]}),
        ("digits", {"data": [{"data": [[1.0] * 5] * 4}]}),
        ("digits", {"data": [{"data": [1.0] * 20}]}),
        ("digits", {"data": [{"data": [row(), [1.0]]}]}),
        ("digits", {"data": [{"data": [row("1"), row("1")]}]}),
        ("digits", {"data": [{"data": [row(True), row(False)]}]}),
        ("digits", {"data": [{"data": [row(None), row()]}]}),
        ("digits", {"data": [{"data": [row(1e300), row()]}]}),
        ("digits", {"data": [{"data": [row(), row()]}, {"data": [row(), row()]}]}),
        ("digits", {"data": [{"data": "not base64"}]}),
        ("digits", {"data": [{"data": "AAAA"}]}),
        ("digit_logprobs", choices(length=2)),
        ("digit_logprobs", choices(length=9)),
        ("digit_logprobs", choices(n=9)),
        ("digit_logprobs", choices(n=11)),
        ("digit_logprobs", choices(value="x")),
        ("digit_logprobs", choices(value=1e300)),
        ("digit_logprobs", choices(value=0.5)),
        ("digit_logprobs", {"choices": [c | {"index": c["index"] + 0.5} for c in TEN]}),
    ],
)
def test_other_lengths_and_kinds_of_values_are_errors(kind: str, body: Any) -> None:
    with pytest.raises(LabelerError, match="http://host"):
        read(kind, body)


@pytest.mark.parametrize("kind", JOBS)
@pytest.mark.parametrize("part", [b"[],", b'{"a":1},', b"1.5,"])
def test_more_values_than_were_asked_for_are_not_read(kind: str, part: bytes) -> None:
    """Some 30 MB of such values would take a gigabyte."""
    body = b'{"x": [' + part * 2**18 + b"0]}"
    with pytest.raises(LabelerError, match="far more than was asked for"):
        read(kind, body)
    with pytest.raises(LabelerError, match="far more than was asked for"):
        read(kind, b'{"x": "' + b"a" * 5 * 2**20 + b'"}')


def test_long_lists_of_numbers_are_read_where_they_were_asked_for() -> None:
    n_tokens = 2**15
    job = Job("digits", {"prompt": [1] * n_tokens})
    body = json.dumps({"data": [{"data": [row(-1.23456789012345678)] * n_tokens}]}).encode()
    reply = Reply(200, body, httpx.Headers())
    assert np.shape(answer_of(job, reply, "http://host", "org/model").value) == (n_tokens, 10)


def test_a_byte_order_mark_is_no_part_of_an_answer() -> None:
    assert read("completion", b"\xef\xbb\xbf" + json.dumps(GOOD["completion"]).encode()) == "yes"


@pytest.mark.parametrize("kind", ["completion", "chat"])
def test_no_text_is_no_answer_but_a_refusal_is(kind: str) -> None:
    def body(**choice: Any) -> dict[str, Any]:
        text = {"text": None} if kind == "completion" else {"message": {"content": None}}
        return {"choices": [text | choice]}

    with pytest.raises(Silence, match="finish_reason is length"):
        read(kind, body(finish_reason="length"))
    assert read(kind, body(finish_reason="content_filter")) == ""
    if kind == "chat":
        thought = {"message": {"content": None, "reasoning_content": "Hm."}}
        with pytest.raises(Silence, match="only thought"):
            read(kind, {"choices": [thought]})
    # Half of a character could not be written to a file.
    half = {"text": "a\ud83d"} if kind == "completion" else {"message": {"content": "a\ud83d"}}
    assert read(kind, {"choices": [half]}) == "a\ufffd"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("animals", "animals"),
        ("<think>\nHm, dogs.\n</think>\n\nanimals", "animals"),
        ("Hm, dogs.\n</think>\nanimals", "animals"),
        ("<think></think>", ""),
        (" <think>Hm, dogs and", None),
        ("a <think> b", "a <think> b"),
    ],
)
def test_what_a_model_thinks_is_no_part_of_its_answer(text: str, answer: str | None) -> None:
    assert spoken(text) == answer


@pytest.mark.parametrize(
    ("asked", "said", "same"),
    [
        ("gpt-4o", "gpt-4o-2024-08-06", True),
        ("org/model", "model", True),
        ("/models/Model", "org/model", True),
        ("org/model", "org/other", False),
        ("model", "", False),
    ],
)
def test_a_model_may_be_named_in_full(asked: str, said: str, same: bool) -> None:
    assert is_same_model(asked, said) is same


def test_another_model_than_asked_is_an_error() -> None:
    with pytest.raises(LabelerError, match="answered with the model other, not with org/model"):
        read("completion", GOOD["completion"] | {"model": "other"})


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        yield fake


CALLS: list[Callable[[Labeler], Any]] = [
    lambda made: complete(made, ["a"]),
    lambda made: made.chat([[{"role": "user", "content": "a"}]], Sampling(8, 0.0)),
    lambda made: made.digit_logits([PROMPT]),
    lambda made: made.digit_logprobs([PROMPT]),
]


@pytest.mark.parametrize("call", CALLS, ids=["completion", "chat", "digits", "digit_logprobs"])
def test_a_flood_ends_early_and_a_drip_is_asked_again(
    tmp_path: Path, server: FakeServer, call: Callable[[Labeler], Any], monkeypatch: Any
) -> None:
    monkeypatch.setattr(http_call, "MOST_BYTES", 2**16)
    with labeler(tmp_path, config(server, timeout=0.3, retries=1)) as made:
        server.failures.append("flood")
        with pytest.raises(LabelerError, match="more than 65,536 bytes"):
            call(made)
        assert len(made.cache) == 0
        server.failures.append("drip")
        began = time.monotonic()
        call(made)
        assert time.monotonic() - began < 2.0 and len(made.cache) == 1


def packed(body: bytes, coding: str = "gzip") -> Callable[[Any], Raw]:
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\ncontent-length: {len(body)}\r\n\r\n"
    return lambda answer: Raw(head.encode() + body)


def test_a_packed_reply_is_unpacked_to_no_more_than_a_reply_may_have(
    tmp_path: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_call, "MOST_BYTES", 2**16)
    good = json.dumps(GOOD["completion"]).encode()
    with labeler(tmp_path, config(server, retries=1)) as made:
        server.failures.append(packed(gzip.compress(good)))
        assert complete(made, ["a"]) == ["yes"]
        # What is cut or not packed is asked for again.
        for body in (gzip.compress(good)[:-9], good):
            server.failures.append(packed(body))
            prompt = f"{len(body)}"
            assert complete(made, [prompt]) == [fake_text(prompt, 1, 0.7)]
        for body, coding, message in (
            (gzip.compress(bytes(2**20)), "gzip", "more than 65,536 bytes"),
            (gzip.compress(gzip.compress(bytes(2**20))), "gzip, gzip", "packed as gzip, gzip"),
            (good, "br", "packed as br"),
        ):
            server.failures.append(packed(body, coding))
            with pytest.raises(LabelerError, match=message):
                complete(made, ["b"])


def test_what_follows_a_reply_is_not_the_reply_to_the_next_request(
    tmp_path: Path, server: FakeServer
) -> None:
    def twice(answer: Any) -> Raw:
        body = json.dumps(answer)
        return Raw(
            2 * f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode(),
            closes=False,
        )

    server.failures.append(twice)
    with labeler(tmp_path, config(server, concurrency=1)) as made:
        assert complete(made, ["a", "b"]) == [fake_text("a", 1, 0.7), fake_text("b", 1, 0.7)]


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (b"<html>Sign in</html>", "no OpenAI-compatible server.*no JSON"),
        (b'{"data": [1e999]}', "no OpenAI-compatible server.*no finite number"),
        (b"[" * 50_000, "no OpenAI-compatible server.*too deep"),
        (b'{"data": null}', "no OpenAI-compatible server"),
        (b'{"data": [{"id": "\\u001b[31mred"}]}', "serves ␛.31mred, not labeler.model"),
        ("drip", "is unreachable .TimeoutError"),
        ("drop", "is unreachable"),
        ("flood", "more than 65,536 bytes"),
    ],
)
def test_a_list_of_models_that_is_none(
    tmp_path: Path, server: FakeServer, models: Failure, message: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(http_call, "MOST_BYTES", 2**16)
    server.models = models
    cfg = config(server, timeout=0.2)
    with labeler(tmp_path, cfg) as made, pytest.raises(LabelerError, match=message):
        made.check()


def test_silence_is_asked_again(tmp_path: Path, server: FakeServer) -> None:
    server.failures.append(json.dumps({"choices": [{"text": None}]}).encode())
    with labeler(tmp_path, config(server)) as made:
        assert complete(made, ["a"]) == [fake_text("a", 1, 0.7)]
    assert len(server.requests) == 2


def test_thinking_without_an_answer_counts_as_empty_and_is_said(
    tmp_path: Path, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.text_of = lambda prompt, *_: "<think>Hm" if prompt == "a" else "<think>Hm</think>dogs"
    with labeler(tmp_path, config(server)) as made:
        assert complete(made, ["a", "b"]) == complete(made, ["a", "b"]) == ["", "dogs"]
    assert caplog.text.count("thinks aloud") == 1


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", True),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
    ],
)
def test_which_hosts_are_this_machine(host: str, here: bool) -> None:
    assert is_loopback(host) is here


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "nonsense"])
def test_no_proxy_stands_before_this_machine(
    tmp_path: Path, server: FakeServer, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    with labeler(tmp_path, config(server)) as made:
        np.testing.assert_array_equal(made.digit_logits([[1, 2, 3]])[0], fake_logits([1, 2, 3]))
    elsewhere = config(server, url="http://host.invalid", timeout=0.2)
    with (
        labeler(tmp_path / "other", elsewhere) as made,
        pytest.raises(LabelerError, match=r"http://host.invalid.*proxy of HTTP_PROXY"),
    ):
        complete(made, ["a"])
