"""What a family's players say of each image with the weights alone: losses, lower for images that they know."""

from __future__ import annotations

import copy
import sys
from typing import TYPE_CHECKING

import numpy as np

from fedsynth.data.dataset import ImageSet
from fedsynth.measures import MeasureInputs
from fedsynth.measures._neighbours import mirrors

if TYPE_CHECKING:
    import torch

    from fedsynth.families import Family

BATCH = 64


def attacked_players(family: Family) -> list[str]:
    """Returns the players whose parameters were all released.

    Parameters that stayed at the sites have their initial values here, so their loss reveals nothing.
    """
    players, released = family.players(), family.released
    if released is None:
        return list(players)
    known = {p for name, p in family.named_parameters() if name in released or name in family.personal}
    return [name for name, net in players.items() if all(p in known for p in net.parameters())]


def losses(seen: MeasureInputs, family: Family, images: ImageSet, player: str, draws: int) -> np.ndarray:
    """Returns (N, K) float64: the player's K numbers of each image (Family.evidence), averaged over `draws` of noise.

    The noise is the same for all images. The draws take the mirrored versions that training has seen in turn.
    """
    from fedsynth.families import leave_out

    # some losses need the gradient with respect to x (R1)
    family = copy.deepcopy(family).eval().requires_grad_(False)
    leave_out(family, images.lacking(seen.image))
    parts = images.parts(BATCH, sys.maxsize)  # all of one size, as the noise of a draw may depend on it
    return np.concatenate([_of_part(seen, family, part, player, draws) for part in parts])


def _of_part(seen: MeasureInputs, family: Family, images: ImageSet, player: str, draws: int) -> np.ndarray:
    """Returns (N, K) as `losses`, of the images of a batch."""
    import torch

    from fedsynth.networks.device import random_devices

    device, image = next(iter(family.parameters())).device, seen.image
    x, given = (images.channels_or_nan(image, names) for names in (image.generated, image.given))
    y = torch.tensor(images.condition_labels(image)).to(device)
    turned = [
        [torch.from_numpy(np.ascontiguousarray(part)).to(device) for part in mirrors(of, seen.flip)]
        for of in (x, given)
    ]
    found: list[np.ndarray] = []
    with torch.random.fork_rng(devices=random_devices(device)):
        for draw in range(draws):
            at = draw % len(turned[0])
            one = _draw(family, player, turned[0][at], y, turned[1][at] if image.given else None, [seen.seed, draw])
            if one is None:
                return _one_by_one(family, player, turned[0][0], y, turned[1][0] if image.given else None, draws, seen)
            found.append(one)
    return np.mean(found, axis=0)


def _draw(family: Family, player: str, x: torch.Tensor, y: torch.Tensor, given: torch.Tensor | None,
          seed: list[int]) -> np.ndarray | None:  # fmt: skip
    """Returns (N, K) for one draw of noise; None if the family leaves it to its loss."""
    import torch

    torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    with torch.no_grad():
        found = family.evidence(player, x, y, given)
    return None if found is None else found.cpu().double().numpy()


def _one_by_one(family: Family, player: str, x: torch.Tensor, y: torch.Tensor, given: torch.Tensor | None,
                draws: int, seen: MeasureInputs) -> np.ndarray:  # fmt: skip
    """Returns (N, 1): the family's loss of each image alone."""
    import torch

    found = []
    with torch.enable_grad():
        for i in range(len(x)):
            torch.manual_seed(seen.seed)
            several = [
                None if t is None else t[i : i + 1].expand(draws, *t.shape[1:]).contiguous() for t in (x, y, given)
            ]
            found.append(float(family.loss(player, *several).detach()))  # type: ignore[arg-type]
    return np.array(found, dtype=np.float64)[:, None]
