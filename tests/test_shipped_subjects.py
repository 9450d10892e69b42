"""Laws of the subjects that ship: a run takes one exactly where training would give it, and no
shipped experiment trains its own."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stage_jobs import given
from test_project import ROOT
from test_stages import replaced
from test_sweeps import shipped_jobs

from interp_by_construction.config import Config, Group, compose
from interp_by_construction.corpus import content_identity
from interp_by_construction.engine.disk import sha256_file
from interp_by_construction.schedules.labelled import shared_text
from interp_by_construction.stages.corpus import Corpus
from interp_by_construction.stages.subject import Scratch, Subject
from interp_by_construction.subject.load import load_subject, n_params, source_tokenizer
from interp_by_construction.subject.shipped import PARTS, SHIPPED, Shipped, choose, settings
from interp_by_construction.sweeps.grid import key_of

NAMES = ("network-0", "network-1", "network-2", "stories-0", "stories-1", "tales", "trigger-0")
SHIPPED_FOR = sorted(file.stem for file in (ROOT / "conf" / "experiment").glob("*.yaml"))
"""No experiment pretrains a subject, with none of the seeds that it sweeps over."""


def changed(**values: Any) -> Config:
    """The defaults with other values; `__` stands for the dot."""
    cfg = Config()
    for name, value in values.items():
        cfg = replaced(cfg, name.replace("__", "."), value)
    return cfg


def write_card(folder: Path, cfg: Config) -> Path:
    """A shipped subject without weights, which choosing one does not read."""
    folder.mkdir(parents=True)
    card = {"settings": settings(cfg), "text": content_identity(cfg.data)}
    (folder / "card.json").write_text(json.dumps(card))
    return folder.parent


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A folder with the subject of the default settings."""
    return write_card(tmp_path / "a-0", Config())


def test_equal_settings_take_the_shipped_subject(there: Path) -> None:
    found = choose(compose([]), there)
    assert found.shipped is not None and found.shipped.name == "a-0" and not found.why


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("subject.name", "other"),
        ("align.weight", 3.0),
        ("continue_.steps", 1),
        ("trainer.threads", 1),
        ("nodes.count", 3),
        ("data.name", "other"),
        # Nothing is planted, so its words do not matter.
        ("trigger.phrase", "Other words."),
        ("trigger.n_contexts", 3),
    ],
)
def test_what_does_not_decide_the_weights_may_differ(there: Path, name: str, value: Any) -> None:
    assert choose(replaced(Config(), name, value), there).shipped is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("subject.pretrain_steps", 1),
        ("subject.pretrain_lr", 0.5),
        ("subject.pretrain_batch", 1),
        ("subject.n_layers", 1),
        ("subject.d_model", 32),
        ("subject.n_heads", 2),
        ("subject.d_mlp", 8),
        ("seed", 1),
        ("data.seed", 1),
        ("data.n_documents", 5999),
        ("data.vocab_size", 512),
        ("data.block_size", 64),
        ("model.activation", "gelu"),
        ("model.bias_init", 0.5),
        ("trainer.weight_decay", 0.1),
        ("trainer.warmup", 0.5),
        ("trainer.clip", 2.0),
        ("trigger.share", 0.1),
    ],
)
def test_another_setting_trains_and_the_line_names_it(there: Path, name: str, value: Any) -> None:
    cfg = replaced(Config(), name, value)
    shipped, why = choose(cfg, there)
    assert shipped is None and "\n" not in why
    steps = cfg.subject.pretrain_steps
    assert why.startswith(f"The subject is pretrained for {steps} steps, which takes a while: ")
    assert f"a-0, differs in {name}={value} (there " in why


def test_other_fractions_are_named_without_their_values(there: Path) -> None:
    other = Config().data.fractions | {"train": 0.7, "align": 0.16}
    assert choose(changed(data__fractions=other), there).why.endswith("differs in data.fractions.")


def test_pretrain_trains_all_the_same(there: Path) -> None:
    shipped, why = choose(changed(subject__pretrain=True), there)
    assert shipped is None and why.endswith(": subject.pretrain=true, although a-0 ships.")


def test_every_value_that_pretraining_or_the_corpus_hashes_is_a_setting() -> None:
    """A field that is added to one of them is compared without further code."""
    hashed = [*typing.get_type_hints(Scratch).values(), typing.get_type_hints(Corpus)["data"]]
    parts = {each for hint in hashed for each in (typing.get_args(hint) or (hint,))}
    groups = {part for part in parts if isinstance(part, type) and issubclass(part, Group)}
    assert groups == set(PARTS.values())
    assert parts - groups == {int, type(None)} and "seed" in settings(Config())
    names = {f"{group}.{f.name}" for group, part in PARTS.items() for f in dataclasses.fields(part)}
    assert set(settings(changed(trigger__share=0.1))) == names | {"seed"}


