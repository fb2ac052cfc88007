"""What a study trains and measures: uses, models, measures and gates, for a first run of minutes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from fedsynth.hospital.policy.simulated import LESS
from fedsynth.params import Image
from fedsynth.study.found.found import Found
from fedsynth.study.found.labels import Labels
from fedsynth.study.found.layout import shown
from fedsynth.study.found.machine import Machine
from fedsynth.study.found.sites import Sites

# CPU seconds of a step, and besides for each voxel of an image in two and in three dimensions: batches of 8 (models),
# 24 (classification), 16 (the other uses); measured with two channels on one core of a server
EACH = 0.008
STEP = {"diffusion": (45e-6, 32e-6), "gan": (25e-6, 17e-6), "vae": (13e-6, 10e-6)}
USE_STEP = {"classification": (8e-6, 11e-6), "segmentation": (17e-6, 39e-6), "denoising": (8e-6, 20e-6)}
STEPS = {"diffusion": (100, 2000), "gan": (100, 1500), "vae": (100, 800)}  # at least, at most
EPOCHS = {"diffusion": 250, "gan": 200, "vae": 80}  # at most: a longer training learns few images by heart
FEW, EACH_CLASS = 3, 55  # classes up to which any budget will do; steps for each where there are more
USE_STEPS = {2: (100, 400), 3: (240, 400)}
BATCHES = {"classification": 24, "segmentation": 16, "denoising": 16}  # of the uses
VOLUMES = {"classification": 8, "segmentation": 4, "denoising": 4}  # of volumes
ROUNDS = {"diffusion": 8, "gan": 8, "vae": 6}
SIDES = ("l", "r", "left", "right", "od", "os")
FEATURES = 8  # of the classifier: FID needs more images


@dataclass
class Model:
    name: str
    rounds: int
    epochs: float
    batch: int
    steps: int  # in all, at the largest site


@dataclass
class Plan:
    """`uses`: arguments by name; `measures`: names; `features`: the use whose network gives the features."""

    models: list[Model]
    uses: dict[str, dict[str, Any]]
    measures: list[str]
    require: list[str]
    warn: list[str]
    features: str
    images: int
    flip: list[int]
    rounds: int = 5
    why: dict[str, str] = field(default_factory=dict)


def plan(found: Found, image: Image, made: Labels, at: Sites, machine: Machine) -> Plan:
    """The plan for a study's images and sites."""
    uses, why = _uses(image, made, at)
    dims, seconds = len(image.size), machine.seconds(at.number)
    budgets = {name: _budget(name, seconds / 8, image) for name in uses}
    largest = int(at.of("train").max())
    names = ["diffusion", "vae"] if dims == 2 else ["gan", "vae"]
    least = max((n for n in at.epochs.values() if math.isfinite(n)), default=1.0)
    models = [_model(name, largest, seconds / _step(STEP[name], image), least) for name in names]
    measures, said = _measures(uses, image, at)
    require = [f"{use}/retained >= 0.85" for use in uses]
    if "classification" in uses:  # a share of what real images reach says nothing where these reach nothing
        require.append(f"classification/balanced_accuracy >= {_above_chance(len(image.labels)):.2f}")
    require += [f"copies_{of} <= 0 by point" for of in ("pixel", "feature")]
    require.append("membership_auc <= 0.6")
    warn = [f"{use}/gap_closed_poorest >= 0.7" for use in uses if at.number > 1]  # one site: nothing more than its own
    warn += ["mask_agreement >= 0.7"] if "mask_agreement" in measures else []
    warn.append("texture_distance <= 5 * floor by point")
    warn += ["fid <= 3 * floor"] if "fid" in measures else []
    flip, mirrored = _flip(image, found)
    images = min(300, max(100, 20 * len(image.labels)))
    return Plan(models, budgets, measures, require, warn, uses[0], images, flip, why=why | said | {"flip": mirrored})


def _step(cost: tuple[float, float], image: Image, share: float = 1.0) -> float:
    """CPU seconds of a step; `share`: of the batch of which the cost is known."""
    return EACH + share * cost[len(image.size) - 2] * math.prod(image.size)


def _between(steps: float, ends: tuple[int, int]) -> int:
    return int(min(ends[1], max(ends[0], 20 * round(steps / 20))))


