"""Source: the benchmark sets of MedMNIST, one .npz each, with the published splits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from fedsynth.data import reading
from fedsynth.data.geometry import Grid
from fedsynth.data.manifest import SPLITS, SetError
from fedsynth.data.partition import deal, parse
from fedsynth.data.planes import COLOURS, Planes
from fedsynth.params import Image, ParamsError
from fedsynth.params.names import quoted
from fedsynth.sources import LISTED, Record, Source, path_of
from fedsynth.sources._indexed import put_images, put_masks
from fedsynth.sources._tables import at_most as first_of
from fedsynth.sources._tables import check_at_most, text


class MedMNIST(Source):
    """An .npz as MedMNIST publishes it (Yang et al. 2023, "MedMNIST v2", doi:10.1038/s41597-022-01721-8), dealt out to
    sites.

    For each of train, val and test that the file has: `train_images` uint8, (N, H, W), (N, H, W, 3) or (N, D, H, W),
    and `train_labels` (N, 1), integers. Three planes are red, green and blue; brightness is {gray: {image: luminance,
    of: [rgb]}} in `image.channels`. Mask channels are set where `train_masks`, (N, *S) or (N, *S, masks), is above 0:
    fedsynth.exporters.npz.NPZ writes such, the published sets have none.

    `file` may name environment variables, `${SO}`; {t1: file, t2: file} are image channels in files of their own, with
    the same images in the same order; labels and masks are the first file's.

    `labels` names the integers: a list, or {"0": name} as in MedMNIST's info.py, where one name may stand for several,
    and null leaves an image out; without it the label is the integer. `partition` is a
    fedsynth.data.partition.Partition of another kind than `site`; `at_most` takes so many images of each class at each
    site, for a trial. `md5` (MedMNIST publishes it) or `sha256` of the file is checked where it is given.

    MedMNIST names no patients: each image is a subject of its own. With `splits: hash` two images of one patient,
    near-duplicates even, may part between training and test. `official` keeps to the published splits (`split` of
    params.yaml then does nothing), which avoid that where the makers knew the patients, and not in every set
    (DermaMNIST: Abhishek et al. 2025, arXiv:2401.14497). Two sites may hold one patient either way. The file is held in
    memory; what is wrong with it is a SetError, as there is no other file to go on with.
    """

    def __init__(
        self,
        image: Image,
        seed: int,
        file: str | dict[str, str],
        labels: list[str] | dict[str, str | None] | None = None,
        partition: dict[str, Any] | None = None,
        splits: Literal["official", "hash"] = "official",
        md5: str = "",
        sha256: str = "",
        at_most: int | None = None,
    ):
        self.image, self.seed, self.file, self.labels, self.partition = image, seed, file, labels, partition
        self.splits, self.md5, self.sha256, self.at_most = splits, md5, sha256, at_most
        check_at_most(at_most)
        if splits not in ("official", "hash"):
            raise ParamsError(f"source.args.splits: official or hash, not {splits!r}")
        self._names, self._partition = _names(labels), parse(partition)
        if self._partition.kind == "site":
            raise ParamsError(
                "source.args.partition: MedMNIST has no sites; name a kind (iid, quantity or dirichlet) and sites"
            )

    def sites(self) -> list[str]:
        return self._partition.names

    def units(self, site: str) -> Sequence[tuple[str, int, str, str]]:
        rows = self._rows[self._rows["site"] == site]
        return list(rows[["split", "place", "label", "subject"]].itertuples(index=False, name=None))

    def of_unit(self, site: str, unit: tuple[str, int, str, str]) -> Iterator[Record]:
        split, place, label, subject = unit
        own = split if self.splits == "official" else ""
        record = Record({}, label, subject, file=f"{self._path.name}/{split}_images/{place}", split=own)
        for path, channels in self._paths.items():
            planes = self._planes(f"{split}_images", place, path)
            put_images(record, self.image, channels, planes, f"{path}: {split}_images/{place}")
        if self.image.masks:
            self._read_masks(record, f"{split}_masks", place)
        yield record

    def look(self) -> None:
        _ = self._paths

    def listed(self) -> pd.DataFrame:
        return self._rows.assign(split=self._rows["split"] if self.splits == "official" else "")[LISTED]

    def paths(self) -> set[Path]:
        return {path.resolve() for path in self._paths}

    def fingerprint(self) -> str:
        return " ".join(f"{about.st_size} {about.st_mtime_ns}" for about in (path.stat() for path in self._paths))

    def _planes(self, name: str, place: int, path: Path) -> Planes:
        """Values from 0 to 255."""
        array = self._of_file[path][name][place]
        planes = reading.channels_first(array, len(self.image.size), f"{path.name}/{name}/{place}")
        colour = planes.ndim == 3 and len(planes) == len(COLOURS)
        grid = Grid(planes.shape[1:])
        return Planes(np.ascontiguousarray(planes, np.float32), grid, COLOURS if colour else (), (0.0, 255.0))

    def _read_masks(self, record: Record, name: str, place: int) -> None:
        planes, names = self._planes(name, place, self._path), self.image.masks
        if len(planes.values) != len(names):
            raise SetError(
                f"{self._path}: {name} has {len(planes.values)} masks for each image, image.channels names {names}"
            )
        for channel, plane in zip(names, planes.values, strict=True):
            put_masks(record, {channel: None}, Planes(plane[None], planes.grid), f"{self._path.name}/{name}/{place}")

    @cached_property
    def _path(self) -> Path:
        """The file with labels and masks."""
        return next(iter(self._paths))

    @cached_property
    def _paths(self) -> dict[Path, list[str]]:
        """The image channels of each file."""
        names = self.image.images
        found: dict[Path, list[str]] = {}
        for file, channels in [(self.file, names)] if isinstance(self.file, str) else self._by_channel(self.file):
            path = path_of(file, "file", "where the .npz lies")
            if not path.is_file():
                raise SetError(
                    f"{path} is not there; fetch it from https://medmnist.com and name it in source.args.file"
                )
            if path in found:
                raise ParamsError(f"source.args.file: {path} is named for {found[path][0]} and {channels[0]}")
            found[path] = channels
        return found

    def _by_channel(self, files: dict[str, str]) -> list[tuple[str, list[str]]]:
        if set(files) != set(self.image.images):
            raise ParamsError(f"source.args.file names {sorted(files)}, image channels are {self.image.images}")
        return [(files[channel], [channel]) for channel in self.image.images]

    @cached_property
    def _rows(self) -> pd.DataFrame:
        """A row for each image: split, place in its arrays, label, subject, images (1), site."""
        parts = []
        for split in self._splits:
            labels = [self._label(value, f"{split}_labels") for value in self._arrays[f"{split}_labels"][:, 0].tolist()]
            parts.append(pd.DataFrame({"split": split, "place": range(len(labels)), "label": labels}))
        rows = pd.concat(parts, ignore_index=True)
        rows = rows.assign(
            subject=[f"{split}-{place:06d}" for split, place in zip(rows["split"], rows["place"], strict=True)],
            images=1,
        )
        rows = rows[rows["label"].notna()]
        sites = deal(rows[["subject", "label", "images"]], self._partition, self.seed)
        return first_of(rows.assign(site=rows["subject"].map(sites)), self.at_most, self.seed)

    def _label(self, value: int, name: str) -> str | None:
        if self._names is None:
            return str(value)
        if value not in self._names:
            raise SetError(f"{self._path}: {name} holds {value}, source.args.labels names {sorted(self._names)} only")
        return self._names[value]

    @property
    def _arrays(self) -> dict[str, np.ndarray]:
        return self._of_file[self._path]

    @property
    def _splits(self) -> list[str]:
        return [split for split in SPLITS if f"{split}_images" in self._arrays]

    @cached_property
    def _of_file(self) -> dict[Path, dict[str, np.ndarray]]:
        """The arrays that are asked for, checked: images and masks (N, …), labels (N, 1). Raises SetError naming file
        and array.
        """
        self._verify()
        found = {path: self._load(path) for path in self._paths}
        first = found[self._path]
        for path, arrays in found.items():
            for split in SPLITS:
                name = f"{split}_labels"
                if not np.array_equal(arrays.get(name, []), first.get(name, [])):
                    raise SetError(
                        f"{path}: {split}_labels are not those of {self._path}; channels of one set have one"
                    )
        return found

    def _load(self, path: Path) -> dict[str, np.ndarray]:
        kinds = ["images", "labels"] + ["masks"] * (bool(self.image.masks) and path == self._path)
        try:
            with np.load(path, allow_pickle=False) as file:
                # a set of ours may be all in train
                splits = [s for s in SPLITS if {f"{s}_images", f"{s}_labels"} & set(file)] or list(SPLITS)
                wanted = [f"{split}_{kind}" for split in splits for kind in kinds]
                arrays = {name: file[name] for name in wanted if name in file}
        # numpy and zipfile raise anything on a broken file, and AttributeError on a lone array
        except Exception as error:
            raise SetError(f"{path} cannot be read as .npz: {error}; fetch it again") from error
        if missing := [name for name in wanted if name not in arrays]:
            raise SetError(f"{path} has no {', '.join(missing)}; source.args.file must be as MedMNIST publishes it")
        for split in splits:
            _check(path, split, arrays)
        return arrays

    def _verify(self) -> None:
        for kind, expected in (("md5", self.md5), ("sha256", self.sha256)):
            if expected:
                with self._path.open("rb") as file:
                    found = hashlib.file_digest(file, kind).hexdigest()
                if found != str(expected).lower():
                    raise SetError(
                        f"{self._path}: its {kind} is {found}, source.args.{kind} expects {expected}; fetch the file"
                        " again"
                    )


def _names(labels: list[str] | dict[str, str | None] | None) -> dict[int, str | None] | None:
    if labels is None:
        return None
    said: list[tuple[Any, Any]] = list(labels.items() if isinstance(labels, dict) else enumerate(labels))
    if wrong := [part for one in said for part in one if isinstance(part, bool)]:
        raise ParamsError(f"source.args.labels: {quoted(wrong[0])}")
    try:
        found = {int(number): None if name is None else text(name) for number, name in said}
    except (TypeError, ValueError) as error:
        raise ParamsError(f'source.args.labels: a list of names, or {{"0": name}}, not {labels}') from error
    if len(found) != len(said):
        raise ParamsError(f"source.args.labels: {labels} names an integer twice")
    return found


def _check(path: Path, split: str, arrays: dict[str, np.ndarray]) -> None:
    pixels, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    if pixels.dtype != np.uint8:
        raise SetError(f"{path}: {split}_images is of {pixels.dtype}; MedMNIST's are uint8")
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise SetError(
            f"{path}: {split}_labels is {labels.shape}, several labels for each image (as in chestmnist); take a set"
            " with one for each"
        )
    if labels.shape != (len(pixels), 1) or labels.dtype.kind not in "iu":
        raise SetError(
            f"{path}: {split}_labels is {labels.shape} of {labels.dtype}; {len(pixels)} images need ({len(pixels)}, 1)"
            " integers"
        )
    if len(masks := arrays.get(f"{split}_masks", pixels)) != len(pixels):
        raise SetError(f"{path}: {split}_masks has {len(masks)} masks for {len(pixels)} images")
