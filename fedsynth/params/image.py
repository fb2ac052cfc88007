"""`image` of params.yaml: size, channels and their roles, labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fedsynth.params.block import Block, Strict
from fedsynth.params.names import Identifier, Name, key

MOST_LAST = 4  # channels of an array that has them on its last axis; with more that axis is taken for a spatial one


class Derived(Strict):
    """A channel that ingest makes of another one by an operator (fedsynth/operators): what a model is given, and what
    it has to undo.
    """

    of: str
    operator: Block


class Conversion(Strict):
    """How an image channel is made of files that do not have it by name: brightness of a colour picture (`luminance`),
    one of its colours, or a `copy` of a gray one; for files of the kinds in `of` alone.
    """

    image: Literal["luminance", "red", "green", "blue", "copy"]
    of: list[Literal["rgb", "gray"]] = Field(min_length=1)

    @model_validator(mode="after")
    def _sound(self) -> Conversion:
        if self.image == "copy" and "rgb" in self.of:
            raise ValueError("copy is of gray files alone; of rgb take luminance, red, green or blue")
        if self.image in ("red", "green", "blue") and "gray" in self.of:
            raise ValueError(f"a gray file has no {self.image}; say image: copy, of: [gray]")
        return self


class Scale(Strict):
    """How an image channel's values become [-1, 1]: `window` [low, high] in the file's own values (HU of a CT), or two
    `percentiles` of the image, of the volume that a slice is cut from, or of all training images of the site. `joint`:
    one pair of percentiles for all image channels together, which keeps colours.

    By default 8-bit pictures have the window 0 to 255, computed tomography -1000 to 1000 HU, and everything else the
    percentiles .5 and 99.5 of the volume.
    """

    window: tuple[float, float] | None = None
    percentiles: tuple[float, float] | None = None
    of: Literal["image", "volume", "site"] = "volume"
    joint: bool = False

    @model_validator(mode="after")
    def _sound(self) -> Scale:
        if self.window and self.percentiles:
            raise ValueError("give window or percentiles, not both")
        if self.window and not self.window[0] < self.window[1]:
            raise ValueError(f"window must be two numbers, the lower first, not {list(self.window)}")
        ends = self.percentiles or (0, 100)
        if not 0 <= ends[0] < ends[1] <= 100:
            raise ValueError(f"percentiles must be two numbers from 0 to 100, the lower first, not {list(ends)}")
        if self.window and (self.joint or self.of != "volume"):
            raise ValueError("a window is the same for all images and channels; leave out `of` and `joint`")
        return self


class GridRule(Strict):
    """The grid onto which all channels of an image are resampled: that of the channel `onto`, or voxels of `spacing_mm`
    (one number for each axis of the array, z y x) over the first channel's field of view.
    """

    onto: str | None = None
    spacing_mm: tuple[Annotated[float, Field(gt=0)], ...] | None = None

    @model_validator(mode="after")
    def _sound(self) -> GridRule:
        if (self.onto is None) == (self.spacing_mm is None):
            raise ValueError("give onto: <a channel>, or spacing_mm: [z, y, x]")
        return self


class Image(Strict):
    """Geometry and channels of every image. `size` is (H, W) or (D, H, W).

    A model generates the channels that are neither `given` nor `aside` from the given ones and the label. It is not
    told the label where an image is given, see `tells_label`.
    """

    size: tuple[Annotated[int, Field(ge=1)], ...]
    channels: dict[Identifier, Literal["image", "mask"]]  # in the order of the array
    # image channels that may be made of a file that has them not by name; written within `channels` as a rule
    conversions: dict[str, Conversion] = Field(default_factory=dict)
    given: list[str] = Field(default_factory=list)
    # neither given nor generated: a synthetic image has those of the image that was given
    aside: list[str] = Field(default_factory=list)
    # given channels that no source has: an operator makes them
    derived: dict[str, Derived] = Field(default_factory=dict)
    labels: list[Name]
    # labels whose mask is empty; the others' is not. None named: no such rule
    empty_labels: list[Name] = Field(default_factory=list)
    # generated image channels that some images do not have; a loss leaves them out
    may_lack: list[str] = Field(default_factory=list)
    # an image without a mask, of a label that is not in empty_labels: whether its mask is unknown (the image is left out
    # of segmentation, and the mask's channel out of the loss) or nothing is marked in it
    unmarked: Literal["unknown", "healthy"] = "unknown"
    # by image channel, "*" for all others; one Scale alone is for all
    scale: dict[str, Scale] = Field(default_factory=dict)
    grid: GridRule | None = None  # None: files of one image that lie on several grids are refused
    fit: Literal["pad", "stretch"] = "pad"  # to `size`: keep the proportions and fill up with background, or not

    @model_validator(mode="before")
    @classmethod
    def _written(cls, said: Any) -> Any:
        """Ways of writing: a conversion within `channels`, one scale for all channels."""
        if not isinstance(said, dict):
            return said
        if "percentiles" in said:
            raise ValueError("`percentiles` is written `scale: {percentiles: [low, high], of: image}`")
        said = dict(said)
        if isinstance(channels := said.get("channels"), dict):
            made = {name: how for name, how in channels.items() if isinstance(how, dict)}
            said["channels"] = {name: "image" if name in made else kind for name, kind in channels.items()}
            said["conversions"] = made | dict(said.get("conversions") or {})
        if isinstance(scale := said.get("scale"), dict) and set(scale) & set(Scale.model_fields):
            said["scale"] = {"*": scale}
        return said

    @model_validator(mode="after")
    def _sound(self) -> Image:
        if wrong := [*self._consistent(), *self._roles()]:
            raise ValueError("; ".join(wrong))
        return self

    def _consistent(self) -> Iterator[str]:
        if len(self.size) not in (2, 3):
            yield f"size must be [H, W] or [D, H, W], not {list(self.size)}"
        if unknown := set(self.scale) - {"*", *self.images}:
            yield f"scale names {sorted(unknown)}, image channels are {self.images}"
        if unknown := set(self.conversions) - set(self.images):
            yield f"conversions names {sorted(unknown)}, image channels are {self.images}"
        if self.grid and self.grid.onto not in (None, *self.channels):
            yield f"grid.onto: {self.grid.onto!r} is none of the channels {list(self.channels)}"
        # slices may be cut from volumes of such voxels
        if self.grid and self.grid.spacing_mm and len(self.grid.spacing_mm) not in (len(self.size), 3):
            yield f"grid.spacing_mm needs {len(self.size)} numbers as size has, not {list(self.grid.spacing_mm)}"
        if list(self.channels) != self.images + self.masks:
            yield f"name the image channels before the mask channels, not {list(self.channels)}"
        if not self.images:
            yield "at least one channel must be an image"
        if len(set(self.labels)) != len(self.labels) or not self.labels:
            yield f"labels must be named once each, not {self.labels}"
        if len({key(label) for label in self.labels}) < len(set(self.labels)):
            yield f"two labels have the same key in file names, {[key(label) for label in self.labels]}; rename one"
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

    def scaling(self, name: str) -> Scale:
        """How the values of an image channel are scaled."""
        return self.scale.get(name) or self.scale.get("*") or Scale()

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
