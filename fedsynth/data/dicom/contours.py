"""Contours of an RT structure set as masks on the slices of a series."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fedsynth.data.dicom import volumes
from fedsynth.data.dicom.files import reading
from fedsynth.data.dicom.frames import Frame
from fedsynth.data.manifest import SetError

NEAR = 0.25  # of the distance of slices, by which a contour may lie off its slice
FILLED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


def names_of(file: Any, name: str) -> dict[int, str]:
    """Names of regions by their number."""
    with reading(name):
        return {int(r.ROINumber): str(r.get("ROIName", "")) for r in file.get("StructureSetROISequence") or []}


def on_slices(
    file: Any, wanted: list[int], slices: Sequence[Frame], of: Sequence[int], name: str
) -> tuple[list[np.ndarray], list[str]]:
    """Where one of the regions is drawn, (H, W) bool for each of the slices `of` a series' `slices`; and what a person
    should look at.

    A pixel is marked whose middle lies within; contours of one region on one slice are taken one out of the other, so
    that holes are holes. Raises SetError with `name` for contours that lie off the slices.
    """
    found, drawn, lines = {n: np.zeros(slices[n].shape, bool) for n in of}, set(), 0
    with reading(name):
        if any(s.position is None or s.directions is None or s.spacing is None for s in slices):
            raise SetError(
                f"{name} has contours in mm, and its image does not say where it lies or how large pixels are"
            )
        for region in file.get("ROIContourSequence") or []:
            if int(region.get("ReferencedROINumber", -1)) not in wanted:
                continue
            masks: dict[int, np.ndarray] = {}
            for n, corners in _polygons(region, slices, name):
                drawn.add(n)
                if n in found:
                    masks[n] = masks.get(n, False) ^ filled(corners, slices[n].shape)
            found = {n: mask | masks.get(n, False) for n, mask in found.items()}
            lines += sum(
                str(c.get("ContourGeometricType", "")) not in FILLED for c in region.get("ContourSequence") or []
            )
    warnings = [f"{name} has {lines} points or open lines, which mark nothing"] * bool(lines)
    if drawn and (gaps := max(drawn) - min(drawn) + 1 - len(drawn)):
        warnings.append(f"{name} is not drawn on {gaps} slices between the first and the last; nothing is filled in")
    return [found[n] for n in of], warnings


def _polygons(region: Any, slices: Sequence[Frame], name: str) -> Iterator[tuple[int, np.ndarray]]:
    """Each closed contour of a region: its slice, and its corners (n, 2) in rows and columns."""
    for contour in region.get("ContourSequence") or []:
        if str(contour.get("ContourGeometricType", "")) in FILLED:
            points = np.array([float(v) for v in contour.ContourData]).reshape(-1, 3)
            if (n := _slice(points, slices, name)) is not None:
                yield n, _pixels(points, slices[n])


def _slice(points: np.ndarray, slices: Sequence[Frame], name: str) -> int | None:
    """The slice on which a contour lies; None beyond them all. Raises SetError between two, or across."""
    normals = np.array([s.normal for s in slices])
    heights = points @ normals.T - (np.array([s.position for s in slices]) * normals).sum(1)  # (points, D)
    off = np.abs(heights).max(0)
    step = volumes.step_of(list(slices)) or 1.0
    if off.min() <= NEAR * step:
        return int(off.argmin())
    if np.ptp(heights, axis=0).max() <= NEAR * step and ((heights > 0).all() or (heights < 0).all()):
        return None
    raise SetError(
        f"{name} has a contour that lies {off.min():.2g} mm off the slices of its image, which are {step:.3g} mm apart:"
        " it was drawn on another series; export both together"
    )


def _pixels(points: np.ndarray, onto: Frame) -> np.ndarray:
    """Points in mm (n, 3) as rows and columns of a slice (n, 2); whole numbers are middles of pixels."""
    axes = np.array(onto.directions)[::-1] / np.array(onto.spacing)[:, None]
    return (points - onto.position) @ axes.T


def filled(corners: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Pixels (H, W) whose middle is within a polygon of corners (n, 2) in rows and columns: an odd number of its edges
    lies to the left of them.
    """
    inside = np.zeros(shape, bool)
    columns = np.arange(shape[1])
    starts, ends = corners, np.roll(corners, -1, axis=0)
    for row in range(max(0, int(np.ceil(corners[:, 0].min()))), min(shape[0], int(np.floor(corners[:, 0].max())) + 1)):
        crossed = (starts[:, 0] <= row) != (ends[:, 0] <= row)
        a, b = starts[crossed], ends[crossed]
        at = a[:, 1] + (row - a[:, 0]) / (b[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1])
        inside[row] = (at[:, None] <= columns).sum(0) % 2 == 1
    return inside
