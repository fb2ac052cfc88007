"""DICOM files: what clinical systems store and show, marked in every header as synthetic."""

from __future__ import annotations

import glob
import uuid
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import fedsynth
from fedsynth.data.dataset import ImageSet
from fedsynth.data.manifest import FILE
from fedsynth.exporters import Exporter, each, rows, usable, write_table
from fedsynth.exporters._files import NOMINAL_MM, said_of_spacing, spacing_of, stems
from fedsynth.params import Block, Image, ParamsError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MAKER, DAY, TIME = "fedsynth", "19800101", "000000"  # no clock: the same set gives the same bytes
# secondary capture; its multi-frame form of words
SLICE, VOLUME = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.7.3"
BITS = 12
EXPLICIT = "1.2.840.10008.1.2.1"
MASKS = "masks"
AXES = [1, 0, 0, 0, 1, 0]  # rows to the patient's left, columns to the back


class DICOM(Exporter):
    """<image_id>/<channel>.dcm, a file and series for each image channel, and <image_id>/masks.dcm, a segmentation with
    a segment for each mask channel (`pip install fedsynth[dicom]`); an image is a study.

    A slice is a secondary capture, a volume a multi-frame one: no modality, which no scanner made. Both have a place in
    space (rows to the patient's left, columns to the back, slices to the head), without which viewers measure nothing
    and highdicom makes no volume; of a slice it is nominal, and where the spacing is unknown 1 mm is, which the
    comment in the header says. 12 bits, [-1, 1] as 0 to 4095.

    A synthetic image says so: Synthetic Data YES, Conversion Type SYN, DERIVED, Patient Identity Removed, and in the
    patient's name, the series' description and the comment by which model. UIDs are made of the image's content, dates
    are 1980-01-01: the same set gives the same bytes.
    """

    def __init__(self) -> None:
        if not all(map(find_spec, ("pydicom", "highdicom"))):
            raise ParamsError("to write DICOM files install pydicom and highdicom: pip install 'fedsynth[dicom]'")

    def write(self, images: ImageSet, image: Image, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        table, found = [], usable(images)
        studies, channels = stems(found.manifest["image_id"]), stems(image.images, taken=[MASKS])
        for row, array in each(found):
            study = studies[row["image_id"]]
            (folder / study).mkdir()
            files = [
                _image(row, c, number, plane)
                for number, (c, plane) in enumerate(zip(image.images, array, strict=False), 1)
            ]
            names = {c: f"{study}/{channels[c]}.dcm" for c in image.images}
            for name, file in zip(names.values(), files, strict=True):
                file.save_as(folder / name, enforce_file_format=True)
            if image.masks:
                names |= dict.fromkeys(image.masks, f"{study}/{MASKS}.dcm")
                _masks(row, image.masks, array[len(image.images) :] > 0, files[0]).save_as(
                    folder / names[image.masks[0]]
                )
            table += rows(image, row, names, folder=study)
        write_table(folder, table)

    def source(self, image: Image, folder: Path) -> Block:
        args: dict[str, Any] = {"folder": str(folder), "table": FILE}
        if len(image.images) > 1:
            args["channels"] = {c: f"{glob.escape(_text(c))}, *" for c in image.images}
        return Block(class_path="fedsynth.sources.dicom.DICOM", args=args)

    def layout(self, image: Image) -> dict[str, str]:
        files = {"<image_id>/": f"a study: {', '.join(f'{c}.dcm' for c in image.images)}, 0 to 4095"}
        files |= {f"<image_id>/{MASKS}.dcm": f"a segmentation: {', '.join(image.masks)}"} if image.masks else {}
        return files | {
            ".dcm": f"in mm: spacing_mm of manifest.csv; where that is empty {NOMINAL_MM:g} mm, which is nominal, as"
            " are the thickness, position and orientation of a slice; the comment in the header says so"
        }


def _image(row: dict[str, Any], channel: str, number: int, plane: np.ndarray) -> Dataset:
    """A channel (*S) in [-1, 1] as a file."""
    from pydicom.dataset import Dataset, FileMetaDataset

    file: Any = Dataset()
    kind = SLICE if plane.ndim == 2 else VOLUME
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID, file.file_meta.MediaStorageSOPClassUID = EXPLICIT, kind
    file.SOPClassUID = kind
    file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = uid(row, "image", channel)
    file.FrameOfReferenceUID, file.PositionReferenceIndicator = uid(row, "space"), ""
    _about(file, row, f"{channel}, {_made(row)}")
    file.Modality, file.SeriesInstanceUID, file.SeriesNumber, file.InstanceNumber = (
        "OT",
        uid(row, "series", channel),
        number,
        1,
    )
    file.ImageType, file.ConversionType = ["DERIVED", "SECONDARY"], "SYN" if row["origin"] == "synthetic" else "WSD"
    file.SamplesPerPixel, file.PhotometricInterpretation, file.PixelRepresentation = 1, "MONOCHROME2", 0
    file.BitsAllocated, file.BitsStored, file.HighBit = 16, BITS, BITS - 1
    file.Rows, file.Columns = plane.shape[-2:]
    file.BurnedInAnnotation, file.Laterality = "NO", ""
    spacing = spacing_of(row, plane.ndim)
    if plane.ndim == 3:
        _frames(file, spacing, len(plane))
    else:
        file.PixelSpacing, file.SliceThickness = spacing, NOMINAL_MM
        file.ImagePositionPatient, file.ImageOrientationPatient = [0, 0, 0], AXES
    file.PixelData = np.rint((plane.clip(-1, 1) + 1) / 2 * (2**BITS - 1)).astype("<u2").tobytes()
    return file


def _about(file: Dataset, row: dict[str, Any], description: str) -> None:
    """Patient, study, and what says where the image is from and what of it is nominal."""
    file.SpecificCharacterSet = "ISO_IR 192"
    file.PatientName, file.PatientID, file.PatientBirthDate, file.PatientSex = (
        f"{row['origin']}^{_text(row['image_id'], 50)}",
        _text(row["subject"]),
        "",
        "",
    )
    file.StudyInstanceUID, file.StudyID, file.AccessionNumber, file.ReferringPhysicianName = (
        uid(row, "study"),
        "",
        "",
        "",
    )
    file.StudyDate = file.StudyTime = ""
    file.PatientOrientation = ["L", "P"]
    file.InstanceCreationDate, file.InstanceCreationTime, file.ContentDate, file.ContentTime = DAY, TIME, DAY, TIME
    file.Manufacturer, file.ManufacturerModelName, file.DeviceSerialNumber = MAKER, _text(row["model"] or MAKER), "1"
    file.SoftwareVersions, file.SeriesDescription = fedsynth.__version__, _text(description)
    file.ImageComments = "; ".join(
        [_made(row), _text(f"label {row['label']}", 1000), f"seed {row['seed']}", said_of_spacing(row)]
        + ["position, orientation and thickness are nominal"] * (row["shape"].count("x") == 1)
    )
    if row["origin"] == "synthetic":
        file.SyntheticData, file.PatientIdentityRemoved = "YES", "YES"
        file.DeidentificationMethod = ["synthetic: no patient was imaged", _text(f"made by {MAKER} {row['model']}")]


def _text(text: str, most: int = 64) -> str:
    """As DICOM's short texts are: without what separates values and parts of names, one line, of at most 64 signs."""
    return "".join(c if c.isprintable() and c not in "\\^=" else "_" for c in str(text))[:most].strip()


def _frames(file: Dataset, spacing: list[float], n: int) -> None:
    """The multi-frame form: a place in space for each slice."""
    from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    z, y, x = spacing
    file.NumberOfFrames = n
    file.PresentationLUTShape, file.RescaleIntercept, file.RescaleSlope, file.RescaleType = "IDENTITY", "0", "1", "US"
    file.LossyImageCompression = "00"
    shared = Dataset()
    shared.PixelMeasuresSequence = PixelMeasuresSequence(
        pixel_spacing=[y, x], slice_thickness=z, spacing_between_slices=z
    )
    shared.PlaneOrientationSequence = PlaneOrientationSequence("PATIENT", AXES)
    file.SharedFunctionalGroupsSequence = Sequence([shared])
    file.FrameIncrementPointer = 0x52009230  # the frames' groups
    groups = []
    for number in range(n):
        group = Dataset()
        group.PlanePositionSequence = PlanePositionSequence("PATIENT", [0, 0, round(number * z, 6)])
        groups.append(group)
    file.PerFrameFunctionalGroupsSequence = Sequence(groups)


def _masks(row: dict[str, Any], names: list[str], masks: np.ndarray, of: Dataset) -> Dataset:
    """Mask channels (M, *S) as a segmentation on the grid of the image `of`."""
    from highdicom import seg
    from pydicom.sr.codedict import codes

    segments = [
        seg.SegmentDescription(
            number, _text(name), codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.MorphologicallyAbnormalStructure,
            seg.SegmentAlgorithmTypeValues.AUTOMATIC, _algorithm(row),
        )
        for number, name in enumerate(names, 1)
    ]  # fmt: skip
    frames = masks if masks.ndim == 4 else masks[:, None]
    found = seg.Segmentation(
        [of],
        np.moveaxis(frames, 0, -1).astype(np.uint8),
        seg.SegmentationTypeValues.BINARY,
        segments,
        series_instance_uid=uid(row, "series", "masks"),
        series_number=100,
        sop_instance_uid=uid(row, "image", "masks"),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=of.ManufacturerModelName,
        software_versions=fedsynth.__version__,
        device_serial_number="1",
        omit_empty_frames=False,  # so that the masks' volume is the image's, slice by slice
    )
    _about(found, row, f"masks, {_made(row)}")
    for item in found.ContributingEquipmentSequence:
        item.pop("ContributionDateTime", None)
    for part in found.iterall():
        if part.keyword == "DimensionOrganizationUID":
            part.value = uid(row, "dimensions", "masks")
    return found


def _algorithm(row: dict[str, Any]) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from pydicom.sr.codedict import codes

    return AlgorithmIdentificationSequence(
        MAKER, codes.DCM.ArtificialIntelligence, fedsynth.__version__, source=_text(row["model"] or MAKER)
    )


def _made(row: dict[str, Any]) -> str:
    return f"{row['origin']}" + (f", made by {row['model']}" if row["model"] else "")


def uid(row: dict[str, Any], *what: str) -> str:
    """Of a UUID of the image's content and place in the set (PS3.5 B.2): another image has others."""
    known = [
        row[c]
        for c in ("image_id", "subject", "label", "sha256", "mask_sha256", "origin", "model", "seed", "spacing_mm")
    ]
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, '/'.join(map(str, [*known, *what]))).int}"
