"""The other sections of params.yaml: study, promote, consortium, split, expectations, sample, score, audit, gates."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from fedsynth.params import gates
from fedsynth.params.block import Block, Seed, Strict
from fedsynth.params.names import Identifier, Name, find
from fedsynth.params.problems import Once

Images = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0)]
Readable = Annotated[str, AfterValidator(lambda line: gates.parse(line) and line)]


STUDY_NAME = re.compile("[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")


def _study_name(text: str) -> str:
    if not STUDY_NAME.fullmatch(text):
        raise ValueError(
            "it becomes the name of an experiment and a part of registered names: letters (without accents), digits, _"
            " and -, 80 at most"
        )
    return text


class Promote(Strict):
    # who may approve a promotion, as they name themselves in the form; empty: whoever answers
    approvers: Once[Name] = Field(default_factory=list)


class Centre(Strict):
    """Keys of params.yaml that no result hangs on: they make no stage stale, and no job and no policy holds them."""

    # names the experiment and, before "-", the registered models in MLflow; no model's name has a "-"
    study: Annotated[str, AfterValidator(_study_name)] = "fedsynth"
    promote: Promote = Promote()
    keep_runs: int = Field(3, ge=1, le=9999)  # of how many runs jobs, states and experiments are kept at the centre


class Consortium(Strict):
    # the expected sites; default: those of the source, or all that are connected to a provisioned federation
    sites: Annotated[Once[Name], Field(min_length=1)] | None = None
    failed_site: Literal["stop", "leave_out"] = "stop"  # after a failed validation
    min_sites: int = Field(2, ge=1)  # minimum number of sites that passed validation
    min_cell: int = Field(5, ge=1)  # smaller counts leave a hospital as "< 5"
    quorum: int | None = Field(None, ge=1)  # number of sites that are enough for a round; default: all that passed
    grace_s: int = Field(600, ge=0)  # seconds to wait for the other sites after the quorum has answered

    def enough(self, sites: list[str]) -> int:
        """Return how many of `sites` are enough for a round."""
        return min(self.quorum or len(sites), len(sites))


class Split(Strict):
    """Shares of each class's images at a site; subjects are not split, and the rest is `train`.

    A site that is too small for both may take part in one of them: all its subjects are then for training, or all are
    for testing.
    """

    val: float = Field(0.1, ge=0, lt=1)
    test: float = Field(0.25, gt=0, lt=1)
    seed: Seed | None = None  # default: the seed of the study
    train_only: Once[Name] = Field(default_factory=list)  # sites where no model is tested
    test_only: Once[Name] = Field(default_factory=list)  # sites on whose images no model is trained

    def only(self, site: str) -> Literal["train", "test"] | None:
        """Return what a site, named by its text or its key, takes part in alone; None if in both."""
        site = str(site)  # in a source that is being checked, YAML may have made a number of a name
        if find(site, self.train_only) is not None:
            return "train"
        return "test" if find(site, self.test_only) is not None else None

    def shares(self, site: str) -> dict[str, float]:
        """Return the shares of train, val and test at a site."""
        if (only := self.only(site)) is not None:
            return {"train": 0.0, "val": 0.0, "test": 0.0} | {only: 1.0}
        return {"train": 1 - self.val - self.test, "val": self.val, "test": self.test}

    def training(self, sites: Iterable[str]) -> list[str]:
        """Return those of `sites` that train models."""
        return [site for site in sites if self.only(site) != "test"]

    def testing(self, sites: Iterable[str]) -> list[str]:
        """Return those of `sites` that test models."""
        return [site for site in sites if self.only(site) != "train"]


class Expectations(Strict):
    # per class and split
    min_images: dict[Literal["train", "val", "test"], Images] = Field(default={"train": 5, "test": 3})
    every_class: bool = True  # False: a site may have no images of some classes
    max_resolution_loss: float | None = Field(None, ge=1)  # warn if an axis was reduced by more than this factor
    # warn if an axis' spacing differs from the set's median by more than this factor
    max_spacing_ratio: float | None = Field(1.5, ge=1)
    # warn if a mean intensity is an outlier by more than this number of robust standard deviations
    max_outlier: float | None = Field(8, gt=0)


class Sample(Strict):
    images: int = Field(300, ge=1)  # in the synthetic set; `balance`: shares of the classes
    balance: Literal["uniform"] | dict[Name, Share] = "uniform"
    batch: int = Field(100, ge=1)
    # the images of the given channels: a source at the centre, or the folder of a set
    given: Block | str | None = None
    exporters: dict[Identifier, Block] = Field(default_factory=dict)


class Score(Strict):
    seeds: Once[Seed] = Field(default_factory=lambda: [1], min_length=1)
    rounds: int = Field(10, ge=1)  # of the `federated` reference, which share a use's budget of steps
    # of the images that `augmented` draws of a class; val: each site chooses by its validation images
    real_share: Annotated[float, Field(gt=0, lt=1)] | Literal["val"] = 0.25
    uses: dict[Identifier, Block]
    # a source at the centre, of images that cost no patient anything: the row `public`
    public: Block | None = None
    # the space in which images are compared
    features: Block = Block(class_path="fedsynth.features.classifier.Classifier")
    measures: dict[Identifier, Block] = Field(default_factory=dict)


class Audit(Strict):
    """How the audit of privacy is itself put to the test."""

    # marked images of no patient that each site makes for each training; a coin decides of each whether it is put in
    canaries: int = Field(0, ge=0, le=10_000)


class Gates(Strict):
    """Conditions for the promotion of a model: "classification/retained >= 0.85", "fid <= 3 * floor".

    `by`: what a gate holds by that does not say it itself: the end of the number's 95 % interval on the safe side, or
    its value alone.
    """

    by: Literal["bound", "point"] = "bound"

    require: Once[Readable] = Field(default_factory=list)
    warn: Once[Readable] = Field(default_factory=list)
