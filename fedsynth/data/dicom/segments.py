"""Segments of a DICOM segmentation as masks on the slices of a series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fedsynth.data.dicom import volumes
from fedsynth.data.dicom.drawings import Drawing, sources
from fedsynth.data.dicom.files import reading
from fedsynth.data.dicom.frames import Frame, first
from fedsynth.data.manifest import SetError
from fedsynth.data.planes import Planes

NEAR = 0.25  # of a voxel's edge, by which a segmentation may lie off the voxels of its image


def names_of(file: Any, name: str) -> dict[int, str]:
    """The labels of a segmentation's segments by number."""
    with reading(name):
        return {int(s.SegmentNumber): str(s.get("SegmentLabel", "")) for s in file.get("SegmentSequence") or []}


def on_slices(
    file: Any, drawing: Drawing, wanted: list[int], slices: Sequence[Frame], of: Sequence[int], name: str
) -> list[np.ndarray] | None:
    """Where one of the segments is set, (H, W) bool for each of the slices `of` a series' `slices`: by where both lie,
    else by the images that the segmentation names. None where its voxels are not those of the series.

    Raises SetError with `name` where it says neither.
    """
    with reading(name):
        frames = [f for f in drawing.frames if _segment(file, f.number) in (*wanted, None)]
        places = _by_place(frames, slices) if _placed([*frames, *slices]) else _by_name(file, frames, slices)
        if places is None:
            raise SetError(
                f"{name} says neither where its frames lie nor of which images they are drawn; export it with the"
                " positions of its frames (Plane Position) or their source images"
            )
        if any(place is None for place in places):
            return None
        found = {n: np.zeros(slices[n].shape, bool) for n in of}
        for frame, place in zip(frames, places, strict=True):
            for n in set(place or []) & set(of):
                drawn = _laid(_mask(file, frame, wanted), frame, slices[n])
                if drawn is None:
                    return None
                found[n] |= drawn
        return [found[n] for n in of]


def alone(file: Any, drawing: Drawing, wanted: list[int], name: str) -> Planes:
    """The segments on the segmentation's own grid, in our direction; slices between its frames are empty."""
    with reading(name):
        there = {round(f.place, 3): f for f in drawing.frames if f.place is not None}
        stack = volumes.stack(_filled([there[p] for p in sorted(there)]), name, skewed=True)
        found = np.zeros(stack.grid.shape, np.float32)
        heights = np.array([f.place for f in stack.frames])
        for frame in drawing.frames:
            if _segment(file, frame.number) in (*wanted, None):
                found[int(np.abs(heights - frame.place).argmin())][_mask(file, frame, wanted)] = 1
        return Planes(stack.turned(found[None]), stack.turned_grid)


def _filled(frames: list[Frame]) -> list[Frame]:
    """Frames with those between them that a segmentation leaves out, since nothing is marked there."""
    if len(frames) < 2:
        return frames
    where = np.array([f.position for f in frames])
    gaps = np.linalg.norm(np.diff(where, axis=0), axis=1)
    out = [frames[0]]
    for frame, gap, before in zip(frames[1:], gaps, where, strict=False):
        n = round(gap / gaps.min())
        out += [replace(frame, position=before + (frame.position - before) * k / n) for k in range(1, n)]
        out.append(frame)
    return out


def _mask(file: Any, frame: Frame, wanted: list[int]) -> np.ndarray:
    """(H, W) bool of a frame."""
    from pydicom.pixels import pixel_array

    pixels = pixel_array(file, index=frame.number)
    kind = str(file.get("SegmentationType", "BINARY"))
    if kind == "LABELMAP":
        return np.isin(pixels, wanted)
    return pixels > (int(file.get("MaximumFractionalValue") or 255) / 2 if kind == "FRACTIONAL" else 0)


def _segment(file: Any, number: int) -> int | None:
    """The number of the segment of a frame; None where a frame holds all of them (a label map)."""
    if file.get("SegmentationType") == "LABELMAP":
        return None
    for groups in (_group(file, number), first(file.get("SharedFunctionalGroupsSequence"))):
        if found := first(groups.get("SegmentIdentificationSequence")):
            return int(found.ReferencedSegmentNumber)
    return 1


def _group(file: Any, number: int) -> Any:
    groups = file.get("PerFrameFunctionalGroupsSequence") or []
    return groups[number] if number < len(groups) else {}


def _placed(frames: list[Frame]) -> bool:
    return all(f.position is not None and f.directions is not None for f in frames)


def _by_place(frames: list[Frame], slices: Sequence[Frame]) -> list[list[int] | None]:
    """The slices in whose plane each frame lies, none beyond the series; None between two of its slices, or across."""
    if not frames:
        return []
    normals = np.array([s.normal for s in slices])  # (D, 3)
    heights = np.array([f.position for f in frames]) @ normals.T - (
        np.array([s.position for s in slices]) * normals
    ).sum(1)
    flat = np.abs(np.array([f.normal for f in frames]) @ normals.T) > np.cos(np.radians(volumes.TURN))  # (F, D)
    near = NEAR * (volumes.step_of(list(slices)) or 1.0)
    found: list[list[int] | None] = []
    for above, parallel in zip(heights, flat, strict=True):
        on = np.flatnonzero(parallel & (np.abs(above) <= near)).tolist()
        between = not parallel.any() or above.min() < 0 < above.max()
        found.append(None if between and not on else on)
    return found


def _by_name(file: Any, frames: list[Frame], slices: Sequence[Frame]) -> list[list[int]] | None:
    """The slices that each frame names as its source; None where it names none."""
    known = {(s.instance, s.number): n for n, s in enumerate(slices)}
    shared = list(sources(file.get("SharedFunctionalGroupsSequence")))
    found = []
    for frame in frames:
        named = list(sources([_group(file, frame.number)])) or shared
        if not named:
            return None
        keys = [(str(s.get("ReferencedSOPInstanceUID")), number) for s in named for number in _numbers(s)]
        found.append([known[k] for k in keys if k in known])
    return found


def _numbers(source: Any) -> list[int]:
    """Frames of a source image, from 0; the first where it names none."""
    said = source.get("ReferencedFrameNumber")
    return [0] if said is None else [int(n) - 1 for n in (said if hasattr(said, "__iter__") else [said])]


def _laid(mask: np.ndarray, frame: Frame, onto: Frame) -> np.ndarray | None:
    """A frame's mask on the pixels of a slice in its plane, turned, cropped or filled up; None where pixels differ."""
    if not _placed([frame, onto]) or onto.spacing is None or frame.spacing is None:
        return mask if mask.shape == onto.shape else None
    axes = np.array(onto.directions)[::-1] / np.array(onto.spacing)[:, None]  # rows and columns of a step in mm
    down, right = np.array(frame.directions)[::-1] * np.array(frame.spacing)[:, None]
    found = np.array([down, right, frame.position - onto.position]) @ axes.T  # type: ignore[operator]
    whole = np.round(found).astype(int)
    off = np.abs(found - whole) * np.array([[mask.shape[0]], [mask.shape[1]], [1]])
    if (off > NEAR).any() or abs(round(np.linalg.det(whole[:2]))) != 1:
        return None
    places = np.argwhere(mask) @ whole[:2] + whole[2]
    inside = ((places >= 0) & (places < onto.shape)).all(1)
    laid = np.zeros(onto.shape, bool)
    laid[tuple(places[inside].T)] = True
    return laid
