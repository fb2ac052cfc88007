"""Reads DICOM: groups files into series, and gives pixels, volumes and segmentations.

What names a patient goes no further than this module and fedsynth/sources/dicom.py: errors name a file by a hash
(`neutral`), and tell neither what pydicom says nor any value of the file.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fedsynth.data.manifest import SetError
from fedsynth.errors import UserError

# slope and intercept, MONOCHROME1 inverted, no window
AS_READ: dict[str, Any] = {"apply_real_world_transform": False, "dtype": np.float32}
NAMED = (".dcm", ".dicom", ".ima")  # files that say that they are DICOM; others that are not are left alone
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # segmentation, label map
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
OUR_AXES = "HPL"  # towards head, back and the patient's left, as fedsynth.data.images reads NIfTI
Spacing = tuple[float, ...] | None


@dataclass(frozen=True)
class Slice:
    """A frame of a file, with where it lies (mm along the series' normal, or its number)."""

    file: str
    frame: int
    place: float


@dataclass
class Series:
    """The files of one SeriesInstanceUID, in the order of their slices."""

    uid: str
    study: str
    patient: str
    description: str
    slices: list[Slice] = field(default_factory=list)
    problem: str = ""

    @property
    def files(self) -> list[str]:
        return list(dict.fromkeys(s.file for s in self.slices))


def neutral(kind: str, identity: str, salt: object) -> str:
    """A name that tells nothing of what it stands for, the same for the same: "series-3f2a91c04b7e"."""
    return f"{kind}-{hashlib.sha256(f'{salt}:{identity}'.encode()).hexdigest()[:12]}"


def scan(folder: Path) -> tuple[list[Series], dict[str, list[str]], list[str]]:
    """Series of images, the segmentation files of each series by its UID, and files that say they are DICOM and cannot
    be read.
    """
    found: dict[str, list[tuple[str, Any]]] = {}
    drawn: dict[str, list[str]] = {}
    bad = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")):
        name = path.relative_to(folder).as_posix()
        try:
            about = _header(path)
        except SetError:
            bad += [name] * (path.suffix.lower() in NAMED)
            continue
        if about.get("SOPClassUID") in SEGMENTATIONS:
            for series in about.get("ReferencedSeriesSequence", []):
                drawn.setdefault(str(series.get("SeriesInstanceUID", "")), []).append(name)
        elif "SeriesInstanceUID" in about and "Rows" in about:
            found.setdefault(str(about.SeriesInstanceUID), []).append((name, about))
    return [_series(uid, files) for uid, files in found.items()], drawn, bad


def frame(path: Path, number: int, name: str) -> tuple[np.ndarray, Spacing]:
    """A frame as planes (C, H, W) float32, and its spacing in mm. Raises SetError with `name`."""
    import highdicom as hd

    with reading(name):
        image = hd.imread(path, lazy_frame_retrieval=True)
        spacing = next((image[tag].value for tag in SPACINGS if tag in image and image[tag].value), None) or _measures(
            image, number
        )
        return _planes(image.get_frame(number, **AS_READ), 2), tuple(float(s) for s in spacing) if spacing else None


def volume(paths: Sequence[Path], name: str) -> Any:
    """The highdicom.Volume of a series, its slices in order, in `OUR_AXES`. Raises SetError with `name`."""
    import highdicom as hd
    import pydicom

    with reading(name):
        files = [pydicom.dcmread(path) for path in paths]
        if len(files) > 1 and any(int(f.get("NumberOfFrames") or 1) > 1 for f in files):
            raise SetError(
                f"{name} has several files of several frames each, which is no volume; put each into a series of"
                " its own"
            )
        for file in files:
            # some de-identifiers take it away
            file.setdefault("FrameOfReferenceUID", f"{file.SeriesInstanceUID}"[:62] + ".1")
        if "PerFrameFunctionalGroupsSequence" in files[0]:
            found = hd.Image.from_dataset(files[0], copy=False).get_volume(**AS_READ)
        else:
            _check_stack(files, name)
            found = hd.get_volume_from_series(files, **AS_READ)
        return found.to_patient_orientation(OUR_AXES)


def planes_of(found: Any) -> tuple[np.ndarray, Spacing]:
    """A volume as planes (C, D, H, W) float32, and its spacing in mm."""
    return _planes(found.array, 3), tuple(float(s) for s in found.spacing)


def segments(path: Path, wanted: str | list[int] | None, name: str) -> tuple[Any, list[int]]:
    """The segmentation in a file, and the numbers of its segments that `wanted` names by label or number; all,
    if None.
    """
    import highdicom as hd
    import pydicom

    with reading(name):
        file = pydicom.dcmread(path)
        for shared in file.get("SharedFunctionalGroupsSequence", []):
            for measures in shared.get("PixelMeasuresSequence", []):  # of a slice it may lack what highdicom asks for
                measures.setdefault("SliceThickness", 1.0)
        drawn = hd.seg.Segmentation.from_dataset(file, copy=False)
        labels = {number: drawn.get_segment_description(number).segment_label for number in drawn.segment_numbers}
        if wanted is None:
            return drawn, list(labels)
        numbers = [
            n
            for n, label in labels.items()
            if (label.lower() == wanted.lower() if isinstance(wanted, str) else n in wanted)
        ]
        return drawn, numbers


def drawn_on_frame(drawn: Any, numbers: list[int], path: Path, number: int, name: str) -> np.ndarray:
    """Where one of the segments is set on a frame of an image, (H, W) of 0 and 1."""
    import pydicom

    with reading(name):
        about = pydicom.dcmread(path, stop_before_pixels=True)
        how = {"segment_numbers": numbers, "assert_missing_frames_are_empty": True, "ignore_spatial_locations": True}
        if int(about.get("NumberOfFrames") or 1) > 1:
            return drawn.get_pixels_by_source_frame(about.SOPInstanceUID, [number], **how)[0].any(-1)
        return drawn.get_pixels_by_source_instance([about.SOPInstanceUID], **how)[0].any(-1)


def drawn_on_volume(drawn: Any, numbers: list[int], onto: Any, name: str) -> np.ndarray:
    """Where one of the segments is set on the grid of a volume, (D, H, W) of 0 and 1.
    Raises SetError for another grid.
    """
    with reading(name):
        found = drawn.get_volume(segment_numbers=numbers)
        try:
            return found.match_geometry(onto).array.any(-1)
        except (RuntimeError, ValueError) as error:
            raise SetError(
                f"{name} is not on the grid of its image; export it again with the image's own slices"
            ) from error


@contextmanager
def reading(name: str) -> Iterator[None]:
    """What goes wrong inside is a SetError with `name` that repeats nothing of the file, and no warning is shown, which
    might.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UserError:
        raise
    except Exception as error:  # of pydicom, highdicom and decoders: anything
        hint = (
            "it may be damaged, or compressed in a way that needs more than pydicom: `pip install pylibjpeg"
            " pylibjpeg-libjpeg`"
        )
        raise SetError(f"{name} cannot be read ({type(error).__name__}): {hint}") from None


def _header(path: Path) -> Any:
    import pydicom

    with reading("a file"):
        return pydicom.dcmread(path, stop_before_pixels=True)


def _series(uid: str, files: list[tuple[str, Any]]) -> Series:
    first = files[0][1]
    study, patient, description = (
        str(first.get(tag, "")) for tag in ("StudyInstanceUID", "PatientID", "SeriesDescription")
    )
    found = Series(uid, study, patient, description)
    with reading("a series"):
        frames = [(name, number, where) for name, about in files for number, where in enumerate(_positions(about), 1)]
        placed = all(where is not None for _, _, where in frames)
        numbers = {name: float(about.get("InstanceNumber") or 0) for name, about in files}
        order = [(where if placed else numbers[name], name, number) for name, number, where in frames]
    found.slices = [Slice(name, number, float(place or 0)) for place, name, number in sorted(order)]
    if any(str(about.get("BurnedInAnnotation", "")).upper() == "YES" for _, about in files):
        found.problem = "says that text is burned into its pixels, which may name the patient; take it away"
    return found


def _positions(about: Any) -> list[float | None]:
    """Of each frame of a file, its place along the normal in mm; None where it has none."""
    shared: Any = next(iter(about.get("SharedFunctionalGroupsSequence", [])), {})
    groups = about.get("PerFrameFunctionalGroupsSequence", [])
    found = []
    for group in groups or [about] * int(about.get("NumberOfFrames") or 1):
        position, turn = (
            _of_frame(tag, sequence, group, shared)
            for tag, sequence in (
                ("ImagePositionPatient", "PlanePositionSequence"),
                ("ImageOrientationPatient", "PlaneOrientationSequence"),
            )
        )
        ready = position is not None and turn is not None
        found.append(float(np.dot(np.cross(turn[:3], turn[3:]), position)) if ready else None)
    return found


def _of_frame(tag: str, sequence: str, group: Any, shared: Any) -> Any:
    """An attribute of a frame: of the file, or in the macro `sequence` of its own or the shared functional groups."""
    for place in (group, shared):
        for item in [place, *place.get(sequence, [])]:
            if item.get(tag):
                return [float(value) for value in item.get(tag)]
    return None


def _measures(image: Any, number: int) -> Any:
    shared: Any = next(iter(image.get("SharedFunctionalGroupsSequence", [])), {})
    groups = image.get("PerFrameFunctionalGroupsSequence", [])
    return _of_frame("PixelSpacing", "PixelMeasuresSequence", groups[number - 1] if groups else {}, shared)


def _check_stack(files: list[Any], name: str) -> None:
    """Raises SetError for single slices that are no volume, in words that say why."""
    if any("ImagePositionPatient" not in f or "ImageOrientationPatient" not in f for f in files):
        raise SetError(f"{name} does not say where its slices lie; read it with an image.size of two axes")
    turns = np.array([[float(v) for v in f.ImageOrientationPatient] for f in files])
    if np.abs(turns - turns[0]).max() > 1e-4:
        raise SetError(f"{name} has slices in several directions, as a localiser has; take it away")
    places = np.sort([_positions(f)[0] for f in files])
    steps = np.diff(places)  # type: ignore[arg-type]
    if len(steps) and steps.min() < 1e-3:
        raise SetError(
            f"{name} has several slices in one place, echoes or times perhaps; put each of them into a series of"
            " its own"
        )
    if len(steps) and steps.max() > 1.05 * steps.min():
        raise SetError(
            f"{name} has slices {steps.min():.3g} to {steps.max():.3g} mm apart: one may be missing; export the series"
            " again"
        )


def _planes(array: np.ndarray, dims: int) -> np.ndarray:
    """(*S) or (*S, 3) as (C, *S)."""
    return np.ascontiguousarray(array[None] if array.ndim == dims else np.moveaxis(array, -1, 0), np.float32)
