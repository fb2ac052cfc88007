"""Which stages of the graph a run brings up to date, and of which models it has no results."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from fedsynth.errors import UserError
from fedsynth.params.near import near
from fedsynth.worth.missing import Missing

Graph = Mapping[str, list[str]]  # stage -> those that it depends on, in an order in which they can run


class ModelsError(UserError):
    """A model that was asked for is not in params.yaml; the message names it."""


def asked(models: str | Iterable[str], known: Collection[str]) -> list[str]:
    """Return the models to run, in the order of params.yaml: those named ("vae,gan" or a list), or all."""
    parts = [models] if isinstance(models, str) else list(models)
    names = [name for part in parts for name in part.replace(",", " ").split()]
    for name in names:
        if name not in known:
            raise ModelsError(f"params.yaml has no models.{name}; it has {', '.join(known)}{near(name, known)}")
    return [name for name in known if name in names or not names]


def model_of(stage: str) -> str:
    return stage.partition("@")[2]


def gathering(graph: Graph) -> list[str]:
    """Return the stages that gather what is known of all models, such as `report`.

    They are run after all others, and also where a model has failed.
    """
    return [stage for stage, before in graph.items() if not model_of(stage) and any(map(model_of, before))]


def stages(graph: Graph, models: Collection[str]) -> list[str]:
    """Return the stages of these models with all that they need, and those of no model."""
    last = gathering(graph)
    found = {stage for stage in graph if model_of(stage) in models or (not model_of(stage) and stage not in last)}
    for stage in reversed(list(graph)):
        if stage in found:
            found.update(graph[stage])
    return [stage for stage in graph if stage in found or stage in last]


def missing(graph: Graph, failed: Mapping[str, str], stale: Collection[str], ran: Collection[str]) -> Missing:
    """Return the models without results in this run.

    `failed`: stage -> why, of those that failed themselves; `stale`: the stages that were not up to date when the run
    began; `ran`: those that are by now. A model that was not asked for has results where none of its stages is stale.
    """
    found: Missing = {}
    for stage in graph:
        if (model := model_of(stage)) and stage in failed:
            found.setdefault(model, {"stage": stage, "why": failed[stage]})
    for stage in graph:
        if (model := model_of(stage)) and stage in stale and stage not in ran:
            found.setdefault(model, {"stage": stage, "why": ""})
    return found
