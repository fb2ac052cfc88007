"""Source: a data set in the Brain Imaging Data Structure (BIDS)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from fedsynth.data import images
from fedsynth.data.manifest import SetError
from fedsynth.data.partition import parse
from fedsynth.params import Image
from fedsynth.sources import Record
from fedsynth.sources._indexed import (
    IndexedSource,
    Values,
    check_names,
    one_of,
    only_label,
    put_images,
    put_mask,
    selected,
    text_table,
)

PEOPLE, ENDINGS = "participants.tsv", (".nii.gz", ".nii")
MASKS = ("mask", "dseg")


class BIDS(IndexedSource):
    """`folder`/sub-*/[ses-*/]anat/sub-*_<suffix>.nii.gz (Gorgolewski et al. 2016, doi:10.1038/sdata.2016.44; or another
    `datatype`).

    A session is an image of its subject. An image channel is the file whose suffix is its name, or the one that
    `channels` says, {t1: T1w}; a session that has none of them is no image. Where there are several, `entities` choose:
    {acq: mprage, run: "1"}; a null asks for files without that entity.

    Masks are in derivatives/<pipeline>, of which `derivative` names one, in folders as above. `masks` says which file
    is which mask channel, by the end of its name, {lesion: label-lesion_mask}, or which values of the only *_dseg are,
    {lesion: [1, 2]}. By default one mask channel is the only *_mask or *_dseg, of several each is its
    label-<channel>_mask. A session without its mask is a problem, or, where `missing_mask` is empty, one in which
    nothing is marked.

    `label` and `site` are columns of participants.tsv; `labels` renames labels, null leaves an image out. Without
    `label` all images are of the only one of `image.labels`; without a column `site` give `partition`, a
    fedsynth.data.partition.Partition.
    """

    def __init__(
        self,
        image: Image,
        seed: int,
        folder: str,
        label: str = "",
        site: str = "site",
        channels: dict[str, str] | None = None,
        entities: dict[str, str | None] | None = None,
        masks: dict[str, str | Values] | None = None,
        derivative: str = "",
        missing_mask: Literal["problem", "empty"] = "problem",
        datatype: str = "anat",
        labels: dict[str, str | None] | None = None,
        partition: dict[str, Any] | None = None,
    ):
        self.image, self.seed, self.folder, self.label, self.site, self.channels = (
            image,
            seed,
            folder,
            label,
            site,
            channels,
        )
        self.entities, self.masks, self.derivative, self.missing_mask, self.datatype = (
            entities,
            masks,
            derivative,
            missing_mask,
            datatype,
        )
        self.labels, self.partition, self._partition = labels, partition, parse(partition)
        check_names("masks", masks, image.masks)
        check_names("channels", channels, image.images)
        one_of("missing_mask", missing_mask, "problem", "empty")

    def index(self) -> pd.DataFrame:
        rows = [self._row(place, here) for place, here in self._places() if here]
        if not rows:
            there = sorted(
                {_suffix(p) for p in self._folder.glob(f"sub-*/**/{self.datatype}/*") if p.name.endswith(ENDINGS)}
            )
            raise SetError(
                f"{self._folder} has no image {self._suffixes} under sub-*/{self.datatype}, but {there}; see"
                " source.args.channels"
            )
        return pd.DataFrame(rows)

    def files(self) -> Iterable[str]:
        people = [PEOPLE] if (self._folder / PEOPLE).is_file() else []
        return people + [
            self._short(p) for place, here in self._places() if here for p in [*here, *self._derived(place)]
        ]

    def read(self, row: dict[str, Any], record: Record) -> None:
        for name, file in zip(self.image.images, row["images"], strict=True):
            planes, record.spacing_mm = images.read(self._folder / file, len(self.image.size))
            put_images(record, [name], planes, file)
        for name in self.image.masks:
            ending, values = self._mask(name)
            found = [p for p in self._derived(row["place"]) if _stem(p).endswith(ending)]
            if len(found) > 1 or (not found and self.missing_mask == "problem"):
                hint = "see source.args.masks and derivative" + ("" if found else ", or missing_mask: empty")
                raise SetError(f"{row['name']} has {len(found)} masks *{' or *'.join(ending)} for {name!r}; {hint}")
            mask = images.read(found[0], len(self.image.size))[0][0] if found else None
            put_mask(record, name, None if mask is None else selected(mask, values), "".join(map(self._short, found)))

    def _row(self, place: str, here: list[Path]) -> dict[str, Any]:
        """The row of the session whose files `here` have the wanted suffixes."""
        by_suffix = {s: [self._short(p) for p in here if _suffix(p).lower() == s.lower()] for s in self._suffixes}
        name, problem, subject = self._short(here[0]), "", place.partition("/")[0]
        for suffix, found in by_suffix.items():
            if len(found) != 1:
                hint = "choose one by source.args.entities" if found else "add it, or ask for other channels"
                problem = f"{place} has {len(found)} files *_{suffix}{': ' + ', '.join(found) if found else ''}; {hint}"
        row = {
            "place": place,
            "name": name,
            "subject": subject,
            "images": [found[0] for found in by_suffix.values() if found],
        }
        label, site, unknown = self._person(subject)
        return row | {"label": label, "site": site, "problem": problem or unknown}

    def _person(self, subject: str) -> tuple[str, str, str]:
        """Label, site and problem by participants.tsv."""
        constant = (
            "" if self.label else only_label(self.image, f"name in source.args.label the column of {PEOPLE} that does")
        )
        row = self._people.get(subject, {})
        label, site = row.get(self.label, "") if self.label else constant, row.get(self.site, "")
        lost = self.label and label in ("", "n/a")
        return (
            label,
            "" if site == "n/a" else site,
            f"{subject} has no {self.label} in {PEOPLE}; add it, or take the folder away" * bool(lost),
        )

    def _places(self) -> Iterable[tuple[str, list[Path]]]:
        """Each subject's sessions, "sub-1/ses-2" or "sub-1", with the image files there that have a wanted suffix."""
        wanted = {s.lower() for s in self._suffixes}
        for subject in sorted(p for p in self._folder.glob("sub-*") if p.is_dir()):
            for place in sorted(p for p in subject.glob("ses-*") if p.is_dir()) or [subject]:
                yield (
                    self._short(place),
                    [p for p in _volumes(place / self.datatype) if _suffix(p).lower() in wanted and self._chosen(p)],
                )

    def _derived(self, place: str) -> list[Path]:
        """Masks of a session in the pipelines."""
        folders = sorted((self._folder / "derivatives").glob(self.derivative or "*")) if self.image.masks else []
        return [p for folder in folders for p in _volumes(folder / place / self.datatype) if _suffix(p) in MASKS]

    def _chosen(self, path: Path) -> bool:
        parts = dict(part.partition("-")[::2] for part in _stem(path).split("_")[:-1])
        return all(
            parts.get(entity) == (None if value is None else str(value))
            for entity, value in (self.entities or {}).items()
        )

    def _mask(self, name: str) -> tuple[tuple[str, ...], Values | None]:
        """Ends of the file's name, and the values of it that count."""
        said = (self.masks or {}).get(name)
        if isinstance(said, str):
            return ("_" + said,), None
        if said is not None:
            return ("_dseg",), said
        return (("_mask", "_dseg") if len(self.image.masks) == 1 else (f"_label-{name}_mask",)), None

    @property
    def _suffixes(self) -> list[str]:
        return [(self.channels or {}).get(name, name) for name in self.image.images]

    @cached_property
    def _people(self) -> dict[str, dict[str, str]]:
        path = self._folder / PEOPLE
        if not self.label and not path.is_file():
            return {}
        table = text_table(
            path, ["participant_id", *[self.label] * bool(self.label)], "BIDS has participants' labels and sites there"
        )
        return table.drop_duplicates("participant_id").set_index("participant_id").to_dict("index")

    def _short(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()


def _volumes(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("sub-*") if p.name.endswith(ENDINGS))


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _suffix(path: Path) -> str:
    return _stem(path).rpartition("_")[2]
