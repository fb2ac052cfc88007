"""ImageSet: the images of a manifest as arrays. Real and synthetic sets have the same interface."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fedsynth.data import manifest as table
from fedsynth.data.images import UNKNOWN
from fedsynth.data.stored import PART, OnDisk, Stored, joined, opened
from fedsynth.params import Image, Params

if TYPE_CHECKING:
    import torch

MOST = 64 * 2**20  # bytes of images that are in memory at once where a set is gone through


@dataclass(frozen=True)
class ImageSet:
    """N images with their manifest: `images` (N, C, *S) float32 in [-1, 1], mask channels -1 or 1; rows in the
    manifest's order.

    A large set's images are `Stored`: they stay on disk and are read where they are asked for.
    """

    manifest: pd.DataFrame
    images: np.ndarray | Stored

    @classmethod
    def load(cls, folder: Path, verify: bool = True) -> ImageSet:
        """Read a set, or open one that FEDSYNTH_MEMORY has no room for; with `verify`, check every pixel against the
        manifest's hashes.

        Raises SetError naming the folder and the row that differs.
        """
        folder = Path(folder)
        rows = table.read(folder)
        loaded = cls(rows, opened(folder / table.ARRAY, rows["index"].to_numpy(dtype=int)))
        if verify:
            loaded._verify(folder)
        return loaded

    def _verify(self, folder: Path) -> None:
        # The stored array does not say which channels are masks; the row's own hashes do, by their split of the
        # channels.
        for row, image in zip(self.manifest.itertuples(), self.images, strict=True):
            channels = len(row.modality.split("+"))
            found = table.sha256(image[:channels]), table.sha256(image[channels:]) if row.mask_sha256 else ""
            if found != (row.sha256, row.mask_sha256):
                raise table.SetError(
                    f"{folder}: the pixels of {row.image_id} are not those of its manifest; run ingest --anew and"
                    " validate again"
                )

    def __len__(self) -> int:
        return len(self.manifest)

    def where(self, keep: pd.Series | np.ndarray) -> ImageSet:
        keep = np.asarray(keep, dtype=bool)
        images = self.images.where(keep) if isinstance(self.images, Stored) else self.images[keep]
        return ImageSet(self.manifest[keep].reset_index(drop=True), images)

    def at(self, places: np.ndarray) -> ImageSet:
        """The images at these places (B,), in this order and as often as they are named, in memory."""
        return ImageSet(self.manifest.iloc[places].reset_index(drop=True), self.images[places])

    def parts(self, n: int = PART, most: int = MOST) -> Iterator[ImageSet]:
        """Yield the set in parts of n images, fewer where these are more than `most` bytes, each in memory; an empty
        set as one part.

        The parts are the same whether the set is on disk or in memory.
        """
        n = max(1, min(n, most // max(1, self.images.nbytes // max(1, len(self)))))
        for start in range(0, max(1, len(self)), n):
            rows = self.manifest.iloc[start : start + n].reset_index(drop=True)
            yield ImageSet(rows, self.images[start : start + n])

    def split(self, name: str) -> ImageSet:
        """The rows of one split (train, val, test)."""
        return self.where(self.manifest["split"] == name)

    def labels(self, image: Image) -> np.ndarray:
        """(N,) int64: places in params.yaml's `image.labels`. Raises SetError for a label that is not there."""
        places = {name: i for i, name in enumerate(image.labels)}
        if unknown := set(self.manifest["label"]) - set(places):
            raise table.SetError(f"labels {sorted(unknown)} are not in image.labels {image.labels}")
        return self.manifest["label"].map(places).to_numpy(dtype=np.int64)

    def subjects(self) -> np.ndarray:
        """(N,) int64: the same number for all images of one subject, and nothing else of who it is."""
        return pd.factorize(self.manifest["subject"])[0].astype(np.int64)

    def patients(self) -> np.ndarray:
        """(N,) whose image each is; one without a subject is its own."""
        return table.patients(self.manifest)

    def condition_labels(self, image: Image) -> np.ndarray:
        """(N,) int64: the labels as a model is told them, all 0 where it is not (`image.tells_label`)."""
        return self.labels(image) * int(image.tells_label)

    def channels(self, image: Image, names: list[str], at: slice = slice(None)) -> np.ndarray:
        """(N, len(names), *S) float32 of the named channels; `at`: of these images alone."""
        if isinstance(self.images, Stored):
            return self.images.of(image.index(names))[at]
        return np.ascontiguousarray(self.images[at][:, image.index(names)], dtype=np.float32)

    def planes(self, image: Image, names: list[str]) -> torch.Tensor:
        """As `channels`, a tensor; those of images that are on disk stay there and read as one (`OnDisk`)."""
        import torch

        if isinstance(self.images, Stored):
            return OnDisk(self.images.of(image.index(names)))  # type: ignore[return-value]
        return torch.from_numpy(self.channels(image, names))

    def channels_or_nan(self, image: Image, names: list[str]) -> np.ndarray:
        """As `channels`, with NaN for a channel that an image does not have: one of `image.may_lack`, or an unknown
        mask.
        """
        out = self.channels(image, names)
        for place, lacking in self._lacked(image, names):
            out[lacking, place] = np.nan
        return out

    def planes_or_nan(self, image: Image, names: list[str]) -> torch.Tensor:
        """As `channels_or_nan`, a tensor; those of images that are on disk stay there and read as one (`OnDisk`)."""
        import torch

        if not isinstance(self.images, Stored):
            return torch.from_numpy(self.channels_or_nan(image, names))
        found = self.images.of(image.index(names))
        for place, lacking in self._lacked(image, names):
            found = found.fill(place, np.nan, lacking)
        return OnDisk(found)  # type: ignore[return-value]

    def _lacked(self, image: Image, names: list[str]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the places in `names` of channels that images may lack, with the images (N,) bool that do."""
        for place, name in enumerate(names):
            if (name in image.may_lack or name in image.masks) and not (has := self.has(image, name)).all():
                yield place, ~has

    def has(self, image: Image, name: str) -> np.ndarray:
        """(N,) bool: which images have a channel. That of the others is -1 throughout, an unknown mask 0."""
        places, absent = image.index([name]), blank(image, name)
        parts = self.images.of(places).parts() if isinstance(self.images, Stored) else [self.images[:, places]]
        # of no images, too
        return np.concatenate([(part != absent).any(axis=tuple(range(1, part.ndim))) for part in parts])

    def lacking(self, image: Image) -> list[int]:
        """Places in `image.generated` of the channels that some of these images do not have."""
        return [place for place, name in enumerate(image.generated) if not self.has(image, name).all()]

    def with_given(self, image: Image) -> ImageSet:
        """The images whose given channels are all known: a given mask may be unknown."""
        return self.where(np.all([np.ones(len(self), bool), *(self.has(image, c) for c in image.given)], axis=0))

    def without(self, image: Image, names: list[str]) -> ImageSet:
        """The same images as if these channels had not been taken."""
        if not names:
            return self
        images = self.images if isinstance(self.images, Stored) else self.images.copy()
        for name in names:
            if isinstance(images, Stored):
                images = images.fill(image.index([name])[0], blank(image, name))
            else:
                images[:, image.index([name])] = blank(image, name)
        return ImageSet(self.manifest, images)

    def tensors(self, image: Image) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Images (N, I, *S) without derived channels, masks (N, M, *S) in [-1, 1] (0 throughout where unknown), labels
        (N,), as a use takes them.
        """
        import torch

        labels = torch.tensor(self.labels(image))
        return self.planes(image, image.originals), self.planes(image, image.masks), labels


def blank(image: Image, name: str) -> float:
    """The stored value of a channel that an image does not have."""
    return UNKNOWN if name in image.masks else -1.0


def concatenate(sets: list[ImageSet]) -> ImageSet:
    return ImageSet(pd.concat([s.manifest for s in sets], ignore_index=True), joined([s.images for s in sets]))


def synthetic(params: Params, images: np.ndarray, places: np.ndarray, name: str, version: str) -> ImageSet:
    """A set of images (N, C, *S) that the model `name` has drawn for labels `places` (N,), with its manifest."""
    rows = [
        synthetic_row(params, i, k, array, name, version)
        for i, (k, array) in enumerate(zip(places, images, strict=True))
    ]
    return ImageSet(table.frame(rows), images)


def synthetic_row(params: Params, place: int, label: int, array: np.ndarray, name: str, version: str) -> dict[str, Any]:
    """The manifest's row of an image (C, *S) that the model `name` has drawn; `place` in its set, `label` in
    image.labels.
    """
    image, own = params.image, f"{name}-{place:05d}"
    return table.row(
        len(image.images),
        array,
        image_id=own,
        site="synthetic",
        subject=own,
        label=image.labels[label],
        modality="+".join(image.images),
        split="train",
        index=place,
        origin="synthetic",
        model=f"{name}/{version}",
        seed=params.seed,
    )


def batches(n: int, batch: int, steps: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """`steps` index tensors of at most `batch` places, without replacement within an epoch; the shuffle comes from
    `generator`.
    """
    import torch

    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(order) < min(batch, n):
            order = torch.cat([order, torch.randperm(n, generator=generator)])
        yield order[:batch]
        order = order[batch:]
