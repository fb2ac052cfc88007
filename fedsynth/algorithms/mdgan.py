"""MD-GAN: Hardy et al. 2019, arXiv:1811.03850, algorithm 1; AsynDGAN: Chang et al. 2020, CVPR, arXiv:2006.00080.

One generator at the centre and a discriminator at each site, which never leaves it. The computation is in
fedsynth/training/central_generator.py.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from fedsynth.algorithms.fedavg import Arrays
from fedsynth.errors import UserError
from fedsynth.families import Family
from fedsynth.privacy import PrivacyError

WEIGHTINGS = ("images", "equal")
GENERATOR, DISCRIMINATOR = "generator", "discriminator"  # the two players


class MDGAN:
    """GAN training with a central generator; no parameters are exchanged.

    At every step the centre sends each site two batches of generated images. The site's discriminator learns from the
    first and from real images, and the site returns the gradient of the generator's loss at the second. A round has the
    steps for `epochs` passes over the sites' mean number of images, in batches of `batch` per site.

    Discriminators are not swapped among the sites (SWAP of algorithm 1): they memorise real images and would carry them
    to other hospitals.

    Args:
        weighting: weight of a site's gradient: its number of training "images" (AsynDGAN) or the same for all ("equal",
            MD-GAN).
        discriminator_steps: steps of a site's discriminator per exchange (L of algorithm 1).
        call_s: seconds that a site may take for an exchange before the training is aborted.

    Raises ValueError for another weighting, `discriminator_steps` < 1 or `call_s` <= 0.
    """

    job = "exchange"
    unprotected = "its sites send gradients at images that each got for itself, which cannot be compared"

    def __init__(self, weighting: str = "images", discriminator_steps: int = 1, call_s: float = 60.0):
        self.weighting, self.discriminator_steps, self.call_s = weighting, discriminator_steps, call_s
        if weighting not in WEIGHTINGS:
            raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, not {weighting!r}")
        if discriminator_steps < 1 or call_s <= 0:
            raise ValueError(
                f"discriminator_steps ({discriminator_steps}) must be at least 1 and call_s ({call_s}) above 0"
            )

    def parameters(self, model: Family) -> dict[str, nn.Parameter]:
        """Returns the parameters that the centre holds after the training, by name."""
        return generators(model)

    sent = parameters  # by the centre, to itself: what a training may begin with

    def prepare(self, initial: Arrays) -> Arrays:
        """Returns the arrays that the training starts from."""
        return initial

    def check(self, family: Family, rounds: int, private: bool) -> None:
        """Raise UserError for an unsupported family and PrivacyError with a privacy mechanism; called at the centre."""
        name, players = type(family).__name__, set(family.players())
        able = all(hasattr(family, part) for part in ("latent", "draw", "fool", "tell"))
        if players != {GENERATOR, DISCRIMINATOR} or not able:
            raise UserError(
                f"MDGAN trains a generator from the gradient at its images, and {name} cannot be parted so (its"
                f" players: {', '.join(sorted(players))}); take families.gan.GAN, or another algorithm for {name}"
            )
        if getattr(family, "given", 0):
            raise UserError(
                "MDGAN's generator is at the centre, which has no real images for image.given to be taken from; give"
                " none"
            )
        if getattr(family, "may_lack", ()):
            raise UserError("MDGAN's sites are all sent whole images; empty image.may_lack, or take another algorithm")
        if private:
            raise PrivacyError(
                "MDGAN has no differential privacy here: its sites answer at every step, and what a training has told"
                " before it was ended would not be counted once it begins again; take fedsynth.algorithms.fedavg.FedAvg"
                " with `shared: generator.*`"
            )


def generators(family: Any) -> dict[str, nn.Parameter]:
    """Returns the generator's parameters by their names in the family."""
    own = set(family.players()[GENERATOR].parameters())
    return {name: p for name, p in family.named_parameters() if p in own}
