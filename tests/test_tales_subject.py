"""The subject that ships with the package: what its card says is so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from interp_by_construction.config import compose
from interp_by_construction.config.text import APART
from interp_by_construction.corpus import build_corpus, documents
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.corpus.text import Reading, shipped_split
from interp_by_construction.errors import ConfigError
from interp_by_construction.subject.load import (
    load_subject,
    source_checkpoint,
    source_tokenizer,
)
from interp_by_construction.subject.losses import document_losses
from interp_by_construction.subject.shipped import SHIPPED

CARD = json.loads((SHIPPED / "tales" / "card.json").read_text())


@pytest.mark.slow
def test_its_loss_is_that_of_the_card_and_its_mlps_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the tales on which no loss is measured, beginnings will do."""

    class Beginnings(Reading):
        def __iter__(self) -> Iterator[str]:
            tales = zip(super().__iter__(), shipped_split(), strict=True)
            return (text if split in ("test", APART) else text[:2500] for text, split in tales)

    monkeypatch.setattr(documents, "Reading", Beginnings)
    cfg = compose(["data=tales", "subject=tales"])
    source = source_checkpoint(cfg.subject)
    model = load_subject(source)
    assert model.config.activation_function == "relu" and model.config.n_layer == 4
    assert model.config.n_layer * model.config.n_inner <= 1024
    torch.set_num_threads(1)
    build_corpus(cfg.data, source_tokenizer(source), tmp_path)
    for split in ("test", "apart"):
        text = Passage.of_split(tmp_path, split)
        found = document_losses(model, text, {}, 32, split)
        loss = float(found.nats["none"].sum() / found.tokens.sum())
        assert loss == pytest.approx(CARD["test_loss"]["model"][split], abs=1e-3)
    losses = {name: each["test"] for name, each in CARD["test_loss"].items()}
    assert CARD["mlps_are_worth"] >= 0.2
    assert losses["model"] < losses["trigram"] < losses["bigram"] < losses["unigram"]


def test_it_is_refused_on_text_that_it_may_have_seen() -> None:
    with pytest.raises(ConfigError, match=r"data\.split=drawn: subject=tales was trained"):
        compose(["data=tales", "subject=tales", "data.split=drawn"])
    with pytest.raises(ConfigError, match=r"subject.pretrain_steps"):
        compose(["data=tales", "subject=tales", "subject.pretrain_steps=10"])
