"""Which layout a folder or file has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from fedsynth.study.found import of_bids, of_decathlon, of_dicom, of_files, of_isic, of_medmnist, of_table
from fedsynth.study.found.found import Found
from fedsynth.study.found.layout import FoundError, Layout, counted, shown
from fedsynth.study.found.reading import read

Recognise = Callable[[Path], Layout | None]
# the layouts that say what they are come first, files without a table last
NAMED: dict[str, Recognise] = {
    "dataset.json with imagesTr (Decathlon, nnU-Net)": of_decathlon.recognise,
    "folders sub-* with anat (BIDS)": of_bids.recognise,
    "an .npz with train_images (MedMNIST)": of_medmnist.recognise,
    "a CSV of diagnoses by name of picture (ISIC)": of_isic.recognise,
    "a CSV with a column of image files (manifest.csv)": of_table.recognise,
    "DICOM files": of_dicom.recognise,
}
FILES = "PNG, JPEG, TIFF, BMP, NIfTI, npy or npz files, in folders by class or not"
MOST, SECONDS = 3000, 120.0  # images that are read, and for how long at most


def look(folder: Path, most: int = MOST, seconds: float = SECONDS) -> Found:
    """What a folder, or a file of MedMNIST or a CSV, holds: its layout and what its images are.

    At most `most` images are read, for about `seconds`. Raises UserError where nothing is recognised, or where what is
    there cannot be read by its source.
    """
    folder = Path(folder).expanduser().absolute()
    if not folder.exists():
        raise FoundError(f"{folder} is not there; name a folder of images")
    layout = _of_file(folder) if folder.is_file() else _of_folder(folder)
    return read(layout, most, seconds)


def _of_file(path: Path) -> Layout:
    tables = path.suffix.lower() in of_table.ENDINGS
    found = of_table.recognise(path.parent, [path]) if tables else of_medmnist.recognise(path)
    if found is None:
        what = "no column of it names image files" if tables else "it is no set of MedMNIST (an .npz with train_images)"
        raise FoundError(f"{path} is not known: {what}; name the folder of the images")
    return found


def _of_folder(folder: Path) -> Layout:
    inside = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    places = [folder, *inside[:1]] if len(inside) == 1 else [folder]  # as an archive is unpacked
    for place in places:
        for recognise in NAMED.values():
            if found := recognise(place):
                return found
    if found := of_files.recognise(folder):
        tables = [path.name for path in of_table.tables_of(folder)]
        found.notes += [f"not used, because no column names image files: {shown(tables)}"] if tables else []
        return found
    looked = "; ".join([*NAMED, FILES])
    raise FoundError(f"{folder} holds nothing that is known. Looked for: {looked}. Seen: {_seen(folder)}")


def _seen(folder: Path) -> str:
    """ "3 files .txt, 2 folders"."""
    return ", ".join(_kinds(folder)) or "nothing"


def _kinds(folder: Path) -> Iterator[str]:
    there = [path for path in folder.rglob("*") if not path.name.startswith(".")]
    endings = Counter("".join(path.suffixes[-1:]) or "without ending" for path in there if path.is_file())
    yield from (f"{counted(n, 'file')} {ending}" for ending, n in endings.most_common(6))
    if folders := sum(path.is_dir() for path in there):
        yield counted(folders, "folder")
