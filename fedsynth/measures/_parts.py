"""Distances in which a copied structure or a copied part shows: SSIM, and patches matched at any place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fedsynth.measures._neighbours import mirrors

if TYPE_CHECKING:
    from torch import Tensor

SIDE = {2: 32, 3: 16}  # largest side of an image, by its axes; larger ones are averaged down to it
WINDOW, STRIDE = 7, 3  # pixels of SSIM's window (Wang et al. 2004), and from one to the next: they overlap by half
C1, C2 = 0.01**2, 0.03**2  # SSIM's constants for values in [0, 1]
FAINT = 0.02  # standard deviation of a patch, of values in [0, 1], below which it is mostly noise
PATCH, LOOKED_AT = 6, 10  # an image's side over that of a patch, and the patches of an image
ON_MASKS = 3  # of these, where an image has a mask: a lesion is what is most a patient's own, and rarely most unusual


def shrunk(images: np.ndarray) -> Tensor:
    """Returns images (N, I, *S) in [-1, 1] as float32 in [0, 1] with sides of at most SIDE pixels."""
    import torch
    from torch.nn import functional as F

    x = (torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32)) + 1) / 2
    size = tuple(min(side, SIDE[x.ndim - 2]) for side in x.shape[2:])
    pool: Any = F.adaptive_avg_pool2d if x.ndim == 4 else F.adaptive_avg_pool3d
    return pool(x, size) if x.shape[2:] != size and len(x) else x


def unlike(of: np.ndarray, to: np.ndarray, flip: tuple[int, ...]) -> np.ndarray:
    """Returns (N, M) 1 - SSIM (Wang et al. 2004) of images (N, I, *S) and the mirrored versions of `to` (M, I, *S).

    Local means and variances are computed once for each image, so that only the covariance is left for each pair.
    """
    import torch

    one, others = shrunk(of), [shrunk(m) for m in mirrors(to, flip)]
    found = np.ones((len(one), len(to)))
    for other in others:
        mean_b, square_b = _local(other), _local(other.square())
        for i, image in enumerate(one.split(1)):
            mean_a, square_a = _local(image), _local(image.square())
            covariance = _local(image * other) - mean_a * mean_b
            alike = (2 * mean_a * mean_b + C1) * (2 * covariance + C2)
            spread = (mean_a.square() + mean_b.square() + C1) * (
                square_a - mean_a.square() + square_b - mean_b.square() + C2
            )
            found[i] = np.minimum(found[i], 1 - torch.flatten(alike / spread, 1).mean(1).double().numpy())
    return np.maximum(found, 0)


def _local(x: Tensor) -> Tensor:
    """Returns the means of the windows."""
    from torch.nn import functional as F

    window = [min(WINDOW, side) for side in x.shape[2:]]
    return (F.avg_pool2d if x.ndim == 4 else F.avg_pool3d)(x, window, stride=STRIDE)


class Patches:
    """Patches of a sixth of an image's side, each less its mean and of one norm: brighter or paler copies are found.

    `train` (M, I, *S) are the images in which they are looked for, at any place and mirrored.
    """

    def __init__(self, train: np.ndarray, flip: tuple[int, ...]):
        self.versions = [shrunk(m) for m in mirrors(train, flip)]
        known = self.versions[0].new_tensor(np.concatenate([v.numpy() for v in self.versions]))
        self.mean, self.sd = known.mean(0), known.std(0).clamp_min(1e-3)
        self.side = [max(3, side // PATCH) for side in known.shape[2:]]

    def distances(self, images: np.ndarray, masks: np.ndarray, whose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns (N, LOOKED_AT, S) distances of each image's patches to the nearest of each patient, and (N, L) where.

        `masks` (N, any, *S) bool of the images; `whose` (M,): the patient of each training image. The patches are the
        ON_MASKS that lie most on a mask, and then those that are most unlike the training images at the same place:
        what is unusual tells one patient from another. The second array names the training image in which the nearest
        patch lies.
        """
        import torch

        asked = self._unusual(shrunk(images), shrunk(np.where(masks.any(1, keepdims=True), 1.0, -1.0)))  # (N, L, P)
        flat = asked.flatten(0, 1)
        square = flat.square().sum(1)
        nearest = torch.full((len(flat), len(whose)), torch.inf)
        for version in self.versions:
            for place, image in enumerate(version.split(1)):
                there = self._cut(image, 1)[0]
                rest = torch.addmm(there.square().sum(1), flat, there.T, alpha=-2).amin(1)  # in one pass each
                nearest[:, place] = torch.minimum(nearest[:, place], (square + rest).clamp_min(0))
        table = nearest.sqrt().double().numpy()
        of_patient = np.stack([table[:, whose == s].min(1) for s in np.unique(whose)], axis=1)
        n, many = asked.shape[:2]
        return of_patient.reshape(n, many, -1), table.argmin(1).reshape(n, many)

    def _cut(self, images: Tensor, stride: int) -> Tensor:
        """Returns (N, places, P): all patches, less their means by channel, of norm 1 if not faint."""
        found = images
        for axis, side in enumerate(self.side):
            found = found.unfold(2 + axis, side, stride)
        axes = len(self.side)
        found = found.movedim(1, 1 + axes).flatten(1, axes).flatten(3)  # (N, places, I, pixels)
        found = (found - found.mean(3, keepdim=True)).flatten(2)
        return found / (found.norm(dim=2, keepdim=True) + FAINT * found.shape[2] ** 0.5)

    def _unusual(self, images: Tensor, masks: Tensor) -> Tensor:
        """Returns (N, L, P): of each image the most unlike patch, then the next that does not lie on one before it.

        The first ON_MASKS are those with the largest share of `masks` (N, 1, *S) in [0, 1], the most unlike of equals.
        """
        import torch

        odd = self._over(((images - self.mean) / self.sd).square().mean(1, keepdim=True))
        grid = torch.stack(torch.meshgrid(*(torch.arange(n) for n in odd.shape[2:]), indexing="ij")).flatten(1)
        left, chosen = odd.flatten(1), []
        first = self._over(masks).flatten(1) * 1e3 * (1 + left.amax(1, keepdim=True))
        for i in range(LOOKED_AT):
            chosen.append((left + first if i < ON_MASKS else left).argmax(1))
            apart = (grid[:, None] - grid[:, chosen[-1], None]).abs()  # (axes, N, places)
            on = [of <= side // 2 for of, side in zip(apart, self.side, strict=True)]
            left[torch.stack(on).all(0)] = -torch.inf
        at = torch.stack(chosen, 1)[..., None]
        patches = self._cut(images, 1)
        return patches.gather(1, at.expand(-1, -1, patches.shape[2]))

    def _over(self, x: Tensor) -> Tensor:
        """Returns the means over all places of a patch."""
        from torch.nn import functional as F

        return (F.avg_pool2d if x.ndim == 4 else F.avg_pool3d)(x, self.side, stride=1)
