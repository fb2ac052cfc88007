"""The policies of simulated hospitals, written where real ones would lie, so that one can read them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fedsynth.hospital.policy import words
from fedsynth.hospital.policy.model import FILE, Floors, Policy, load

# Small sites are there to be tried; trainings that DVC brings back from its cache leave no state at a simulated site;
# to draw one batch again is cheaper than the whole set; who simulates hospitals chooses what trainings begin with.
LESS = Floors(images=10, trained=False, drawn="one batch", late=True, starts=["any"])
HEAD = "The policy of a simulated hospital: any study."


def write(state: Path, keys: Iterable[str]) -> None:
    """Write the policies that are missing. `state`: the folder of all sites' state; `keys`: of the sites."""
    for key in keys:
        path = Path(state) / key / FILE
        if not path.is_file():
            words.write(path, usual(), HEAD)


def usual(**floors: Any) -> Policy:
    """Return the policy of a simulated hospital, with other `floors` where they are named."""
    return Policy(copies="numbers", canaries=1000, floors=LESS.model_copy(update=floors))


def changed(own: Path, named: Path | None = None) -> dict[str, list[Any]]:
    """Return the floors of a simulated hospital's policy that somebody has changed: name -> [as it is, as it was].

    `own`: its file, which is not there before its first job; `named`: the one that FEDSYNTH_POLICY names. Raises
    NoPolicy where the file cannot be read, or the named one is not there.
    """
    if named is None and not own.is_file():
        return {}
    # a key that a file of an older version does not have is nobody's change
    now = load(named or own)[0].floors.model_dump(mode="json", exclude_unset=True)
    before = LESS.model_dump(mode="json")
    return {name: [value, before[name]] for name, value in now.items() if value != before[name]}