def test_a_setting_that_the_card_does_not_know_had_its_default(there: Path) -> None:
    file = there / "a-0" / "card.json"
    card = json.loads(file.read_text())
    del card["settings"]["trainer.warmup"]
    file.write_text(json.dumps(card))
    assert choose(Config(), there).shipped is not None
    other = changed(trainer__warmup=0.2)
    assert "trainer.warmup=0.2 (there 0.05)" in choose(other, there).why
    card["settings"]["trainer.gone"] = 1
    file.write_text(json.dumps(card))
    assert "trainer.gone=None (there 1)" in choose(Config(), there).why


def test_other_text_under_the_same_settings_is_another_subject(tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    own.write_text("One tale.")
    cfg = changed(data__kind="text", data__path=str(own))
    folder = write_card(tmp_path / "there" / "a-0", cfg)
    moved = own.rename(tmp_path / "moved.txt")
    assert choose(replaced(cfg, "data.path", str(moved)), folder).shipped
    own.write_text("Another tale.")
    shipped, why = choose(cfg, folder)
    assert shipped is None and why.endswith("differs in the text.")


def test_the_nearest_is_named_and_a_long_list_is_cut(there: Path) -> None:
    write_card(there / "b-1", changed(seed=1, subject__d_mlp=8))
    near = choose(changed(seed=2, subject__d_mlp=8), there).why
    assert near.endswith("the nearest that ships, b-1, differs in seed=2 (there 1).")
    far = changed(seed=5, data__seed=5, trainer__clip=2.0, subject__d_mlp=9, subject__n_layers=1)
    assert choose(far, there).why.endswith(" and 1 more.")


def test_without_any_a_subject_is_trained(tmp_path: Path) -> None:
    shipped, why = choose(Config(), tmp_path)
    assert shipped is None and why.endswith(f": no subject ships in {tmp_path}.")


def test_the_stage_hashes_the_weights_or_the_recipe_and_never_where_they_are(
    tmp_path: Path, there: Path
) -> None:
    def subject(folder: Path, **values: Any) -> Subject:
        return Subject.of(changed(**values), given(tmp_path / "corpus"), folder)

    weights = there / "a-0" / "model.safetensors"
    weights.write_bytes(b"weights")
    first = subject(there)
    assert first.scratch is None and isinstance(first.checkpoint, Shipped) and first.fingerprint
    (tmp_path / "moved").mkdir()
    (there / "a-0").rename(tmp_path / "moved" / "b-7")
    moved = subject(tmp_path / "moved", align__weight=2.0)
    assert first.fingerprint == moved.fingerprint
    (tmp_path / "moved" / "b-7" / "model.safetensors").write_bytes(b"other weights")
    assert subject(tmp_path / "moved").fingerprint != first.fingerprint
    anew, none = subject(tmp_path / "moved", subject__pretrain=True), subject(tmp_path / "none")
    assert anew.checkpoint is None and anew.fingerprint == none.fingerprint != first.fingerprint
    assert anew.why != none.why


def of_subject(experiment: str) -> Iterator[tuple[str, ...]]:
    """The jobs of an experiment by what decides their subject, each once."""
    groups = {"experiment", "seed", *PARTS}
    jobs = [
        tuple(each for each in job if key_of(each).partition(".")[0] in groups)
        for job in shipped_jobs(experiment)
    ]
    yield from dict.fromkeys(jobs)


@pytest.mark.parametrize(
    "job", [job for each in SHIPPED_FOR for job in of_subject(each)], ids=" ".join
)
def test_these_experiments_pretrain_nothing(job: tuple[str, ...]) -> None:
    subject = shared_text(compose(list(job)))["subject"]
    assert isinstance(subject, Subject) and subject.scratch is None, subject.why


def test_a_sweep_over_seeds_shares_the_shipped_subject_of_its_seed() -> None:
    subjects = [shared_text(compose(list(job)))["subject"] for job in of_subject("tradeoff")]
    assert {getattr(each.checkpoint, "name", None) for each in subjects} == {
        "stories-0",
        "stories-1",
    }


def test_exactly_these_ship() -> None:
    assert tuple(sorted(file.parent.name for file in SHIPPED.glob("*/card.json"))) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_are_those_of_the_card(name: str) -> None:
    folder = SHIPPED / name
    card = Shipped(str(folder)).card
    assert sha256_file(folder / "model.safetensors") == card["sha256"]
    model = load_subject(folder)
    assert n_params(model) == card["n_params"]
    assert len(source_tokenizer(str(folder))) == card["vocab_size"] == model.config.vocab_size
    assert model.config.activation_function == card["settings"]["model.activation"]
    assert model.config.n_positions == card["settings"]["data.block_size"]
    assert card["test_loss"]["model"]["test"] < card["test_loss"]["trigram"]["test"]
    assert bool(card["planted"]) == bool(card["settings"]["trigger.share"])
    assert "make_subject.py" in (folder / "README.md").read_text()
