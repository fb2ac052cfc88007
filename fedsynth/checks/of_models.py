"""Checks of `models`: family, algorithm, privacy, compression and training of each, and whether they fit together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from fedsynth.checks import of_robust, of_start
from fedsynth.checks.blocks import built, refused, sound
from fedsynth.checks.sizes import Size, Sizes, Trial, tried
from fedsynth.families import Family
from fedsynth.params import Block, Image, Model, Params
from fedsynth.params.near import near, nearest
from fedsynth.params.patterns import unmatched, widest
from fedsynth.params.problems import Problem

# Algorithms that need only the mean of the sites' differences
MEANS_ONLY = ("FedAvg", "FedProx", "FedOpt")


def problems(params: Params, sizes: Sizes) -> list[Problem]:
    """Return the problems of all models; those with the size of the images are added to `sizes`."""
    if not params.models:
        return [Problem("models", None, "names no model, so there is nothing to train; name one, with a family")]
    return [p for name in params.models for p in [*of(params, name, sizes), *_server(params, name)]]


def alone(params: Params, name: str) -> list[Problem]:
    """Return the problems of one model, with those of the image size; checked again before its job is built."""
    sizes = Sizes(params.image.size)
    return [*of(params, name, sizes), *sizes.problems()]


def of(params: Params, name: str, sizes: Sizes) -> list[Problem]:
    """Return the problems of one model; those with the size of the images are added to `sizes`."""
    key, model, image = f"models.{name}", params.models[name], params.image
    wrong = sound(f"{key}.family", "family", model.family, image.context())
    parts = {part: built(f"{key}.{part}", kind, block, {}) for part, kind, block in _parts(model)}
    found = [*_flip(f"{key}.training.flip", model.training.flip, image), *_encryption(key, model), *wrong]
    found += _weights(key, model, params.split.train_only)
    found += [p for _, of_part in parts.values() for p in of_part]
    if wrong:
        return found
    if error := sizes.error(key, losses(model.family, image)):
        return [*found, *refused(f"{key}.family", model.family, error)]
    families: list[Family] = []  # empty if it does not accept the size
    tried(lambda size: families.append(model.family.build(**image.context())), tuple(image.size))
    for family in families:
        found += _family(key, model, image, family)
        found += of_start.trainable(key, model, family)
        found += _together(key, model, family, {part: made for part, (made, _) in parts.items()})
    return found


def _parts(model: Model) -> Iterator[tuple[str, str, Block]]:
    """Yield the other blocks of a model: key, kind, block."""
    yield "algorithm", "algorithm", model.algorithm
    for kind in ("privacy", "encryption", "robust"):
        if block := getattr(model, kind):
            yield kind, kind, block
    for way in ("up", "down"):
        if block := getattr(model.compression, way, None):
            yield f"compression.{way}", "compression", block


def losses(block: Block, image: Image) -> Trial:
    """Return a trial that builds the family for a size and computes each player's loss for two images."""

    def trial(size: Size) -> None:
        family = block.build(**image.context() | {"size": size})
        x, y = torch.zeros(2, len(image.generated), *size), torch.zeros(2, dtype=torch.long)
        given = torch.zeros(2, len(image.given), *size) if image.given else None
        for player in family.players():
            family.loss(player, x, y, given)

    return trial


def _flip(key: str, axes: list[int], image: Image) -> Iterator[Problem]:
    there = range(len(image.size))
    if strange := [axis for axis in axes if axis not in there]:
        said = f"there is no axis {', '.join(map(str, strange))}: the spatial axes of {list(image.size)} are"
        yield Problem(key, axes, f"{said} {', '.join(map(str, there))}")


def _family(key: str, model: Model, image: Image, family: Family) -> Iterator[Problem]:
    """Yield the problems of the family with `image` and `training`."""
    if image.may_lack and not getattr(family, "may_lack", ()):
        said = f"cannot leave a channel out of its loss, and image.may_lack names {image.may_lack}; take another family"
        yield Problem(f"{key}.family.class_path", model.family.class_path, said)
    try:
        family.phase(0, model.training.rounds)
    except ValueError as error:
        yield Problem(f"{key}.training.rounds", model.training.rounds, str(error))
    if isinstance(model.training.lr, dict):
        yield from _rates(f"{key}.training.lr", model.training.lr, list(family.players()))


def _rates(key: str, rates: dict[str, float], players: list[str]) -> Iterator[Problem]:
    strange = [name for name in rates if name not in players]
    for name in strange:
        said = f"the family has no player of this name; its players are {', '.join(players)}{near(name, players)}"
        yield Problem(f"{key}.{name}", rates[name], said)
    meant = {nearest(name, players) for name in strange}
    if lacking := [name for name in players if name not in rates and name not in meant]:
        said = f"has no rate for {', '.join(lacking)}; name every player, or give one number for all"
        yield Problem(key, rates, said)


