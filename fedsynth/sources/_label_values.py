"""What the values of label files mean: which mark a mask channel, which tell an image's label, which are ignored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fedsynth.data import masks
from fedsynth.data.manifest import SetError
from fedsynth.data.masks import Values
from fedsynth.data.planes import key
from fedsynth.params import Image, ParamsError
from fedsynth.sources import Record
from fedsynth.sources._dataset_json import ABOUT, About, is_number

Marks = dict[str, Values | None]  # values by channel or label; None for all above 0


class LabelValues:
    """By dataset.json, which is `path`, and by a source's arguments `masks` and `by_mask`."""

    def __init__(
        self,
        image: Image,
        about: About,
        path: Path,
        masks: Mapping[str, Any] | None = None,
        by_mask: Mapping[str, Any] | None = None,
    ):
        self.image, self.about, self.path, self.masks, self.by_mask = image, about, path, masks or {}, by_mask

    @cached_property
    def wanted(self) -> Marks:
        """Values of each mask channel. Raises SetError where nothing tells them, ParamsError for a wrong argument."""
        return {name: self._of(name) for name in self.image.masks}

    def _of(self, name: str) -> Values | None:
        if name in self.masks:
            return self._said("masks", name, self.masks[name])
        labels = dict(self.about.labels)
        if self.about.ignore is not None:
            labels["ignore"] = [self.about.ignore]
        found = [values for label, values in labels.items() if key(label) == key(name)]
        if len(found) == 1:
            return found[0]
        if not found and len(self.image.masks) == 1:
            return self._foreground
        raise SetError(
            f"{self.path} has {'several labels' if found else 'no label'} {name!r}, it has"
            f" {', '.join(labels) or 'none'}; say in source.args.masks which values it has"
        )

    @cached_property
    def rules(self) -> Marks:
        """Values of each label where the mask tells an image's label, [] for what is there always; no label where the
        mask does not.
        """
        names, empty = self.image.labels, self.image.empty_labels
        if self.by_mask is not None:
            return {name: self._said("by_mask", name, values) for name, values in self.by_mask.items()}
        if len(names) == 2 and len(empty) == 1:
            return {empty[0]: [], next(name for name in names if name not in empty): self._marked}
        return {}

    def label(self, marked: set[str]) -> str:
        """The last label of which something is marked, "" where there is none."""
        return next((name for name, values in reversed(self.rules.items()) if values == [] or name in marked), "")

    def of(self, labels: np.ndarray) -> str:
        """The label of an image by its label file's values (*S) int."""
        return self.label({name for name, values in self.rules.items() if masks.selected(labels, values).any()})

    def tell(self, labels: np.ndarray, file: str, record: Record) -> None:
        """Note what is ignored, and warn of values that nobody names. Raises SetError where nobody names any."""
        counts = masks.counts(labels)
        if self.about.ignore in counts:
            count = counts[self.about.ignore]
            record.notes.append(f"{file}: {count} voxels are `ignore` ({self.about.ignore}) and not marked")
        known = {0, *self.about.foreground, *(v for values in self._arguments for v in self._numbers(values))}
        odd = [str(v) for v in counts if v not in known and v != self.about.ignore]
        if not odd or not self.about.labels:
            return
        said = f"{file} has the values {', '.join(odd)}, which {ABOUT} does not name (it has {_list(known)})"
        if len(odd) == len(set(counts) - {0}):
            raise SetError(f"{said}; add them to its labels, or say in source.args.masks what they mark")
        record.warnings.append(f"{said}; they are not marked")

    @property
    def _arguments(self) -> list[Any]:
        return [*self.masks.values(), *(self.by_mask or {}).values()]

    @property
    def _foreground(self) -> Values | None:
        """All values of dataset.json but the background and the ignored one; None where it names none."""
        return self.about.foreground or None

    @property
    def _marked(self) -> Values | None:
        """All values that mark any of the mask channels; of an image without such all of the foreground."""
        found = list(self.wanted.values()) or [self._foreground]
        values = [v if isinstance(v, list) else [v] for v in found if v is not None]
        return None if None in found else sorted({v for some in values for v in some} - {0, self.about.ignore})

    def _said(self, argument: str, name: str, values: Any) -> list[int]:
        """An argument's values. Raises ParamsError where they are no numbers, or ignored ones."""
        if not all(map(is_number, values if isinstance(values, list) else [values])):
            raise ParamsError(f"source.args.{argument}.{name}: must be values of the label files, not {values!r}")
        found = self._numbers(values)
        if self.about.ignore in found:
            raise ParamsError(f"source.args.{argument}.{name}: {self.about.ignore} is the value of `ignore` in {ABOUT}")
        return found

    @staticmethod
    def _numbers(values: Any) -> list[int]:
        return [int(v) for v in (values if isinstance(values, list) else [values]) if is_number(v)]


def _list(values: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(values)))
