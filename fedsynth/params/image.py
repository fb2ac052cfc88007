"""`image` of params.yaml: size, channels and their roles, labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fedsynth.params.block import Block, Strict
from fedsynth.params.names import Identifier, Name, key
from fedsynth.params.problems import Names, Once, Wrong, invalid, those, unknown

MOST_LAST = 4  # maximum number of channels on the last axis of an array; a longer axis is a spatial one


class Derived(Strict):
    """A given channel that ingest computes from another one with an operator (fedsynth/operators)."""

    of: str
    operator: Block


class Conversion(Strict):
    """How an image channel is computed from files without a channel of its name.

    `image`: the luminance or one colour of a colour picture, or a copy of a gray one; `of`: the kinds of files.
    """

    image: Literal["luminance", "red", "green", "blue", "copy"]
    of: list[Literal["rgb", "gray"]] = Field(min_length=1)

    @model_validator(mode="after")
    def _sound(self) -> Conversion:
        if self.image == "copy" and "rgb" in self.of:
            raise ValueError("copy is for gray files; for rgb use luminance, red, green or blue")
        if self.image in ("red", "green", "blue") and "gray" in self.of:
            raise ValueError(f"a gray file has no {self.image}; say image: copy, of: [gray]")
        return self


class Scale(Strict):
    """How the values of an image channel are scaled to [-1, 1].

    `window`: [low, high] in the values of the file (HU for CT). `percentiles`: two, of the image, of the volume of a
    slice, or of all training images of the site. `joint`: the same percentiles for all image channels, to keep colours.

    Defaults: the window 0 to 255 for 8-bit pictures, -1000 to 1000 HU for CT, otherwise the percentiles 0.5 and 99.5 of
    the volume.
    """

    window: tuple[float, float] | None = None
    percentiles: tuple[float, float] | None = None
    of: Literal["image", "volume", "site"] = "volume"
    joint: bool = False

    @model_validator(mode="after")
    def _sound(self) -> Scale:
        if wrong := [*self._window(), *self._percentiles()]:
            raise invalid("Scale", wrong)
        return self

    def _window(self) -> Iterator[Wrong]:
        if self.window is None:
            return
        if not self.window[0] < self.window[1]:
            yield ("window",), list(self.window), "must be two numbers, the lower first"
        for other in {"percentiles", "of", "joint"} & self.model_fields_set:
            said = "does not go with window, which is the same for all images; leave it out"
            yield (other,), getattr(self, other), said

    def _percentiles(self) -> Iterator[Wrong]:
        low, high = self.percentiles or (0, 100)
        if not 0 <= low < high <= 100:
            yield ("percentiles",), [low, high], "must be two numbers from 0 to 100, the lower first"
        elif high <= 1:
            said = f"is in per cent, from 0 to 100; did you mean [{100 * low:g}, {100 * high:g}]?"
            yield ("percentiles",), [low, high], said


class GridRule(Strict):
    """The grid to which all channels of an image are resampled.

    Either that of the channel `onto`, or one with voxels of `spacing_mm` (z, y, x) over the first channel's field of
    view.
    """

    onto: str | None = None
    spacing_mm: tuple[Annotated[float, Field(gt=0)], ...] | None = None

    @model_validator(mode="after")
    def _sound(self) -> GridRule:
        if (self.onto is None) == (self.spacing_mm is None):
            raise ValueError("must have one of onto: <a channel> and spacing_mm: [z, y, x]")
        return self


class Image(Strict):
    """Geometry and channels of the images. `size`: (H, W) or (D, H, W).

    A model generates the channels that are neither `given` nor `aside` from the given ones and the label; the label is
    not used if an image channel is given (`tells_label`).
    """

    size: tuple[Annotated[int, Field(ge=1)], ...]
    channels: dict[Identifier, Literal["image", "mask"]]  # in the order of the array
    # how image channels are computed from files without a channel of their name; usually written in `channels`
    conversions: dict[str, Conversion] = Field(default_factory=dict)
    given: Names = Field(default_factory=list)
    # neither given nor generated: synthetic images have those of the given images
    aside: Names = Field(default_factory=list)
    # given channels that an operator computes, and no source has
    derived: dict[str, Derived] = Field(default_factory=dict)
    labels: Once[Name]
    # labels whose masks are empty, while those of others are not; without any, masks are not checked for this
    empty_labels: Once[Name] = Field(default_factory=list)
    # generated image channels that some images lack; losses ignore them there
    may_lack: Names = Field(default_factory=list)
    # of an image without a mask and not in empty_labels: its mask is unknown (segmentation omits the image, losses the
    # channel) or empty
    unmarked: Literal["unknown", "healthy"] = "unknown"
    # by image channel, "*" for all others; or one Scale for all
    scale: dict[str, Scale] = Field(default_factory=dict)
    grid: GridRule | None = None  # None: the files of an image must have the same grid
    fit: Literal["pad", "stretch"] = "pad"  # to `size`: keep the aspect ratio and pad with background, or not

    @model_validator(mode="before")
    @classmethod
    def _written(cls, said: Any) -> Any:
        """Convert the short forms: conversions in `channels`, and one scale for all channels."""
        if not isinstance(said, dict):
            return said
        if "percentiles" in said:
            written = "is written `scale: {percentiles: [low, high], of: image}`"
            raise invalid("Image", [(("percentiles",), said["percentiles"], written)])
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
        if wrong := [*self._geometry(), *self._names(), *self._roles(), *self._derived()]:
            raise invalid("Image", wrong)
        return self

    def _geometry(self) -> Iterator[Wrong]:
        grid = self.grid or GridRule.model_construct()
        if len(self.size) not in (2, 3):
            yield ("size",), list(self.size), "must be [H, W] or [D, H, W]"
        if grid.onto not in (None, *self.channels):
            yield ("grid", "onto"), grid.onto, f"is none of the channels {those(str(grid.onto), self.channels)}"
        # slices may be cut from volumes of such voxels
        if grid.spacing_mm and len(grid.spacing_mm) not in (len(self.size), 3):
            yield ("grid", "spacing_mm"), list(grid.spacing_mm), f"must be {len(self.size)} numbers, as image.size has"

    def _names(self) -> Iterator[Wrong]:
        if list(self.channels) != self.images + self.masks:
            yield ("channels",), list(self.channels), "name the image channels before the mask channels"
        if not self.images:
            yield ("channels",), list(self.channels), "at least one channel must be an image"
        for of in ("scale", "conversions"):
            for name in getattr(self, of):
                if name not in ("*", *self.images):
                    yield (of, name), None, f"is none of the image channels {those(name, self.images)}"
        if not self.labels:
            yield ("labels",), [], "names no label; give one at least"
        if len({key(label) for label in self.labels}) < len(self.labels):
            said = f"two labels have the same key in file names, {[key(label) for label in self.labels]}; rename one"
            yield ("labels",), self.labels, said
        yield from unknown("empty_labels", self.empty_labels, self.labels, "is none of image.labels")

    def _roles(self) -> Iterator[Wrong]:
        generated = [c for c in self.images if c in self.generated]
        for of, names in (("given", self.given), ("aside", self.aside)):
            yield from unknown(of, names, list(self.channels), "is none of the channels")
        yield from unknown("may_lack", self.may_lack, generated, "is none of the image channels that are generated,")
        for n, name in enumerate(self.aside):
            if name in self.given:
                yield ("aside", n), name, "is given, too; name it once"
        if self.aside and not self.given:
            yield ("aside",), self.aside, "needs a given image, whose channels these are; name one in image.given"
        if self.channels and not self.generated:
            yield ("given",), self.given, "with image.aside names every channel, so that there is nothing to generate"
        if self.images and self.may_lack and set(self.images) <= set(self.may_lack):
            yield ("may_lack",), self.may_lack, "names all image channels, and an image must have at least one"

    def _derived(self) -> Iterator[Wrong]:
        for name, derived in self.derived.items():
            if name not in self.given or self.channels.get(name) != "image":
                yield ("derived", name), None, "is not named in image.channels as an image, and in image.given; name it"
            if derived.of not in self.originals:
                said = f"is none of the image channels that a source has, {those(derived.of, self.originals)}"
                yield ("derived", name, "of"), derived.of, said

    @property
    def generated(self) -> list[str]:
        return [c for c in self.channels if c not in self.given and c not in self.aside]

    @property
    def originals(self) -> list[str]:
        """The image channels of a source, without derived ones; uses and measures see these."""
        return [c for c in self.images if c not in self.derived]

    @property
    def sourced(self) -> Image:
        """The image of sources and files, without derived channels."""
        kept = {name: kind for name, kind in self.channels.items() if name not in self.derived}
        given = [name for name in self.given if name in kept]
        return self.model_copy(update={"channels": kept, "given": given, "derived": {}}) if self.derived else self

    def scaling(self, name: str) -> Scale:
        """Return how the values of an image channel are scaled."""
        return self.scale.get(name) or self.scale.get("*") or Scale()

    @property
    def tells_label(self) -> bool:
        """Whether a model is given the label. Not with a given image, whose label is unknown when it is converted."""
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
        """Return the arguments that constructors of families, uses and others may have."""
        return {
            "generated": len(self.generated),
            "given": len(self.given),
            "labels": len(self.labels),
            "label_names": tuple(self.labels),
            "empty_labels": tuple(self.empty_labels),
            "size": tuple(self.size),
            "images": len(self.originals),
            "masks": len(self.masks),
            "mask_channels": tuple(self.generated.index(c) for c in self.masks if c in self.generated),
            "may_lack": tuple(self.generated.index(c) for c in self.may_lack),
        }
