"""Opens DICOM files, with errors that repeat nothing of them."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from fedsynth.data.manifest import SetError
from fedsynth.errors import UserError

IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
PREAMBLE = 128  # bytes before "DICM"
# first bytes of a file without preamble: a tag of the group 0002 or 0008, little or big endian
BARE = (b"\x02\x00", b"\x08\x00", b"\x00\x08")

# what pydicom logs may repeat values of a file
logging.getLogger("pydicom").addHandler(logging.NullHandler())
logging.getLogger("pydicom").propagate = False


def neutral(kind: str, identity: str, salt: object) -> str:
    """A name that tells nothing of what it stands for, the same for the same: "series-3f2a91c04b7e"."""
    return f"{kind}-{hashlib.sha256(f'{salt}:{identity}'.encode()).hexdigest()[:12]}"


@contextmanager
def reading(name: str) -> Iterator[None]:
    """What goes wrong inside is a SetError with `name` that repeats nothing of the file; warnings, which might, are not
    shown.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UserError:
        raise
    except Exception as error:  # of pydicom and of decoders: anything
        raise SetError(
            f"{name} cannot be read ({type(error).__name__}): its header contradicts itself or breaks off; export it"
            " again"
        ) from None


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its first bytes, whatever its name; with or without a preamble."""
    with path.open("rb") as file:
        start = file.read(PREAMBLE + 4)
    # the tag's element is below 0100 and a length or a value representation follows
    return start[PREAMBLE:] == b"DICM" or (start[:2] in BARE and len(start) == PREAMBLE + 4 and 0 in start[2:4])


def header(path: Path) -> Any:
    """A file's dataset without pixels. Raises SetError where it is none."""
    return _read(path, stop_before_pixels=True)


def dataset(path: Path) -> Any:
    """A file's dataset. The last ones are kept: frames of one file, and masks of one series, are read in turn."""
    about = path.stat()
    return _kept(path, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=4)
def _kept(path: Path, size: int, changed: int) -> Any:
    return _read(path)


def _read(path: Path, **how: Any) -> Any:
    import pydicom

    with reading("a file"):
        if not is_dicom(path):
            raise SetError("a file is not DICOM")
        found = pydicom.dcmread(path, force=True, **how)
        if "SOPClassUID" not in found and "MediaStorageSOPClassUID" not in found.file_meta:
            raise SetError("a file is not DICOM")
        if "TransferSyntaxUID" not in found.file_meta:
            implicit, little = found.original_encoding
            syntax = (IMPLICIT if implicit else EXPLICIT) if little else BIG_ENDIAN
            found.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
        return found
