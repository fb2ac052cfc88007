"""Single precision, bfloat16 or float16 in a step, as `training.bf16`, FEDSYNTH_PRECISION and the processor have it."""

from __future__ import annotations

from typing import Any

import torch

from fedsynth import settings
from fedsynth.errors import UserError
from fedsynth.params import Training

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class PrecisionError(UserError):
    """FEDSYNTH_PRECISION cannot be used with this training."""


def half(training: Training, device: torch.device) -> torch.dtype | None:
    """Returns the half precision in which a training's losses are computed, None for single precision.

    Whether they may be is the study's (`training.bf16`: false, true, or auto), in which one the machine's
    (FEDSYNTH_PRECISION): the more exact of both wins. So a machine's variable never makes coarser what hospitals have
    agreed on, and `fp32` is always held.
    """
    asked = settings.precision()
    if training.bf16 is False or asked == "fp32":
        return None
    if asked == "auto":
        return torch.bfloat16 if training.bf16 is True or fast_bf16(device) else None
    return HALVES[asked]


def autocast(training: Training, device: torch.device, **options: Any) -> torch.autocast:
    """Returns the context in which a training's losses are computed; `options` are those of torch.autocast."""
    found = half(training, device)
    return torch.autocast(device.type, found or torch.bfloat16, enabled=found is not None, **options)


def scaler(training: Training, device: torch.device) -> torch.amp.GradScaler:
    """Returns what scales a loss so that float16 has room for its gradient; it does nothing in other precisions."""
    return torch.amp.GradScaler(device.type, enabled=half(training, device) is torch.float16)


def refuse_fp16(training: Training, device: torch.device, what: str) -> None:
    """Raise PrecisionError where the losses would be in float16: `what` says who cannot, and why."""
    if half(training, device) is torch.float16:
        raise PrecisionError(f"FEDSYNTH_PRECISION=fp16: {what}; set bf16 or fp32")


def fast_bf16(device: torch.device) -> bool:
    """Returns whether the device has instructions for bfloat16: others imitate them and take ten times as long."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False  # nobody has measured it there
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
