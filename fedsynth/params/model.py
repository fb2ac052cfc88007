"""`models` of params.yaml: family, algorithm, training, start, privacy, compression, encryption and robust rule."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from fedsynth.params.block import Block, Seed, Strict
from fedsynth.params.family_defaults import training_defaults
from fedsynth.params.problems import Once
from fedsynth.params.start import Pretrain, Start

Rate = Annotated[float, Field(ge=0)]  # with 0 a player does not learn
Decay = Annotated[float, Field(ge=0, lt=1)]


class Training(Strict):
    """How a model is trained. The defaults here are those of a family that declares no others (`Family.defaults`)."""

    rounds: int = Field(ge=1)
    epochs: float = Field(1, gt=0)  # local epochs in a round; 0.5 is half of the site's images
    # optimiser steps in a round, the same at every site; in the place of `epochs`, with which small sites take few
    local_steps: int | None = Field(None, ge=1)
    batch: int = Field(16, ge=1)
    lr: Rate | dict[str, Rate] = 2e-3  # for all players, or for each by name
    lr_end: float = Field(0.1, ge=0, le=1)  # share of the learning rate at the end of its cosine schedule
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    weight_decay: float = Field(0.0, ge=0)
    # a batch is taken in so many parts, one after the other: less memory, the same gradient to rounding
    accumulate: int = Field(1, ge=1)
    # the backward pass computes what lies within a network's blocks anew: less memory, more time, the same numbers
    recompute: bool = False
    clip: float | None = Field(1.0, ge=0)  # maximum norm of the gradient
    ema: Decay | None = None  # decay per step of the averaged weights
    flip: Once[int] = Field(default_factory=list)  # spatial axes along which images may be mirrored
    # autocast; "auto": where the site's processor has bfloat16 instructions (docs/decisions/0002)
    bf16: bool | Literal["auto"] = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.local_steps is not None and "epochs" in self.model_fields_set and self.epochs != 1:
            raise ValueError("epochs and local_steps both say how long a site trains in a round; keep one of them")
        if self.accumulate > self.batch:
            raise ValueError(f"a batch of {self.batch} images cannot be taken in {self.accumulate} parts (accumulate)")
        return self

    def steps(self, n: float) -> int:
        """Returns the steps of one round at a site with `n` training images."""
        return self.local_steps or max(1, math.ceil(self.epochs * n / self.batch))

    def rate(self, n: int) -> float:
        """Returns the probability (Poisson sampling) that one of `n` is in a batch: once per epoch on average."""
        return min(1.0, self.batch / n)


class Compression(Strict):
    """Codings of the arrays that are sent (fedsynth/compression); None: arrays are sent as they are."""

    up: Block | None = None  # a site's differences
    down: Block | None = None  # the global parameters


class Model(Strict):
    family: Block
    # of the weights at the start, the batches and the synthetic set; None: the study's. Blocks that differ in nothing
    # else are trainings of one model (`Params.trainings`)
    seed: Seed | None = None
    algorithm: Block = Block(class_path="fedsynth.algorithms.fedavg.FedAvg")
    training: Training
    start: Start | None = None  # weights to begin with; None: those that the seed gives
    pretrain: Pretrain | None = None  # begin with weights trained on public images at the centre; true: as usual
    # patterns of the names of parameters that are trained and travel; None: all. The others stay what they are
    trainable: Annotated[Once[str], Field(min_length=1)] | None = None
    privacy: Block | None = None  # a mechanism of fedsynth/privacy
    compression: Compression | None = None
    # of the sites' updates (fedsynth/privacy/he.py): the server sees only their sum
    encryption: Block | None = None
    robust: Block | None = None  # how updates are combined (fedsynth/robust); None: their weighted mean

    @field_validator("pretrain", mode="before")
    @classmethod
    def _yes_or_no(cls, said: Any) -> Any:
        return ({} if said else None) if isinstance(said, bool) else said

    @model_validator(mode="after")
    def _one_beginning(self) -> Self:
        if self.start is not None and self.pretrain is not None:
            raise ValueError("start and pretrain both say with which weights the training begins; keep one of them")
        return self

    @model_validator(mode="before")
    @classmethod
    def _as_the_family_trains(cls, said: Any) -> Any:
        """Fill in the family's defaults of `training` for the keys that are not written."""
        if not isinstance(said, dict):
            return said
        family, training = said.get("family"), said.get("training")
        path = family.class_path if isinstance(family, Block) else isinstance(family, dict) and family.get("class_path")
        if isinstance(training, Training):
            training = training.model_dump(exclude_unset=True)
        if not isinstance(path, str) or not isinstance(training, dict):
            return said
        return said | {"training": training_defaults(path) | training}
