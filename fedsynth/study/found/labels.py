"""Which classes a study has, and what their masks say."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from fedsynth.hospital.policy.simulated import LESS
from fedsynth.study.found.found import Found
from fedsynth.study.found.layout import UNLABELLED, FoundError, counted, shown

SUBJECTS, IMAGES = 4, 8  # of a class, below which it cannot be in training and test
MOST = 24  # classes: an answer of a hospital has 64 numbers at most, two and more of each
ODD = 0.05  # share of the images that may be left out so that masks and labels agree
APART = 0.1  # least share of images without anything marked, so that these are a class


@dataclass
class Labels:
    """`names`: image.labels; `args`: the source's `labels`; `empty`: image.empty_labels; `odd`: files that do not go
    with it; `masks`: whether there are masks to learn from; `healthy`: whether an image without a mask is one in which
    nothing is marked; `why`: comments by key.
    """

    names: list[str]
    args: dict[str, str | None] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    masks: bool = False
    healthy: bool = False
    by_mask: bool = False
    why: dict[str, str] = field(default_factory=dict)


def labels(found: Found, size: tuple[int, ...]) -> Labels:
    """The classes of a study with images of `size`. Raises FoundError where there are too few images."""
    known = found.known
    if known["subject"].nunique() < SUBJECTS or len(known) < IMAGES:
        there = f"{counted(len(known), 'image')} of {counted(known['subject'].nunique(), 'subject')}"
        raise FoundError(
            f"{found.layout.folder} has {there} that can be used; a study needs {IMAGES} images of {SUBJECTS} subjects"
            f" at least to be rehearsed, and of {LESS.subjects + 1} to be let in by policies of hospitals"
        )
    made = _classes(found, known)
    if found.layout.masks:
        _masks(found, made, size)
    return made


def _classes(found: Found, known: pd.DataFrame) -> Labels:
    said = dict(found.layout.args.get("labels") or {})
    of = known[known["label"] != ""].groupby("label")
    enough = (of["subject"].nunique() >= SUBJECTS) & (of.size() >= IMAGES)
    names = [str(n) for n in of.size()[enough].sort_values(ascending=False, kind="stable").index[:MOST]]
    others = [str(n) for n in of.size().index if n not in names]
    if names or not others:
        lost = dict.fromkeys(others)
        found_ = Labels(sorted(names) or [UNLABELLED], said | lost)
        if others:
            found_.why["labels"] = f"too few images of {shown(others)}: left out"
        return found_
    whole = Labels([UNLABELLED], said | dict.fromkeys(others, UNLABELLED))
    whole.why["labels"] = f"{counted(len(others), 'class')} with too few images each: taken as one"
    return whole


def _masks(found: Found, made: Labels, size: tuple[int, ...]) -> None:
    """Which classes have empty masks, and which images do not go with that."""
    good = found.good
    if (good["mask"] == "marked").sum() < 2 * IMAGES:
        made.why["masks"] = f"{counted(int((good['mask'] == 'marked').sum()), 'mask')} are too few to learn from"
        return
    made.masks = True
    if found.layout.by_mask and APART < (good["mask"] == "empty").mean() < 1 - APART:
        name = found.layout.masks[0]
        made.names, made.empty, made.by_mask = ["none", "marked" if name == "mask" else name], ["none"], True
        made.why["labels"] = "by whether anything is marked"
    kept = good[good["label"].isin(made.names)]
    marked = kept[kept["mask"] == "marked"]
    bare = [name for name in made.names if name not in set(marked["label"])]
    lost = [small.file for small in found.small if small.lost(size)]
    if made.by_mask:
        made.odd = [] if not found.layout.drop else lost
        return
    if not bare:
        return
    odd = [*kept.loc[~kept["label"].isin(bare) & (kept["mask"] == "empty"), "file"], *lost]
    if len(odd) <= ODD * len(kept) and (found.layout.drop or not odd):
        made.empty, made.odd = bare, odd
        return
    made.healthy = not (kept.loc[~kept["label"].isin(bare), "mask"] == "").any()
    made.why["labels"] = f"empty_labels is left out: {counted(len(odd), 'mask')} of other classes are empty, too"
