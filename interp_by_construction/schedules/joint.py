"""schedule=joint: label all layers of the subject, align them at once, then freeze one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from interp_by_construction.config import Config
from interp_by_construction.engine.stage import Stage
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


def joint(cfg: Config, layers: Sequence[int]) -> RunGraph:
    """The graph of a run over `layers`, lowest first, without a gap."""
    text = shared_text(cfg)
    setting = Setting(cfg, text["corpus"], text["subject"], layers)
    links: dict[int, Links] = {layer: {} for layer in layers}
    origin = text["subject"]
    for layer in layers:
        origin = with_dictionary(setting, origin, layer)
        if cfg.nodes.kind != "neurons":
            links[layer]["dictionary"] = origin
    below = None
    for layer in layers:
        links[layer] |= labelled_layer(cfg, text, origin, layer, below)
        below = final_labels(links[layer])
    simulates = {layer: links[layer]["simulate"] for layer in layers}
    align = Align.of(setting, origin, simulates, below=None)
    model = dict.fromkeys(MODELS, origin)
    settled: Stage[Any] = align
    for layer in layers:
        own = links[layer]
        labels = final_labels(own)
        above = {other: simulate for other, simulate in simulates.items() if other > layer}
        own["align"] = align
        own["freeze"] = Freeze(setting.corpus, settled, labels, layer)
        own["continue"] = Continue.of(setting, settled, labels, layer, above)
        own["control"] = Control.of(setting, model["control"], layer)
        own["freeze_only"] = FreezeOnly.of(setting, model["freeze_only"], labels, layer, None)
        links[layer] = with_losses(cfg, text, own)
        model, settled = {name: own[name] for name in MODELS}, own["continue"]
    return run_graph(setting, text, links)
