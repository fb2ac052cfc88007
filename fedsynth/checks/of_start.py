"""Checks of `models.<name>.start`, `pretrain` and `trainable`: is it there, is it what is said, and does it fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedsynth.errors import UserError
from fedsynth.families import Family, freeze
from fedsynth.params import Model, Params
from fedsynth.params.patterns import unmatched
from fedsynth.params.problems import Problem


def problems(params: Params) -> list[Problem]:
    """Return the problems with what trainings begin with; files and registry are looked up from the study's folder."""
    return [p for name in params.models for p in [*_start(params, name), *_pretrain(params, name)]]


def _start(params: Params, name: str) -> Iterator[Problem]:
    from fedsynth.registry import starts

    key, start, root = f"models.{name}.start", params.models[name].start, Path.cwd()
    if start is None:
        return
    at = f"{key}.{'file' if start.file is not None else 'registry'}"
    found = starts.resolved(root, start.model_dump(mode="json")) or {}
    if start.file is not None and _own_output(root, name, starts.path_of(root, start.file)):
        said = f"is what this training makes; name models:/{params.study}-{name}@champion"
        yield Problem(at, start.file, f"{said}, which changes with a promotion alone")
    elif said := starts.failure(start, found):
        yield Problem(at, start.source, said)
    elif "none" not in found and start.sha256 not in (None, found["sha256"]):
        yield Problem(f"{key}.sha256", start.sha256, starts.mismatch(name, start, found["sha256"]))
    elif "none" not in found:
        yield from _fits(params, name, found)


def _fits(params: Params, name: str, found: dict[str, Any]) -> Iterator[Problem]:
    """Yield why weights cannot be read, or are of another model."""
    import torch

    from fedsynth.registry.starts import begun
    from fedsynth.training.start import matched

    model = params.models[name]
    assert model.start is not None
    try:
        with torch.device("meta"):
            family = model.family.build(**params.image.context())
        sent = model.algorithm.build().sent(family)
    except ValueError:  # of the family or the algorithm, which have problems of their own
        return
    try:
        if (there := begun(Path.cwd(), params, name, found)) is not None:
            matched(model.start, there.arrays, family, sent)
    except UserError as error:
        yield Problem(f"models.{name}.start", None, str(error))


def _own_output(root: Path, name: str, file: Path) -> bool:
    """Whether a file is in the folder that the training writes, and so would be gone when it begins."""
    return (root / "models" / name).resolve() in [file.resolve(), *file.resolve().parents]


def _pretrain(params: Params, name: str) -> Iterator[Problem]:
    said_of = params.models[name].pretrain
    if said_of is not None and said_of.source is None and params.score.public is None:
        said = "needs images that cost no patient anything: name their `source` here, or in score.public"
        yield Problem(f"models.{name}.pretrain", None, said)


def trainable(key: str, model: Model, family: Family) -> Iterator[Problem]:
    """Yield the problems of `trainable`, and freeze what is not trained, as the training will."""
    if model.trainable is None:
        return
    names = [name for name, _ in family.named_parameters()]
    for pattern in model.trainable:
        if said := unmatched(pattern, names):
            yield Problem(f"{key}.trainable", pattern, said)
            return
    if model.algorithm.class_path.endswith(".MDGAN"):
        yield Problem(f"{key}.trainable", None, "MDGAN sends no parameters, of which some could stay; leave it out")
        return
    try:
        freeze(family, model.trainable)
    except UserError as error:
        yield Problem(f"{key}.trainable", None, str(error).partition(": ")[2])
