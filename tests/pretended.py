"""A second device that is only said to be one, for tests on a machine without a GPU.

A tensor on it is a shell around one of the CPU, and every operation is computed there: so results are those of the CPU,
to the bit, while an operation on tensors of both devices is an error, as it is on a GPU, and each place where the CPU
waits for the device is counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretended"
# what may take tensors of the CPU beside those of the device: copies, and indices (which a GPU copies to itself)
BOTH = {"aten::copy_", "aten::_foreach_copy_"}
WAITS = {"aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal", "aten::nonzero", "aten::masked_select"}


class There(Tensor):
    """A tensor of the pretended device."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> There:
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device(NAME, 0),
        )
        made.inner = inner
        return made

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"There({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with Device.now:  # where no mode is active: in the backward pass
            return func(*args, **(kwargs or {}))


class Device(TorchDispatchMode):
    """The device while the context is open.

    Attributes:
        waits: operations for which the CPU waited until the device had computed all that was asked of it before.
        computed: names of the operations that the device computed.
        here: names of those that the CPU computed.
    """

    now: Device

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.computed: set[str] = set()
        self.here: list[tuple[str, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, shells, plain = func._schema.name, {}, []

        def inner(value: Any) -> Any:
            if isinstance(value, There):
                shells[id(value.inner)] = value
                return value.inner
            if isinstance(value, Tensor):
                plain.append(value)
            return value

        given, named = tree_map(inner, args), tree_map(inner, dict(kwargs or {}))
        to = self._goes_there(name, args, named, bool(shells))
        if shells and name not in BOTH and named.get("device") is None and any(of.dim() for of in plain):
            raise RuntimeError(f"{name}: tensors of two devices, those of the CPU {[tuple(of.shape) for of in plain]}")
        if named.get("device") is not None:
            named["device"] = torch.device("cpu")
        if (shells and (name in WAITS or not to)) or (to and self._sends(name, args, named, plain)):
            self.waits.append(name)
        named.pop("pin_memory", None)
        if to:
            self.computed.add(name)
        else:
            self.here.append((name, max((of.numel() for of in plain), default=0)))
        found = func(*given, **named)
        return tree_map(lambda of: self._shell(of, shells), found) if to else found

    def _goes_there(self, name: str, args: Any, named: dict[str, Any], shells: bool) -> bool:
        """Whether the result lies on the device: by its `device`, or else where what it is computed from lies."""
        if named.get("device") is not None:
            return torch.device(named["device"]).type == NAME
        if name == "aten::copy_":
            return isinstance(args[0], There)
        return shells and name != "aten::_local_scalar_dense"

    def _sends(self, name: str, args: Any, named: dict[str, Any], plain: list[Tensor]) -> bool:
        """Whether a tensor of the CPU is copied to the device, and the CPU waits until it is there."""
        if name == "aten::copy_":
            return not isinstance(args[1], There) and not (len(args) > 2 and args[2])
        return name == "aten::_to_copy" and bool(plain) and not named.get("non_blocking")

    def _shell(self, value: Any, shells: dict[int, There]) -> Any:
        if isinstance(value, There) or not isinstance(value, Tensor):
            return value
        known = shells.get(id(value))  # an operation in place gives back the tensor that it was given
        return There(value) if known is None else known


class _Module:
    """What torch asks a module of a device for."""

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def manual_seed_all(self, seed: int) -> None:
        """The CPU's random state, which is seeded beside it, is the device's too."""

    def get_rng_state(self, device: Any = None) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        torch.set_rng_state(state)

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


_ready: list[torch.device] = []


def device() -> torch.device:
    if not _ready:
        _setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
        _ready.append(torch.device(NAME, 0))
    return _ready[0]


@contextmanager
def pretended(monkeypatch: Any) -> Iterator[Device]:
    """Make the device that of FEDSYNTH_DEVICE, for all modules that have asked for the function already, too."""
    import sys

    from fedsynth.networks import device as place
    from fedsynth.training import trainer

    there = device()
    instead = {"device": lambda: there, "moved": lambda x, to: x.to(to, non_blocking=True)}
    for name, function in {name: getattr(place, name) for name in instead}.items():
        for module in [of for called, of in sys.modules.items() if called.startswith("fedsynth.")]:
            if getattr(module, name, None) is function:
                monkeypatch.setattr(module, name, instead[name])
    monkeypatch.setattr(trainer, "ahead", lambda made: made)  # a mode of dispatch is that of its own thread
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    Device.now = Device()
    try:
        with Device.now:
            yield Device.now
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)
