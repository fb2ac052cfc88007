"""Model weights as safetensors files, and the family built from the model.json beside them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsynth.errors import UserError
from fedsynth.params import Block, Image

if TYPE_CHECKING:
    from fedsynth.families import Family

FEDAVG = "fedsynth.algorithms.fedavg.FedAvg"
FILE, ABOUT = "weights.safetensors", "model.json"


class WeightsError(UserError):
    """Weights and model do not match; the message names the file or the parameter and says what to do."""


def save(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """Save arrays as a safetensors file, atomically: a crash leaves the old file or the new one."""
    from safetensors.numpy import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, part, metadata=metadata)
    os.replace(part, path)


def load(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays by name. Raises WeightsError, naming the file, if it is missing or not a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise WeightsError(f"{path} is not there; train the model or bring it back with `dvc checkout`") from error
    except SafetensorError as error:
        raise WeightsError(
            f"{path} is not a safetensors file ({error}); bring it back with `dvc checkout --force`"
        ) from error


def sha256(path: Path) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def build_family(model: dict[str, Any], arrays: dict[str, np.ndarray]) -> Family:
    """Returns the family that model.json describes, with the parameters `arrays`, ready to sample, on the device.

    Every exchanged parameter (the algorithm's `shared` patterns) must be present with its shape, and no unknown name
    may be. Parameters that stay at the sites and missing buffers keep their initial values. Arrays named
    "<site>/<parameter>" give a mixture of the sites' models. Raises WeightsError naming the parameter.
    """
    from fedsynth.networks.device import device

    if members := sorted({name.partition("/")[0] for name in arrays if "/" in name}):
        import torch

        from fedsynth.families import Mixture

        parts = {m: {n.removeprefix(f"{m}/"): a for n, a in arrays.items() if n.startswith(f"{m}/")} for m in members}
        mixture = Mixture(
            {m: _one(model, part) for m, part in parts.items()}, torch.tensor([model["mixture"][m] for m in members])
        )
        mixture.released = frozenset(f"members.{m}.{name}" for m, part in parts.items() for name in part)
        return mixture.eval().to(device())
    return _one(model, arrays).to(device())


def _one(model: dict[str, Any], arrays: dict[str, np.ndarray]) -> Family:
    import torch

    family: Family = Block(**model["family"]).build(**Image(**model["image"]).context())
    try:
        travel = set(Block(**model.get("algorithm", {"class_path": FEDAVG})).build().parameters(family))
    except ValueError as error:
        raise WeightsError(f"the weights of {model.get('name', 'the model')}: {error}") from error
    state = family.state_dict()
    where, mend = f"the weights of {model.get('name', 'the model')}", f"do weights and {ABOUT} belong together?"
    if missing := sorted(travel - set(arrays)):
        raise WeightsError(f"{where} lack {missing[0]!r} ({len(missing)} of {len(travel)} parameters); {mend}")
    if unknown := sorted(set(arrays) - set(state)):
        raise WeightsError(f"{where} hold {unknown[0]!r}, which {model['family']['class_path']} has not; {mend}")
    for name, array in arrays.items():
        if tuple(array.shape) != tuple(state[name].shape):
            raise WeightsError(
                f"{where}: {name!r} has the shape {tuple(array.shape)}, the family wants {tuple(state[name].shape)};"
                f" {mend}"
            )
    family.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}, strict=False)
    family.released = frozenset(arrays)
    return family.eval()
