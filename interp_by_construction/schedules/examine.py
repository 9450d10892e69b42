"""What is measured of a run whose layers are all made. A new measurement is one more name here."""

from __future__ import annotations

from typing import Any

from interp_by_construction.engine.stage import Stage
from interp_by_construction.schedules.graph import Links, RunGraph
from interp_by_construction.stages import LayerStages, all_stages
from interp_by_construction.training.train import Setting

OF_A_LAYER = ("evaluate", "function", "audit", "work", "removed", "judge")
"""Stages with `examine(cfg, layer)`, which is None where the configuration leaves it out."""

OF_ALL_LAYERS = ("work", "removed", "trigger")
"""Stages with `examine_all(cfg, layers)`, likewise."""


def run_graph(setting: Setting, text: Links, made: dict[int, Links]) -> RunGraph:
    """The graph of a run from what is made of each layer, lowest first."""
    cfg, views = setting.cfg, layer_views(setting, text, made)
    kinds: dict[str, Any] = dict(all_stages())
    measured: dict[int, Links] = {}
    for view in views:
        stages = [kinds[name].examine(cfg, view) for name in OF_A_LAYER]
        measured[view.index] = {each.name: each for each in stages if each is not None}
    stages = [kinds[name].examine_all(cfg, views) for name in OF_ALL_LAYERS]
    whole = {each.name: each for each in stages if each is not None}
    return RunGraph(text, made, measured, whole)


def layer_views(setting: Setting, text: Links, made: dict[int, Links]) -> tuple[LayerStages, ...]:
    """Which model is before, after and final of each layer, and in which its activations froze.

    Layers that are aligned together are all labelled in one model, and freeze one after the other
    while the rest settles. Where a dictionary took the MLP's place there are no such nodes before.
    """
    links = list(made.values())
    views: list[LayerStages] = []
    together, final = setting.together, links[-1]["continue"]
    below: Stage[Any] = text["subject"]
    origin = links[-1].get("dictionary", text["subject"])
    for index, own in made.items():
        views.append(
            LayerStages(
                index=index,
                setting=setting,
                stages=own,
                shared=text,
                before=origin if together else own.get("dictionary", below),
                after=own["align"],
                settled=below if together and views else own["align"],
                final=final,
                below=tuple(views),
            )
        )
        below = own["continue"]
    return tuple(views)
