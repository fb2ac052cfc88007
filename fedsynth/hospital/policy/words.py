"""The policy as a file with comments, and in sentences."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from fedsynth.hospital.policy.model import Floors, Policy, Privacy, Study

ABOUT = {
    "version": "",
    "studies": """What is computed, by a name of your own for each study: the agreed params.yaml (without where images
        come from), and the keys that a job may give another value. No params: any study.""",
    "jobs": "Kinds of jobs that may be asked.",
    "submitters": "Who may submit a job, as FLARE knows them; none: whom the federation lets in.",
    "floors": """What must at least stand behind all that leaves, computed from what a job would do with the images
        here: distinct images and subjects behind a difference, the share of the training images in a round, images a
        step, the least norm of clipped gradients, learning rates, the share of an image that one unit of a first layer
        sees, distinct images of a set that is to be scored, the largest number in networks that are to be tested. A
        training begins with the weights that the study's seed gives, or with weights from elsewhere whose SHA-256 is
        in `starts` (here: with such as a training at this site has ended with; any: with all).""",
    "a_day": "Different questions of a kind about the same images in 24 hours; the same question gets the same answer.",
    "privacy": """none, or dp: every training is differentially private; epsilon: the most over all of them in `days`;
        moments: noise on means and covariances of features that leave for FID, in units of one image's influence.""",
    "canaries": """Most images of no patient that the site makes and puts among its own for one training, to test the
        audit with; 0: none.""",
    "copies": "How many synthetic images are copies leaves as none or some (words), or as a number.",
}


DRAWN = {
    "all": ", and its model draws it again here with the study's seed",
    "one batch": ", and its model draws one batch of it again here with the study's seed",
    "no": "",
}


def text(policy: Policy, head: str) -> str:
    """Return the file of a policy: every section with a comment that says what it means."""
    raw = policy.model_dump(mode="json", by_alias=True)
    parts = [_comment(head)]
    for name, value in raw.items():
        body = yaml.safe_dump({name: value}, sort_keys=False, allow_unicode=True, width=120)
        parts.append((_comment(ABOUT[name]) + body) if ABOUT[name] else body)
    return "\n".join(parts)


def write(path: Path, policy: Policy, head: str) -> None:
    """Write the file of a policy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text(policy, head), encoding="utf-8")


def _comment(said: str) -> str:
    return "".join(f"# {line}\n" for line in textwrap.wrap(" ".join(said.split()), 118))


def sentences(policy: Policy) -> Iterator[tuple[str, str]]:
    """Yield (section, what it means) for a person who has to agree to it."""
    yield from (("studies", f"{name}: {_study(study)}") for name, study in policy.studies.items())
    yield "jobs", f"may be asked: {', '.join(policy.jobs) or 'nothing'}"
    yield "submitters", f"only {', '.join(policy.submitters)}" if policy.submitters else "whom the federation lets in"
    yield from (("floors", said) for said in _floors(policy.floors))
    counts: dict[str, Any] = policy.a_day.model_dump(by_alias=True)
    yield "a_day", ", ".join(f"{n} {job}" for job, n in counts.items()) + " (a repeated question is not counted)"
    yield "privacy", _private(policy.privacy)
    yield "canaries", f"at most {policy.canaries} marked images in a training" if policy.canaries else "none"
    yield "copies", "none or some" if policy.copies == "words" else "their number leaves"


def _study(study: Study) -> str:
    if (params := study.params) is None:
        return "any study that the federation lets in: nothing is said of what is computed"
    models, free = ", ".join(params.get("models", {})) or "none", ", ".join(study.may_differ) or "nothing"
    return f"the agreed params.yaml with the models {models}; a job may differ in: {free}"


def _floors(floors: Floors) -> Iterator[str]:
    yield (
        f"behind all that leaves stand at least {floors.images} distinct images (more where the smallest cell is"
        f" larger) of {floors.subjects} subjects; a round goes over {floors.share:.0%} of the training images,"
        f" {floors.batch} or more a step"
    )
    if floors.start:
        agreed = {"any": "any weights from elsewhere", "here": "such as a training at this site has ended with"}
        more = "".join(f", or with {agreed.get(of, f'those of SHA-256 {of}')}" for of in floors.starts)
        yield (f"the first round of a training begins with the weights that the study's seed gives{more}")
    if floors.moved is not None:
        yield f"between two rounds weights move by at most {floors.moved:g} times what this site has moved them by"
    if not floors.late:
        yield "a training that this site has not seen from its first round is refused"
    low, high = floors.lr
    yield (
        f"a training has {floors.rounds} rounds at most; gradients are not clipped below {floors.clip:g}; learning"
        f" rates are {low:g} to {high:g}; no unit of a first"
        f" layer sees more than {floors.first_layer:.0%} of an image"
    )
    yield (
        f"a set that is to be scored holds {floors.set_images} distinct images or more"
        f"{DRAWN[floors.drawn]}; networks that are to be"
        f" tested hold no number above {floors.weights:g}"
    )
    if floors.trained:
        yield "a model that is to be scored, and networks, are near to what trainings at this site ended with"


def _private(of: Privacy) -> str:
    noise = f"; noise of {of.moments:g} times one image's influence on what leaves for FID" if of.moments else ""
    return _trainings(of) + noise


def _trainings(of: Privacy) -> str:
    if of.require == "none" and of.epsilon is None:
        return "not required: what leaves may tell of single images what an attack finds (docs/threats.md)"
    kind = "every training is differentially private" if of.require == "dp" else "trainings may be without it"
    unit = f", for one {of.unit}" if of.unit else ""
    cap = f"; epsilon at most {of.epsilon:g} over all trainings in {of.days} days" if of.epsilon is not None else ""
    return f"{kind}{unit} (delta {of.delta:g}){cap}"
