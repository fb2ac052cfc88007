"""Weights that a training begins with: read without running code, and matched to a family by name and shape."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fedsynth.params.near import near
from fedsynth.params.patterns import travels, widest
from fedsynth.params.start import Start
from fedsynth.training import weights

Arrays = dict[str, np.ndarray]
BUNDLE = ("models/model.pt", "models/model.safetensors", weights.FILE)  # of a MONAI bundle; of a folder of models/
# where checkpoints keep their weights: MONAI, MAISI, Lightning, diffusers, Ignite
NESTED = ("state_dict", "model_state_dict", "autoencoder_state_dict", "unet_state_dict", "model", "net", "network",
          "ema", "params")  # fmt: skip
PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel and torch.compile, before every name
SHOWN = 3  # names in a message
MOST = float(np.finfo(np.float16).max)


class StartError(weights.WeightsError):
    """Weights cannot be begun with; the message names the file or the parameter and says what to do."""


@dataclass
class Taken:
    """What a training takes of a start.

    `arrays`: by the names of the family's parameters; `names`: these -> the names in the file; `left`: parameters of
    the family that keep what the seed gives; `unused`: names in the file that nothing is made of; `of_sites`: fitting
    parameters that never leave the sites, which therefore begin with the seed's.
    """

    arrays: Arrays
    names: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    of_sites: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)  # numbers of each parameter that is sent

    def report(self) -> dict[str, Any]:
        """Return counts and names as plain JSON."""
        return {
            "taken": len(self.arrays),
            "of": len(self.sizes),
            "numbers": sum(array.size for array in self.arrays.values()),
            "of_numbers": sum(self.sizes.values()),
            "names": self.names,
            "left": self.left,
            "unused": self.unused,
            "of_sites": self.of_sites,
        }


def place(path: Path) -> Path:
    """Return the file with the weights: the path itself, or the one in the folder of a bundle. Raises StartError."""
    if path.is_dir():
        found = [path / name for name in BUNDLE if (path / name).is_file()]
        found = found or [p for end in ("*.safetensors", "*.pt") for p in sorted((path / "models").glob(end))]
        if len(found) != 1 and not any(found[:1] == [path / name] for name in BUNDLE):
            there = ", ".join(p.name for p in found) or "no weights"
            raise StartError(
                f"{path} is a folder with {there}; a MONAI bundle has models/model.pt: name the file itself"
            )
        return found[0]
    if not path.is_file():
        raise StartError(f"{path} is not there; put the file where it is named, or mend `start.file`")
    return path


def read(path: Path) -> Arrays:
    """Return the arrays of a safetensors file, of a state dict of torch, or of a MONAI bundle's folder, by name.

    Usual nestings and prefixes of checkpoints are taken off. Nothing is unpickled but tensors and plain values. Raises
    StartError naming the file.
    """
    import torch

    file = place(Path(path))
    if file.suffix == ".safetensors":
        return {name: _plain(tensor) for name, tensor in _safetensors(file).items()}
    try:
        content = torch.load(file, weights_only=True, map_location="cpu")
    except Exception as error:  # of pickle, zipfile or torch, whatever the file is
        said = " ".join(str(error).split())[:200]
        raise StartError(
            f"{file} cannot be read as weights alone ({type(error).__name__}: {said}); a pickle that holds more may run"
            " code and is not opened. Save `model.state_dict()` by torch.save, or as safetensors"
        ) from error
    return {name: _plain(tensor) for name, tensor in _unwrapped(file, content).items()}


def _safetensors(file: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file  # which knows bfloat16, as numpy does not

    try:
        return dict(load_file(file))
    except (SafetensorError, OSError) as error:
        raise StartError(f"{file} is not a safetensors file ({error})") from error


def _unwrapped(file: Path, content: Any) -> dict[str, Any]:
    """Return the state dict in a checkpoint, without prefixes that all of its names have."""
    import torch

    for _ in range(len(NESTED)):
        tensors = {str(n): t for n, t in content.items() if isinstance(t, torch.Tensor)} if _table(content) else {}
        inner = [content[name] for name in NESTED if _table(content) and _table(content.get(name))]
        if not inner:
            break
        if len(inner) > 1 and not tensors:
            names = ", ".join(name for name in NESTED if _table(content.get(name)))
            raise StartError(f"{file} holds several sets of weights ({names}); save the one that is meant alone")
        content = inner[0]
    if not tensors:
        raise StartError(f"{file} holds no table of tensors by name; save `model.state_dict()`")
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _plain(tensor: Any) -> np.ndarray:
    """Return a tensor as an array; numbers with fewer digits than float32 in float32."""
    import torch

    tensor = tensor.detach().to("cpu")
    array: np.ndarray = (tensor.to(torch.float32) if tensor.dtype.is_floating_point else tensor).numpy()
    return array


def renamed(names: list[str], rename: Mapping[str, str]) -> dict[str, str]:
    """Return name in the file -> name in the family.

    Raises StartError where two become one, or for a bad expression.
    """
    found: dict[str, str] = {}
    for name in names:
        to = name
        for pattern, by in rename.items():
            try:
                to = re.sub(pattern, by, to)
            except (re.error, IndexError) as error:
                raise StartError(f"start.rename: {pattern}: {by!r} cannot be written in its place: {error}") from error
        if (other := next((of for of, known in found.items() if known == to), None)) is not None:
            raise StartError(f"start.rename makes one name of {other} and {name}: {to}")
        found[name] = to
    return found


def matched(start: Start, arrays: Arrays, family: Any, sent: Mapping[str, Any]) -> Taken:
    """Return what a family takes of `arrays`. `sent`: its parameters that the centre sends to the sites, by name.

    Raises StartError where nothing fits, where shapes differ, or a number is not finite.
    """
    if not arrays:
        raise StartError(f"{start.source} holds nothing")
    theirs = {to: name for name, to in renamed(list(arrays), start.rename).items()}
    own = {name: tuple(p.shape) for name, p in family.named_parameters()}
    wanted = [name for name in own if travels(name, start.take)]
    kind = type(family).__name__
    if not wanted:
        raise StartError(f"start.take matches no parameter of {kind}; the widest patterns are {widest(own)}")
    fitting = [name for name in wanted if name in theirs]
    if not fitting:
        raise StartError(
            f"none of the {len(arrays)} names in {start.source} is a parameter of {kind}: there are"
            f" {', '.join(list(arrays)[:SHOWN])}, …, the model has {', '.join(wanted[:SHOWN])}, …"
            f"{near(next(iter(theirs)), wanted)}; write by `rename` what they are called here"
        )
    for name in fitting:
        array = arrays[theirs[name]]
        if array.shape != own[name]:
            raise StartError(
                f"{theirs[name]} of {start.source} has the shape {list(array.shape)}, {name} of {kind} has"
                f" {list(own[name])}; build the family like the one that was saved, or leave it out by"
                f' `take: ["*", "!{name}"]`'
            )
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise StartError(f"{theirs[name]} of {start.source} holds what is no finite number")
    names = {name: theirs[name] for name in fitting if name in sent}
    if not names:
        raise StartError(
            f"what fits of {start.source} stays at the sites by `algorithm.shared`, and the centre does not send it"
        )
    return Taken(
        {name: np.ascontiguousarray(arrays[of], np.float32) for name, of in names.items()},
        names,
        left=[name for name in sent if name not in names],
        unused=sorted(set(arrays) - {theirs[name] for name in fitting}),
        of_sites=[name for name in fitting if name not in sent],
        sizes={name: int(np.prod(own[name])) for name in sent},
    )


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of global parameters, in the order of their names, each as 16 bits.

    The first message of a coded download (training/coding.py) has as many, so that a site has the same digest of what
    it receives. What algorithms send beside the parameters (names with a colon) does not count.
    """
    found = hashlib.sha256()
    for name in sorted(name for name in arrays if ":" not in name):
        array = np.ascontiguousarray(np.asarray(arrays[name]).clip(-MOST, MOST), dtype=np.float16)
        found.update(f"{name} {array.shape}\n".encode() + array.tobytes())
    return found.hexdigest()
