"""Which planes of a case's files are which image channel, by the names in dataset.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from fedsynth.data.manifest import SetError
from fedsynth.data.planes import COLOURS, Planes, key
from fedsynth.params import Image
from fedsynth.sources import Record
from fedsynth.sources._dataset_json import ABOUT, About
from fedsynth.sources._indexed import put_images

Read = Callable[[str], Planes]


class Channels:
    """By dataset.json, which is `path`, and by a source's argument `channels`, here `said`."""

    def __init__(self, image: Image, about: About, path: Path, said: Mapping[str, str | int] | None = None):
        self.image, self.about, self.path, self.said = image, about, path, said

    def put(self, record: Record, files: dict[int, str], whole: bool, read: Read) -> None:
        """The image channels of a case into its record: of one file that holds them all (`whole`), or of a file for
        each, by number. Raises SetError naming the file.
        """
        if whole:
            self._all(record, next(iter(files.values())), read)
        else:
            self._each(record, files, read)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """dataset.json's number of each image channel; none where the file itself must tell: where it names one channel
        or colours, and none of ours. Raises SetError for a channel that it has not.
        """
        there = self.about.channels
        found = {name: self._number(name) for name in self.image.images}
        colours = set(map(key, there.values())) == set(COLOURS)
        if not self.said and set(found.values()) == {None} and (len(there) < 2 or colours):
            return {}
        if missing := [name for name, n in found.items() if n is None and name not in self.image.may_lack]:
            names = ", ".join(map(repr, there.values())) or "none"
            raise SetError(
                f"{self.path} has no channel {missing[0]!r}, it has {names}; say which is meant:"
                f" source.args.channels: {{{missing[0]}: name or number}}"
            )
        return {name: n for name, n in found.items() if n is not None}

    def _number(self, name: str) -> int | None:
        said, there = str((self.said or {}).get(name, name)), self.about.channels
        found = [n for n, other in there.items() if key(other) == key(said)] or [n for n in there if str(n) == said]
        if len(found) > 1:
            raise SetError(
                f"{self.path} has several channels {said!r}; say which number is meant:"
                f" source.args.channels: {{{name}: {found[0]}}}"
            )
        return found[0] if found else None

    def _all(self, record: Record, file: str, read: Read) -> None:
        """The channels of a file that holds them all."""
        planes, names = read(file), self.about.channels
        if len(names) > 1:
            if len(planes.values) != len(names):
                raise SetError(f"{file} has {len(planes.values)} channels, {ABOUT} names {', '.join(names.values())}")
            order = [list(names).index(n) for n in self.numbers.values()] or slice(None)
            own = tuple(self.numbers) or tuple(map(key, names.values()))
            planes = replace(planes, values=planes.values[order], names=own, times=False)
        put_images(record, self.image, list(self.numbers) or self.image.images, planes, file)
        self._tell(record)

    def _each(self, record: Record, files: dict[int, str], read: Read) -> None:
        """The channels of a case that has a file for each."""
        if extra := sorted(set(files) - set(self.about.channels or [0])):
            raise SetError(f"{files[extra[0]]}: {ABOUT} names no channel {extra[0]}")
        if not self.numbers:  # one channel of another name, or colours
            if len(files) > 1:
                raise SetError(f"{record.file} has {len(files)} files, of {', '.join(self.about.channels.values())}")
            self._all(record, next(iter(files.values())), read)
            return
        for name, number in self.numbers.items():
            if number in files:
                put_images(record, self.image, [name], read(files[number]), files[number])
            elif name not in self.image.may_lack:
                there = self.about.channels[number]
                raise SetError(f"{record.file}: the file of its channel {there!r}, _{number:04d}, is not there")

    def _tell(self, record: Record) -> None:
        """Note that a channel has another name in dataset.json."""
        if not self.numbers and len(self.about.channels) == len(self.image.images) == 1:
            (ours,), (theirs,) = self.image.images, self.about.channels.values()
            record.notes.append(f"{ours} is {theirs!r}, the only channel of {ABOUT}")
