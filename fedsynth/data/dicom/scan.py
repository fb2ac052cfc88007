"""Scans a folder for DICOM files: series of images, what is drawn on them, and what is left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedsynth.data.dicom import kinds
from fedsynth.data.dicom.drawings import Drawing, drawing_of
from fedsynth.data.dicom.files import header, reading
from fedsynth.data.dicom.series import Series, series_of, study_of
from fedsynth.data.manifest import SetError

NAMED = (".dcm", ".dicom", ".ima")  # files that say that they are DICOM; others that are not are left alone


@dataclass
class Scan:
    """What a folder holds: series, what is drawn on them, files that say they are DICOM and cannot be read, and how
    many files or series of each kind were left out.
    """

    series: list[Series] = field(default_factory=list)
    drawings: list[Drawing] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)

    @property
    def said(self) -> str:
        """What was left out, with numbers; "" where nothing was."""
        return ", ".join(f"{kind} ({n})" for kind, n in sorted(self.left.items()))


def scan(folder: Path) -> Scan:
    """All DICOM files below a folder."""
    found = Scan()
    images: dict[str, list[tuple[str, Any]]] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")):
        name = path.relative_to(folder).as_posix()
        try:
            about = header(path)
        except SetError:
            found.bad += [name] * (path.suffix.lower() in NAMED)
            continue
        sop = str(about.get("SOPClassUID", ""))
        if sop in (*kinds.SEGMENTATIONS, kinds.CONTOURS):
            with reading("a file"):
                found.drawings.append(drawing_of(name, about))
        elif sop != kinds.DIRECTORY:
            images.setdefault(str(about.get("SeriesInstanceUID", "")), []).append((name, about))
    _sort(images, found)
    return found


def _sort(images: dict[str, list[tuple[str, Any]]], found: Scan) -> None:
    """Series of images into `found`, the rest counted there."""
    left: dict[str, set[str]] = {}
    scanned = {study_of(about) for files in images.values() for _, about in files if _is_scan(about)}
    for uid, files in images.items():
        kept, again = [], set()
        for name, about in files:
            kind = kinds.of_no_use(about)
            if not kind and kinds.is_capture(about) and study_of(about) in scanned:
                kind = kinds.CAPTURE
            if kind:
                left.setdefault(kind, set()).add(name if kind == kinds.OTHER else uid)
            elif (instance := str(about.get("SOPInstanceUID", name))) in again:
                found.left["copies of files"] += 1
            else:
                again.add(instance)
                kept.append((name, about))
        one = series_of(uid, kept) if kept else None
        if one and kinds.across(one.frames):
            left.setdefault(kinds.DIRECTIONS, set()).add(uid)
        elif one:
            found.series.append(one)
    found.left.update({kind: len(which) for kind, which in left.items()})


def _is_scan(about: Any) -> bool:
    return not kinds.of_no_use(about) and not kinds.is_capture(about)
