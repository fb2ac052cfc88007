"""Distances in which a copied structure or a copied part shows: SSIM, and patches matched at any place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsynth.measures._neighbours import mirrors, near

if TYPE_CHECKING:
    from torch import Tensor

SIDE = {2: 32, 3: 16}  # largest side of an image, by its axes; larger ones are averaged down to it
WINDOW, STRIDE = 7, 3  # pixels of SSIM's window (Wang et al. 2004), and from one to the next: they overlap by half
C1, C2 = 0.01**2, 0.03**2  # SSIM's constants for values in [0, 1]
FAINT = 0.02  # standard deviation of a patch, of values in [0, 1], below which it is mostly noise
PATCH, LOOKED_AT = 6, 10  # an image's side over that of a patch, and the patches of an image
OFF = 2e-4  # by how much 1 - SSIM of all pairs may be off
ALL, FLAT = 512, 256  # images of a set up to which SSIM is computed of all pairs; patches that are compared at once
ON_MASKS = 3  # of these, where an image has a mask: a lesion is what is most a patient's own, and rarely most unusual


def shrunk(images: np.ndarray) -> Tensor:
    """Returns images (N, I, *S) in [-1, 1] as float32 in [0, 1] with sides of at most SIDE pixels."""
    import torch
    from torch.nn import functional as F

    x = (torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32)) + 1) / 2
    size = tuple(min(side, SIDE[x.ndim - 2]) for side in x.shape[2:])
    pool: Any = F.adaptive_avg_pool2d if x.ndim == 4 else F.adaptive_avg_pool3d
    return pool(x, size) if x.shape[2:] != size and len(x) else x


def thumbnails(parts: Iterable[np.ndarray], flip: tuple[int, ...]) -> Tensor:
    """Returns (V, M, I, *S): a set of images, given in parts (B, I, *S), in its V mirrored versions, each `shrunk`.

    They are small enough to be in memory where the set is on disk.
    """
    import torch

    return torch.cat([torch.stack([shrunk(of) for of in mirrors(part, flip)]) for part in parts], dim=1)


class Structure:
    """1 - SSIM (Wang et al. 2004) of images to each of a set, the smallest over its mirrored `versions` (`thumbnails`).

    Local means and variances are computed once for each image, so that only the covariance is left for each pair.
    """

    def __init__(self, versions: Tensor):
        self.versions = versions
        self.local = [(_local(of), _local(of.square())) for of in versions]

    def distances(self, images: Tensor, whose: np.ndarray, keep: int) -> np.ndarray:
        """Returns (N, M) of `shrunk` images (N, I, *S); `whose` and `keep` as of _neighbours.distances.

        Of a large set all are computed by matrix products first, window by window, and those to the nearest again.
        """
        n = self.versions.shape[1]
        asked = near(self._rough(images), OFF, whose, keep) if n > ALL else np.ones((len(images), n), bool)
        found = np.full(asked.shape, np.inf)
        for i, image in enumerate(images.split(1)):
            at = np.flatnonzero(asked[i]) if n > ALL else slice(None)
            found[i, at] = np.min([self._of(image, v, at) for v in range(len(self.versions))], axis=0).clip(0, 1)
        return found

    def _of(self, image: Tensor, version: int, at: np.ndarray | slice) -> np.ndarray:
        """Returns (m,) of one image (1, I, *S) to those `at` these places."""
        import torch

        mean_a, square_a = _local(image), _local(image.square())
        mean_b, square_b = (of[at] for of in self.local[version])
        covariance = _local(image * self.versions[version][at]) - mean_a * mean_b
        alike = (2 * mean_a * mean_b + C1) * (2 * covariance + C2)
        spread = (mean_a.square() + mean_b.square() + C1) * (
            square_a - mean_a.square() + square_b - mean_b.square() + C2
        )
        return np.asarray(1 - torch.flatten(alike / spread, 1).mean(1).double().numpy())

    def _rough(self, images: Tensor) -> np.ndarray:
        """Returns (N, M) float32, off by rounding by OFF at most, which it is of bright even windows."""
        a, found = _windows(images), np.ones((len(images), self.versions.shape[1]), np.float32)
        for version in self.versions:
            for rows in (slice(start, start + ALL) for start in range(0, len(version), ALL)):
                alike = _alike(a, _windows(version[rows]))
                found[:, rows] = np.minimum(found[:, rows], (1 - alike).numpy())
        return found


def _alike(a: Tensor, b: Tensor) -> Tensor:
    """Returns (N, M) the mean SSIM of windows (W, N, P) and (W, M, P)."""
    (mean_a, var_a), (mean_b, var_b) = ((of.mean(2), of.var(2, correction=0)) for of in (a, b))
    total = a.new_zeros((a.shape[1], b.shape[1]))
    for w in range(len(a)):  # one at a time, so that the tables of all pairs stay in the processor's cache
        product = mean_a[w][:, None] * mean_b[w]
        covariance = (a[w] @ b[w].T).div_(a.shape[2]).sub_(product)
        spread = (mean_a[w].square() + C1)[:, None] + mean_b[w].square()
        spread *= (var_a[w] + C2)[:, None] + var_b[w]
        total += product.mul_(2).add_(C1).mul_(covariance.mul_(2).add_(C2)).div_(spread)
    return total / len(a)


def _windows(x: Tensor) -> Tensor:
    """Returns (W, N, P): the P pixels of each window of each channel of images (N, I, *S)."""
    axes = x.ndim - 2
    for axis in range(2, x.ndim):
        x = x.unfold(axis, min(WINDOW, x.shape[axis]), STRIDE)
    return x.flatten(2 + axes).flatten(1, 1 + axes).transpose(0, 1).contiguous()


def _local(x: Tensor) -> Tensor:
    """Returns the means of the windows."""
    from torch.nn import functional as F

    window = [min(WINDOW, side) for side in x.shape[2:]]
    return (F.avg_pool2d if x.ndim == 4 else F.avg_pool3d)(x, window, stride=STRIDE)


class Patches:
    """Patches of a sixth of an image's side, each less its mean and of one norm: brighter or paler copies are found.

    They are looked for in the images of a set in their mirrored `versions` (`thumbnails`), at any place.
    """

    def __init__(self, versions: Tensor):
        self.versions, known = versions, versions.flatten(0, 1)
        self.mean, self.sd = known.mean(0), known.std(0).clamp_min(1e-3)
        self.side = [max(3, side // PATCH) for side in known.shape[2:]]

    def squares(self, images: np.ndarray, masks: np.ndarray) -> Tensor:
        """Returns (N, LOOKED_AT, M) float32 squared distances of each image's patches to the nearest of each image.

        `masks` (N, any, *S) bool of the images. The patches are the ON_MASKS that lie most on a mask, and then those
        that are most unlike the set's images at the same place: what is unusual tells one patient from another.
        """
        import torch

        asked = self._unusual(shrunk(images), shrunk(np.where(masks.any(1, keepdims=True), 1.0, -1.0)))  # (N, L, P)
        flat = asked.flatten(0, 1)
        square = flat.square().sum(1)
        found = torch.full((self.versions.shape[1], len(flat)), torch.inf)
        for version in self.versions:
            for place, image in enumerate(version.split(1)):
                there = self._cut(image, 1)[0]
                squares, turned = there.square().sum(1), there.T.contiguous()
                # few enough at once that they stay in the processor's cache
                rest = torch.cat([torch.addmm(squares, part, turned, alpha=-2).amin(1) for part in flat.split(FLAT)])
                found[place] = torch.minimum(found[place], (square + rest).clamp_min(0))
        return found.T.reshape(*asked.shape[:2], -1)

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
