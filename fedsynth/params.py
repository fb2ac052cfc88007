"""params.yaml as checked objects: WHAT is computed. A misspelt key or argument is an error that names it."""

from __future__ import annotations

import difflib
import importlib
import inspect
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fedsynth import gates
from fedsynth.errors import UserError

MOST_LAST = 4  # channels of an array that has them on its last axis; with more that axis is taken for a spatial one


class ParamsError(UserError):
    """params.yaml cannot be used; the message names the file and the key and says what to do."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Block(Strict):
    """`{class_path, args}`: a call written in params.yaml. Only classes of this package may be named: the config is the call."""

    class_path: str
    args: dict[str, Any] = Field(default_factory=dict)

    @field_validator("class_path")
    @classmethod
    def _ours(cls, path: str) -> str:
        if not path.startswith("fedsynth.") or not all(part.isidentifier() for part in path.split(".")):
            raise ValueError(f"class_path {path!r} is not under 'fedsynth.'; only this package's classes may be named")
        return path

    def build(self, **context: Any) -> Any:
        """Make the object. `context` holds what our code knows (sizes, labels) and the class asks for by name.

        Raises ParamsError for an unknown class or argument, with the nearest known name.
        """
        module_name, _, class_name = self.class_path.rpartition(".")
        try:
            cls = getattr(importlib.import_module(module_name), class_name)
            # `fedsynth.params.Path` is there too, and is not ours: what a module imports may not be called from a file
            if not (inspect.isclass(cls) and cls.__module__.startswith("fedsynth.")):
                raise AttributeError(f"{module_name} has no class {class_name} of its own")
        except (ModuleNotFoundError, AttributeError) as error:
            if isinstance(error, ModuleNotFoundError) and not module_name.startswith(error.name or "?"):
                raise  # the class is there, a package that it needs is not: that error says it best
            raise ParamsError(f"class_path {self.class_path!r} does not exist ({error})") from error
        known = [n for n in inspect.signature(cls).parameters if n not in ("args", "kwargs")]
        for name in self.args:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ParamsError(f"{self.class_path} has no argument {name!r}{hint} (it has: {', '.join(known)})")
        return cls(**{k: v for k, v in context.items() if k in known}, **self.args)


class Consortium(Strict):
    sites: list[str] | None = None  # who is expected; default: those of the source, or all that are connected to a real federation
    failed_site: Literal["stop", "leave_out"] = "stop"  # what a failed validation does
    min_sites: int = Field(2, ge=1)  # fewer that passed: the run stops
    min_cell: int = Field(5, ge=1)  # smaller counts leave a hospital as "< 5"
    quorum: int | None = Field(None, ge=1)  # so many sites are enough for a round; default: all that passed
    grace_s: int = Field(600, ge=0)  # seconds in which the others may still answer once the quorum has

    def enough(self, sites: list[str]) -> int:
        """How many of `sites` are enough for a round."""
        return min(self.quorum or len(sites), len(sites))


class Derived(Strict):
    """A channel that ingest makes of another one by an operator (fedsynth/operators): what a model is given, and what it has to undo."""

    of: str
    operator: Block


class Image(Strict):
    """Geometry and channels of every image. `size` is (H, W) or (D, H, W).

    A model generates the channels that are neither `given` nor `aside` from the given ones and the label. It is not told the label where an
    image is given, see `tells_label`.
    """

    size: tuple[int, ...]
    channels: dict[str, Literal["image", "mask"]]  # in the order of the array
    given: list[str] = Field(default_factory=list)
    aside: list[str] = Field(default_factory=list)  # neither given nor generated: a synthetic image has those of the image that was given
    derived: dict[str, Derived] = Field(default_factory=dict)  # given channels that no source has: an operator makes them
    labels: list[str]
    empty_labels: list[str] = Field(default_factory=list)  # labels whose mask is empty; the others' is not. None named: no such rule
    may_lack: list[str] = Field(default_factory=list)  # generated image channels that some images do not have; a loss leaves them out
    percentiles: tuple[float, float] = (0.0, 100.0)  # of each image channel, mapped to [-1, 1]
    fit: Literal["pad", "stretch"] = "pad"  # to `size`: keep the proportions and fill up with background, or not

    @model_validator(mode="after")
    def _consistent(self) -> Image:
        if len(self.size) not in (2, 3):
            raise ValueError(f"size must be [H, W] or [D, H, W], not {list(self.size)}")
        if list(self.channels) != self.images + self.masks:
            raise ValueError(f"name the image channels before the mask channels, not {list(self.channels)}")
        if not self.images:
            raise ValueError("at least one channel must be an image")
        if len(set(self.labels)) != len(self.labels) or not self.labels:
            raise ValueError(f"labels must be named once each, not {self.labels}")
        if unknown := set(self.empty_labels) - set(self.labels):
            raise ValueError(f"empty_labels {sorted(unknown)} are not in labels {self.labels}")
        return self

    @model_validator(mode="after")
    def _roles(self) -> Image:
        for key, names in (("given", self.given), ("aside", self.aside)):
            if unknown := set(names) - set(self.channels):
                raise ValueError(f"{key} channels {sorted(unknown)} are not in channels {list(self.channels)}")
        if both := set(self.given) & set(self.aside):
            raise ValueError(f"channels {sorted(both)} are given and aside: name them once")
        if self.aside and not self.given:
            raise ValueError(f"nothing is given, so there is no image whose channels {self.aside} a synthetic one could have")
        if not self.generated:
            raise ValueError("every channel is given, so there is nothing to generate")
        if strange := [c for c in self.may_lack if c not in self.images or c not in self.generated]:
            raise ValueError(f"may_lack names {strange}, which are no generated image channels")
        if self.may_lack and set(self.images) <= set(self.may_lack):
            raise ValueError(f"may_lack names all image channels, {self.may_lack}: an image must have at least one")
        for name, of in self.derived.items():
            if name not in self.given or self.channels[name] != "image":
                raise ValueError(f"derived.{name}: name it in channels, as an image, and in given")
            if of.of not in self.originals:
                raise ValueError(f"derived.{name}.of: {of.of!r} is none of the image channels {self.originals} that a source has")
        return self

    @property
    def generated(self) -> list[str]:
        return [c for c in self.channels if c not in self.given and c not in self.aside]

    @property
    def originals(self) -> list[str]:
        """The image channels that a source has: what uses and measures look at. A derived one holds nothing of its own."""
        return [c for c in self.images if c not in self.derived]

    @property
    def sourced(self) -> Image:
        """The image as sources and files have it, without derived channels."""
        kept = {name: kind for name, kind in self.channels.items() if name not in self.derived}
        given = [name for name in self.given if name in kept]
        return self.model_copy(update={"channels": kept, "given": given, "derived": {}}) if self.derived else self

    @property
    def tells_label(self) -> bool:
        """Whether a model is told the label: not where an image is given, whose finding nobody has read when it is converted."""
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


class Split(Strict):
    """Shares of the subjects; the rest is `train`."""

    val: float = Field(0.1, ge=0, lt=1)
    test: float = Field(0.25, gt=0, lt=1)


class Expectations(Strict):
    min_images: dict[Literal["train", "val", "test"], int] = Field(default={"train": 5, "test": 3})  # per class and split
    every_class: bool = True  # False: a site may have no image at all of some classes
    max_resolution_loss: float | None = Field(None, ge=1)  # warn where an axis was reduced by more than this factor
    max_spacing_ratio: float | None = Field(1.5, ge=1)  # warn where an axis' spacing is more than this factor off the set's median
    max_outlier: float | None = Field(8, gt=0)  # warn where a mean intensity is more than so many (robust) standard deviations off


class Training(Strict):
    rounds: int = Field(ge=1)
    epochs: float = Field(1, gt=0)  # local epochs in a round; 0.5 is half of the site's images
    batch: int = Field(16, ge=1)
    lr: float | dict[str, float] = 2e-3  # for all players, or for each by name
    lr_end: float = Field(0.1, ge=0, le=1)  # the learning rate falls on a cosine to this share of it over the whole run
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip: float | None = 1.0  # norm of the gradient
    ema: float | None = None  # decay per step of the averaged weights
    flip: list[int] = Field(default_factory=list)  # spatial axes along which images may be mirrored
    bf16: bool = False  # autocast; faster only where a site's processor has instructions for it: docs/decisions/0002


class Compression(Strict):
    """How arrays travel: codings of fedsynth/compression; without one they travel as they are."""

    up: Block | None = None  # a site's differences
    down: Block | None = None  # the global parameters


class Model(Strict):
    family: Block
    algorithm: Block = Block(class_path="fedsynth.algorithms.fedavg.FedAvg")
    training: Training
    privacy: Block | None = None  # a mechanism of fedsynth/privacy; without one no epsilon holds
    compression: Compression | None = None
    encryption: Block | None = None  # of what a site sends (fedsynth/privacy/he.py): the server sees the sum of the sites alone

    @model_validator(mode="after")
    def _summed(self) -> Model:
        if self.encryption is None:
            return self
        if self.compression is not None:
            raise ValueError("encryption and compression do not go together: the server cannot add what is compressed; leave one out")
        from fedsynth.privacy.he import SUMMED

        if self.algorithm.class_path.rpartition(".")[2] not in SUMMED or self.algorithm.args.get("weighting") == "validation":
            raise ValueError(f"encryption shows the server a sum only, which is enough for {', '.join(SUMMED)}")
        return self


class Sample(Strict):
    images: int = Field(300, ge=1)  # in the synthetic set, classes in the shares of `balance`
    balance: Literal["uniform"] | dict[str, float] = "uniform"
    batch: int = Field(100, ge=1)
    given: Block | str | None = None  # where image.given names channels: a source at the centre that has them, or the folder of a set
    exporters: dict[str, Block] = Field(default_factory=dict)


class Score(Strict):
    seeds: list[int] = Field(default_factory=lambda: [1], min_length=1)
    rounds: int = Field(10, ge=1)  # of the `federated` reference; a use's budget of steps is dealt out to them
    real_share: float = Field(0.25, gt=0, lt=1)  # of what `augmented` draws of a class; the rest is synthetic
    uses: dict[str, Block]
    features: Block = Block(class_path="fedsynth.features.classifier.Classifier")  # the space in which images are compared
    measures: dict[str, Block] = Field(default_factory=dict)


class Gates(Strict):
    """What a model's numbers must hold before it may be promoted: "classification/retained >= 0.85", "fid <= 3 * floor"."""

    require: list[str] = Field(default_factory=list)
    warn: list[str] = Field(default_factory=list)

    @field_validator("require", "warn")
    @classmethod
    def _readable(cls, lines: list[str]) -> list[str]:
        for line in lines:
            gates.parse(line)
        return lines


class Params(Strict):
    seed: int = 1
    consortium: Consortium = Consortium()
    source: Block
    image: Image
    split: Split = Split()
    expectations: Expectations = Expectations()
    models: dict[str, Model]
    sample: Sample = Sample()
    score: Score
    gates: Gates = Gates()

    @field_validator("models")
    @classmethod
    def _names(cls, models: dict[str, Model]) -> dict[str, Model]:
        for name in models:
            if not name.replace("_", "").isalnum():
                raise ValueError(f"model name {name!r} may hold letters, digits and _ only: it becomes a folder and a registered name")
        return models


def load(path: str | Path = "params.yaml") -> Params:
    """Read and check a params file. Raises ParamsError with the file, the key and what is wrong with it."""
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ParamsError(f"{path} is not there; run from the project's folder") from error
    except yaml.YAMLError as error:
        raise ParamsError(f"{path} is not valid YAML: {error}") from error
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        lines = [f"{path}: {'.'.join(map(str, e['loc']))}: {_plain(e)}" for e in error.errors()]
        raise ParamsError("\n".join(lines)) from error


def _plain(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "unknown key; check its spelling"
    return str(error["msg"]).removeprefix("Value error, ")
