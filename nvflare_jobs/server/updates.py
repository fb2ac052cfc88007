"""Reads the sites' answers of a training round. Whatever a site sends can cost it its own place in the round alone.

A site is a computer of another house, and may send anything. A reason never repeats what a site sent, beyond names that
the centre knows and plain numbers: it goes to logs, terminal and report.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from fedsynth.compression import CodingError, Compression
from fedsynth.hospital.failures import FAILURES
from fedsynth.training.coding import decode

Arrays = dict[str, np.ndarray]
Update = tuple[str, float, Arrays]
Shapes = Mapping[str, tuple[int, ...]]
Made = TypeVar("Made")

MOST_IMAGES = 10**9  # as fedsynth/hospital/outgoing has it
LARGEST = float(np.sqrt(np.finfo(np.float32).max))  # 1.8e19: sums and squares of such numbers are finite in float32
# The numbers that come with an update, and the range of each; `score` is a peak signal-to-noise ratio in dB, at most
# that of the smallest error that fedsynth/training/trainer.py counts.
NUMBERS = {
    "steps": (0.0, 1e9),
    "weight": (0.0, 1e9),
    "epsilon": (0.0, 1e9),
    "epsilon_total": (0.0, 1e9),
    "score": (-1000.0, 107.0),
}
LOSS = re.compile(r"loss/[A-Za-z0-9_.-]{1,80}")
MOST_LOSSES = 64


class Unusable(ValueError):
    """Why a site's answer cannot be used."""


@dataclass(frozen=True)
class Answer:
    """A site's answer of a round: number of images, arrays as they came, and numbers: losses, steps, epsilon, score."""

    site: str
    weight: float
    arrays: Any
    numbers: dict[str, float]


def read(
    models: Iterable[Any], asked: Collection[str], players: Collection[str] | None = None
) -> tuple[list[Answer], dict[str, str]]:
    """Return the answers by site in the order of their names, and for each other site why it has none.

    `models`: FLModels with the sender as `client_name`, which FLARE knows from the connection. `asked`: the sites that
    were asked in this round. `players`: whose losses may come with an update; None: any plain name.
    """
    models = sorted(models, key=lambda m: m.meta["client_name"])
    sent = Counter(model.meta["client_name"] for model in models)
    good, bad = [], {}
    for model in models:
        site = model.meta["client_name"]
        if site not in asked:
            bad[site] = "answered without being asked"
        elif sent[site] > 1:
            bad[site] = f"answered {sent[site]} times in one round"
        elif (found := _tried(site, lambda model=model: _answer(model, players), bad)) is not None:
            good.append(found)
    return good, bad


def check(
    updates: Iterable[tuple[str, Any, Any]], shapes: Shapes, by: Compression | None = None
) -> tuple[list[Update], dict[str, str]]:
    """Return the usable updates, decoded, as float32, and for each other site why its update is left out.

    `updates`: (site, weight, arrays), the latter two as they came. `shapes`: those of the global parameters. `by`: the
    compression of the updates, None where they are not coded.
    """
    bad: dict[str, str] = {}
    good = [
        _tried(site, lambda site=site, w=w, a=a: (site, weight(w), _difference(a, shapes, by)), bad)
        for site, w, a in updates
    ]
    return [update for update in good if update is not None], bad


def weight(said: Any) -> float:
    """Return the number of images that a site says. Raises Unusable for anything else than 1 to 1e9."""
    number = _number("weight", said, 0.0, float(MOST_IMAGES))
    if number < 1:
        raise Unusable(f"sent the weight {number:.3g}")
    return number


def failure(word: Any) -> str:
    """Return the message for the word of a site that failed; words that are not on the list are an error like any."""
    return f"failed: {FAILURES.get(word, FAILURES['error']) if isinstance(word, str) else FAILURES['error']}"


def _tried(site: str, make: Callable[[], Made], bad: dict[str, str]) -> Made | None:
    """Return what `make` returns; on any error None, with the reason in `bad`."""
    try:
        return make()
    except Unusable as error:
        bad[site] = str(error)
    except CodingError as error:
        bad[site] = f"sent what cannot be decoded: {error}; does it run the same version?"
    except Exception as error:  # of whatever a site may think of
        bad[site] = f"sent what cannot be read ({type(error).__name__}); does it run the same version?"
    return None


def _answer(model: Any, players: Collection[str] | None) -> Answer:
    if "failed" in model.meta:
        raise Unusable(failure(model.meta["failed"]))
    found = numbers(model.metrics)
    if players is not None and not {name for name in found if name not in NUMBERS} <= {f"loss/{p}" for p in players}:
        raise Unusable("sent losses of other players than the model has; does it run the same version?")
    return Answer(model.meta["client_name"], weight(model.meta.get("weight")), model.params, found)


def numbers(metrics: Any) -> dict[str, float]:
    """Return the numbers that come with an update. Raises Unusable for other names, or what is no finite number."""
    if type(metrics) is not dict:
        raise Unusable("sent no losses with its update; does it run the same version?")
    if len(metrics) > MOST_LOSSES + len(NUMBERS):
        raise Unusable(f"sent {len(metrics)} numbers with its update, and {MOST_LOSSES} losses are the most")
    found = {}
    for name, value in metrics.items():
        if not isinstance(name, str) or not (name in NUMBERS or LOSS.fullmatch(name)):
            raise Unusable("sent something else with its update than losses and its number of steps")
        largest = float(np.finfo(np.float64).max)
        found[name] = _number(name, value, *NUMBERS.get(name, (-largest, largest)))
    return found


def _number(name: str, value: Any, least: float, most: float) -> float:
    if type(value) not in (int, float) and not isinstance(value, np.floating | np.integer):
        raise Unusable(f"sent a {type(value).__name__} as {name} instead of a number")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not least <= number <= most:
        raise Unusable(f"sent the {name} {number:.3g}")
    return number


def _difference(arrays: Any, shapes: Shapes, by: Compression | None) -> Arrays:
    """Return a site's difference in float32. Raises Unusable or CodingError for what cannot be averaged."""
    if not isinstance(arrays, dict):
        raise Unusable("sent no arrays")
    if by is not None:
        arrays = decode(by, arrays, shapes)
    elif arrays.keys() != shapes.keys():
        raise Unusable("sent other parameters or shapes than the centre did; does it run the same version?")
    return {name: _averaged(name, arrays[name], shape) for name, shape in shapes.items()}


def _averaged(name: str, array: Any, shape: tuple[int, ...]) -> np.ndarray:
    if type(array) is not np.ndarray:
        raise Unusable(f"sent {name} as a {type(array).__name__} instead of an array")
    if array.shape != tuple(shape):
        raise Unusable("sent other parameters or shapes than the centre did; does it run the same version?")
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        kind = array.dtype.name if array.dtype.isbuiltin == 1 else "no plain numbers"
        raise Unusable(f"sent {name} as {kind}, which cannot be averaged")
    if not np.isfinite(array).all():
        raise Unusable(f"sent NaN or Inf in {name}; lower the learning rate or look at that site's data")
    if array.size and (largest := float(np.abs(array).max())) > LARGEST:
        raise Unusable(f"sent numbers as large as {largest:.2g} in {name}, whose sum would be Inf; did it diverge?")
    return array.astype(np.float32)
