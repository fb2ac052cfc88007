"""DICOM series of a patient who does not exist, written anew by each test; what names the patient is there to be looked
for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tests.layouts import LABELS

SECRET = {  # must not be in a record or message
    "PatientName": "DOE^JANE",
    "PatientID": "MRN-12345",
    "PatientBirthDate": "19700131",
    "InstitutionName": "St. Elsewhere",
    "AccessionNumber": "ACC-777",
    "StudyDate": "20200229",
    "PatientSex": "F",
    "StudyTime": "101010",
    "ReferringPhysicianName": "HOUSE",
    "StudyID": "ST-9",
    "PositionReferenceIndicator": "",
    "SeriesNumber": 3,
}
HEAD = (1, 0, 0, 0, 1, 0)  # rows to the left, columns to the back: axial


def uid(text: str) -> str:
    from pydicom.uid import generate_uid

    return generate_uid(entropy_srcs=[text])


def voxels(seed: int, size: tuple[int, ...] = (6, 20, 24)) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 1000, size).astype(np.uint16)


def make_series(
    folder: Path,
    array: np.ndarray,
    series: str = "s",
    study: str = "v",
    step: float = 3.0,
    flip: bool = True,
    without: tuple[str, ...] = (),
    **tags: Any,
) -> list[Path]:
    """A file for each slice (D, H, W), bottom first in space, in another order by name; rows 2 mm,
    columns 1 mm apart.
    """
    from pydicom.dataset import Dataset, FileMetaDataset

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, plane in enumerate(array):
        file = Dataset()
        file.file_meta = FileMetaDataset()
        file.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = uid(f"{series} {number}")
        file.SeriesInstanceUID, file.StudyInstanceUID, file.FrameOfReferenceUID = (
            uid(series),
            uid(study),
            uid(f"frame {study}"),
        )
        file.Modality, file.ImageType, file.SamplesPerPixel, file.PhotometricInterpretation = (
            "MR",
            ["ORIGINAL", "PRIMARY"],
            1,
            "MONOCHROME2",
        )
        file.Rows, file.Columns = plane.shape
        file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 0
        file.PixelSpacing, file.SliceThickness, file.InstanceNumber = [2.0, 1.0], 3.0, len(array) - number
        file.ImageOrientationPatient, file.ImagePositionPatient = list(HEAD), [-10.0, -20.0, 5.0 + step * number]
        file.PixelData = plane.astype(np.uint16).tobytes()
        for name, value in (SECRET | tags).items():
            setattr(file, name, value(number) if callable(value) else value)
        for name in without:
            delattr(file, name)
        file.add_new(0x00091001, "LO", "DOE private")
        file.add_new(0x00090010, "LO", "ACME")
        paths.append(folder / f"DOE_{(number * 5) % 7 if flip else number}_{number}.dcm")
        file.save_as(paths[-1], enforce_file_format=True)
    return paths


def make_enhanced(
    path: Path,
    array: np.ndarray,
    groups: list[dict[str, dict[str, Any]]],
    shared: dict[str, dict[str, Any]] | None = None,
    **tags: Any,
) -> Path:
    """One file of several frames (D, H, W); each of `groups` is {sequence: {attribute: value}} of a frame, `shared` of
    all (rows 2 mm, columns 1 mm apart).
    """
    import pydicom
    from pydicom.dataset import Dataset

    (one,) = make_series(path.parent / "one", array[:1], path.stem)
    file = pydicom.dcmread(one)
    one.unlink()
    one.parent.rmdir()
    for name in ("PixelSpacing", "SliceThickness", "ImagePositionPatient", "ImageOrientationPatient"):
        delattr(file, name)
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    file.NumberOfFrames, file.PixelData = len(array), array.astype("<u2").tobytes()

    def group(content: dict[str, dict[str, Any]]) -> Dataset:
        found = Dataset()
        for sequence, attributes in content.items():
            item = Dataset()
            for name, value in attributes.items():
                setattr(item, name, value)
            setattr(found, sequence, [item])
        return found

    measures = {"PixelMeasuresSequence": {"PixelSpacing": [2.0, 1.0], "SliceThickness": 3.0}}
    file.SharedFunctionalGroupsSequence = [group(measures if shared is None else shared)]
    for name, value in tags.items():
        setattr(file, name, value)
    file.PerFrameFunctionalGroupsSequence = [group(content) for content in groups]
    file.save_as(path, enforce_file_format=True)
    return path


def at(place: float, turn: tuple[float, ...] = HEAD, **more: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Functional groups of a frame in a place."""
    return {
        "PlanePositionSequence": {"ImagePositionPatient": [-10.0, -20.0, place]},
        "PlaneOrientationSequence": {"ImageOrientationPatient": list(turn)},
    } | more


