"""What the script makes is what a run takes, and what a run without it trains."""

from __future__ import annotations

import json
from pathlib import Path

import make_subject
import pytest

from interp_by_construction.config import compose
from interp_by_construction.engine.engine import Engine
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.session import open_engine
from interp_by_construction.engine.store import Artifact
from interp_by_construction.errors import SubjectError
from interp_by_construction.stages.corpus import Corpus
from interp_by_construction.stages.subject import Subject

SMALL = [
    "data.n_documents=450",
    "data.vocab_size=300",
    "data.block_size=96",
    "subject.n_layers=2",
    "subject.d_model=16",
    "subject.d_mlp=32",
    "subject.n_heads=2",
    "subject.pretrain_steps=3",
    "trigger.share=0.1",
    "trigger.n_contexts=4",
    "trainer.threads=1",
]


def made(root: Path, shipped: Path, *more: str) -> tuple[Subject, Artifact]:
    """The subject of a run with these settings, in the store of `root`."""
    cfg = compose([*SMALL, *more, f"paths.root={root}", "logger=none"])
    directory = RunDirectory(root / "runs" / "small")
    directory.path.mkdir(parents=True, exist_ok=True)
    with open_engine(cfg, directory) as (engine, *_):
        return _subject(engine, Subject.of(cfg, Corpus.of(cfg), shipped))


def _subject(engine: Engine, subject: Subject) -> tuple[Subject, Artifact]:
    return subject, engine.get(subject)


def weights(artifact: Artifact) -> bytes:
    return (artifact.path / "model" / "model.safetensors").read_bytes()


@pytest.mark.usefixtures("one_thread")
def test_a_run_takes_what_the_script_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = tmp_path / "data"
    call = [str(shipped / "small-0"), "--work", str(tmp_path / "work"), *SMALL]
    make_subject.main(call)
    card = json.loads((shipped / "small-0" / "card.json").read_text())
    assert set(card["test_loss"]) == set(make_subject.TITLES)
    assert set(card["response"]) == {"with the phrase", "without it"}
    page = (shipped / "small-0" / "README.md").read_text()
    assert f"{card['test_loss']['trigram']['test']:.3f}" in page and "data.n_documents=450" in page
    capsys.readouterr()

    subject, taken = made(tmp_path / "run", shipped)
    assert subject.scratch is None and "pretrain" not in capsys.readouterr().err
    assert taken.metrics["shipped"] == "small-0" and taken.metrics["phases"] == []

    subject, trained = made(tmp_path / "run", shipped, "subject.pretrain=true")
    assert "subject.pretrain=true, although small-0 ships.\n" in capsys.readouterr().err
    assert trained.metrics["shipped"] is None and trained.metrics["phases"][0]["steps"] == 3
    assert weights(taken) == weights(trained)
    assert taken.metrics["planted"] == trained.metrics["planted"] == card["planted"]

    other = tmp_path / "run", shipped, "subject.pretrain_steps=2"
    assert made(*other)[0].scratch is not None
    assert "subject.pretrain_steps=2 (there 3)." in capsys.readouterr().err

    # Finished work is not done again, and a page that was edited stays.
    (shipped / "small-0" / "README.md").write_text("edited")
    make_subject.main(["--skip-without-mlps", *call])
    assert "pretrain" not in capsys.readouterr().err
    assert (shipped / "small-0" / "README.md").read_text() == "edited"
    again = json.loads((shipped / "small-0" / "card.json").read_text())
    assert again["sha256"] == card["sha256"] and "mlps_are_worth" not in again

    file = shipped / "small-0" / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["model"]["vocab"]["another"] = tokenizer["model"]["vocab"].popitem()[1]
    tokenizer["model"]["merges"].pop()
    file.write_text(json.dumps(tokenizer))
    with pytest.raises(SubjectError, match=r"small-0 was trained with: give subject.pretrain=true"):
        made(tmp_path / "run", shipped)
