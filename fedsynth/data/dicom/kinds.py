"""Which files are no images of a patient to learn from: localisers, dose reports, screens that were captured.

By ImageType and SOPClassUID alone (DICOM PS3.3); series in several directions are found by fedsynth.data.dicom.series.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from fedsynth.data.dicom.frames import Frame

LOCALISER, DOSE, CAPTURE, DIRECTIONS = (
    "localisers",
    "dose reports",
    "secondary captures",
    "series of several directions, as localisers are",
)
OTHER = "files without an image"
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # segmentation, label map
CONTOURS = "1.2.840.10008.5.1.4.1.1.481.3"  # RT structure set
DIRECTORY = "1.2.840.10008.1.3.10"
CAPTURES = "1.2.840.10008.5.1.4.1.1.7"  # secondary capture; its multi-frame forms begin with it
REPORTS = (
    "1.2.840.10008.5.1.4.1.1.88.67",  # X-ray, radiopharmaceutical, patient radiation dose
    "1.2.840.10008.5.1.4.1.1.88.68",
    "1.2.840.10008.5.1.4.1.1.88.73",
)
DOSES = "1.2.840.10008.5.1.4.1.1.481.2"  # RT dose: pixels, but of no scanner
CALLED = re.compile(r"locali[sz]er|scout|topogram|survey|3.?plane|dose.?report|screen.?sav|protocol", re.IGNORECASE)
ACROSS = 45.0  # degrees between slices from where a series is no stack but a localiser


def of_no_use(about: Any) -> str:
    """The kind of a file that is left out, by its header; "" for an image."""
    sop, values = str(about.get("SOPClassUID", "")), " ".join(map(str, as_list(about.get("ImageType")))).upper()
    if sop in REPORTS or "DOSE" in values:
        return DOSE
    if any(word in values for word in ("LOCALIZER", "LOCALISER", "SCOUT", "TOPOGRAM")):
        return LOCALISER
    if any(word in values for word in ("SCREEN SAVE", "SCREENSAVE", "SCREEN_SAVE", " PROT")):
        return CAPTURE
    return OTHER if "Rows" not in about or sop == DOSES else ""


def is_capture(about: Any) -> bool:
    """Whether a file is a secondary capture. It is left out where its study has images of a scanner beside it."""
    sop = str(about.get("SOPClassUID", ""))
    return sop == CAPTURES or sop.startswith(CAPTURES + ".")


def is_called_no_image(description: str) -> bool:
    """Whether a SeriesDescription sounds like a localiser or a report, which does not prove that it is one."""
    return bool(CALLED.search(description))


def across(frames: list[Frame]) -> bool:
    """Whether frames lie in planes across each other."""
    normals = [f.normal for f in frames if f.normal is not None]
    if not normals:
        return False
    cosines = np.abs(np.array(normals) @ normals[0])
    return bool(cosines.min() < np.cos(np.radians(ACROSS)))


def as_list(value: Any) -> list[Any]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)