def contour(paths: list[Path], regions: dict[str, list[np.ndarray]], to: Path, kind: str = "CLOSED_PLANAR") -> Path:
    """An RT structure set of a series with the contours (n, 3), in mm, of each region."""
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset

    def item(**attributes: Any) -> Dataset:
        found = Dataset()
        for name, value in attributes.items():
            setattr(found, name, value)
        return found

    first = pydicom.dcmread(paths[0])
    file = item(**{n: first.get(n) for n in ("PatientID", "PatientName", "StudyInstanceUID")})
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = uid(f"{to} 1")
    file.Modality, file.SeriesInstanceUID = "RTSTRUCT", uid(str(to))
    series = item(SeriesInstanceUID=first.SeriesInstanceUID)
    study = item(RTReferencedSeriesSequence=[series])
    space = item(FrameOfReferenceUID=first.FrameOfReferenceUID, RTReferencedStudySequence=[study])
    file.ReferencedFrameOfReferenceSequence = [space]
    file.StructureSetROISequence = [item(ROINumber=n, ROIName=name) for n, name in enumerate(regions, 1)]
    file.ROIContourSequence = [
        item(
            ReferencedROINumber=n,
            ContourSequence=[
                item(
                    ContourGeometricType=kind, NumberOfContourPoints=len(c), ContourData=[f"{v:.6g}" for v in c.ravel()]
                )
                for c in contours
            ],
        )
        for n, contours in enumerate(regions.values(), 1)
    ]
    file.save_as(to, enforce_file_format=True)
    return to


def draw(paths: list[Path], masks: dict[str, np.ndarray], to: Path) -> Path:
    """A segmentation of a series with a segment for each mask (D, H, W), in the order of `paths`."""
    import highdicom as hd
    import pydicom
    from pydicom.sr.codedict import codes

    segments = [
        hd.seg.SegmentDescription(
            i, name, codes.cid7150.Tissue, codes.cid7150.Tissue, hd.seg.SegmentAlgorithmTypeValues.MANUAL
        )
        for i, name in enumerate(masks, 1)
    ]
    found = hd.seg.Segmentation(
        [pydicom.dcmread(p) for p in paths],
        np.stack(list(masks.values()), -1).astype(np.uint8),
        "BINARY",
        segments,
        series_instance_uid=uid(str(to)),
        series_number=9,
        sop_instance_uid=uid(f"{to} 1"),
        instance_number=1,
        manufacturer="x",
        manufacturer_model_name="y",
        software_versions="1",
        device_serial_number="z",
    )
    found.save_as(to)
    return to


def box(size: tuple[int, ...] = (6, 20, 24), depth: int = 3) -> np.ndarray:
    """(D, H, W): a box in the first `depth` slices."""
    found = np.zeros(size, bool)
    found[:depth, 4:12, 6:15] = True
    return found


def make_archive(folder: Path, patients: int = 9) -> Path:
    """A series and a segmentation of each patient, and labels by patient."""
    for i in range(patients):
        paths = make_series(folder / f"DOE{i}", voxels(i, (2, 20, 24)), f"s{i}", f"v{i}", PatientID=f"MRN-{i}")
        draw(paths, {"lesion": box((2, 20, 24), 1)}, folder / f"DOE{i}" / "seg.dcm")
    table = {"patient": [f"MRN-{i}" for i in range(patients)], "label": [LABELS[i % 3] for i in range(patients)]}
    pd.DataFrame(table).to_csv(folder / "labels.csv", index=False)
    return folder
