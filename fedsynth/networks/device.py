"""The device on which this process computes, the only place that asks torch what there is."""

from __future__ import annotations

import torch
from torch import Tensor

from fedsynth import settings
from fedsynth.errors import UserError


class DeviceError(UserError):
    """The device that FEDSYNTH_DEVICE names is not there."""


def device() -> torch.device:
    """Returns the device of FEDSYNTH_DEVICE.

    `auto` takes a GPU (cuda, then mps) where there is one, else the CPU. Of several GPUs, `auto` and `cuda` take that
    of this process's place: the first, unless simulated sites or several processes of a site share the machine; these
    take one after the other, in turn. Raises DeviceError where the named device is not there.
    """
    asked, gpus = settings.device(), _gpus()
    mps = torch.backends.mps.is_available()
    if asked == "auto":
        asked = "cuda" if gpus else "mps" if mps else "cpu"
    kind, _, number = asked.partition(":")
    if (kind == "cuda" and int(number or 0) >= gpus) or (kind == "mps" and not mps):
        there = ["cpu", *(f"cuda:{i}" for i in range(gpus)), *(["mps"] if mps else [])]
        raise DeviceError(
            f"FEDSYNTH_DEVICE={asked}, and torch {torch.__version__} finds {', '.join(there)} on this machine; set"
            " FEDSYNTH_DEVICE to one of these or to auto, or install the torch that is built for your GPU"
        )
    if kind == "cuda":
        _multiply()
        return torch.device("cuda", int(number) if number else settings.place() % gpus)
    return torch.device(kind)


def _gpus() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def apart(processes: int) -> bool:
    """Returns whether processes of consecutive places compute on one NVIDIA GPU each."""
    return device().type == "cuda" and ":" not in settings.device() and _gpus() >= processes


def _multiply() -> None:
    """Let a GPU round what it multiplies to TensorFloat-32 (10 bits of 23), unless FEDSYNTH_PRECISION is fp32."""
    exact = settings.precision() == "fp32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = not exact


def random_state(of: torch.device) -> Tensor | None:
    """Returns the random state of a GPU, None for the CPU, whose state torch.get_rng_state returns."""
    return torch.cuda.get_rng_state(of) if of.type == "cuda" else None


def set_random_state(of: torch.device, state: Tensor | None) -> None:
    """Restore what `random_state` returned; a state that another kind of device has left is none of this one."""
    if state is not None and of.type == "cuda":
        torch.cuda.set_rng_state(state, of)


def moved(x: Tensor, to: torch.device) -> Tensor:
    """Returns a tensor of the CPU on `to`; a GPU copies it while the CPU goes on, from memory that stays in place."""
    return x.pin_memory().to(to, non_blocking=True) if to.type == "cuda" else x.to(to)


def random_devices(of: torch.device) -> list[torch.device]:
    """Returns what torch.random.fork_rng needs as `devices`, beside the CPU, to leave this one's random state alone."""
    return [] if of.type == "cpu" else [of]


def numbers(found: list[Tensor]) -> list[float]:
    """Returns scalars as numbers; the device is waited for once, and not for each of them."""
    return torch.stack(found).float().cpu().double().tolist() if found else []


def memory_gb() -> float:
    """Returns the memory of the GPU on which this process computes, in GB; 0 where it computes on the CPU."""
    here = device()
    return torch.cuda.get_device_properties(here).total_memory / 1e9 if here.type == "cuda" else 0.0


def name() -> str:
    """Returns the name of the GPU on which this process computes, "" where it computes on the CPU."""
    here = device()
    return torch.cuda.get_device_name(here) if here.type == "cuda" else "" if here.type == "cpu" else here.type
