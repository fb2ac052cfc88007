"""Holds the global weights of a training: they begin where they must, and move only as trainings move them.

Weights that a centre crafts make a difference show single images (Fowl et al. 2022, arXiv:2110.13057, "imprint";
Boenisch et al. 2023, arXiv:2112.02918, "trap weights"), and no floor on the configuration stops that: docs/threats.md.
So a site builds the first round's weights itself, and bounds how far later ones may be from the last that it has seen.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from fedsynth.hospital.policy.model import Floors, PolicyError

Arrays = dict[str, np.ndarray]
CLOSE = 2e-3  # relative to the norm: the first message of a coded download is in 16 bits
LARGEST = "largest"  # metadata of the kept file: the norm of the largest difference that this site has sent


class Drift:
    """What a site knows of one training's global weights.

    `path`: a safetensors file in the site's state, which outlives a job; `initial`: builds the weights that the
    training begins with; `step`: an upper bound of a round's movement (L2) where nothing was sent yet.
    """

    def __init__(self, floors: Floors, path: Path, initial: Callable[[], Arrays], step: float):
        self.floors, self.path, self.initial, self.step = floors, Path(path), initial, step

    def hold(self, incoming: Arrays, number: int) -> None:
        """Raise PolicyError where the global weights of round `number` (from 0) are not as they can be."""
        if number == 0:
            if self.floors.start:
                self._start(incoming)
            return
        if self.floors.moved is None:
            return
        seen, largest, rounds = self._seen(number)
        apart, allowed = distance(incoming, seen), self.floors.moved * largest * rounds + CLOSE * norm(seen)
        if not apart <= allowed:  # also for NaN
            said = f"round {number + 1}: the global weights moved by {apart:.3g}, at most {allowed:.3g} is allowed"
            raise PolicyError("floors.moved", f"{said} ({self.floors.moved:g} times what this site moved them by)")

    def sent(self, incoming: Arrays, difference: Arrays, number: int) -> None:
        """Remember the weights of a round and the norm of the difference that is about to leave."""
        from safetensors.numpy import save_file

        before, largest, _ = self._seen(number) if number and self.path.is_file() else ({}, 0.0, 1)
        known = max(norm(difference), largest)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f"{self.path.name}.part")
        arrays = {name: np.ascontiguousarray(a) for name, a in {**before, **incoming}.items()}
        save_file(arrays, part, metadata={LARGEST: str(known), "round": str(number)})
        part.replace(self.path)

    def _start(self, incoming: Arrays) -> None:
        ours = self.initial()
        if not distance(incoming, ours) <= CLOSE * max(norm(ours), 1.0):
            said = "the first round does not begin with the weights that the study's seed gives"
            raise PolicyError("floors.start", f"{said}; does the centre run the same version?")

    def _seen(self, number: int) -> tuple[Arrays, float, int]:
        """Return the last weights that were seen, the largest own difference, and how many rounds ago that was."""
        from safetensors import safe_open

        if not self.path.is_file():  # this site was not there in the earlier rounds
            return self.initial(), self.step, number
        with safe_open(self.path, "np") as file:
            about, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return arrays, float(about[LARGEST]), max(1, number - int(about["round"]))


def norm(arrays: Arrays) -> float:
    """Return the L2 norm of all arrays together."""
    return float(np.sqrt(sum(np.square(array.astype(np.float64)).sum() for array in arrays.values())))


def distance(incoming: Arrays, known: Arrays) -> float:
    """Return the L2 distance of incoming weights to the known ones of these names; infinite for others.

    An algorithm need not send all of its arrays in every round.
    """
    if any(name not in known or array.shape != known[name].shape for name, array in incoming.items()):
        return float("inf")
    return norm({name: array.astype(np.float64) - known[name] for name, array in incoming.items()})
