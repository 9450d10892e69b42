"""schedule=sequential: label a layer, make its labels true, freeze it, repair the rest, go on."""

from __future__ import annotations

from collections.abc import Sequence

from interp_by_construction.config import Config
from interp_by_construction.schedules.examine import run_graph
from interp_by_construction.schedules.graph import Links, RunGraph
from interp_by_construction.schedules.labelled import (
    MODELS,
    labelled_layer,
    shared_text,
    with_dictionary,
    with_losses,
)
from interp_by_construction.stages import final_labels
from interp_by_construction.stages.align import Align
from interp_by_construction.stages.continue_ import Continue
from interp_by_construction.stages.control import Control
from interp_by_construction.stages.freeze import Freeze
from interp_by_construction.stages.freeze_only import FreezeOnly
from interp_by_construction.training.train import Setting


def loop(cfg: Config, layers: Sequence[int]) -> RunGraph:
    """The graph of a run over `layers`, lowest first, without a gap. The run, and each model that
    it is compared with, goes on from its own model of the layer below."""
    text = shared_text(cfg)
    setting = Setting(cfg, text["corpus"], text["subject"], layers)
    model = dict.fromkeys(MODELS, text["subject"])
    links: dict[int, Links] = {}
    below = None
    for layer in layers:
        own: Links = {}
        before = {name: with_dictionary(setting, model[name], layer) for name in MODELS}
        if cfg.nodes.kind != "neurons":
            own["dictionary"] = before["continue"]
        own |= labelled_layer(cfg, text, before["continue"], layer, below)
        labels, simulates = final_labels(own), {layer: own["simulate"]}
        align = own["align"] = Align.of(setting, before["continue"], simulates, below)
        own["freeze"] = Freeze(setting.corpus, align, labels, layer)
        own["continue"] = Continue.of(setting, align, labels, layer, above={})
        if cfg.nodes.kind != "neurons":
            for name in ("control", "freeze_only"):
                own[f"dictionary_{name}"] = before[name]
        own["control"] = Control.of(setting, before["control"], layer)
        own["freeze_only"] = FreezeOnly.of(setting, before["freeze_only"], labels, layer, below)
        links[layer] = with_losses(cfg, text, own)
        model, below = {name: own[name] for name in MODELS}, labels
    return run_graph(setting, text, links)