def _together(key: str, model: Model, family: Family, parts: dict[str, Any]) -> Iterator[Problem]:
    """Yield the problems of valid parts with each other; a part is None if it is invalid."""
    algorithm, mechanism = parts["algorithm"], parts.get("privacy")
    yield from of_robust.together(key, model, algorithm, parts.get("robust"))
    if algorithm is not None:
        yield from _compression(key, model, algorithm)
        yield from _memory(key, model, algorithm, mechanism)
        names = [name for name, _ in family.named_parameters()]
        strange = [*_patterns(f"{key}.algorithm", model.algorithm, names)]
        yield from strange
        try:
            algorithm.check(family, model.training.rounds, model.privacy is not None)
            algorithm.parameters(family)
        except ValueError as error:
            if not strange:  # otherwise it is the same problem
                yield from refused(f"{key}.algorithm", model.algorithm, error)
    if mechanism is not None and model.privacy:
        try:
            mechanism.check(family)
        except ValueError as error:
            yield from refused(f"{key}.privacy", model.privacy, error)


def _encryption(key: str, model: Model) -> Iterator[Problem]:
    """Yield what is not possible with encrypted updates, of which the server only sees the sum."""
    if model.encryption is None:
        return
    name = model.algorithm.class_path.rpartition(".")[2]
    if model.compression is not None:
        said = "the server cannot add what compression has coded; leave out encryption or compression"
        yield Problem(f"{key}.encryption", model.encryption.class_path, said)
    if name not in MEANS_ONLY:
        said = f"the server sees the sites' sum alone, and {name} needs more; take {', '.join(MEANS_ONLY)}"
        yield Problem(f"{key}.encryption", model.encryption.class_path, said)
    if model.algorithm.args.get("weighting") == "validation":
        said = "the server sees the sites' sum alone, and `weighting: validation` needs each; take images or equal"
        yield Problem(f"{key}.encryption", model.encryption.class_path, said)


def _weights(key: str, model: Model, train_only: list[str]) -> Iterator[Problem]:
    """Yield a weight by validation images where a site has none."""
    if train_only and model.algorithm.args.get("weighting") == "validation":
        said = f"{', '.join(train_only)} has no validation images, being in split.train_only; take images or equal"
        yield Problem(f"{key}.algorithm.args.weighting", "validation", said)


def _compression(key: str, model: Model, algorithm: Any) -> Iterator[Problem]:
    name = model.algorithm.class_path.rpartition(".")[2]
    if model.compression is None:
        return
    if algorithm.job == "exchange" and (model.compression.up or model.compression.down):
        said = f"{name} exchanges no parameters, so that there is nothing to code; take it out"
        yield Problem(f"{key}.compression", None, said)
    if not getattr(algorithm, "always", True):
        said = f"with {name} what a coding leaves out would come a whole cycle late; leave one of both out"
        yield Problem(f"{key}.compression", None, said)


def _memory(key: str, model: Model, algorithm: Any, mechanism: Any) -> Iterator[Problem]:
    """Yield ways of saving memory that the training's loop does not have."""
    exchange, private = algorithm.job == "exchange", mechanism is not None and mechanism.at_steps
    if exchange and model.training.accumulate > 1:
        said = "with a generator at the centre a batch is taken whole; take a smaller `batch`"
        yield Problem(f"{key}.training.accumulate", model.training.accumulate, said)
    if model.training.recompute and (exchange or private):
        said = "with a generator at the centre nothing is computed anew; take it out"
        if private:
            said = "gradients of single images are not taken through blocks that are computed anew; take `accumulate`"
        yield Problem(f"{key}.training.recompute", True, said)


def _patterns(key: str, block: Block, parameters: list[str]) -> Iterator[Problem]:
    """Yield patterns of `shared` and `local` that match no parameter and would have no effect."""
    if not block.args.get("shared", "*"):
        said = f"matches no parameter; the widest patterns are {widest(parameters)}"
        yield Problem(f"{key}.args.shared", block.args["shared"], said)
    for argument in ("shared", "local"):
        patterns = block.args.get(argument) or []
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            if said := unmatched(str(pattern), parameters):
                yield Problem(f"{key}.args.{argument}", pattern, said)


def _server(params: Params, name: str) -> Iterator[Problem]:
    """Yield an error of the algorithm at the server, found by aggregating updates of zeros."""
    key, block = f"models.{name}.algorithm", params.models[name].algorithm
    algorithm, wrong = built(key, "algorithm", block, {})
    if wrong or algorithm.job == "exchange":
        return
    try:
        algorithm.aggregate([(site, 1.0, {"w": np.zeros(1, np.float32)}) for site in "ab"])
    except Exception as error:  # torch's optimizers raise any exception for an unknown argument
        yield from refused(key, block, error)
