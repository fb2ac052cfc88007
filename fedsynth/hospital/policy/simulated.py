"""The policies of simulated hospitals, written where real ones would lie, so that one can read them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fedsynth.hospital.policy import words
from fedsynth.hospital.policy.model import FILE, Floors, Policy

# Small sites are there to be tried; trainings that DVC brings back from its cache leave no state at a simulated site;
# to draw one batch again is cheaper than the whole set.
LESS = Floors(images=10, trained=False, drawn="one batch", late=True)
HEAD = "The policy of a simulated hospital: any study."


def write(state: Path, keys: Iterable[str]) -> None:
    """Write the policies that are missing. `state`: the folder of all sites' state; `keys`: of the sites."""
    for key in keys:
        path = Path(state) / key / FILE
        if not path.is_file():
            words.write(path, Policy(copies="numbers", floors=LESS), HEAD)
