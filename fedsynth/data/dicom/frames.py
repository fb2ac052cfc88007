"""Frames: the two-dimensional images of a file, with what its header says of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
# by what several images in one place may differ, with the functional group of an enhanced file that holds it
APART = {
    "echo": (("EchoNumbers", ""), ("EchoTime", ""), ("EffectiveEchoTime", "MREchoSequence")),
    "time": (
        ("TemporalPositionIdentifier", ""),
        ("TemporalPositionIndex", "FrameContentSequence"),
        ("TriggerTime", ""),
        ("NominalCardiacTriggerDelayTime", "CardiacSynchronizationSequence"),
        ("AcquisitionTime", ""),
        ("FrameAcquisitionDateTime", "FrameContentSequence"),
    ),
    "diffusion": (("DiffusionBValue", ""), ("DiffusionBValue", "MRDiffusionSequence")),
    "inversion time": (("InversionTime", ""),),
    "kind of image": (("ImageType", ""), ("FrameType", "MRImageFrameTypeSequence")),
}


@dataclass(frozen=True)
class Frame:
    """A frame: `number` from 0 within its `file`; `shape` (rows, columns).

    `position` is the middle of the first pixel in mm (LPS), `directions` (2, 3) are those of a row and of a column, all
    None where the file does not say; `spacing` is in mm from row to row and from column to column. `order` is the
    number that the file gives it; `apart` what tells it from others in its place, by the names of `APART`.
    """

    file: str
    number: int
    instance: str
    order: float
    shape: tuple[int, int]
    position: np.ndarray | None = None
    directions: np.ndarray | None = None
    spacing: tuple[float, float] | None = None
    thickness: float | None = None
    apart: tuple[str, ...] = ()

    @property
    def normal(self) -> np.ndarray | None:
        """The direction that is across rows and columns, of length 1."""
        return None if self.directions is None else np.cross(*self.directions)

    @property
    def place(self) -> float | None:
        """Along the normal, in mm."""
        return None if self.position is None or self.normal is None else float(self.normal @ self.position)


def frames_of(name: str, about: Any) -> Iterator[Frame]:
    """The frames of a file's header."""
    groups = list(about.get("PerFrameFunctionalGroupsSequence") or [])
    shared = first(about.get("SharedFunctionalGroupsSequence"))
    for number in range(len(groups) or int(about.get("NumberOfFrames") or 1)):
        group = groups[number] if groups else {}
        position = numbers(find("ImagePositionPatient", "PlanePositionSequence", about, shared, group), 3)
        directions = numbers(find("ImageOrientationPatient", "PlaneOrientationSequence", about, shared, group), 6)
        spacing = _spacing(about, shared, group)
        thickness = numbers(find("SliceThickness", "PixelMeasuresSequence", about, shared, group), 1)
        yield Frame(
            name,
            number,
            str(about.get("SOPInstanceUID", "")),
            float(about.get("InstanceNumber") or 0),
            (int(about.get("Rows") or 0), int(about.get("Columns") or 0)),
            position,
            _unit(directions),
            spacing,
            None if thickness is None else abs(float(thickness[0])) or None,
            tuple(_apart(names, about, shared, group) for names in APART.values()),
        )


def first(sequence: Any) -> Any:
    """The first item of a sequence; an empty one where there is none."""
    return next(iter(sequence or []), {})


def find(tag: str, sequence: str, about: Any, shared: Any, group: Any) -> Any:
    """An attribute of a frame: in the functional group `sequence` of its own or of all frames, or of the file."""
    for place in (group, shared, about):
        for item in [*(place.get(sequence) or []), place] if sequence else [place]:
            if (found := item.get(tag)) not in (None, ""):
                return found
    return None


def numbers(found: Any, n: int) -> np.ndarray | None:
    """(n,) where the attribute holds n finite numbers."""
    if found is None:
        return None
    values = np.array([float(v) for v in (found if n > 1 else [found])])
    return values if values.shape == (n,) and np.isfinite(values).all() else None


def _spacing(about: Any, shared: Any, group: Any) -> tuple[float, float] | None:
    for tag in SPACINGS:
        found = numbers(find(tag, "PixelMeasuresSequence", about, shared, group), 2)
        if found is not None and (found > 0).all():
            return float(found[0]), float(found[1])
    return None


def _unit(directions: np.ndarray | None) -> np.ndarray | None:
    """(2, 3) of length 1; None where they are no two directions across each other."""
    if directions is None:
        return None
    pair = directions.reshape(2, 3)
    length = np.linalg.norm(pair, axis=1, keepdims=True)
    if (np.abs(length - 1) > 0.01).any() or abs(pair[0] @ pair[1]) > 0.01:
        return None
    return pair / length


def _apart(names: tuple[tuple[str, str], ...], about: Any, shared: Any, group: Any) -> str:
    return "/".join(str(find(tag, sequence, about, shared, group)) for tag, sequence in names)
