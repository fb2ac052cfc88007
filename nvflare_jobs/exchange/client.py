"""The site's half: its own discriminator, trained on real images and on those that the centre sends.

It returns gradients at the centre's images.
"""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from nvflare.collab import collab
from nvflare.fuel.utils.log_utils import get_obj_logger

from fedsynth.hospital import canaries, failures, outgoing, trained
from nvflare_jobs.site.site import Site, checked

if TYPE_CHECKING:
    from fedsynth.training.central_generator import Discriminating

SERVER = "server"  # the centre's name in the Collab API


class Called(Site):
    """A site that the centre calls, instead of one that polls for tasks: name and question come with the call."""

    def __init__(self, name: str, question: dict[str, Any]):
        self.name, self.config, self.job, self._received = name, checked(question), "train", None
        self.among()


class Sent:
    """The gradients of one round that have left, for the site's record."""

    def __init__(self) -> None:
        self.steps, self.size, self.digest = 0, 0, hashlib.sha256()

    def add(self, feedback: np.ndarray) -> None:
        self.steps, self.size = self.steps + 1, self.size + feedback.nbytes
        self.digest.update(np.ascontiguousarray(feedback).tobytes())


class Exchange:
    """The methods that the centre may call.

    Each returns a dict: {"failure": one word of a closed list}, or what `outgoing` has let through. Errors never leave
    as exceptions: Collab would send their text and traceback, which may name rows and files.
    """

    def __init__(self) -> None:
        self._site: Called | None = None

    @collab.publish
    def begin(self, question: dict[str, Any]) -> dict[str, Any]:
        """Load the data that passed validation and build the discriminator, as the job's question says."""
        return self._answer(collab.caller, collab.site_name, lambda: self._begin(collab.site_name, question))

    @collab.publish
    def step(self, images: np.ndarray, asked: np.ndarray) -> dict[str, Any]:
        """Train the discriminator on the first of two batches.

        Returns {"feedback": gradient of the generator's loss at the second}. `images`: (2, B, C, *S) in [-1, 1], drawn
        for the classes `asked` (2, B).
        """
        return self._answer(collab.caller, collab.site_name, lambda: self._step(images, asked))

    @collab.publish
    def end_round(self) -> dict[str, Any]:
        """Return the mean losses of the round and its number of steps."""
        return self._answer(collab.caller, collab.site_name, self._end_round)

    def _answer(self, caller: str, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Run `work` and turn an error into its word.

        Only the centre is answered, because other sites of the job could call too.
        """
        try:
            if caller != SERVER:
                raise outgoing.LeakError(f"{caller} asked for what goes to the centre alone")
            return work()
        except Exception as error:
            # at level INFO it goes to the site's log and not to the error log, which FLARE may stream
            logger = get_obj_logger(self)
            logger.info(traceback.format_exc())
            logger.info(f"FEDSYNTH FAILED site {name}: {type(error).__name__}: {' '.join(str(error).split())}")
            return outgoing.leave("failure", {"failure": failures.word(error)})

    def _begin(self, name: str, question: dict[str, Any]) -> dict[str, Any]:
        site = Called(name, question)
        site.admit()
        self._half, self._site = half(site), site
        self._feedback = Sent()
        return {}

    def _step(self, images: np.ndarray, asked: np.ndarray) -> dict[str, Any]:
        site = self._begun()
        site.gate.unpaused()
        site.still()
        fitting(site, images, asked)
        feedback = outgoing.leave_feedback(self._half.step(images, asked), images.shape[1:])
        self._feedback.add(feedback)
        return {"feedback": feedback}

    def _end_round(self) -> dict[str, Any]:
        site, sent = self._begun(), self._feedback
        self._feedback = Sent()
        facts = {"losses": self._half.means(), "steps": sent.steps}
        allowed = outgoing.leave("exchange", facts, list(self._half.family.players()), cells=site.cells)
        site.gate.sent(numbers=allowed, arrays=sent.steps, bytes=sent.size, sha256=sent.digest.hexdigest())
        return allowed

    def _begun(self) -> Called:
        if self._site is None:
            raise RuntimeError("a step was asked for before the training had begun")
        return self._site


def half(site: Site) -> Discriminating:
    """Build the site's half of the training, on its own training images."""
    import torch

    from fedsynth.families._first_layer import first_layer_share
    from fedsynth.hospital.policy.floors import first_layer
    from fedsynth.params import Model
    from fedsynth.training.central_generator import Discriminating

    model, image = Model.model_validate(site.config["model"]), site.params.image
    torch.manual_seed(site.model_seed)
    family, algorithm = model.family.build(**image.context()), model.algorithm.build()
    with site.gate.recorded():
        first_layer(site.gate.policy.floors, first_layer_share(family, image), site.config["name"])
    algorithm.check(family, model.training.rounds, model.privacy is not None)
    whole = site.validated_set()
    trained.remember(site.state, site.config["name"], whole.manifest)
    real = whole.split("train")
    real = real.where(np.all([real.has(image, name) for name in image.generated], axis=0))  # all are compared whole
    real = canaries.among(real, site.params, site.state, site.config["name"])
    x, y = torch.from_numpy(real.channels(image, image.generated)), torch.from_numpy(real.condition_labels(image))
    return Discriminating(
        family, model.training, int(site.config["steps"]), site.seed(), x, y, algorithm.discriminator_steps
    )


def fitting(site: Site, images: np.ndarray, asked: np.ndarray) -> None:
    """Raise ParamsError where what the centre sent are not images with classes of params.yaml.

    The centre then runs another version. Expected: images float32 (2, B, C, *S), finite; classes int64 (2, B).
    """
    from fedsynth.params import ParamsError

    image = site.params.image
    shape = (2, asked.size // 2, len(image.generated), *image.size)  # two batches
    if asked.shape != shape[:2] or images.dtype != np.float32 or images.shape != shape or not np.isfinite(images).all():
        raise ParamsError(
            f"the centre sent {images.dtype} {images.shape} for images of {shape}, or numbers that are not finite"
        )
    if asked.dtype != np.int64 or asked.min() < 0 or asked.max() >= len(image.labels):
        raise ParamsError(f"the centre asks for classes that are not among the {len(image.labels)} of params.yaml")
