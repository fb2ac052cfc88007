"""Which files are masks of which images, by the names of files and folders."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from fedsynth.study.found.layout import counted, shown, stem

IMAGES = ("image", "images", "img", "imgs", "pictures", "raw", "scans", "data")
MASKS = (
    "mask", "masks", "label", "labels", "segmentation", "segmentations", "seg", "segs", "annotation", "annotations",
    "gt", "groundtruth", "ground_truth", "truth", "instances", "masques",
)  # fmt: skip
WORDS = "mask|seg|segmentation|label|lbl|gt|annotation|groundtruth|manual|roi"
NAMED = re.compile(rf"(.+?)[ _-](?:{WORDS})(?:[ _-]?(\d+))?$", re.IGNORECASE)


@dataclass
class Pairs:
    """`masks`: the mask of each image, "" where it has none."""

    masks: dict[str, str]
    notes: list[str] = field(default_factory=list)


def of(files: Iterable[str]) -> Pairs:
    """Images with their masks: benign/1_mask.png of benign/1.png, masks/1.png of images/1.png."""
    names = list(files)
    keys = {_key(name): name for name in names if not _in_masks(name)}
    several: dict[str, list[str]] = {}
    for name in names:
        image = keys.get(_key(name, True)) if _in_masks(name) else None
        image = image or keys.get(_without_word(name))
        if image and image != name:
            several.setdefault(image, []).append(name)
    used = {mask for masks in several.values() for mask in masks}
    found = {name: "" for name in names if name not in used and not (_in_masks(name) and used)}
    found |= {image: sorted(masks, key=_first)[0] for image, masks in several.items()}
    return Pairs(dict(sorted(found.items())), list(_notes(several, [n for n in names if n not in used | set(found)])))


def _notes(several: dict[str, list[str]], lost: list[str]) -> Iterable[str]:
    if many := [image for image, masks in several.items() if len(masks) > 1]:
        yield (
            f"{counted(len(many), 'image')} with several masks ({shown(many, 3)}): the first is taken; unite them in"
            " one file where all count"
        )
    if lost:
        yield f"{counted(len(lost), 'file')} in folders of masks, of no image ({shown(lost, 3)}): left out"


def _first(name: str) -> tuple[int, int, str]:
    """The plain mask first: masks/ before instances/, a_mask before a_mask_1."""
    folder = next((place for place, word in enumerate(MASKS) if word in name.casefold().split("/")), 0)
    return folder, len(stem(name)), name


def _in_masks(name: str) -> bool:
    return any(part.casefold() in MASKS for part in name.split("/")[:-1])


def _key(name: str, mask: bool = False) -> str:
    """A file without folders of images and masks: a mask's and its image's are the same."""
    above = [part for part in name.split("/")[:-1] if part.casefold() not in (*IMAGES, *MASKS)]
    bare = stem(name)
    if mask and (found := NAMED.fullmatch(bare)):
        bare = found[1]
    return "/".join([*above, bare]).casefold()


def _without_word(name: str) -> str:
    """The key of the image whose name the file has with a word for masks behind it; "" where there is none."""
    found = NAMED.fullmatch(stem(name))
    above = name.rpartition("/")[0]
    return _key(f"{above}/{found[1]}.png".lstrip("/")) if found else ""
