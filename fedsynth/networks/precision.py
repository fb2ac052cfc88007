"""Single precision or bfloat16 in a training step, as `training.bf16` and the processor have it."""

from __future__ import annotations

from typing import Any

import torch

from fedsynth.params import Training


def autocast(training: Training, device: torch.device, **options: Any) -> torch.autocast:
    """Returns the context in which a training's losses are computed; `options` are those of torch.autocast."""
    enabled = fast_bf16(device) if training.bf16 == "auto" else training.bf16
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, **options)


def fast_bf16(device: torch.device) -> bool:
    """Returns whether the device has instructions for bfloat16: others imitate them and take ten times as long."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
