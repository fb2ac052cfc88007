"""The policies of simulated hospitals, written where real ones would lie, so that one can read them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fedsynth.hospital.policy.model import FILE, Floors, Policy
from fedsynth.hospital.policy.words import text

HEAD = "The policy of a simulated hospital: any study."


def write(state: Path, keys: Iterable[str]) -> None:
    """Write the policies that are missing. `state`: the folder of all sites' state; `keys`: of the sites."""
    for key in keys:
        path = Path(state) / key / FILE
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            # trainings that DVC brings back from its cache leave no state at a simulated site; a batch is cheaper
            made = Policy(copies="numbers", floors=Floors(trained=False, drawn="one batch"))
            path.write_text(text(made, HEAD), encoding="utf-8")
