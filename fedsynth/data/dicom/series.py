"""Series: the images of one SeriesInstanceUID in the order of their slices, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedsynth.data.dicom import kinds, pixels
from fedsynth.data.dicom.files import reading
from fedsynth.data.dicom.frames import Frame, frames_of
from fedsynth.data.manifest import SetError

BURNED = "says that text is burned into its pixels, which may name the patient; take it away"


@dataclass
class Series:
    """The images of one SeriesInstanceUID, by the place of their slices (by number where they have none).

    `problem`: why it cannot be used; `warnings`: what a person should look at. `mirror`: see
    fedsynth.data.dicom.pixels.values.
    """

    uid: str
    study: str
    patient: str
    description: str
    frames: list[Frame] = field(default_factory=list)
    spaces: frozenset[str] = frozenset()  # frames of reference: one as a rule, one a slice in some sets
    mirror: float | None = None
    problem: str = ""
    warnings: list[str] = field(default_factory=list)
    sex: str = ""
    age: str = ""
    person: tuple[str, ...] = ()  # name, date of birth and sex, to tell two patients of one identifier apart

    @property
    def files(self) -> list[str]:
        return list(dict.fromkeys(f.file for f in self.frames))


def series_of(uid: str, files: list[tuple[str, Any]]) -> Series:
    """The series of some files, each with its name and header."""
    first = files[0][1]
    study, patient, description = (
        str(first.get(tag, "")) for tag in ("StudyInstanceUID", "PatientID", "SeriesDescription")
    )
    found = Series(uid, study, patient, description)
    try:
        with reading("a series"):
            found.frames = _ordered([frame for name, about in files for frame in frames_of(name, about)])
            found.mirror = _mirror([about for _, about in files])
    except SetError as error:
        found.frames = [Frame(name, 0, "", 0.0, (0, 0)) for name, _ in files]
        found.problem = str(error).removeprefix("a series ")
    found.spaces = frozenset(
        str(about.get("FrameOfReferenceUID")) for _, about in files if "FrameOfReferenceUID" in about
    )
    found.person = tuple(str(first.get(tag, "")) for tag in ("PatientName", "PatientBirthDate", "PatientSex"))
    found.sex, found.age = str(first.get("PatientSex") or ""), _age(first)
    found.problem = found.problem or _mixed([about for _, about in files])
    if kinds.is_called_no_image(description):
        found.warnings.append("is called like a localiser or a report by its description; is it an image?")
    return found


def _age(about: Any) -> str:
    """The patient's age as PatientAge says it, else in whole years from the dates of birth and study; "" if unknown."""
    if said := str(about.get("PatientAge") or ""):
        return said
    born, seen = (str(about.get(tag) or "") for tag in ("PatientBirthDate", "StudyDate"))
    if not all(len(date) == 8 and date.isdecimal() for date in (born, seen)):
        return ""
    years = int(seen[:4]) - int(born[:4]) - (seen[4:] < born[4:])
    return str(years) if years >= 0 else ""


def study_of(about: Any) -> str:
    """The StudyInstanceUID of a file."""
    return str(about.get("StudyInstanceUID", ""))


def _mixed(files: list[Any]) -> str:
    """What is wrong with files that are one series by their UID."""
    if (n := len({str(about.get("PatientID", "")) for about in files})) > 1:
        return f"holds files of {n} patients under one SeriesInstanceUID; give each patient's series a UID of its own"
    if (n := len({study_of(about) for about in files})) > 1:
        return f"holds files of {n} studies under one SeriesInstanceUID; give each study's series a UID of its own"
    if any(str(about.get("BurnedInAnnotation", "")).upper() == "YES" for about in files):
        return BURNED
    return ""


def _mirror(files: list[Any]) -> float | None:
    """The sum of the two ends of what a series' values can be, for MONOCHROME1; one for all slices, whose slopes may
    differ.
    """
    if not any(str(about.get("PhotometricInterpretation", "")) == pixels.INVERTED for about in files):
        return None
    found = np.array([pixels.ends(about) for about in files])
    return float(found[:, 0].min() + found[:, 1].max())


def _ordered(frames: list[Frame]) -> list[Frame]:
    """By place where every frame has one, along the first one's normal; else by the files' numbers."""
    if any(f.place is None for f in frames):
        return sorted(frames, key=lambda f: (f.order, f.file, f.number))
    normal = frames[0].normal
    assert normal is not None
    return sorted(frames, key=lambda f: (round(float(normal @ f.position), 3), f.order, f.file, f.number))


def shared_identifiers(found: Iterable[Series]) -> dict[str, str]:
    """By PatientID that several studies have though they hardly are of one patient: why."""
    series = list(found)
    studies: dict[str, set[str]] = {}
    people: dict[str, set[tuple[str, ...]]] = {}
    for one in series:
        studies.setdefault(one.patient, set()).add(one.study)
        people.setdefault(one.patient, set()).add(one.person)
    doubtful = {}
    for patient in [p for p, of in studies.items() if p and len(of) > 1]:
        said = f"{len(studies[patient])} studies have one PatientID"
        if len(people[patient]) > 1:
            doubtful[patient] = f"{said}, and name, date of birth or sex differ between them"
        elif len(studies) == 1 or not any(c.isdigit() for c in patient):  # ANONYMOUS
            doubtful[patient] = said if len(studies) > 1 else f"all {said}"
    return doubtful
