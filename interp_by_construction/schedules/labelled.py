"""What every schedule has in common: shared text, how a layer is labelled, compared models."""

from __future__ import annotations

from typing import Any

from interp_by_construction.config import Config
from interp_by_construction.corpus.parts import Extent
from interp_by_construction.engine.stage import Stage
from interp_by_construction.schedules.graph import Links
from interp_by_construction.simulators import simulator_class
from interp_by_construction.stages import final_labels
from interp_by_construction.stages.assign import Assign
from interp_by_construction.stages.collect import Collect
from interp_by_construction.stages.corpus import Corpus
from interp_by_construction.stages.dictionary import Dictionary
from interp_by_construction.stages.encode import Encode
from interp_by_construction.stages.label import LabelNodes, compared_texts
from interp_by_construction.stages.losses import Losses
from interp_by_construction.stages.simulate import Simulate
from interp_by_construction.stages.subject import Subject
from interp_by_construction.training.train import Setting

MODELS = ("continue", "control", "freeze_only")
"""The run, and what it is compared with."""


def shared_text(cfg: Config) -> Links:
    """Corpus, subject, what the simulator's encoder reads of the text, the subject's test loss."""
    corpus = Corpus.of(cfg)
    encoded: dict[str, Stage[Any] | None] = {"encode": Encode.of_parts(cfg, corpus)}
    for split, n_tokens in labelling_texts(cfg).items():
        encoded[f"encode_{split}"] = Encode.of_text(cfg, corpus, Extent(split, n_tokens))
    links: Links = {"corpus": corpus, "subject": (subject := Subject.of(cfg, corpus))}
    links |= {link: stage for link, stage in encoded.items() if stage is not None}
    return links | {"losses": Losses.of(cfg, corpus, subject)}


def labelling_texts(cfg: Config) -> dict[str, int]:
    """Split -> tokens on which a simulator that reads any text compares labels with nodes."""
    if not simulator_class(cfg.simulate.simulator).any_text:
        return {}
    texts = {split: text.n_tokens for split, text in compared_texts(cfg).items()}
    return texts | ({"label": cfg.simulate.n_label_tokens} if cfg.nodes.assign == "match" else {})


def with_dictionary(setting: Setting, model: Stage[Any], layer: int) -> Stage[Any]:
    """`model` with a dictionary in the place of the layer's MLP; with nodes=neurons `model` itself.

    Each model of a run, the comparisons' too, gets a dictionary of its own MLP (invariant 7).
    """
    cfg = setting.cfg
    if cfg.nodes.kind == "neurons":
        return model
    return Dictionary.of(cfg, setting.corpus, model, layer, len(setting.layers))


def labelled_layer(
    cfg: Config, text: Links, model: Stage[Any], layer: int, below: Stage[Any] | None
) -> Links:
    """Labels of the layer's nodes in `model`, and their targets. below: labels of the aligned layer
    underneath."""
    corpus = text["corpus"]
    encoded = {
        split: text[f"encode_{split}"] for split in compared_texts(cfg) if f"encode_{split}" in text
    }
    collect = Collect.of(cfg, corpus, model, layer)
    label = LabelNodes.of(cfg, collect, below, encoded)
    links: Links = {"collect": collect, "label": label}
    if cfg.nodes.assign == "match":
        links["assign"] = Assign.of(cfg, label, text.get("encode_label"))
    labels = final_labels(links)
    return links | {"simulate": Simulate.of(cfg, corpus, text.get("encode"), labels, layer)}


def with_losses(cfg: Config, text: Links, own: Links) -> Links:
    """The links of a layer, and the test loss of each of its models."""
    models = {name: own[name] for name in ("dictionary", *MODELS) if name in own}
    corpus = text["corpus"]
    return own | {f"losses_{name}": Losses.of(cfg, corpus, each) for name, each in models.items()}
