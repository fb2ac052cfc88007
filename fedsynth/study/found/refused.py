"""What to say, and to put beside params.yaml, where policies refuse the only study that images give."""

from __future__ import annotations

import math

from fedsynth.hospital.policy import simulated, words
from fedsynth.hospital.policy.simulated import LESS
from fedsynth.study.found.layout import counted
from fedsynth.study.found.sites import CELL, Sites

FILE = "rehearsal.yaml"
HEAD = (
    "A policy for a rehearsal on one's own machine, used where FEDSYNTH_POLICY names it: with the floors that hospitals"
    " have, nothing could be trained on so few patients. It protects them less, and no hospital should have it."
)


def attention(at: Sites) -> str:
    """What is missing, and what can be done; "" where policies allow the study."""
    if not at.refused:
        return ""
    images, needed = int(at.of("train").min()), LESS.subjects + 1
    where = "the smallest site" if at.number > 1 else "the only site"
    return (
        f"ATTENTION: `fedsynth run` will refuse to train. At {where} {counted(images, 'image')} of"
        f" {counted(at.fewest, 'subject')} train, and policies of hospitals, simulated ones too, ask for"
        f" {LESS.images} images of {LESS.subjects} subjects at each site, {CELL} of a class, and another subject must"
        f" test: {needed} in all. Bring more images.{_rehearsal(at)}"
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
