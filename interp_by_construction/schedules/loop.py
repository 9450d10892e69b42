"""schedule=sequential: label a layer, make its labels true, freeze it, repair the rest, go on."""

from __future__ import annotations

from collections.abc import Sequence

from interp_by_construction.config import Config
from interp_by_construction.schedules.examine import run_graph
from interp_by_construction.schedules.graph import Links, RunGraph
from interp_by_construction.schedules.labelled import labelled_layer, shared_text, with_dictionary
from interp_by_construction.stages.align import Align
from interp_by_construction.stages.continue_ import Continue
from interp_by_construction.stages.control import Control
from interp_by_construction.stages.freeze import Freeze
from interp_by_construction.stages.freeze_only import FreezeOnly
from interp_by_construction.stages.losses import Losses
from interp_by_construction.training.train import Setting

MODELS = ("continue", "control", "freeze_only")
"""The run, and what it is compared with. Each goes on from its own model of the layer below."""


def loop(cfg: Config, layers: Sequence[int]) -> RunGraph:
    """The graph of a run over `layers`, lowest first, without a gap."""
    text = shared_text(cfg)
    corpus, subject = text["corpus"], text["subject"]
    setting = Setting(cfg, corpus, subject, layers)
    model = dict.fromkeys(MODELS, subject)
    links: dict[int, Links] = {}
    below = None
    for layer in layers:
        own = links[layer] = {}
        before = {name: with_dictionary(setting, model[name], layer) for name in MODELS}
        if cfg.nodes.kind != "neurons":
            own["dictionary"] = before["continue"]
        own |= labelled_layer(cfg, text, before["continue"], layer, below)
        labels, simulates = own.get("assign", own["label"]), {layer: own["simulate"]}
        align = Align.of(setting, before["continue"], simulates, below)
        own["align"] = align
        own["freeze"] = Freeze(corpus, align, labels, layer)
        own["continue"] = Continue.of(setting, align, labels, layer, above={})
        for name in ("control", "freeze_only"):
            if cfg.nodes.kind != "neurons":
                own[f"dictionary_{name}"] = before[name]
        own["control"] = Control.of(setting, before["control"], layer)
        own["freeze_only"] = FreezeOnly.of(setting, before["freeze_only"], labels, layer, below)
        for name in ("dictionary", *MODELS):
            if name in own:
                own[f"losses_{name}"] = Losses.of(cfg, corpus, own[name])
        model, below = {name: own[name] for name in MODELS}, labels
    return run_graph(setting, text, links)
