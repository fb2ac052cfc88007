"""`image` of params.yaml: size, channels and their roles, labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fedsynth.params.block import Block, Strict

MOST_LAST = 4  # channels of an array that has them on its last axis; with more that axis is taken for a spatial one


class Derived(Strict):
    """A channel that ingest makes of another one by an operator (fedsynth/operators): what a model is given, and what
    it has to undo.
    """

    of: str
    operator: Block


class Image(Strict):
    """Geometry and channels of every image. `size` is (H, W) or (D, H, W).

    A model generates the channels that are neither `given` nor `aside` from the given ones and the label. It is not
    told the label where an image is given, see `tells_label`.
    """

    size: tuple[Annotated[int, Field(ge=1)], ...]
    channels: dict[str, Literal["image", "mask"]]  # in the order of the array
    given: list[str] = Field(default_factory=list)
    # neither given nor generated: a synthetic image has those of the image that was given
    aside: list[str] = Field(default_factory=list)
    # given channels that no source has: an operator makes them
    derived: dict[str, Derived] = Field(default_factory=dict)
    labels: list[str]
    # labels whose mask is empty; the others' is not. None named: no such rule
    empty_labels: list[str] = Field(default_factory=list)
    # generated image channels that some images do not have; a loss leaves them out
    may_lack: list[str] = Field(default_factory=list)
    percentiles: tuple[float, float] = (0.0, 100.0)  # of each image channel, mapped to [-1, 1]
    fit: Literal["pad", "stretch"] = "pad"  # to `size`: keep the proportions and fill up with background, or not

    @model_validator(mode="after")
    def _sound(self) -> Image:
        if wrong := [*self._consistent(), *self._roles()]:
            raise ValueError("; ".join(wrong))
        return self

    def _consistent(self) -> Iterator[str]:
        if len(self.size) not in (2, 3):
            yield f"size must be [H, W] or [D, H, W], not {list(self.size)}"
        if not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            yield f"percentiles must be two numbers from 0 to 100, the lower first, not {list(self.percentiles)}"
        if list(self.channels) != self.images + self.masks:
            yield f"name the image channels before the mask channels, not {list(self.channels)}"
        if not self.images:
            yield "at least one channel must be an image"
        if len(set(self.labels)) != len(self.labels) or not self.labels:
            yield f"labels must be named once each, not {self.labels}"
        if unknown := set(self.empty_labels) - set(self.labels):
            yield f"empty_labels {sorted(unknown)} are not in labels {self.labels}"

    def _roles(self) -> Iterator[str]:
        for key, names in (("given", self.given), ("aside", self.aside)):
            if unknown := set(names) - set(self.channels):
                yield f"{key} channels {sorted(unknown)} are not in channels {list(self.channels)}"
        if both := set(self.given) & set(self.aside):
            yield f"channels {sorted(both)} are given and aside: name them once"
        if self.aside and not self.given:
            yield f"nothing is given, so there is no image whose channels {self.aside} a synthetic one could have"
        if not self.generated:
            yield "every channel is given, so there is nothing to generate"
        if strange := [c for c in self.may_lack if c not in self.images or c not in self.generated]:
            yield f"may_lack names {strange}, which are no generated image channels"
        if self.may_lack and set(self.images) <= set(self.may_lack):
            yield f"may_lack names all image channels, {self.may_lack}: an image must have at least one"
        for name, of in self.derived.items():
            if name not in self.given or self.channels.get(name) != "image":
                yield f"derived.{name}: name it in channels, as an image, and in given"
            if of.of not in self.originals:
                yield f"derived.{name}.of: {of.of!r} is none of the image channels {self.originals} that a source has"

    @property
    def generated(self) -> list[str]:
        return [c for c in self.channels if c not in self.given and c not in self.aside]

    @property
    def originals(self) -> list[str]:
        """The image channels that a source has: what uses and measures look at.
        A derived one holds nothing of its own.
        """
        return [c for c in self.images if c not in self.derived]

    @property
    def sourced(self) -> Image:
        """The image as sources and files have it, without derived channels."""
        kept = {name: kind for name, kind in self.channels.items() if name not in self.derived}
        given = [name for name in self.given if name in kept]
        return self.model_copy(update={"channels": kept, "given": given, "derived": {}}) if self.derived else self

    @property
    def tells_label(self) -> bool:
        """Whether a model is told the label: not where an image is given, whose finding nobody has read when it is
        converted.
        """
        return not set(self.given) & set(self.images)

    def index(self, names: list[str]) -> list[int]:
        return [list(self.channels).index(n) for n in names]

    @property
    def images(self) -> list[str]:
        return [c for c, kind in self.channels.items() if kind == "image"]

    @property
    def masks(self) -> list[str]:
        return [c for c, kind in self.channels.items() if kind == "mask"]

    def context(self) -> dict[str, Any]:
        """What a family or a use may ask for in its constructor."""
        return {
            "generated": len(self.generated),
            "given": len(self.given),
            "labels": len(self.labels),
            "label_names": tuple(self.labels),
            "empty_labels": tuple(self.empty_labels),
            "size": tuple(self.size),
            "images": len(self.originals),
            "masks": len(self.masks),
            "may_lack": tuple(self.generated.index(c) for c in self.may_lack),
        }
