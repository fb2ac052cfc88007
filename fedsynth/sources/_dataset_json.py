"""dataset.json of the Decathlon and of nnU-Net: channels, values of labels, and the files of each case."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from fedsynth.data.manifest import SetError
from fedsynth.data.planes import key

ABOUT, IMAGES, LABELS = "dataset.json", "imagesTr", "labelsTr"
# lists of cases, and the split that their name gives (MONAI's words); a `test` without labels is not read
LISTS = {"training": "", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Entry:
    """A case as dataset.json lists it: one file, or one for each channel, None for a channel that it lacks."""

    images: tuple[str | None, ...]
    label: str = ""  # "" where it names none
    case: str = ""  # nnU-Net's `dataset` names its cases
    split: str = ""


@dataclass(frozen=True)
class About:
    """`channels` by number and `labels` with their values by name, without nnU-Net's `ignore`; empty where dataset.json
    says nothing. `entries` is None where it lists no cases.
    """

    channels: dict[int, str] = field(default_factory=dict)
    labels: dict[str, list[int]] = field(default_factory=dict)
    ignore: int | None = None
    ending: str = ""
    entries: list[Entry] | None = None

    @property
    def foreground(self) -> list[int]:
        """All values that are neither background nor ignored."""
        return sorted({v for values in self.labels.values() for v in values} - {0})


def read(folder: Path) -> About:
    """Raises SetError naming the file and what is wrong with it."""
    path = folder / ABOUT
    try:
        said = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise SetError(
            f"{path} cannot be read: {error}; source.args.folder must hold {ABOUT}, {IMAGES} and {LABELS}"
        ) from error
    if not isinstance(said, dict):
        raise SetError(f"{path} must be an object with `channel_names` or `modality`, and `labels`")
    try:
        labels = _labels(said.get("labels") or {})
        ignored = [name for name in labels if key(name) == "ignore"]
        ignore = _ignore([v for name in ignored for v in labels.pop(name)], labels)
        channels = _channels(said.get("channel_names") or said.get("modality") or {})
        return About(channels, labels, ignore, _ending(said.get("file_ending")), _entries(said, len(channels)))
    except SetError as error:
        raise SetError(f"{path}: {error}") from error


def _channels(said: Any) -> dict[int, str]:
    """Names by number: {"0": "T1"} as both formats have it, {"T1": 0}, a list, or one name."""
    named = {0: said} if isinstance(said, str) else dict(enumerate(said)) if isinstance(said, list) else said
    if isinstance(named, dict) and not all(map(is_number, named)):
        named = {number: name for name, number in named.items()}
    if not isinstance(named, dict) or not all(map(is_number, named)):
        raise SetError(f'channel_names must be {{"0": name, "1": name}}, not {json.dumps(said)}')
    return dict(sorted((_number(number), str(name)) for number, name in named.items()))


def _labels(said: Any) -> dict[str, list[int]]:
    """Values by name: {"1": name} of the Decathlon, {name: 1} or {name: [1, 2]} of nnU-Net; numbers may be texts."""
    if not isinstance(said, dict):
        raise SetError(f"labels must be an object of names and values, not {json.dumps(said)}")
    by_value = all(map(is_number, said)) and not all(is_number(v) for value in said.values() for v in _list(value))
    found: dict[str, list[int]] = {}
    for name, value in [(v, k) for k, v in said.items()] if by_value else said.items():
        if not isinstance(name, str) or not all(map(is_number, _list(value))):
            raise SetError(f"labels: {json.dumps(name)} has the value {json.dumps(value)}, which is no whole number")
        found[name] = found.get(name, []) + [_number(v) for v in _list(value)]
    return found


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def is_number(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().removeprefix("-").isdecimal()
    return not isinstance(value, bool) and isinstance(value, int | float) and float(value).is_integer()


def _number(value: Any) -> int:
    return int(value)


def _ignore(values: list[int], labels: dict[str, list[int]]) -> int | None:
    """nnU-Net's value for voxels of which nothing is known. Raises SetError where it is several, or a label's, too."""
    if len(values) > 1:
        raise SetError(f"labels: `ignore` must be one value, not {values}")
    if both := [name for name, of in labels.items() if set(values) & set(of)]:
        raise SetError(f"labels: `ignore` and {both[0]!r} have the value {values[0]}")
    return values[0] if values else None


def _ending(said: Any) -> str:
    if said is None:
        return ""
    if not isinstance(said, str) or not said.strip("."):
        raise SetError(f"file_ending must be a text like .nii.gz, not {json.dumps(said)}")
    return "." + said.lstrip(".")


def _entries(said: dict[str, Any], channels: int) -> list[Entry] | None:
    """Of nnU-Net's `dataset` and of the Decathlon's lists, which must not say different things of a case."""
    named = said.get("dataset")
    if named is not None and not isinstance(named, dict):
        raise SetError(f"dataset must be an object of cases, not {json.dumps(named)[:80]}")
    cases = [_case(name, one, channels) for name, one in (named or {}).items()]
    lists = [_listed(one, name, n) for name in LISTS for n, one in enumerate(said.get(name) or []) if _meant(name, one)]
    images = {file: entry for entry in lists for file in entry.images}
    for entry in cases:
        other = next((images[file] for file in entry.images if file in images), None)
        if other and entry.label and other.label and entry.label != other.label:
            raise SetError(
                f"{entry.case!r} has the label {entry.label} in `dataset`, {other.label} in `training`; take one away"
            )
    if named is None and not isinstance(said.get("training"), list):
        return None
    return cases if named is not None else list(_once(lists))


def _case(name: str, said: Any, channels: int) -> Entry:
    """Of nnU-Net's `dataset`, {images: [a file for each channel], label: file}."""
    files = said.get("images") if isinstance(said, dict) else None
    if not isinstance(files, list) or not any(files):
        raise SetError(f"dataset: {name!r} must be {{images: [files], label: file}}")
    if len(files) not in (1, channels):
        raise SetError(f"dataset: {name!r} has {len(files)} images for {channels} channels")
    return Entry(tuple(map(_plain, files)), _plain(said.get("label")) or "", name)


