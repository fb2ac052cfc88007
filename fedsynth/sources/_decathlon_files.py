"""The files of each case in a folder of the Decathlon or nnU-Net."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fedsynth.data import reading
from fedsynth.data.manifest import SetError
from fedsynth.params.names import normal
from fedsynth.sources._dataset_json import ABOUT, IMAGES, LABELS, About, Entry

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")  # one file may hold three colours


@dataclass
class Case:
    """`images` by the number of the channel, or one file that holds all channels (`whole`); `mask` is empty where there
    is no label file. Paths are relative to the folder.
    """

    case: str
    images: dict[int, str]
    whole: bool
    mask: str = ""
    split: str = ""
    problem: str = ""

    @property
    def name(self) -> str:
        return next(iter(self.images.values()))


class Files:
    """Of a folder with its dataset.json; `labelled`: whether label files are asked for."""

    def __init__(self, folder: Path, about: About, labelled: bool = True):
        self.folder, self.about, self.labelled = folder, about, labelled

    @cached_property
    def cases(self) -> list[Case]:
        """Those that dataset.json lists, with the files that it names; else those of the two folders. Raises SetError
        where names do not tell which is which.
        """
        entries = self.about.entries
        found = self._of_folder() if entries is None else [self._listed(entry) for entry in entries]
        often = Counter(case.case for case in found)
        for case in found:
            bare = case.case if often[case.case] == 1 else _bare(case.name)  # of one name in several folders
            case.case = normal(bare)
        if self.labelled:
            self._labels(found)
        return found

    def _of_folder(self) -> list[Case]:
        names = self._names(IMAGES)
        ending = self.about.ending or self._only_ending(names)
        files = [name for name in names if name.lower().endswith(ending.lower())]
        cases: dict[str, dict[int, str]] = {}
        for name in files:
            if not (match := re.fullmatch(r"(.+)_(\d{4})", name[: -len(ending)])):
                raise SetError(
                    f"{self.folder / IMAGES / name}: where {ABOUT} lists no cases, names must end in _0000{ending} and"
                    " on, by channel"
                )
            cases.setdefault(match[1], {})[int(match[2])] = f"{IMAGES}/{name}"
        return [Case(case, images, self._holds_all(images)) for case, images in sorted(cases.items())]

    def _only_ending(self, names: list[str]) -> str:
        """Raises SetError naming two files where there are several kinds of them."""
        kinds: dict[str, str] = {}
        for name in names:
            kinds.setdefault(_ending(name), name)
        kinds.pop("", None)
        if len(kinds) > 1:
            raise SetError(
                f"{self.folder / IMAGES} holds {' and '.join(list(kinds.values())[:2])}; say in {ABOUT} which are"
                f" meant, file_ending: {next(iter(kinds))}"
            )
        return next(iter(kinds), ".nii.gz")

    def _holds_all(self, images: dict[int, str]) -> bool:
        """Whether the only file of a case is a picture with a plane for each channel."""
        return list(images) == [0] and len(self.about.channels) > 1 and _ending(images[0]) in PICTURES

    def _listed(self, entry: Entry) -> Case:
        files = [file for file in entry.images if file]
        if len(entry.images) > 1:
            numbers = list(self.about.channels) or range(len(entry.images))
            if len(numbers) != len(entry.images):
                raise SetError(f"{ABOUT} lists {len(entry.images)} images with {files[0]} for {len(numbers)} channels")
            images = {n: file for n, file in zip(numbers, entry.images, strict=True) if file}
            stem = re.sub(r"_0000$", "", _stem(files[0]))  # the number of a channel is no part of the case
            return Case(entry.case or stem, images, False, entry.label, entry.split)
        (file,) = files
        images = {} if entry.case else self._numbered(file)
        stem = _stem(file)
        if images or stem[:-5] == _stem(entry.label):  # the list has a channel's number in its image
            stem = re.sub(r"_\d{4}$", "", stem)
        elif self.about.ending:  # nnU-Net's dataset.json: a list without labels has the number, too
            stem = stem.removesuffix("_0000")
        whole = not images or self._holds_all(images)
        return Case(entry.case or stem, images or {0: file}, whole, entry.label, entry.split)

    def _numbered(self, file: str) -> dict[int, str]:
        """The files of the channels where a list names one file for all: "c0.nii.gz", which is not there, or
        "c0_0000.nii.gz", the first.
        """
        first = file.endswith("_0000" + _ending(file))
        if self._there(file) and not (first and len(self.about.channels) > 1):
            return {}
        folder, stem = file.rpartition("/")[0], _stem(file)
        case = re.escape(normal(stem.removesuffix("_0000") if first else stem))
        pattern = case + r"_(\d{4})" + re.escape(_ending(file))
        found = {name: re.fullmatch(pattern, normal(name)) for name in self._names(folder)}
        return {int(match[1]): f"{folder}/{name}".lstrip("/") for name, match in found.items() if match}

    def _labels(self, cases: list[Case]) -> None:
        """Find the label files of cases of which dataset.json names none; what is not clear is the case's problem."""
        without = [case for case in cases if not case.mask]
        there = self._names(LABELS) if without else []
        for case in without:
            named = [n for n in there if normal(_stem(n)) == case.case]
            exact = [n for n in named if n.endswith(self.about.ending)] if self.about.ending else []
            found = exact or named
            if len(found) > 1:
                case.problem = f"the label of {case.name} may be {' or '.join(found)}; name it in {ABOUT}, `training`"
            case.mask = f"{LABELS}/{found[0]}" if found else ""
        used = {case.mask for case in cases}
        if lost := [name for name in there if f"{LABELS}/{name}" not in used and _ending(name)]:
            for case in without:
                if not case.mask:
                    usual = f"{LABELS}/{case.case}{self.about.ending or _ending(case.name)}"
                    case.problem = (
                        f"{case.name} has no {usual}, and {LABELS} holds {lost[0]}, which is of no image; name the"
                        f" label of each image in {ABOUT}, `training`"
                    )

    def _names(self, folder: str) -> list[str]:
        """Files of a folder in order, without what archives leave beside them."""
        here = self.folder / folder
        return sorted(p.name for p in here.iterdir() if p.name[0] != ".") if here.is_dir() else []

    def _there(self, file: str) -> bool:
        try:
            return reading.find(self.folder / file).is_file()
        except SetError:
            return False


def _ending(name: str) -> str:
    """The known end of a file's name, "" where it is of no known kind."""
    return max((end for end in reading.READERS if name.lower().endswith(end)), key=len, default="")


def _bare(file: str) -> str:
    return file[: len(file) - len(_ending(file))]


def _stem(file: str) -> str:
    return _bare(file).rpartition("/")[2]
