"""Text, checkpoints and settings with something wrong: a run takes them as they should be read, or
ends with exit code 2 and one line. Nothing outside its root is written."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from fake_server import FakeServer
from faults.campaign import drawn
from faults.command_jobs import ENOUGH, Job, Said, commands, fault_of
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from interp_by_construction.config import SPLITS, Config, compose, to_dict
from interp_by_construction.corpus.text import split_text
from interp_by_construction.corpus.tokenize import save_tokenizer, train_tokenizer
from interp_by_construction.engine.disk import sha256_file
from interp_by_construction.errors import ConfigError

WORDS = "red old small loud round warm wet late soft sharp bird door lamp tree song hat".split()


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        yield fake


def settings(server: FakeServer, root: Path, *more: str) -> list[str]:
    """The words of a small run."""
    shares = ",".join(f"{split}:{0.4 if split == 'train' else 0.1}" for split in SPLITS)
    small = ["logger=none", "trainer.threads=1", "trainer.helper=never", "layer=[0]"]
    text = ["data=text", "data.block_size=8", "data.vocab_size=300", f"data.fractions={{{shares}}}"]
    asked = [f"labeler.url={server.url}", f"labeler.classify_url={server.url}"]
    return ["run", *small, *text, "labeler=endpoint", *asked, f"paths.root={root}", *more]


class Place:
    """The folder of a case: `input` and `here`, which nobody may change, and `root`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.input, self.root = folder, folder / "input", folder / "root"
        for name in ("input", "here"):
            (folder / name).mkdir(parents=True)
        self.before: dict[str, str] = {}
        self.named: list[str] = []

    def job(self, server: FakeServer, last: str, *more: str) -> Job:
        """A small run on the input, up to one stage. more: its settings. The name or the value of
        one must be named where it is refused."""
        self.before = self.outside()
        for each in more:
            name, _, value = each.partition("=")
            self.named += [name, repr(value)]
        return Job(settings(server, self.root, *more), self.folder, last)

    def outside(self) -> dict[str, str]:
        """Every file and folder outside the root, and what it holds."""
        others = [path for path in self.folder.rglob("*") if self.root not in (path, *path.parents)]
        return {
            str(path): sha256_file(path) if path.is_file() else "folder"
            for path in others
            if path.name not in ("said", "code")
        }

    def fault(self, said: Said) -> str | None:
        """What is wrong with how a run ended."""
        files = [path.name for path in self.input.rglob("*")]
        wrong = fault_of(said, str(self.input), "data.", *self.named, *files)
        if (now := self.outside()) != self.before:
            changed = sorted(set(now.items()) ^ set(self.before.items()))
            wrong = f"{wrong or ''} changed outside the root: {changed[:4]}"
        return wrong

    def artifact(self, stage: str) -> Path:
        (found,) = [path.parent for path in (self.root / "store" / stage).glob("*/manifest.json")]
        return found


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        inner = flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {}
        found |= inner or {f"{prefix}{key}": value}
    return found


# --- bytes and values

Bytes = Callable[[random.Random, bytes], bytes]


