"""Holds the global weights of a training: they begin where they must, and move only as trainings move them.

Weights that a centre crafts make a difference show single images (Fowl et al. 2022, arXiv:2110.13057, "imprint";
Boenisch et al. 2023, arXiv:2112.02918, "trap weights"), and no floor on the configuration stops that: docs/threats.md.
So a site builds the first round's weights itself, and bounds how far later ones may be from the last that it has seen.
Weights that a training takes from elsewhere (`models.<name>.start`) it cannot build: it lets them in where it has
agreed to their digest, or (`here`) to whatever is near to the end of a training here. That is no default: the centre
chooses how far that training moved, and the optimiser begins anew (tests/attacks/test_trap.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np

from fedsynth.hospital.policy.model import Floors, PolicyError
from fedsynth.training import start, weights

Arrays = dict[str, np.ndarray]
CLOSE = 2e-3  # relative to the norm: the first message of a coded download is in 16 bits
MISSED = 3  # rounds that may have been missed
KEPT = ".global.safetensors"  # end of the names of kept files
ANY, HERE = "any", "here"  # in floors.starts: weights from wherever; near to the end of a training at this site
LARGEST = "largest"  # metadata of the kept file: the norm of the largest difference that this site has sent


class Drift:
    """What a site knows of one training's global weights.

    `path`: a safetensors file in the site's state, which outlives a job; `initial`: builds the weights that the
    training begins with; `step`: an upper bound of a round's movement (L2) where nothing was sent yet; `taken`: where
    the training begins with other weights than the seed's, their names -> their names in these.
    """

    def __init__(
        self,
        floors: Floors,
        path: Path,
        initial: Callable[[], Arrays],
        step: float,
        taken: Mapping[str, str] | None = None,
    ):
        self.floors, self.path, self.initial, self.step, self.taken = floors, Path(path), initial, step, taken
        self.previous: int | None = None  # the last round of this job
        self._known: tuple[Arrays, float, int] | None = None  # what the file holds, once it was read or written

    def hold(self, incoming: Arrays, number: int, frozen: Collection[str] = ()) -> None:
        """Raise PolicyError where the global weights of round `number` (from 0) are not as they can be.

        The number is the centre's: it may not make the bound wider than a few missed rounds do. `frozen`: which of
        `incoming` are not trained, and so never move.
        """
        if self.previous is not None and number <= self.previous:
            said = f"round {number + 1} comes after round {self.previous + 1}: one job asks each round once"
            raise PolicyError("floors.moved", said)
        self.previous = number
        if number == 0:
            if self.floors.start:
                self._start(incoming)
        elif self.floors.moved is not None:
            self.near(incoming, number)
            self._still({name: incoming[name] for name in frozen})

    def near(self, incoming: Arrays, number: int | None = None) -> None:
        """Raise PolicyError where weights are farther from the last seen than trainings move them.

        `number`: of their round; default: the one after the last seen, as of a finished model.
        """
        assert self.floors.moved is not None
        seen, allowed = self._bound(number)
        apart = distance(incoming, seen)
        if not apart <= allowed + CLOSE * norm(seen):  # also for NaN
            said = f"weights are {apart:.3g} from the last that this site has seen, at most {allowed:.3g} is allowed"
            raise PolicyError("floors.moved", said)

    def sent(self, incoming: Arrays, difference: Arrays, number: int) -> None:
        """Remember the weights of a round and the norm of the difference that is about to leave."""
        before, largest, _ = (self._kept() if number else None) or ({}, 0.0, 0)
        self._known = before | incoming, max(norm(difference), largest), number
        arrays, largest, _ = self._known
        weights.save(self.path, arrays, {LARGEST: str(largest), "round": str(number)})

    def shared(self, arrays: Arrays) -> Arrays:
        """Return those of `arrays` that the training exchanged, if they are most of them; else all.

        A finished model may also hold each site's own parameters.
        """
        kept = self._kept()
        both = {name: array for name, array in arrays.items() if kept and name in kept[0]}
        return both if 2 * sum(a.size for a in both.values()) > sum(a.size for a in arrays.values()) else arrays

    def _start(self, incoming: Arrays) -> None:
        ours = self.initial()
        if distance(incoming, ours) <= CLOSE * max(norm(ours), 1.0):
            return
        if self.taken is None:
            said = "the first round does not begin with the weights that the study's seed gives"
            raise PolicyError("floors.start", f"{said}; does the centre run the same version?")
        beside = {name: a for name, a in incoming.items() if ":" in name}  # which no digest counts
        if not distance(beside, ours) <= CLOSE:
            said = "what the algorithm sends beside the weights is not as a training begins"
            raise PolicyError("floors.start", f"{said}; does the centre run the same version?")
        digest, agreed = start.digest(incoming), set(self.floors.starts)
        if not {ANY, digest} & agreed and not (HERE in agreed and self._ended_here(incoming, ours)):
            raise PolicyError(
                "floors.starts",
                f"the training begins with weights from elsewhere (SHA-256 {digest}), which this hospital has not"
                " agreed to; ask the centre where they are from, and agree by putting that number into floors.starts",
            )

    def _still(self, frozen: Arrays) -> None:
        kept = self._kept()
        if frozen and kept is not None and not distance(frozen, kept[0]) == 0:
            raise PolicyError("floors.moved", "weights that are not trained differ from those of an earlier round")

    def _ended_here(self, incoming: Arrays, ours: Arrays) -> bool:
        """Return whether what was taken is near to the end of a training here, and all else is as the seed gives it.

        It must have its names of there: by another one, an array could stand where nothing is held against it.
        """
        taken = {name: a for name, a in incoming.items() if name in (self.taken or {})}
        if not taken or any(self.taken[name] != name for name in taken):  # type: ignore[index]
            return False
        rest = {name: a for name, a in incoming.items() if name not in taken}
        if self.floors.moved is None or not distance(rest, ours) <= CLOSE * max(norm(ours), 1.0):
            return False
        return any(self._ended(path, taken) for path in sorted(self.path.parent.glob(f"*{KEPT}")) if path != self.path)

    def _ended(self, path: Path, taken: Arrays) -> bool:
        try:
            Drift(self.floors, path, dict, 0.0).near(taken)
        except PolicyError:
            return False
        return True

    def _bound(self, number: int | None) -> tuple[Arrays, float]:
        """Return the last weights that were seen, and how far others may be from them."""
        if (kept := self._kept()) is None:  # this site was not there in the earlier rounds
            if not self.floors.late:
                said = f"round {(number or 0) + 1} is the first that this site sees of this training"
                raise PolicyError("floors.late", f"{said}: nothing is known of what its weights should be")
            return self.initial(), self.step * min(number or 1, MISSED)
        arrays, largest, last = kept
        gap = 1 if number is None else min(max(1, number - last), MISSED)
        return arrays, (self.floors.moved or 0.0) * largest * gap

    def _kept(self) -> tuple[Arrays, float, int] | None:
        """Return the last weights, the norm of the largest own difference, and the round; None before the first."""
        from safetensors import safe_open

        if self._known is None and self.path.is_file():
            with safe_open(self.path, "np") as file:
                about = file.metadata()
            self._known = weights.load(self.path), float(about[LARGEST]), int(about["round"])
        return self._known


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
