"""Source: a data set in the Brain Imaging Data Structure (BIDS)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedsynth.data import reading
from fedsynth.data.manifest import SetError
from fedsynth.data.masks import Values, counts
from fedsynth.data.partition import parse
from fedsynth.data.planes import key
from fedsynth.params import Image, ParamsError
from fedsynth.sources import Record
from fedsynth.sources._bids_names import asked_for, ending, entities_of, is_of, native, stem, suffix, volumes
from fedsynth.sources._bids_people import People
from fedsynth.sources._indexed import IndexedSource, check_names, put_images, put_masks, slices_of
from fedsynth.sources._tables import check_at_most, chosen

MASKS = ("mask", "dseg")


class BIDS(IndexedSource):
    """`folder`/sub-*/[ses-*/]anat/sub-*_<suffix>.nii.gz (Gorgolewski et al. 2016, doi:10.1038/sdata.2016.44; or another
    `datatype`).

    A session is an image of its subject. An image channel is the file whose suffix is its name, or the one that
    `channels` says, {t1: T1w}; a session that has none of them is no image, and one without a channel of
    `image.may_lack` is without it. Where there are several files, `entities` choose: {acq: mprage, run: 1}; run 1 is
    run-01, too, and a null asks for files without that entity.

    Masks are in derivatives/<pipeline>, of which `derivative` names one, in folders as above, with the entities of
    their image (run, acq) or without them, and not in the space of a template. `masks` says which file is which mask
    channel, by the end of its name, {lesion: label-lesion_mask}, or which values of the only *_dseg are, {lesion: [1,
    2]}. By default each is its *_label-<channel>_mask, and one mask channel else the only *_mask or *_dseg without a
    label that is not that of the brain. What a session without its mask is, `image.unmarked` says.

    `label` and `site` are columns of participants.tsv, whose ids may be without "sub-"; a session has the label of its
    subject's sub-*_sessions.tsv where that has the column; sex and age are told likewise. `labels` renames labels, null
    leaves an image out. Without `label` all images are of the only one of `image.labels`; without a column `site` give
    `partition`, a fedsynth.data.partition.Partition. `exclude` leaves out sessions by columns of these tables, or by
    subject or session, {subject: [sub-07]}; `at_most` takes so many of each class at each site, for a trial. `slices`
    is a fedsynth.data.slices.Slices: an image is a slice of a volume then.
    """

    def __init__(
        self,
        image: Image,
        seed: int,
        folder: str,
        label: str = "",
        site: str = "site",
        channels: dict[str, str] | None = None,
        entities: dict[str, str | float | None] | None = None,
        masks: dict[str, str | Values] | None = None,
        derivative: str = "",
        datatype: str = "anat",
        labels: dict[str, str | None] | None = None,
        exclude: dict[str, list[str]] | None = None,
        at_most: int | None = None,
        partition: dict[str, Any] | None = None,
        slices: dict[str, Any] | None = None,
    ):
        self.image, self.seed, self.folder, self.label, self.site = image, seed, folder, label, site
        self.channels, self.entities, self.masks, self.derivative = channels, entities, masks, derivative
        self.datatype, self.labels, self.exclude, self.at_most = datatype, labels, exclude, at_most
        self.partition, self.slices = partition, slices
        self._partition, self._slices = parse(partition), slices_of(slices, image)
        check_at_most(at_most)
        check_names("masks", masks, image.masks)
        check_names("channels", channels, image.images)
        self._named = {name: _named(name, said) for name, said in (masks or {}).items()}
        for argument, name in (("derivative", derivative), ("datatype", datatype)):
            if "/" in name or "\\" in name or name.startswith("."):
                raise ParamsError(f"source.args.{argument}: must be the name of a folder, not {name!r}")

    def index(self) -> pd.DataFrame:
        rows = [self._row(place, here) for place, here in self._sessions.items() if here]
        if not rows:
            raise SetError(self._nothing())
        self._check_labels()
        said = pd.DataFrame([self._people.said(*row["place"].partition("/")[::2]) for row in rows]).fillna("")
        return pd.DataFrame(rows).loc[chosen(said, None, self.exclude, self._folder).index]

    def files(self) -> Iterable[str]:
        used = [file for place, here in self._sessions.items() if here for file in [*here, *self._derived(place)]]
        return [*self._people.files, *map(self._short, used)]

    def depends(self, row: dict[str, Any]) -> tuple[Iterable[str], Any]:
        files = [*row["images"].values(), *map(self._short, self._derived(row["place"]))]
        return files, (row, self._people.notes(row["subject"]))

    def read(self, row: dict[str, Any], record: Record) -> None:
        for name, file in row["images"].items():
            put_images(record, self.image, [name], reading.read(self._folder / file, self._dims), file)
        record.notes += self._people.notes(row["subject"])
        by_file: dict[Path, dict[str, Values | None]] = {}
        for name in self.image.masks:
            if (file := self._mask(name, row)) is not None:
                by_file.setdefault(file, {})[name] = self._named.get(name, ("", None))[1]
        for file, wanted in by_file.items():
            labels = put_masks(record, wanted, reading.read(file, self._dims, mask=True), self._short(file))
            record.warnings += [
                said for name in wanted if wanted[name] is None for said in _several(name, labels, file)
            ]

    def _row(self, place: str, here: list[Path]) -> dict[str, Any]:
        """The row of the session whose files `here` have the wanted suffixes."""
        found, problem, subject = {}, "", place.partition("/")[0]
        for name, wanted in self._suffixes.items():
            files = [self._short(p) for p in here if key(suffix(p)) == key(wanted)]
            if len(files) == 1:
                found[name] = files[0]
            elif files or name not in self.image.may_lack:
                hint = (
                    "choose one by source.args.entities, or take the others away"
                    if files
                    else "add it, or ask for other channels"
                )
                problem = f"{place} has {len(files)} files *_{wanted}{': ' + ', '.join(files) if files else ''}; {hint}"
        person = self._people.of(subject, place.partition("/")[2])
        return {
            "place": place,
            "name": next(iter(found.values()), self._short(here[0])),
            "subject": subject,
            "images": found,
            "label": person.label,
            "site": person.site,
            "sex": person.sex,
            "age": person.age,
            "problem": problem or person.problem,
        }

    def _mask(self, name: str, row: dict[str, Any]) -> Path | None:
        """The file of a mask channel, None where there is none. Raises SetError for several, and for others' masks."""
        end = self._named.get(name, ("", None))[0]
        images = [entities_of(Path(file)) for file in row["images"].values()]
        named = self._called(name, end, self._derived(row["place"]))
        found = [p for p in named if is_of(entities_of(p), images) and native(p, end, self._suffixes.values())]
        files = ", ".join(map(self._short, found or named))
        if len(found) > 1:
            raise SetError(
                f"{row['name']} has {len(found)} masks for {name!r}: {files}; see source.args.masks, derivative"
            )
        if named and not found:
            raise SetError(f"{row['name']} has no mask for {name!r}: {files} is of another file, or in another space")
        return found[0] if found else None

    def _called(self, name: str, end: str, files: list[Path]) -> list[Path]:
        """The files that have the name of a mask channel, or the end that is asked for."""
        if end:
            return [p for p in files if stem(p).endswith(f"_{end}")]
        called = [(entities_of(p), p) for p in files if suffix(p) in MASKS]
        own = [p for of, p in called if key(of.get("label", "")) == key(name)]
        if own or len(self.image.masks) > 1:
            return own
        return [p for of, p in called if "label" not in of and (of.get("desc") != "brain" or key(name) == "brain")]

    def _check_labels(self) -> None:
        """Raises SetError where all masks of the set have labels, and none that of a mask channel."""
        if not (free := [name for name in self.image.masks if name not in self._named]):
            return
        files = [p for place, here in self._sessions.items() if here for p in self._derived(place)]
        labels = {entities_of(p).get("label", "") for p in files if suffix(p) in MASKS}
        if labels - {""} and not any(self._called(name, "", files) for name in free):
            there = ", ".join(sorted(f"*_label-{label}_mask" for label in labels - {""}))
            raise SetError(
                f"{self._folder / 'derivatives'} has no *_label-{free[0]}_mask, but {there}; say in source.args.masks"
                f" which is meant: {{{free[0]}: end of the name}}"
            )

    def _derived(self, place: str) -> list[Path]:
        """Masks of a session in the pipelines."""
        folders = sorted((self._folder / "derivatives").glob(self.derivative or "*")) if self.image.masks else []
        files = [p for folder in folders for p in volumes(folder / place / self.datatype)]
        ends = tuple(f"_{end}" for end, _ in self._named.values())
        return [p for p in files if suffix(p) in MASKS or stem(p).endswith(ends)]

    def _nothing(self) -> str:
        """Why there is no image."""
        there = sorted(p for p in self._folder.glob(f"sub-*/**/{self.datatype}/*") if ending(p))
        wanted = [p for p in there if any(key(suffix(p)) == key(s) for s in self._suffixes.values())]
        asked = " ".join(f"*_{s}" for s in self._suffixes.values())
        if wanted:
            more = f" and {len(wanted) - 1} more" * (len(wanted) > 1)
            return (
                f"{self._folder} has no {asked} with the entities {self.entities}, but {wanted[0].name}{more}; see"
                " source.args.entities"
            )
        found = ", ".join(sorted({f"*_{suffix(p)}" for p in there})) or "no volume"
        return f"{self._folder} has no {asked} under sub-*/{self.datatype}, but {found}; see source.args.channels"

    @cached_property
    def _sessions(self) -> dict[str, list[Path]]:
        """Each subject's sessions, "sub-1/ses-2" or "sub-1", with the image files there that are asked for."""
        wanted, found = set(map(key, self._suffixes.values())), {}
        for subject in sorted(p for p in self._folder.glob("sub-*") if p.is_dir()):
            for place in sorted(p for p in subject.glob("ses-*") if p.is_dir()) or [subject]:
                files = [p for p in volumes(place / self.datatype) if key(suffix(p)) in wanted]
                found[self._short(place)] = [p for p in files if asked_for(entities_of(p), self.entities or {})]
        return found

    @cached_property
    def _suffixes(self) -> dict[str, str]:
        return {name: (self.channels or {}).get(name, name) for name in self.image.images}

    @cached_property
    def _people(self) -> People:
        return People(self._folder, self.image, self.label, self.site, self._partition.kind == "site")

    def _short(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()


def _named(name: str, said: Any) -> tuple[str, list[int] | None]:
    """The end of a mask file's name and the values that mark it, None for all above 0. Raises ParamsError."""
    if isinstance(said, str) and not said.isdecimal():
        return said.removeprefix("_").removesuffix(".gz").removesuffix(".nii"), None
    values = said if isinstance(said, list) else [said]
    if not values or not all(str(v).isdecimal() for v in values):
        raise ParamsError(f"source.args.masks.{name}: must be values of the *_dseg, or the end of a name, not {said!r}")
    return "dseg", [int(v) for v in values]


def _several(name: str, labels: np.ndarray, file: Path) -> list[str]:
    """What to say of a file with several labels, all of which a mask channel takes."""
    found = [v for v in counts(labels) if v > 0]
    if len(found) < 2:
        return []
    return [
        f"{file.name} has {len(found)} labels, {found[0]} to {found[-1]}, all taken for {name}; see source.args.masks"
    ]
