"""Checks of `models.<name>.robust`: what a robust rule cannot be combined with, and whether there are enough sites."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fedsynth.checks.blocks import built
from fedsynth.params import Model, Params
from fedsynth.params.problems import Problem


def problems(params: Params, sites: list[str] | None) -> Iterator[Problem]:
    """Yield models for whose rule there are too few sites, or whose quorum is too small; `sites`: None if unknown."""
    training = None if sites is None else params.split.training(sites)
    for name in params.models:
        yield from enough(params, name, None if training is None else len(training))


def enough(params: Params, name: str, sites: int | None) -> Iterator[Problem]:
    """Yield the problems of a model's rule with the number of sites that train; None if unknown."""
    model, key = params.models[name], f"models.{name}.robust"
    rule, wrong = built(key, "robust", model.robust, {}) if model.robust else (None, [])
    if rule is None or wrong or not model.robust:
        return
    title, quorum = model.robust.class_path.rpartition(".")[2], params.consortium.quorum
    if sites is not None and sites < rule.least:
        said = f"{title} needs {rule.least} sites to tell which is the odd one, and {sites} train; take it out"
        yield Problem(key, model.robust.class_path, said)
    elif quorum is not None and quorum < rule.least:
        said = f"{title} of models.{name}.robust needs {rule.least} sites in every round; take at least {rule.least}"
        yield Problem("consortium.quorum", quorum, said)


def together(key: str, model: Model, algorithm: Any, rule: Any) -> Iterator[Problem]:
    """Yield the problems of a rule with the other parts of a model; a part is None if it is invalid."""
    if model.robust is None:
        return
    title = model.robust.class_path.rpartition(".")[2]
    for said in [*_closed(model), *_algorithm(model, algorithm, rule, title), *_coded(model, rule, title)]:
        yield Problem(f"{key}.robust", model.robust.class_path, said)


def _closed(model: Model) -> Iterator[str]:
    if model.encryption:
        yield "with `encryption` the server sees the sum of the updates alone; take one of both out"


def _algorithm(model: Model, algorithm: Any, rule: Any, title: str) -> Iterator[str]:
    name = model.algorithm.class_path.rpartition(".")[2]
    if algorithm is None:
        return
    if algorithm.unprotected:
        yield f"does not go with {name}: {algorithm.unprotected}; take it out, or another algorithm"
    elif rule is not None and not rule.weighs and (name == "FedCAR" or algorithm.weighting == "validation"):
        of = "FedCAR's weights" if name == "FedCAR" else "`weighting: validation`"
        yield f"{title} counts every site alike, so that {of} would change nothing; take MedianClip, or FedAvg"


def _coded(model: Model, rule: Any, title: str) -> Iterator[str]:
    up = model.compression and model.compression.up
    coding, wrong = built("", "compression", up, {}) if up else (None, [])
    if rule is not None and rule.by_entry and coding is not None and not wrong and coding.sparse:
        yield (
            f"{title} compares entry by entry, and with {up.class_path.rpartition('.')[2]} each site sends others, so"  # type: ignore[union-attr]
            " that it finds 0; take GeometricMedian or MedianClip, or another coding"
        )
