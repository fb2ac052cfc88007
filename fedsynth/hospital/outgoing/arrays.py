"""Checks of outgoing arrays: names, shapes and bytes must be those that the centre sent."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fedsynth.compression import CodingError, Compression
from fedsynth.hospital.outgoing.closed import Diverged, LeakError
from fedsynth.training.coding import fitting


def leave_arrays(arrays: Mapping[str, np.ndarray], allowed: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Arrays as they may leave: exactly the names and shapes that the centre sent, floating and finite. Raises
    LeakError otherwise.
    """
    if strangers := set(arrays) - set(allowed):
        raise LeakError(f"{len(strangers)} arrays may not leave the site: no parameters of these names were received")
    if missing := sorted(set(allowed) - set(arrays)):
        raise LeakError(f"the difference lacks {len(missing)} parameters that were received, the first: {missing[0]}")
    for name, shape in allowed.items():
        array = arrays[name]
        if type(array) is not np.ndarray or not np.issubdtype(array.dtype, np.floating):
            raise LeakError(f"{name} may not leave the site: not an array of floating numbers")
        if array.shape != tuple(shape):
            raise LeakError(
                f"{name} may not leave the site: its shape is {array.shape}, the centre sent {tuple(shape)}"
            )
        if not np.isfinite(array).all():
            raise Diverged(
                f"{name} may not leave the site: it holds NaN or infinite values; the training diverged, lower its"
                " learning rate"
            )
    return {name: arrays[name] for name in allowed}


def leave_feedback(feedback: np.ndarray, received: tuple[int, ...]) -> np.ndarray:
    """The gradient at the images that the centre sent, as it may leave: of their shape, float32, finite. Raises
    LeakError otherwise.
    """
    allowed = leave_arrays({"feedback": feedback}, {"feedback": received})["feedback"]
    if allowed.dtype != np.float32:
        raise LeakError("feedback may not leave the site: its numbers are longer than those that were sent")
    return allowed


def leave_coded(
    coded: Mapping[str, np.ndarray], by: Compression, allowed: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """Coded arrays as they may leave: of the closed form that the coding has for what the centre sent, and no more
    bytes than that in float32. Raises LeakError otherwise."""
    try:
        fitting(by, coded, allowed)
    except CodingError as error:
        raise LeakError(f"the coded difference may not leave the site: {error}") from None
    if sum(a.nbytes for a in coded.values()) > 4 * sum(int(np.prod(shape)) for shape in allowed.values()):
        raise LeakError("the coded difference may not leave the site: it is larger than what it codes")
    return dict(coded)
