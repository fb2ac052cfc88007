"""Data sets in the Brain Imaging Data Structure."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from fedsynth.sources._bids_names import entities_of, native, suffix, volumes
from fedsynth.sources._bids_people import PEOPLE, UNKNOWN
from fedsynth.sources._tables import text_table
from fedsynth.sources.bids import MASKS
from fedsynth.study.found import kinds
from fedsynth.study.found.columns import USUAL
from fedsynth.study.found.layout import Layout, channel, shown

DATATYPES = ("anat", "dwi", "perf", "pet", "micr", "beh")
USED = 0.9  # share of the sessions that must have a channel
CHOSEN = ("acq", "run", "rec", "echo", "ce", "part", "desc")  # entities that tell files of one suffix apart
Files = dict[str, list[Path]]  # by session


def recognise(folder: Path) -> Layout | None:
    """None where there are no folders sub-* with volumes."""
    sessions, datatype = _sessions(folder)
    if not sessions:
        return None
    suffixes, notes = _suffixes(sessions)
    entities = _entities(sessions, suffixes)
    args: dict[str, Any] = {"folder": str(folder)} | ({"datatype": datatype} if datatype != "anat" else {})
    args |= {"entities": entities} if entities else {}
    channels: dict[str, Any] = dict.fromkeys(suffixes, "image")
    mask, more, files = _mask(folder, sessions, datatype, suffixes)
    if mask:
        channels[mask] = "mask"
        args |= more
    label, site, said = _columns(folder)
    args |= ({"label": label} if label else {}) | ({"site": site} if site and site != "site" else {})
    first = [str(here[0].relative_to(folder)) for here in sessions.values()]
    return Layout(
        f"BIDS, {datatype}",
        folder,
        "fedsynth.sources.bids.BIDS",
        args,
        channels,
        kinds.dims_of(folder, first),
        labels=[] if label else ["image"],
        sited=bool(site),
        drop="subject",
        label_files=kinds.some(files),
        notes=[*notes, *([f"of several files {entities} are taken"] if entities else []), *said],
    )


def _sessions(folder: Path) -> tuple[Files, str]:
    """The volumes of each session, and the kind of data, whichever most have."""
    places = [place for subject in sorted(folder.glob("sub-*")) if subject.is_dir()
              for place in sorted(p for p in subject.glob("ses-*") if p.is_dir()) or [subject]]  # fmt: skip
    best: tuple[Files, str] = {}, ""
    for datatype in DATATYPES:
        found = {place.relative_to(folder).as_posix(): files for place in places
                 if (files := volumes(place / datatype))}  # fmt: skip
        if len(found) > len(best[0]):
            best = found, datatype
    return best


def _suffixes(sessions: Files) -> tuple[list[str], list[str]]:
    """Suffixes that nearly all sessions have."""
    often = Counter(of for files in sessions.values() for of in {suffix(path) for path in files})
    most = max(often.values())
    used = sorted(of for of, n in often.items() if n >= USED * most)
    others = sorted(f"*_{of} ({n} of {len(sessions)} sessions)" for of, n in often.items() if of not in used)
    return used, [f"left out, because not all sessions have them: {shown(others)}"] if others else []


def _entities(sessions: Files, suffixes: list[str]) -> dict[str, str]:
    """What chooses one file of each suffix where sessions have several."""
    twice = [path for files in sessions.values() for of in suffixes
             if len(same := [p for p in files if suffix(p) == of]) > 1 for path in same]  # fmt: skip
    found = {}
    for name in CHOSEN:
        values = Counter(entities_of(path).get(name, "") for path in twice)
        if len(values) > 1:
            found[name] = min(values, key=lambda value: (-values[value], value))
    return {name: value for name, value in found.items() if value}


def _mask(folder: Path, sessions: Files, datatype: str, suffixes: list[str]) -> tuple[str, dict[str, Any], list[Path]]:
    """The mask channel, the source's arguments for it, and its files, of the pipeline that has most."""
    best: tuple[str, dict[str, Any], list[Path]] = "", {}, []
    pipelines = sorted(path for path in (folder / "derivatives").glob("*") if path.is_dir())
    for pipeline in pipelines:
        files = [path for place in sessions for path in volumes(pipeline / place / datatype)
                 if suffix(path) in MASKS and native(path, "", suffixes)]  # fmt: skip
        entities = [entities_of(path) for path in files]
        labels = Counter(of.get("label", "") for of in entities if of.get("desc") != "brain")
        if labels and max(labels.values()) > len(best[2]):
            label = min(labels, key=lambda of: (-labels[of], of))
            these = [path for path in files if entities_of(path).get("label", "") == label]
            best = channel(label, "mask"), {"derivative": pipeline.name} if pipelines[1:] else {}, these
    return best


def _columns(folder: Path) -> tuple[str, str, list[str]]:
    """Columns of participants.tsv with the label and the site."""
    path = folder / PEOPLE
    if not path.is_file():
        return "", "", [f"there is no {PEOPLE}, so that all images are of one class"]
    people = text_table(path, ["participant_id"], "BIDS has participants there")
    label, site = (_column(people, what, least) for what, least in (("label", 2), ("site", 1)))
    said = [f"{PEOPLE}: label is {label!r}"] if label else [f"no column of {PEOPLE} tells a class: {list(people)}"]
    return label, site, said + ([f"{PEOPLE}: site is {site!r}"] if site else [])


def _column(people: pd.DataFrame, what: str, least: int) -> str:
    for name in USUAL[what]:
        for column in people:
            if "".join(c for c in str(column).casefold() if c.isalnum()) != name:
                continue
            known = people[column][~people[column].isin(UNKNOWN)]
            if least <= known.nunique() <= max(least, len(people) // 2):
                return str(column)
    return ""
