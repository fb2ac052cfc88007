"""Holds a job against the policy before an image is read; the order of the rules is that of the file."""

from __future__ import annotations

from collections.abc import Collection

from fedsynth.hospital.policy import floors, study
from fedsynth.hospital.policy.model import Policy, PolicyError
from fedsynth.hospital.policy.question import Question


def hold(policy: Policy, asked: Question) -> None:
    """Raise PolicyError naming the rule that the job breaks."""
    if asked.job not in policy.jobs:
        raise PolicyError("jobs", f"{asked.job} may not be asked; allowed are {', '.join(policy.jobs) or 'none'}")
    _submitter(policy.submitters, asked.submitter)
    config = asked.config
    if not isinstance(config.get("params"), dict) or (asked.job == "train" and not config.get("model")):
        raise PolicyError("study", "the job does not say what it computes")
    study.hold(policy.study, config["params"], config.get("name", ""), config.get("model"))
    if asked.job == "train" and policy.privacy.require == "dp" and not config["model"].get("privacy"):
        said = f"models.{config['name']} has no `privacy`, and every training here must have a mechanism"
        raise PolicyError("privacy.require", said)
    floors.hold(policy, asked)


def _submitter(allowed: Collection[str], who: str) -> None:
    if allowed and who not in allowed:
        said = f"the job is from {who or 'nobody that FLARE names'}; only {', '.join(allowed)} may ask"
        raise PolicyError("submitters", said)
