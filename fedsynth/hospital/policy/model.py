"""Policy: what a hospital has agreed to, in a file that it owns (policy.yaml); no job can change it or name another."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field

from fedsynth.errors import UserError
from fedsynth.params import Params, ParamsError
from fedsynth.params.block import Strict
from fedsynth.params.problems import Once, parsed
from fedsynth.params.reading import raw
from fedsynth.settings import Settings

Job = Literal["look", "validate", "train", "reference", "score"]
FILE, PAUSED = "policy.yaml", ".paused"
UNITS = ["image", "subject", "site"]  # of privacy, from the weakest to the strongest
MAY_DIFFER = [
    "seed",
    "gates",
    "consortium",
    "expectations.max_*",
    "sample",
    "score.seeds",
    "score.rounds",
    "models.*.training.rounds",
]


class PolicyError(UserError):
    """A job asks for more than the hospital has agreed to: `rule` is the key of policy.yaml. The message stays."""

    def __init__(self, rule: str, said: str):
        super().__init__(f"policy.yaml, {rule}: {said}")
        self.rule = rule


class Paused(PolicyError):
    """The hospital has paused all jobs."""


class NoPolicy(PolicyError):
    """There is no policy at this site, or one that cannot be read."""


class Study(Strict):
    """One study that the hospital has agreed to.

    `params`: the agreed params.yaml, without where images come from; None: any study, as in a simulation.
    """

    params: dict[str, Any] | None = None
    # keys that a job may give another value; * is any text
    may_differ: Once[str] = Field(default=MAY_DIFFER)


class Floors(Strict):
    """What a job must at least do, computed from what it would really do at this site."""

    images: int = Field(20, ge=1)  # distinct images behind each difference and each loss; never below the smallest cell
    subjects: int = Field(5, ge=1)  # whose images these are
    share: float = Field(0.5, ge=0, le=1)  # of the training images, that a round goes over
    batch: int = Field(4, ge=1)  # images a step
    clip: float = Field(1e-2, ge=0)  # least norm to which a training may shorten gradients
    lr: tuple[float, float] = (1e-6, 0.1)
    rounds: int = Field(200, ge=1)  # most rounds of a training
    start: bool = True  # a training begins with the weights that the study's seed gives, or one of `starts`
    # SHA-256 of weights from elsewhere that a training may begin with, as the centre's training says it; here: also
    # those near to what a training at this site ended with, whatever the centre has made of that; any: all
    starts: Once[str] = Field(default_factory=list)
    # most that its weights may move between two rounds, in norms of the largest difference that this site has sent
    moved: float | None = Field(10, gt=0)
    late: bool = False  # whether a training may begin here in a later round, of whose weights this site knows nothing
    first_layer: float = Field(0.25, gt=0, le=1)  # most of the image's pixels that one unit of a first layer sees
    set_images: int = Field(10, ge=1)  # distinct images of a synthetic set that is to be scored
    drawn: Literal["all", "one batch", "no"] = "all"  # of it is drawn again by its model with the study's seed
    trained: bool = True  # its model, and the `federated` networks, are near to what trainings at this site ended with
    weights: float = Field(100, gt=0)  # largest absolute value in networks that are sent to be tested


class Often(Strict):
    """Questions of a kind in 24 hours about the same data. A question that was answered before is not counted."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    look: int = Field(500, ge=0)
    validate_: int = Field(50, ge=0, alias="validate")
    train: int = Field(20, ge=0)
    reference: int = Field(20, ge=0)
    score: int = Field(40, ge=0)

    def of(self, job: str) -> int:
        return int(self.model_dump(by_alias=True)[job])


class Privacy(Strict):
    """`require: dp`: every training uses a mechanism; `epsilon` is a cap over all trainings within `days`."""

    require: Literal["none", "dp"] = "none"
    unit: Literal["image", "subject", "site"] | None = None  # the mechanism's unit must protect at least this
    epsilon: float | None = Field(None, gt=0)
    days: int = Field(365, ge=1)
    delta: float = Field(1e-5, gt=0, lt=1)
    moments: float = Field(0, ge=0)  # noise on means and covariances of features, in units of one image's influence


class Policy(Strict):
    """The file, one section for each subject."""

    version: Literal[1] = 1
    # by a name of the hospital's own; a job must be as one of them
    studies: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")], Study] = Field({"any": Study()}, min_length=1)
    jobs: Once[Job] = Field(default=list(get_args(Job)))
    submitters: Once[str] = Field(default_factory=list)  # who may ask, as FLARE knows them; empty: whom FLARE lets in
    floors: Floors = Floors()
    a_day: Often = Often()
    privacy: Privacy = Privacy()
    # most marked images of the site's own making for one training (`audit.canaries` of a study)
    canaries: int = Field(0, ge=0)
    copies: Literal["words", "numbers"] = "words"  # how many synthetic images are copies leaves as "none" or "some"


def place(settings: Settings, state: Path) -> Path:
    """Return the file of a site's policy: FEDSYNTH_POLICY, or in the site's own folder `state`."""
    return settings.policy or state / FILE


def load(path: Path) -> tuple[Policy, str]:
    """Return the policy of a file, and its digest. Raises NoPolicy where there is none or it cannot be used."""
    if not path.is_file():
        raise NoPolicy(
            "the file",
            f"{path} is not there, so every job is refused; make it with `fedsynth policy init` and read it"
            " (docs/hospital.md)",
        )
    try:
        policy, wrong = parsed(Policy, raw(path) or {}, "")
        for name, study in policy.studies.items() if policy is not None else ():
            if study.params is not None:
                wrong = [*wrong, *parsed(Params, study.params, f"studies.{name}.params")[1]]
    except ParamsError as error:
        raise NoPolicy("the file", " ".join(str(error).split())) from error
    if policy is None or wrong:
        said = "; ".join(map(str, wrong))
        raise NoPolicy("the file", f"{path} cannot be used: {said}; mend it, or `fedsynth policy init` anew")
    return policy, hashlib.sha256(path.read_bytes()).hexdigest()


def pause_mark(path: Path, study: str = "") -> Path:
    """Return the file that pauses jobs while it is there, beside the policy `path`: of one study, default: all."""
    return path.with_suffix(f".{study}{PAUSED}" if study else PAUSED)


def paused(path: Path, study: str = "") -> str | None:
    """Return why the hospital has paused the jobs of one study, default: all jobs; None if it has not.

    `path`: of the policy.
    """
    mark = pause_mark(path, study)
    return mark.read_text(encoding="utf-8").strip() or "no reason is given" if mark.is_file() else None