def flipped(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def spliced(rng: random.Random, content: bytes) -> bytes:
    """A part is left out, doubled, zeroed, or replaced by any bytes."""
    a, b = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    b = min(b, a + rng.choice((1, 16, 4096)))
    part = content[a:b]
    new = rng.choice((b"", part * 2, bytes(len(part)), rng.randbytes(len(part))))
    return content[:a] + new + content[b:]


DAMAGES: dict[str, Bytes] = {
    "flipped": flipped,
    "cut": lambda rng, content: content[: rng.randrange(len(content))],
    "spliced": spliced,
    "empty": lambda rng, content: b"",
    "noise": lambda rng, content: rng.randbytes(rng.choice((1, 99, 4096))),
    "more": lambda rng, content: content + rng.choice((b"\0", b"\n", b"{", rng.randbytes(64))),
}

STRANGE: list[Any] = [
    *(None, True, -1, 0, 1, 10**9, 10**400, 1.5, -0.5, float("nan"), float("inf")),
    *("", "x", "../../x", "\x1b[2J", "\ud83d", "\u202ex", "9" * 400),
    *([], {}, [None], [[[]]], {"a": 1}, [-1], ["x"]),
]
"""Values that a field may not expect."""


def places_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where values stand in what was JSON, leaves and what holds them."""
    if path:
        yield path
    inside = enumerate(value) if isinstance(value, list) else ()
    for key, inner in value.items() if isinstance(value, dict) else inside:
        yield from places_of(inner, (*path, key))


def changed_json(rng: random.Random, content: bytes) -> bytes:
    """One value is another one, or not there, or there under another name."""
    values = json.loads(content)
    # Each key of the first levels is as likely as all that stands below it.
    paths = [path for path in places_of(values) if len(path) <= 3]
    depth = rng.randrange(1, max(map(len, paths)) + 1)
    *above, last = rng.choice([path for path in paths if len(path) == depth])
    holder = values
    for key in above:
        holder = holder[key]
    old = holder[last]
    if rng.random() < 0.25:
        del holder[last]
        if isinstance(holder, dict) and rng.random() < 0.5:
            holder[f"{last}_"] = old
    else:
        holder[last] = rng.choice(STRANGE)
    return json.dumps(values).encode()


# --- text


def some_texts() -> list[str]:
    rng = random.Random(0)
    return [f"Text {i}: " + " ".join(rng.choices(WORDS, k=30)) + "." for i in range(60)]


TEXTS = some_texts()
Rows = list[dict[str, Any]]


def as_lines(rows: Rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_table(rows: Rows) -> bytes:
    out = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(out, names)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode("utf-8", "replace")


def as_parquet(rows: Rows) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out, row_group_size=25)
    return out.getvalue()


def as_prose(rows: Rows) -> bytes:
    return "\n\n".join(str(row.get("text")) for row in rows).encode("utf-8", "replace")


KINDS: dict[str, Callable[[Rows], bytes]] = {
    "a.txt": as_prose,
    "a.txt.gz": lambda rows: gzip.compress(as_prose(rows), mtime=0),
    "a.jsonl": as_lines,
    "a.jsonl.gz": lambda rows: gzip.compress(as_lines(rows), mtime=0),
    "a.json": lambda rows: json.dumps(rows).encode(),
    "a.csv": as_table,
    "a.parquet": as_parquet,
}


def read_again(name: str, content: bytes) -> list[str]:
    """The texts of a file, read as simply as can be."""
    if name.endswith(".gz"):
        return read_again(name.removesuffix(".gz"), gzip.decompress(content))
    if name.endswith(".parquet"):
        texts = pq.read_table(io.BytesIO(content))["text"].to_pylist()
    elif name.endswith(".csv"):
        read = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        texts = [row.get("text") for row in read]
    else:
        plain = content.decode("utf-8-sig")
        if name.endswith(".txt"):
            texts = split_text(plain)
        elif plain.lstrip().startswith("["):
            texts = [row.get("text") for row in json.loads(plain)]
        else:
            texts = [json.loads(line).get("text") for line in plain.split("\n") if line.strip()]
    whole = (
        text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts if text
    )
    return list(dict.fromkeys(text for text in whole if text.strip()))


def with_rows(rng: random.Random, rows: Rows) -> Rows:
    """Rows that hold no text, and repeats."""
    other: Rows = [
        {"text": None},
        {"text": ""},
        {"text": " \n"},
        rows[0],
        {"text": None, "url": "u"},
    ]
    for row in other:
        rows.insert(rng.randrange(1, len(rows)), row)
    return rows


def with_columns(rng: random.Random, rows: Rows) -> Rows:
    names = ("url", "Text", "text ", "_", "id", "meta")
    return [row | {name: str(i) for name in names} for i, row in enumerate(rows)]


def with_letters(rng: random.Random, rows: Rows) -> Rows:
    """Letters that steer terminals and break lines."""
    for row in rng.sample(rows, 9):
        row["text"] += rng.choice(
            ("\x00", "\x1b[2J", "\u2028", "\r", "\u202e", "\U0001f600", "\x85")
        )
    return rows


def with_values(rng: random.Random, rows: Rows) -> Rows:
    """Rows of which one holds no text but another value."""
    row = rng.choice(rows)
    row["text"] = rng.choice(STRANGE)
    return rows


def without_column(rng: random.Random, rows: Rows) -> Rows:
    for row in rows if rng.random() < 0.5 else rng.sample(rows, 9):
        row[rng.choice(("Text", "body", ""))] = row.pop("text")
    return rows


CHANGES: dict[str, Callable[[random.Random, Rows], Rows]] = {
    "rows without text": with_rows,
    "columns": with_columns,
    "letters": with_letters,
    "values": with_values,
    "no column": without_column,
    "few": lambda rng, rows: rows[: rng.randrange(9)],
    "one": lambda rng, rows: [{"text": " ".join(row["text"] for row in rows)}],
}


def typed_parquet(rng: random.Random, name: str) -> bytes:
    """The column has another type."""
    texts: list[Any] = list(TEXTS)
    column = rng.choice(
        (
            pa.array(texts, pa.large_string()),
            pa.array(texts).dictionary_encode(),
            pa.array(texts, pa.binary()),
            pa.array([[text] for text in texts]),
            pa.array([{"a": text} for text in texts]),
            pa.array(range(len(texts)), pa.int64()),
            pa.array(range(len(texts)), pa.timestamp("ns")),
            pa.nulls(len(texts)),
            pa.array([b"\xff\xfe" * 9] * len(texts), pa.binary()).view(pa.string()),
        )
    )
    out = io.BytesIO()
    pq.write_table(pa.table({"text": column}), out)
    return out.getvalue()


def deep_line(rng: random.Random, name: str) -> bytes:
    """One row is nested deep."""
    deep = rng.choice(('{"text":', "[", '{"a":[')) * 10**5
    lines = [json.dumps({"text": text}) for text in TEXTS]
    lines[rng.randrange(len(lines))] = deep
    return ("[" + ",".join(lines) + "]" if name == "a.json" else "\n".join(lines)).encode()


def other_kind(rng: random.Random, name: str) -> bytes:
    """The content of another kind of file."""
    return KINDS[rng.choice([each for each in KINDS if each != name])]([{"text": t} for t in TEXTS])


def text_input(name: str, what: str, seed: int) -> bytes:
    """What the file `name` holds."""
    rng = random.Random(f"{name} {what} {seed}")
    rows: Rows = [{"text": text} for text in TEXTS]
    if what in DAMAGES:
        return DAMAGES[what](rng, KINDS[name](rows))
    if what in CHANGES:
        try:
            return KINDS[name](CHANGES[what](rng, rows))
        except (pa.ArrowException, OverflowError, UnicodeError):
            # This kind of file cannot hold it.
            return KINDS[name]([{"text": text} for text in TEXTS])
    made = {"typed": typed_parquet, "deep": deep_line, "other kind": other_kind}[what]
    return made(rng, name)


TEXT_CASES = [
    (name, what, seed)
    for name in KINDS
    for what in (*DAMAGES, *CHANGES, "other kind")
    for seed in range(2)
]
TEXT_CASES += [("a.parquet", "typed", seed) for seed in range(9)]
TEXT_CASES += [(name, "deep", seed) for name in ("a.jsonl", "a.json") for seed in range(2)]


def test_a_text_is_read_whole_or_refused(tmp_path: Path, server: FakeServer) -> None:
    cases, places, jobs = drawn(TEXT_CASES, 4), [], []
    for case in cases:
        places.append(Place(tmp_path / "-".join(map(str, case)).replace(" ", "-")))
        file = places[-1].input / case[0]
        file.write_bytes(text_input(*case))
        jobs.append(places[-1].job(server, "corpus", f"data.path={file}"))
    wrong = []
    for case, place, said in zip(cases, places, commands(jobs), strict=True):
        fault = place.fault(said)
        if fault is None and said.code == ENOUGH:
            found = pq.read_table(place.artifact("corpus") / "documents.parquet")["sha256"]
            expected = read_again(case[0], (place.input / case[0]).read_bytes())
            if found.to_pylist() != [hashlib.sha256(t.encode()).hexdigest() for t in expected]:
                fault = f"{len(found)} documents are not the {len(expected)} of the file"
        if fault:
            wrong.append(f"{case}: {fault}")
    assert not wrong, f"{len(wrong)} of these:\n" + "\n".join(wrong)


# --- checkpoints

SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 16, "n_inner": 24, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "llama": {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 64,
    },
}
FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per family, each with weights and tokenizer."""
    base = tmp_path_factory.mktemp("checkpoints")
    tokenizer = train_tokenizer(TEXTS, 300)
    for kind, shape in SHAPES.items():
        torch.manual_seed(0)
        config = AutoConfig.for_model(kind, vocab_size=300, bos_token_id=0, eos_token_id=0, **shape)
        AutoModelForCausalLM.from_config(config).save_pretrained(base / kind)
        save_tokenizer(tokenizer, base / kind)
    return base


def changed_head(rng: random.Random, content: bytes) -> bytes:
    """Of the weights: what stands before them says something else."""
    size = int.from_bytes(content[:8], "little")
    head = changed_json(rng, content[8 : 8 + size])
    return len(head).to_bytes(8, "little") + head + content[8 + size :]


def no_number(rng: random.Random, content: bytes) -> bytes:
    """One weight is infinite or no number."""
    size = int.from_bytes(content[:8], "little")
    place = 8 + size + 4 * rng.randrange((len(content) - 8 - size) // 4)
    return content[:place] + rng.choice((b"\0\0\x80\x7f", b"\0\0\xc0\x7f")) + content[place + 4 :]


def spoil(rng: random.Random, folder: Path, file: str, what: str) -> None:
    path = folder / file
    content = path.read_bytes()
    if what in DAMAGES:
        path.write_bytes(DAMAGES[what](rng, content))
    elif what == "gone":
        path.unlink()
    elif what == "folder":
        path.unlink()
        path.mkdir()
    else:
        change = {"value": changed_json, "head": changed_head, "no number": no_number}[what]
        path.write_bytes(change(rng, content))


CHECKPOINT_CASES = [
    (kind, file, what, seed)
    for kind in SHAPES
    for file in FILES
    for what in ("flipped", "cut", "spliced", "noise", "gone", "folder")
    for seed in range(1 if what in ("gone", "folder", "noise") else 2)
]
CHECKPOINT_CASES += [
    (kind, file, "value", seed)
    for kind in SHAPES
    for file, n in (("config.json", 20), ("tokenizer.json", 8), ("tokenizer_config.json", 6))
    for seed in range(n)
]
CHECKPOINT_CASES += [
    (kind, "model.safetensors", what, seed)
    for kind in SHAPES
    for what in ("head", "no number")
    for seed in range(4)
]


def test_a_checkpoint_is_read_whole_or_refused(
    checkpoints: Path, tmp_path: Path, server: FakeServer
) -> None:
    text = tmp_path / "text.jsonl"
    text.write_bytes(as_lines([{"text": text} for text in TEXTS]))
    cases, places, jobs = drawn(CHECKPOINT_CASES, 2), [], []
    for case in cases:
        kind, file, what, _ = case
        places.append(Place(tmp_path / "-".join(map(str, case)).replace(" ", "-")))
        folder = places[-1].input / "model"
        shutil.copytree(checkpoints / kind, folder)
        spoil(random.Random(f"{case}"), folder, file, what)
        more = ("subject=hf", f"subject.path={folder}", f"data.path={text}")
        jobs.append(places[-1].job(server, "subject", *more))
    wrong = []
    for case, place, said in zip(cases, places, commands(jobs), strict=True):
        fault = place.fault(said)
        if fault is None and said.code == ENOUGH:
            fault = not_taken_over(place.input / "model", place.artifact("subject") / "model")
        if fault:
            wrong.append(f"{case}: {fault}")
    assert not wrong, f"{len(wrong)} of these:\n" + "\n".join(wrong)


def not_taken_over(source: Path, made: Path) -> str | None:
    """Whether a weight of the checkpoint is not that of the subject, or no number."""
    given, taken = load_file(source / "model.safetensors"), load_file(made / "model.safetensors")
    for name, weight in given.items():
        if not torch.equal(weight.float(), taken[name]):
            return f"{name} is another one"
    if not all(torch.isfinite(weight).all() for weight in taken.values()):
        return "not all weights are numbers"
    return None


# --- settings

TYPED = [
    *("", "null", "nan", "inf", "-inf", "-1", "0", "1", "1e308", "-0.5", "0.5", "true", "1_0"),
    *(
        "9" * 19,
        "9" * 400,
        "9" * 5000,
        "[" * 999,
        "[]",
        "[1,2]",
        "[[1]]",
        "[null]",
        "{a: 1}",
        "{}",
        "{a: {b: 1}}",
    ),
    *("x", "'x'", '"', "'", "a b", "\U0001f600", "\x1b[2J", "a\nb", "???", "\ud83d", "a" * 9999),
    *("${seed}", "${nosuch}", "${oc.env:NO_SUCH}", "${a", "$", "~", "~/x", "../../x", "/dev/null"),
    *("=", ",", "a,b", "1,2", "[", "{", "}", "(", "range(1,3)", "choice(1,2)", "\\", "# x", "!"),
]
"""Values as they are typed."""
NAMES = sorted(set(flat(to_dict(Config()))) - {"paths.root", "judge"})
SETTING_CASES = [(name, value) for name in NAMES for value in TYPED]


def test_a_setting_is_taken_or_refused_by_its_name() -> None:
    wrong = []
    for name, value in drawn(SETTING_CASES, 80, 2000):
        try:
            compose([f"{name}={value}"])
        except ConfigError as error:
            said = str(error)
            if name.rpartition(".")[2] not in said or "\n" in said or len(said) > 20_000:
                wrong.append(f"{name}={value!r:.60}: said {said!r:.300}")
        except Exception as error:
            wrong.append(f"{name}={value!r:.60}: {type(error).__name__}: {error!s:.300}")
    assert not wrong, f"{len(wrong)} of these:\n" + "\n".join(wrong)


NUMBERS = ("-1", "0", "1", "2", "3", "0.001", "0.5", "1.0", "1e-300", "1e300", str(2**31))
RUN_CASES = [
    (name, value) for name in NAMES for value in NUMBERS if not name.startswith("data.fractions")
]


def is_taken(typed: str) -> bool:
    try:
        compose([typed])
    except ConfigError:
        return False
    return True


def test_a_number_that_is_taken_is_planned_with(tmp_path: Path, server: FakeServer) -> None:
    """As far as the corpus: what a run plans and estimates reads all settings."""
    (tmp_path / "a.jsonl").write_bytes(as_lines([{"text": text} for text in TEXTS]))
    places, jobs = [], []
    cases = [case for case in drawn(RUN_CASES, 6, 240) if is_taken("=".join(case))]
    for name, value in cases:
        places.append(Place(tmp_path / f"{name}-{value}"))
        more = (f"data.path={tmp_path / 'a.jsonl'}", f"{name}={value}")
        jobs.append(places[-1].job(server, "corpus", *more))
    wrong = []
    for case, place, said in zip(cases, places, commands(jobs), strict=True):
        if fault := place.fault(said):
            wrong.append(f"{case}: {fault}")
    assert not wrong, f"{len(wrong)} of these:\n" + "\n".join(wrong)
