"""Folders of the Medical Segmentation Decathlon and of nnU-Net."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedsynth.data.manifest import SetError
from fedsynth.data.planes import COLOURS, key
from fedsynth.sources import _dataset_json as dataset_json
from fedsynth.sources._dataset_json import ABOUT, IMAGES, About
from fedsynth.sources._decathlon_files import Files
from fedsynth.sources._tables import cases_of, text_table
from fedsynth.sources.decathlon import KEYS
from fedsynth.study.found import kinds
from fedsynth.study.found.layout import FoundError, Layout, channel, shown
from fedsynth.study.found.of_table import tables_of


def recognise(folder: Path) -> Layout | None:
    """None where there is no dataset.json with images."""
    if not (folder / ABOUT).is_file():
        return None
    about = dataset_json.read(folder)
    if about.entries is None and not (folder / IMAGES).is_dir():
        return None
    cases = Files(folder, about).cases
    if not cases:
        raise FoundError(f"{folder / ABOUT} lists no case that has an image")
    files = [next(iter(case.images.values())) for case in cases]
    masks = [case.mask for case in cases if case.mask]
    channels, args = _channels(folder, about, files, cases[0].whole)
    notes = []
    if masks:
        name, said = _mask(about)
        channels |= {name: "mask"}
        notes += said
    table, said = _table(folder)
    return Layout(
        "nnU-Net" if about.entries is None or about.ending else "Medical Segmentation Decathlon",
        folder,
        "fedsynth.sources.decathlon.Decathlon",
        {"folder": str(folder)} | args | ({"table": table.name} if table else {}),
        channels,
        kinds.dims_of(folder, files),
        labels=[] if table else ["image"],
        sited=table is not None and "site" in cases_of(table, KEYS),
        drop="subject",
        by_mask=bool(masks) and not table,
        label_files=[folder / mask for mask in kinds.some(masks)],
        values=about.labels,
        notes=[*notes, *said, *([] if table and _tells(table) else [
            "each case counts as a subject of its own; where a patient has several, give a CSV with the columns case,"
            " label and subject as source.args.table"])],
    )  # fmt: skip


def _channels(folder: Path, about: About, files: list[str], whole: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """The image channels, and the source's argument `channels` where ours have other names."""
    there = list(about.channels.values())
    if {key(name) for name in there} == set(COLOURS):
        return dict(kinds.RGB), {}
    if len(there) < 2:
        found, _ = kinds.colours(folder, files, channel(there[0]) if there else "image")
        return found, {}
    ours = [channel(name) for name in there]
    if len(set(ours)) < len(ours):
        ours = [f"channel_{number}" for number in about.channels]
    renamed = {one: number for one, other, number in zip(ours, there, about.channels, strict=True)
               if key(one) != key(other)}  # fmt: skip
    return dict.fromkeys(ours, "image"), {"channels": renamed} if renamed else {}


def _mask(about: About) -> tuple[str, list[str]]:
    """The name of the one mask channel, of all that is marked."""
    named = [name for name in about.labels if key(name) != "background"]
    if len(named) == 1:
        return channel(named[0], "mask"), []
    if not named:
        return "mask", []
    each = ", ".join(f"{channel(name, 'mask')}: {_values(about.labels[name])}" for name in named)
    return "mask", [f"{shown(named)} are one mask; a channel for each is source.args.masks: {{{each}}}"]


def _values(values: list[int]) -> str:
    return str(values[0] if len(values) == 1 else values)


def _table(folder: Path) -> tuple[Path | None, list[str]]:
    """A CSV in the folder that has labels of cases."""
    for path in tables_of(folder):
        try:
            cases_of(path, KEYS)
        except SetError:
            continue
        return path, [f"labels by {path.name}"]
    return None, []


def _tells(table: Path) -> bool:
    return "subject" in text_table(table, [], "a table of cases")
