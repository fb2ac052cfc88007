"""Planes: the pixels of one file with what the file says of them. Channels are matched by name here."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fedsynth.data.geometry import Grid
from fedsynth.data.manifest import SetError
from fedsynth.params import Image

BITS8, HU = (0.0, 255.0), (-1000.0, 1000.0)  # ranges of 8-bit pictures, and of computed tomography
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow
COLOURS = ("red", "green", "blue")
INDEX = ("index",)  # the name of the plane of a mask with a palette
INITIALS = {"r": "red", "g": "green", "b": "blue"}
GRAY = 2.0 / 255  # of the range of 8 bits, by which planes of a gray picture saved in colour may differ


@dataclass(frozen=True, eq=False)
class Planes:
    """`values` (C, *S) float32 of one file; `names` of the planes where the file names them (the three colours), else
    empty.
    """

    values: np.ndarray
    grid: Grid
    names: tuple[str, ...] = ()
    range: tuple[float, float] | None = None  # of the kind of file: (0, 255) of 8 bits
    exif: int = 1  # orientation that was undone on reading
    lossy: bool = False
    times: bool = False  # planes are points in time

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape[1:]


def key(name: str) -> str:
    """A channel's name for comparison: case, blanks, "-" and "_" do not count, and r, g, b are the colours."""
    bare = "".join(c for c in name.casefold() if c not in "-_ ")
    return INITIALS.get(bare, bare)


def places(wanted: list[str], there: list[str] | tuple[str, ...], what: str, hint: str = "") -> list[int]:
    """Where the wanted channels are among those that are there, by name. Raises SetError naming both where one is not
    there, or two are meant.
    """
    keys = [key(name) for name in there]
    for name in wanted:
        if keys.count(key(name)) != 1:
            found = "has no channel" if key(name) not in keys else "has several channels named"
            raise SetError(f"{what} {found} {name!r}, it has {', '.join(map(repr, there))}{hint and '; ' + hint}")
    return [keys.index(key(name)) for name in wanted]


def choose(planes: Planes, wanted: list[str], image: Image) -> Planes:
    """The planes of the wanted image channels, in their order: by name where the file names its planes, by
    `image.conversions`, and else one plane for one channel or as many planes as channels.

    Raises SetError (without the file's name) where that is not clear.
    """
    values, names = planes.values, planes.names
    if names == COLOURS and not _colours(wanted) and _gray(planes):
        values, names = values[:1], ("gray",)  # a gray picture that was saved in colour
    kind = {COLOURS: "rgb", ("gray",): "gray"}.get(names, "gray" if len(values) == 1 and not names else "")
    if kind and any(_how(image, name, kind) for name in wanted):
        values = np.stack([_converted(values, names or ("gray",), name, _how(image, name, kind)) for name in wanted])
    elif len(values) == len(wanted) == 1:
        pass  # a file of one plane is the channel that it is asked for
    elif names:
        values = values[places(wanted, names, "", _remedy(wanted, kind))]
    elif len(values) != len(wanted) or planes.times:
        what = "points in time" if planes.times else "planes without names"
        raise SetError(
            f"has {len(values)} {what}, which are not the image channels {', '.join(wanted)}; give a file for each"
            " channel, or a format that names them (dataset.json of Decathlon or nnU-Net)"
        )
    return replace(planes, values=np.ascontiguousarray(values, np.float32))


def _colours(wanted: list[str]) -> bool:
    return set(map(key, wanted)) <= set(COLOURS)


def _gray(planes: Planes) -> bool:
    most = GRAY * ((planes.range or BITS8)[1])
    return bool(np.abs(planes.values - planes.values[:1]).max() <= most)


def _how(image: Image, name: str, kind: str) -> str:
    """How `image.channels` makes a channel of a file of this kind; empty where it does not say."""
    said = image.conversions.get(name)
    return said.image if said and kind in said.of else ""


def _converted(values: np.ndarray, names: tuple[str, ...], name: str, how: str) -> np.ndarray:
    if len(values) == 1 and how in ("luminance", "copy"):
        return values[0]
    if how == "luminance":
        return np.tensordot(LUMINANCE, values, 1)
    return values[places([how or name], names, "")[0]]


def _remedy(wanted: list[str], kind: str) -> str:
    """What to write into params.yaml, for a picture whose planes are not the channels."""
    if kind == "rgb" and len(wanted) == 1:
        return f"for its brightness say channels: {{{wanted[0]}: {{image: luminance, of: [rgb]}}}}"
    if kind == "gray":
        return f"for copies of it say channels: {{{wanted[0]}: {{image: copy, of: [gray]}}, …}}"
    return "name the channels red, green and blue" if kind == "rgb" else ""


def upright(planes: Planes, orientation: int) -> Planes:
    """Planes that lie as the sensor did, turned as an EXIF orientation (1 to 8) says: as they are to be seen."""
    values = planes.values  # (C, H, W)
    if orientation >= 5:
        values = values.swapaxes(1, 2)
    if orientation in (2, 3, 6, 7):
        values = values[:, :, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[:, ::-1]
    return replace(planes, values=np.ascontiguousarray(values), grid=Grid(values.shape[1:]), exif=orientation)
