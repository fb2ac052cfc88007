"""`image` of params.yaml: size, channels and their roles, labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fedsynth.params.block import Block, Strict
from fedsynth.params.names import Identifier, Name, key
from fedsynth.params.problems import Names, Once, Wrong, invalid, those, unknown

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
    """The grid onto which all channels of an image are resampled: that of the channel `onto`, or voxels of `spacing_mm`
    (one number for each axis of the array, z y x) over the first channel's field of view.
    """

    onto: str | None = None
    spacing_mm: tuple[Annotated[float, Field(gt=0)], ...] | None = None

    @model_validator(mode="after")
    def _sound(self) -> GridRule:
        if (self.onto is None) == (self.spacing_mm is None):
            raise ValueError("must have one of onto: <a channel> and spacing_mm: [z, y, x]")
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
    given: Names = Field(default_factory=list)
    # neither given nor generated: a synthetic image has those of the image that was given
    aside: Names = Field(default_factory=list)
    # given channels that no source has: an operator makes them
    derived: dict[str, Derived] = Field(default_factory=dict)
    labels: Once[Name]
    # labels whose mask is empty; the others' is not. None named: no such rule
    empty_labels: Once[Name] = Field(default_factory=list)
    # generated image channels that some images do not have; a loss leaves them out
    may_lack: Names = Field(default_factory=list)
    # an image without a mask, of a label that is not in empty_labels: whether its mask is unknown (the image is left
    # out of segmentation, and the mask's channel out of the loss) or nothing is marked in it
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
