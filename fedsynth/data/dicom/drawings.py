"""Drawings: segmentations (SEG) and contours of radiotherapy (RTSTRUCT), and of which series they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from fedsynth.data.dicom.frames import Frame, first, frames_of
from fedsynth.data.dicom.kinds import CONTOURS
from fedsynth.data.dicom.series import Series


@dataclass(frozen=True)
class Drawing:
    """A file of masks. What it is drawn on: `series` by UID, else `instances`, else `spaces` (frames of reference)."""

    file: str
    contours: bool
    series: frozenset[str]
    instances: frozenset[str]
    spaces: frozenset[str]
    frames: tuple[Frame, ...] = ()  # of a segmentation


def drawing_of(name: str, about: Any) -> Drawing:
    """A drawing by its header."""
    contours = about.get("SOPClassUID") == CONTOURS
    spaces = {str(about.FrameOfReferenceUID)} if "FrameOfReferenceUID" in about else set()
    for space in about.get("ReferencedFrameOfReferenceSequence") or []:
        spaces.add(str(space.get("FrameOfReferenceUID", "")))
    return Drawing(
        name,
        contours,
        frozenset(_series(about)),
        frozenset(_instances(about)),
        frozenset(spaces - {""}),
        () if contours else tuple(frames_of(name, about)),
    )


def _series(about: Any) -> Iterator[str]:
    for series in about.get("ReferencedSeriesSequence") or []:
        yield str(series.get("SeriesInstanceUID", ""))
    for space in about.get("ReferencedFrameOfReferenceSequence") or []:
        for study in space.get("RTReferencedStudySequence") or []:
            for series in study.get("RTReferencedSeriesSequence") or []:
                yield str(series.get("SeriesInstanceUID", ""))


def _instances(about: Any) -> Iterator[str]:
    for image in [*(about.get("SourceImageSequence") or []), *sources(about.get("SharedFunctionalGroupsSequence"))]:
        yield str(image.get("ReferencedSOPInstanceUID", ""))
    for image in sources(about.get("PerFrameFunctionalGroupsSequence")):
        yield str(image.get("ReferencedSOPInstanceUID", ""))
    for roi in about.get("ROIContourSequence") or []:
        for contour in roi.get("ContourSequence") or []:
            yield str(first(contour.get("ContourImageSequence")).get("ReferencedSOPInstanceUID", ""))


def sources(groups: Any) -> Iterator[Any]:
    """The images of which the frames of functional groups are drawn."""
    for group in groups or []:
        for derivation in group.get("DerivationImageSequence") or []:
            yield from derivation.get("SourceImageSequence") or []


def of_series(drawings: Iterable[Drawing], all_series: list[Series]) -> tuple[dict[str, list[Drawing]], list[Drawing]]:
    """The drawings of each series by its UID; and those that are of no series here."""
    found: dict[str, list[Drawing]] = {}
    lost = []
    instances = {frame.instance: one.uid for one in all_series for frame in one.frames}
    known = {one.uid for one in all_series}
    for drawing in drawings:
        of = drawing.series & known or {instances[i] for i in drawing.instances if i in instances}
        if not of and not drawing.series and not drawing.instances:
            # says where it lies in the patient, and of which images it is drawn not at all
            of = {one.uid for one in all_series if one.spaces & drawing.spaces}
        for uid in of:
            found.setdefault(uid, []).append(drawing)
        lost += [] if of else [drawing]
    return found, lost