def _budget(use: str, seconds: float, image: Image) -> dict[str, Any]:
    """Arguments of a use: the steps that its time allows, and as many as networks need before they learn anything.

    Of volumes small batches, so that there are more steps; with many classes more steps of smaller length.
    """
    dims, classes = len(image.size), len(image.labels)
    share, smaller = (1.0, {}) if dims == 2 else (VOLUMES[use] / BATCHES[use], {"batch": VOLUMES[use]})
    steps = _between(seconds / _step(USE_STEP[use], image, share), USE_STEPS[dims])
    if use == "classification" and classes > FEW:
        return {"steps": max(steps, EACH_CLASS * classes), "lr": 3e-3} | smaller
    return {"steps": steps} | smaller


def _above_chance(classes: int) -> float:
    """A tenth of the way from guessing to always right."""
    return 0.1 + 0.9 / classes


def _model(name: str, largest: int, steps: float, least: float) -> Model:
    """So many epochs that the largest site takes the steps that its time allows, and sees no image too often.

    `least`: epochs of a round that policies ask for.
    """
    batch = 8 if largest >= 40 else LESS.batch  # few images: more steps of fewer
    each = _between(steps, STEPS[name]) / ROUNDS[name]
    epochs = min(each * batch / largest, EPOCHS[name] / ROUNDS[name])
    epochs = max(1, round(epochs)) if epochs >= 0.75 else round(epochs, 2)
    epochs = max(epochs, math.ceil(100 * least) / 100)
    return Model(name, ROUNDS[name], epochs, batch, ROUNDS[name] * math.ceil(epochs * largest / batch))


def _uses(image: Image, made: Labels, at: Sites) -> tuple[list[str], dict[str, str]]:
    """Classification where each site tests two classes, segmentation where there are masks, else denoising."""
    cells, why = at.cells, {"uses": ""}
    tested = cells[cells["test"] > 0].groupby(level="site").size()
    trained = cells[cells["train"] > 0].groupby(level="site").size()
    found = []
    if len(image.labels) > 1:
        one = [str(site) for site in at.names if min(tested.get(site, 0), trained.get(site, 0)) < 2]
        if not one:
            found.append("classification")
        else:
            why["uses"] = f"no classification: {shown(one)} {'has' if len(one) == 1 else 'have'} one class alone"
    found += ["segmentation"] if image.masks else []
    if not found:
        why["uses"] = "neither two classes nor masks: networks learn to take noise away"
    return found or ["denoising"], why


def _measures(uses: list[str], image: Image, at: Sites) -> tuple[list[str], dict[str, str]]:
    """The measures that the numbers of images allow."""
    from fedsynth.measures.copies import LEAST

    held = at.of("test") + at.of("val")
    found = ["kid", "prdc", "frozen", "texture", "spectrum", "ms_ssim", "intensity"]
    why = {"measures": "", "copies": ""}
    if uses[0] == "classification" and held.min() > 2 * FEATURES:
        found.insert(0, "fid")
    else:
        why["measures"] = "no FID: it needs a classifier's few features and twice as many held-out images at each site"
    if image.masks and set(image.labels) - set(image.empty_labels):
        found += ["geometry", "mask_agreement"] if "segmentation" in uses else ["geometry"]
    found += ["class_agreement"] if "classification" in uses else []
    if (least := int(min(at.held.min(), at.fewest))) < LEAST:
        why["copies"] = (
            f"copies are looked for with {LEAST} patients to train and {LEAST} held out at each site. One has {least},"
            " so that these gates are on missing numbers, and nothing may be promoted"
        )
    return [*found, "copies", "membership"], why


def _flip(image: Image, found: Found) -> tuple[list[int], str]:
    """Axes along which training images may be mirrored, and why."""
    if len(image.size) == 3:
        return [], "volumes are not mirrored: left and right may differ"
    if any(label.casefold() in SIDES for label in image.labels):
        return [], "not mirrored: a class is a side of the body"
    return [1], "images may be mirrored left to right; take it out where sides matter"


def args_of(name: str, image: Image) -> dict[str, Any]:
    """Arguments of a family."""
    guidance = 1.5 if len(image.labels) > 1 else 1.0  # one class: nothing to guide to
    found: dict[str, dict[str, Any]] = {
        "diffusion": {"channels": [32, 64], "guidance": guidance, "steps": 12},
        "gan": {"width": 16},
        "vae": {"sigma": 0.2, "latent": 16},
    }
    return found[name]
