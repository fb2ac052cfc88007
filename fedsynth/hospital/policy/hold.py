"""Holds a job against the policy before an image is read; the order of the rules is that of the file."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fedsynth.hospital.policy import floors, study
from fedsynth.hospital.policy.model import UNITS, Policy, PolicyError, Privacy
from fedsynth.hospital.policy.question import Question
from fedsynth.params import Block, Model


def hold_numbers(policy: Policy, asked: Question) -> None:
    """Raise PolicyError where a job of an agreed study breaks a rule on privacy or a floor."""
    if asked.job == "train":
        _private(policy.privacy, asked.config["name"], asked.config["model"].get("privacy"))
        _canaries(policy.canaries, asked.config["params"])
    floors.hold(policy, asked)


def study_of(policy: Policy, asked: Question) -> str:
    """Return the name of the study that the job belongs to.

    Raises PolicyError where it is none's, or of a kind or by somebody that is not let in.
    """
    if asked.job not in policy.jobs:
        raise PolicyError("jobs", f"{asked.job} may not be asked; allowed are {', '.join(policy.jobs) or 'none'}")
    _submitter(policy.submitters, asked.submitter)
    config = asked.config
    if not isinstance(config.get("params"), dict) or (asked.job == "train" and not config.get("model")):
        raise PolicyError("studies", "the job does not say what it computes")
    model = config.get("model")
    if asked.job == "train":  # as the site will build it: a key that is left out means its default, not what is agreed
        model = Model.model_validate(model).model_dump(mode="json")
    return study.of(policy.studies, config["params"], config.get("name", ""), model)


def _canaries(allowed: int, params: dict[str, Any]) -> None:
    """Hold the marked images that a training puts among the site's: they are no patients', and change the model."""
    asked = (params.get("audit") or {}).get("canaries", 0)
    if asked > allowed:
        raise PolicyError("canaries", f"audit.canaries is {asked}, at most {allowed} marked images are allowed here")


def _submitter(allowed: Collection[str], who: str) -> None:
    if allowed and who not in allowed:
        said = f"the job is from {who or 'nobody that FLARE names'}; only {', '.join(allowed)} may ask"
        raise PolicyError("submitters", said)


def _private(asked: Privacy, name: str, block: dict[str, Any] | None) -> None:
    """Hold the model's privacy mechanism: that there is one, and whom it protects."""
    if block is None:
        if asked.require == "dp":
            said = f"models.{name} has no `privacy`, and every training here must have a mechanism"
            raise PolicyError("privacy.require", said)
        return
    unit = Block.model_validate(block).build().unit
    if asked.unit is not None and UNITS.index(unit) < UNITS.index(asked.unit):
        said = f"models.{name}.privacy protects one {unit}, and one {asked.unit} is asked for; set its `unit`"
        raise PolicyError("privacy.unit", said)
