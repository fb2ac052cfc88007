"""Agreement: puts a study's params.yaml into a hospital's policy, and keeps all else that the hospital has written."""

from __future__ import annotations

from pathlib import Path

from fedsynth.hospital.policy import words
from fedsynth.hospital.policy.model import Policy, Study
from fedsynth.hospital.policy.study import agreed
from fedsynth.params import Params

ANY, HEAD = Study(), "The policy of this hospital. No job can change it."


def agreed_to(
    before: Policy | None, name: str, params: Params, submitters: list[str] | None, epsilon: float | None
) -> Policy:
    """Return the policy `before` with the study `name`, in the place of a study that allows anything.

    `submitters`: who may ask, None: as before; `epsilon`: requires differential privacy and caps it, None: as before.
    """
    others = {key: study for key, study in before.studies.items() if study.params is not None} if before else {}
    study = Study(params=agreed(params), may_differ=others.get(name, ANY).may_differ)
    made = (before or Policy()).model_dump(by_alias=True) | {"studies": others | {name: study}}
    if submitters is not None:
        made["submitters"] = submitters
    if epsilon is not None:
        made["privacy"] |= {"require": "dp", "epsilon": epsilon}
    return Policy.model_validate(made)


def write(path: Path, policy: Policy) -> None:
    """Write the policy's file with its comments, readable by all."""
    words.write(path, policy, HEAD)
    path.chmod(0o644)
