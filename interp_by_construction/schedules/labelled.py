"""What all layers of a run share, and how one layer is labelled: the same in every schedule."""

from __future__ import annotations

from typing import Any

from interp_by_construction.config import Config
from interp_by_construction.engine.stage import Stage
from interp_by_construction.schedules.graph import Links
from interp_by_construction.stages.assign import Assign
from interp_by_construction.stages.collect import Collect
from interp_by_construction.stages.corpus import Corpus
from interp_by_construction.stages.dictionary import Dictionary
from interp_by_construction.stages.encode import Encode
from interp_by_construction.stages.label import Label
from interp_by_construction.stages.losses import Losses
from interp_by_construction.stages.simulate import Simulate
from interp_by_construction.stages.subject import Subject


def shared_text(cfg: Config) -> Links:
    """Corpus, subject, what the simulator's encoder reads of the text, the subject's test loss."""
    corpus = Corpus.of(cfg)
    subject = Subject.of(cfg, corpus)
    links: Links = {"corpus": corpus, "subject": subject}
    links |= Encode.of(cfg, corpus)
    return links | {"losses": Losses.of(cfg, corpus, subject)}


def with_dictionary(cfg: Config, corpus: Stage[Any], model: Stage[Any], layer: int) -> Stage[Any]:
    """`model` with a dictionary in the place of the layer's MLP; with nodes=neurons `model` itself.

    Each model of a run, the comparisons' too, gets a dictionary of its own MLP (invariant 7).
    """
    return model if cfg.nodes.kind == "neurons" else Dictionary.of(cfg, corpus, model, layer)


def labelled_layer(
    cfg: Config, text: Links, model: Stage[Any], layer: int, below: Stage[Any] | None
) -> Links:
    """Labels of the layer's nodes in `model`, and what they say on every token. below: the labels
    of the aligned layer underneath."""
    collect = Collect.of(cfg, text["corpus"], model, layer)
    label = labels = Label.of(cfg, text, model, collect, below, layer)
    links: Links = {"collect": collect, "label": label}
    if cfg.nodes.assign == "match":
        labels = links["assign"] = Assign.of(cfg, text, model, collect, label, layer)
    links["simulate"] = Simulate.of(cfg, text, labels, layer)
    return links
