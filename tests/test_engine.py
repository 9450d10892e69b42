"""Laws of stages: all fields are hashed, nothing else can be read, parents come first."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from stage_jobs import ancestry, compute, given, runtime

from interp_by_construction.engine import engine as engine_module
from interp_by_construction.engine.engine import Engine
from interp_by_construction.engine.made_with import after, mixtures
from interp_by_construction.engine.records import Record, from_json, read_record, to_json
from interp_by_construction.engine.runtime import Handle, Runtime, fast_dtype
from interp_by_construction.engine.stage import Job, Stage, unhashed
from interp_by_construction.engine.store import METRICS, Store
from interp_by_construction.llm.embedded import served_dtype


@dataclass(frozen=True)
class Knobs:
    width: int = 3
    rate: float = 0.5


@dataclass(frozen=True)
class Count(Record):
    n: int
    parts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Word(Handle[str]):
    text: str

    @property
    def identity(self) -> str:
        return f"word:{self.text}"

    def open(self, runtime: Runtime) -> str:
        return self.text


@dataclass(frozen=True)
class Write(Stage[Count]):
    name = "write"
    version = 1
    record = Count

    word: Word
    knobs: Knobs = dataclasses.field(default_factory=Knobs)
    shown_as: str = unhashed("")

    def compute(self, job: Job) -> Count:
        (job.out / "text").write_text(job.use(self.word) * self.knobs.width)
        return Count(self.knobs.width)


@dataclass(frozen=True)
class Read(Stage[Count]):
    name = "read"
    version = 1
    record = Count

    parts: tuple[Stage[Any], ...]
    named: dict[str, Stage[Any]]
    stranger: Stage[Any] = unhashed()

    def compute(self, job: Job) -> Count:
        if self.stranger is not None:
            job.path(self.stranger)
        texts = [(job.path(part) / "text").read_text() for part in self.parts]
        counts = [read_record(Count, job.path(each) / METRICS) for each in self.named.values()]
        return Count(sum(count.n for count in counts), tuple(map(len, texts)))


def engine(tmp: Path, log: list[str]) -> Engine:
    @contextmanager
    def watch(stage: Stage[Any]) -> Iterator[None]:
        log.append(stage.name)
        yield

    return Engine(Store(tmp / "store"), runtime(tmp), watch)


def test_parents_are_computed_first_and_once(tmp_path: Path) -> None:
    log: list[str] = []
    a, b = Write(Word("ab")), Write(Word("c"))
    read = Read((a, b), {"first": a})
    run = engine(tmp_path, log)
    assert read_record(Count, run.get(read).path / METRICS) == Count(3, (6, 3))
    assert log == ["write", "write", "read"]
    assert [stage.name for stage in ancestry([read, a])] == ["write", "write", "read"]
    again = engine(tmp_path, log)
    again.get(read)
    assert log == ["write", "write", "read"]


@pytest.mark.parametrize(
    "other",
    [Write(Word("b")), Write(Word("a"), Knobs(width=4)), Write(Word("a"), Knobs(rate=0.25))],
)
def test_every_field_moves_the_fingerprint(other: Write) -> None:
    assert Write(Word("a")).fingerprint != other.fingerprint


def test_what_is_unhashed_does_not() -> None:
    assert Write(Word("a"), shown_as="x").fingerprint == Write(Word("a")).fingerprint


def test_a_stage_opens_its_own_parents_and_handles_only(tmp_path: Path) -> None:
    a = Write(Word("a"))
    with pytest.raises(KeyError):
        engine(tmp_path, []).get(Read((a,), {"first": a}, stranger=Write(Word("b"))))
    job = Job(a, tmp_path, runtime(tmp_path), {})
    with pytest.raises(KeyError, match="word:b"):
        job.use(Word("b"))


@pytest.mark.parametrize("value", [Path("x"), float("nan"), object(), [Word("a")]])
def test_what_must_not_be_hashed_is_refused(value: Any) -> None:
    @dataclass(frozen=True)
    class Odd(Stage[Count]):
        name = "odd"
        version = 1
        record = Count

        value: Any

    with pytest.raises(TypeError, match=r"odd\.value"):
        _ = Odd(value).fingerprint


def test_an_artifact_says_what_it_was_made_with_and_its_fingerprint_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = engine(tmp_path / "here", []).get(Write(Word("a")))
    assert made.made_with.keys() >= {"ibc", "torch", "transformers", "device", "threads", "cpu"}
    assert made.made_with["torch"] == torch.__version__ and made.device == "cpu"
    assert Store(tmp_path / "here" / "store").verify("write", made.fingerprint) == []
    monkeypatch.setattr(engine_module, "made_with", lambda device, threads: {"torch": "0"})
    other = engine(tmp_path / "there", []).get(Write(Word("a")))
    assert other.made_with == {"torch": "0"} and other.fingerprint == made.fingerprint
    # A version before these records has made it.
    old = Store(tmp_path / "old").build(Write(Word("a")).recipe, lambda out: {})
    assert old.made_with == {} and old.device is None
    (mixture,) = [each for each in mixtures([made, other, old]) if each.name == "torch"]
    assert list(mixture.found) == [torch.__version__, "0", "unknown"]
    assert mixtures([made, made]) == mixtures([old, old]) == []


def test_what_one_process_began_and_another_finished_names_both() -> None:
    first, second = {"torch": "1", "cpu": "AVX2"}, {"torch": "2", "cpu": "AVX2"}
    both = after(first, second)
    assert both == {"torch": "1, then 2", "cpu": "AVX2"}
    assert after(both, second) == both and after({}, first) == first == after(first, first)


def test_an_engine_without_a_runtime_only_looks(tmp_path: Path) -> None:
    stage = Write(Word("a"))
    looking = Engine(Store(tmp_path / "store"), None)
    assert looking.find(stage) is None
    with pytest.raises(LookupError, match="missing"):
        looking.get(stage)
    made = engine(tmp_path, []).get(stage)
    assert looking.get(stage).path == made.path


def test_a_stage_runs_on_given_folders(tmp_path: Path) -> None:
    compute(Write(Word("a")), tmp_path / "a")
    assert compute(Read((given(tmp_path / "a"),), {}), tmp_path / "read").parts == (3,)


def test_records_come_back_as_they_were() -> None:
    @dataclass(frozen=True)
    class Whole(Record):
        by_name: dict[str, Count]
        by_layer: dict[int, float | None]
        some: list[Count]
        none: Count | None = None

    # `from_json` resolves the types where the class was made.
    globals()["Whole"] = Whole
    record = Whole({"a": Count(1)}, {2: 0.5, 3: None}, [Count(2, (1, 2))])
    assert from_json(Whole, to_json(record)) == record


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"avx2": True}, torch.float32),
        ({"avx2": True, "avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
    ],
)
def test_models_are_read_in_bfloat16_only_where_the_processor_computes_in_it(
    known: dict[str, bool], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)
    assert fast_dtype("cpu") == expected and fast_dtype("cuda") == torch.bfloat16
    assert served_dtype("auto", "cpu") == str(expected).removeprefix("torch.")
    assert served_dtype("float16", "cpu") == "float16"
