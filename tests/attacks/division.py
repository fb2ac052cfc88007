"""The division attack: a first layer as large as the image, whose weight gradient over its bias gradient is the image.

For a unit o that sees an image x whole, dL/dW_o = d_o x and dL/db_o = d_o: x is their quotient (Phong et al. 2018,
doi:10.1109/TIFS.2017.2787987, equation 3). With betas of 0, AdamW's step is lr g / (|g| + 1e-8). A gradient that is
clipped to a length far below 1e-8 keeps its proportions; of a longer one each step still tells its size by how far it
stays below lr, as far as float32 goes (`gradient`). All of it is configuration.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedsynth.params import Image, Params
from fedsynth.training.schedules import decay
from nvflare_jobs.train import job as training
from tests.attacks.hospital import Arrays, Hospital, with_model

EPS, ALMOST = 1e-8, 1 - 2.0**-25  # of AdamW; the largest step over lr that float32 tells from 1
FIRST = "autoencoder.encoder.blocks.0.conv"


def job(params: Params, rounds: int = 40, patch: int = 0, width: int = 64, **changes: Any) -> Params:
    """The study with the attacker's model: one optimiser step on one image in a round."""
    size = params.image.size[0]
    asked = {
        "rounds": rounds,
        "batch": 1,
        "epochs": 1e-9,
        "clip": 1e-12,
        "lr": 1e6,
        "betas": [0.0, 0.0],
        "flip": [],
        "ema": None,
    }
    return with_model(params, "vae.VAE", {"patch": patch or size, "channels": [width]}, **(asked | changes))


def attack(hospital: Hospital, params: Params, units: int = 1) -> np.ndarray:
    """Returns images (R, C, H, W): of each round, the quotients of the units with the largest bias gradient."""
    of = params.models["attacked"].training
    answers = hospital.train(params, [training.begin(params, "attacked")] * of.rounds)
    rates = [float(of.lr) * decay(of, number / of.rounds) for number in range(of.rounds)]  # type: ignore[arg-type]
    gradients = [gradient(answer, rate) for answer, rate in zip(answers, rates, strict=True)]
    return np.concatenate([quotients(params.image, *both, units) for both in gradients])


def gradient(difference: Arrays, lr: float) -> tuple[np.ndarray, np.ndarray]:
    """Invert one step of AdamW with betas of 0, -lr g / (|g| + eps): the first layer's gradients, weight and bias."""
    found = []
    for name in (f"{FIRST}.weight", f"{FIRST}.bias"):
        step = np.clip(difference[name].astype(np.float64) / -lr, -ALMOST, ALMOST)
        found.append(EPS * step / (1 - np.abs(step)))
    return found[0], found[1]


def quotients(image: Image, weight: np.ndarray, bias: np.ndarray, units: int) -> np.ndarray:
    """Returns images (units, C, H, W): the window's middle of each unit, repeated where it is a part of the image."""
    unit, middle = np.argsort(-np.abs(bias))[:units], weight.shape[2] // 2
    with np.errstate(all="ignore"):
        patches = weight[unit][:, :, middle, middle] / bias[unit, None]
    patch = round((weight.shape[1] / (len(image.generated) + len(image.labels))) ** 0.5)
    found = patches.reshape(len(unit), -1, patch, patch)[:, : len(image.generated)]
    return np.tile(found, (1, 1, image.size[0] // patch, image.size[1] // patch))