def _meant(name: str, one: Any) -> bool:
    """Whether a case is for reading: one of `validation` and `test` needs a label."""
    return name == "training" or (isinstance(one, dict) and bool(one.get("label")))


def _listed(said: Any, name: str, place: int) -> Entry:
    """Of a list of the Decathlon, {image: file, label: file} or a file; MONAI allows several files as `image`."""
    image, label = (said.get("image"), said.get("label")) if isinstance(said, dict) else (said, None)
    files = image if isinstance(image, list) else [image]
    if isinstance(label, int):
        label = None  # MONAI's lists for classification have a number there
    if not files or not all(isinstance(file, str) and file for file in files) or not isinstance(label, str | None):
        raise SetError(f"{name}: entry {place + 1} must be {{image: file, label: file}}, not {json.dumps(said)[:80]}")
    return Entry(tuple(map(_plain, files)), _plain(label) or "", split=LISTS[name])


def _once(entries: list[Entry]) -> Iterator[Entry]:
    """Raises SetError for an image that is listed twice."""
    seen: dict[tuple[str | None, ...], Entry] = {}
    for entry in entries:
        if entry.images in seen:
            labels = f", with the labels {seen[entry.images].label} and {entry.label}"
            raise SetError(f"{entry.images[0]} is listed twice{labels * (seen[entry.images].label != entry.label)}")
        seen[entry.images] = entry
        yield entry


def _plain(name: Any) -> str | None:
    """A path of dataset.json, "./imagesTr/a.nii.gz", within its folder."""
    if name is None or name == "":
        return None
    path = PurePosixPath(str(name).replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or PureWindowsPath(str(name)).drive:
        raise SetError(f"{name} leads out of its folder; paths must be relative to it, without '..'")
    return str(path)
