"""What to say, and to put beside params.yaml, where images are too few for policies, or for two sites."""

from __future__ import annotations

import math

from fedsynth.hospital.policy import simulated, words
from fedsynth.hospital.policy.simulated import LESS
from fedsynth.study.found.layout import counted
from fedsynth.study.found.sites import CELL, NEEDED, Sites

ASKED = f"{LESS.images} images of {LESS.subjects} subjects"
FILE = "rehearsal.yaml"
HEAD = (
    "A policy for a rehearsal on one's own machine, used where FEDSYNTH_POLICY names it: with the floors that hospitals"
    " have, nothing could be trained on so few patients. It protects them less, and no hospital should have it."
)


def attention(at: Sites) -> str:
    """What the person must know before a run: what is missing, and what can be done. "" where nothing is."""
    if not at.refused:
        return "" if at.number > 1 else _alone()
    images, where = int(at.of("train").min()), "the smallest site" if at.number > 1 else "the only site"
    return (
        f"ATTENTION: `fedsynth run` will refuse to train. At {where} {counted(images, 'image')} of"
        f" {counted(at.fewest, 'subject')} train, and policies of hospitals, simulated ones too, ask for {ASKED} at"
        f" each site, {CELL} of a class, and another subject must test: {NEEDED} in all. Bring more images."
        f"{_rehearsal(at)}"
    )


def _alone() -> str:
    return (
        "NOTE: one simulated site, so that nothing is federated. Each of two would have too few images: policies of"
        f" hospitals ask for {ASKED} to train, and numbers of fewer than {CELL} test images are not told. Two sites"
        f" need {2 * NEEDED} subjects and {2 * CELL} images to test, at least."
    )


def _rehearsal(at: Sites) -> str:
    if not files(at):
        return ""
    return (
        f" Or rehearse on this machine alone, with lower floors: `FEDSYNTH_POLICY={FILE} fedsynth run`. The report then"
        " says that they were lowered."
    )


def files(at: Sites) -> dict[str, str]:
    """A policy with which the study may be rehearsed; none where policies allow it, or a cell is too small for any."""
    images = int(at.of("train").min())
    if not at.refused or images < CELL or math.isinf(max(at.epochs.values())):
        return {}
    lower = {"images": min(LESS.images, images), "subjects": min(LESS.subjects, at.fewest)}
    return {FILE: words.text(simulated.usual(**lower), HEAD)}
