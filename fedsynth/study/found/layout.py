"""Layout: how a folder is read by a source, and what was guessed for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import pandas as pd

from fedsynth.data.reading import READERS
from fedsynth.errors import UserError
from fedsynth.params import Block, Image, names
from fedsynth.sources import Source

TABLE = "fedsynth.sources.table.Table"
MANIFEST = "manifest.csv"  # the name of a table that is proposed, beside params.yaml
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
UNLABELLED = "unlabelled"
LEFT_OUT = ("__MACOSX", "derivatives", "sourcedata")


class FoundError(UserError):
    """A folder cannot be a study's; the message says what was looked for, what was seen and what to do."""


@dataclass
class Layout:
    """How a source reads a folder.

    `args` are the source's, without `partition`; `channels` are those of params.yaml. `dims`: spatial axes of a file.
    `table`: a manifest that is proposed, to be written beside params.yaml. `sited`: whether the source knows sites.
    `drop`: what `exclude` of the source calls an image; "" where it has no such argument. `label_files`: some files of
    masks, to tell their values; `values`: the names of values, where the folder says them. `renamed`: labels of files
    that get another name here. `by_mask`: a label may be told by the mask. `notes`: what was guessed.
    """

    title: str
    folder: Path
    class_path: str
    args: dict[str, Any]
    channels: dict[str, Any]
    dims: int
    labels: list[str] = field(default_factory=list)
    sited: bool = False
    drop: Literal["image", "subject", ""] = ""
    at_most: bool = True  # whether the source can take a part of the images
    table: pd.DataFrame | None = None
    by_mask: bool = False
    label_files: list[Path] = field(default_factory=list)
    values: dict[str, list[int]] = field(default_factory=dict)
    slices: dict[str, Any] | str | None = None
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # of files, seen before any was read

    @property
    def masks(self) -> list[str]:
        return [name for name, kind in self.channels.items() if kind == "mask"]

    @property
    def axes(self) -> int:
        """Spatial axes of an image: two of a slice."""
        return 2 if self.slices is not None else self.dims

    def image(self, **more: Any) -> Image:
        """`image` of params.yaml, of the least size where none is given."""
        said = {"size": [16] * self.axes, "channels": self.channels, "labels": self.labels or ["?"]}
        return Image.model_validate(said | more)

    def source(self, image: Image, seed: int, table: Path | None, **args: Any) -> Source:
        """The source; `table`: where the proposed manifest lies for now. Raises UserError as sources do."""
        said = self.arguments | args
        if table is not None:
            said["table"] = str(table)
        built: Source = Block(class_path=self.class_path, args=said).build(image=image, seed=seed)
        return built

    @contextmanager
    def beside(self, table: pd.DataFrame | None) -> Iterator[Path | None]:
        """Where a table that is proposed lies for now; None without one."""
        if table is None:
            yield None
            return
        with TemporaryDirectory() as folder:
            path = Path(folder) / MANIFEST
            table.to_csv(path, index=False)
            yield path

    @property
    def arguments(self) -> dict[str, Any]:
        return self.args | ({"slices": self.slices} if self.slices is not None else {})


def files_of(folder: Path) -> list[str]:
    """All files below a folder that may be images, relative to it, without hidden ones."""
    found = []
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        hidden = any(part.startswith(".") or part in LEFT_OUT for part in place.parts)
        if not hidden and path.name.lower().endswith(tuple(READERS)) and path.is_file():
            found.append(place.as_posix())
    return found


def stem(name: str) -> str:
    """A file's name without folders and without the ending of its kind."""
    bare = names.normal(name).rpartition("/")[2]
    end = max((end for end in READERS if bare.lower().endswith(end)), key=len, default="")
    return bare[: len(bare) - len(end)]


def channel(text: str, default: str = "image") -> str:
    """A name of a channel made of a text: "T1w MR" is t1w_mr."""
    plain = re.sub(r"[^a-z0-9]+", "_", names.normal(text).casefold()).strip("_")[:40]
    return plain or default


def shown(items: list[str], most: int = 5) -> str:
    """ "a, b, c and 7 more"."""
    more = f" and {len(items) - most} more" * (len(items) > most)
    return ", ".join(items[:most]) + more


def counted(n: int, what: str) -> str:
    """ "1 image", "2 images"; a word that ends in -s takes -es."""
    return f"{n} {what}" if n == 1 else f"{n} {what}{'es' if what.endswith('s') else 's'}"
