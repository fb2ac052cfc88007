"""`models.<name>.start` of params.yaml: weights that a training begins with instead of those that the seed gives."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from fedsynth.params.block import Block, Strict
from fedsynth.params.problems import Once, invalid

URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[1-9][0-9]{0,8}))")
PUBLIC, PRIVATE = "public", "private"
NO_EDGE = (
    "a training cannot begin with another model of the same params.yaml: all trainings are made of one block of"
    " dvc.yaml, in which one of them cannot depend on another. Train and promote that model first and say"
    " `start: models:/<study>-{0}@champion`; or let both begin with the same weights, by `pretrain`"
)


def _registered(uri: str) -> str:
    if not URI.fullmatch(uri):
        raise ValueError(
            "is no address of a registered model: models:/<study>-<model>@champion, or models:/…/<version>"
        )
    return uri


def _digest(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise ValueError("is no SHA-256: 64 digits of 0 to 9 and a to f, as `sha256sum FILE` shows them")
    return text


def _expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from error
    return text


Digest = Annotated[str, AfterValidator(_digest)]
Registered = Annotated[str, AfterValidator(_registered)]
Expression = Annotated[str, AfterValidator(_expression)]


class Start(Strict):
    """Where the weights come from (`file` or `registry`), which of them are taken, and what was behind them.

    A text alone is the one or the other: `start: models:/fedsynth-vae@champion`.
    """

    # safetensors, a state dict of torch, or the folder of a MONAI bundle; at the centre, relative to the study's folder
    file: str | None = None
    registry: Registered | None = None  # of this study: models:/<study>-<model>@<alias>, or /<version>
    sha256: Digest | None = None  # of the file, or of the version's weights: others are refused
    take: Once[str] = Field(default_factory=lambda: ["*"], min_length=1)  # names of this model's parameters
    # regular expression -> what is written in its place, in the names of the file, in this order
    rename: dict[Expression, str] = Field(default_factory=dict)
    # public, private (images of others than this study's patients), or in words; a registered version knows it itself
    trained_on: str | None = Field(None, min_length=1, max_length=300)
    missing: Literal["stop", "seed"] = "stop"  # where the registry has no such version: begin with the seed's weights

    @model_validator(mode="before")
    @classmethod
    def _in_a_word(cls, said: Any) -> Any:
        if isinstance(said, str):
            return {"registry" if said.startswith("models:") else "file": said}
        if isinstance(said, dict) and "model" in said:
            raise invalid(cls.__name__, [(("model",), said["model"], NO_EDGE.format(said["model"]))])
        return said

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.file is None) is (self.registry is None):
            raise ValueError("name one of `file` and `registry`: where the weights come from")
        if self.file is not None and self.trained_on is None:
            raise ValueError(
                "say what the file's weights were `trained_on`: public, private (images of others), or in words; card"
                " and datasheet say it"
            )
        if self.file is not None and self.missing != "stop":
            raise ValueError("`missing: seed` is for a registry that may have no version yet; a file must be there")
        return self

    @property
    def source(self) -> str:
        """Where the weights come from, in a word."""
        return str(self.file or self.registry)


class Pretrain(Strict):
    """A training on public images at the centre, before the sites'; models that ask for the same share its result."""

    steps: int = Field(1000, ge=1)  # optimiser steps of each player; rates and the rest are those of the family
    batch: int = Field(16, ge=1)
    source: Block | None = None  # of the images, at the centre; None: score.public
