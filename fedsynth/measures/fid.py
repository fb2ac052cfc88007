"""FID at each site, averaged as Dist-FID, and pooled exactly from the sites' moments."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fedsynth.measures import About, Answer, Measure, MeasureInputs, Moments, Value
from fedsynth.measures._statistics import KEPT, PARTS, around, beside_floor

CLIP = 5.0  # times the root mean square distance of the synthetic features from their mean


@dataclass(frozen=True)
class Ball:
    """Where features may lie, so that one image's influence on the moments that leave is bounded.

    It follows from the synthetic set alone, which the centre knows: that of the real images would tell of them.
    """

    centre: np.ndarray
    radius: float

    @classmethod
    def around(cls, features: np.ndarray) -> Ball:
        """`features` (N, F): of the synthetic set. Without any, all real ones become 0."""
        if not len(features):
            return cls(np.zeros(features.shape[1:]), 0.0)
        centre = features.mean(0)
        return cls(centre, CLIP * float(np.sqrt(np.square(features - centre).sum(1).mean())))

    def clip(self, features: np.ndarray) -> np.ndarray:
        """Move features (N, F) that lie outside straight towards the centre, onto the surface."""
        apart = features - self.centre
        lengths = np.linalg.norm(apart, axis=1, keepdims=True)
        return self.centre + apart * np.minimum(1.0, self.radius / np.maximum(lengths, 1e-300))


def noisy(moments: Moments, radius: float, multiplier: float) -> Moments:
    """Add Gaussian noise of `multiplier` times what one of the n images can change, with all in a ball of `radius`.

    The mean moves by at most 2 radius / n (L2), the covariance by about 4 radius^2 / n (Frobenius). The noise is drawn
    from the operating system's randomness; negative eigenvalues of the noisy covariance become 0. The number of
    independent images, to which no noise could be added, is not told then.
    """
    if not multiplier:
        return moments
    rng, one = np.random.default_rng(), 2 * radius / moments.n
    mean = moments.mean + rng.normal(0, multiplier * one, moments.mean.shape)
    noise = np.triu(rng.normal(0, multiplier * 2 * radius * one, moments.covariance.shape))
    values, vectors = np.linalg.eigh(moments.covariance + noise + np.triu(noise, 1).T)
    return Moments(moments.n, mean, (vectors * np.maximum(values, 0)) @ vectors.T)


class FID(Measure):
    """Fréchet distance between normal distributions fitted to features (Heusel et al. 2017, arXiv:1706.08500, eq. 6).

    |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)). Not computed if a set has fewer images than features: its
    covariance would be noise, and moments of so few images do not leave a site.
    """

    pooled = frozenset({"pooled_fid"})
    about: ClassVar = {
        "fid": About(
            "lower",
            "FID",
            "Fréchet distance between the features of held-out real images and of synthetic ones in the same shares of"
            " classes; the floor is as many real training images in their place. Over all sites it is Dist-FID, the"
            " mean by their real images.",
        ),
        "pooled_fid": About(
            "lower",
            "pooled FID",
            "FID of all sites' held-out images together against the whole synthetic set, exact from the sites' means"
            " and covariances; its floor is all training images in the place of the synthetic ones, its interval comes"
            " from random parts of the synthetic set and from normal features with the sites' means and covariances. A"
            " mix of classes or channels that is not the sites' counts as a distance. So that no image counts for more"
            f" than others, features farther than {CLIP:g} times the synthetic ones' spread from their mean are drawn"
            " in to there; a hospital's policy may ask for noise beside it.",
        ),
    }
    independent = False

    def at_site(self, seen: MeasureInputs) -> Answer:
        sets = {which: seen.features(which) for which in ("held_out", "train", "synthetic")}  # type: ignore[arg-type]
        values = beside_floor(
            seen, lambda a, b: {"fid": fid(a, b)}, sets["held_out"], sets["train"], sets["synthetic"], "fid"
        )
        few = min(values["fid"].n[kind] for kind in ("real", "synthetic")) < sets["synthetic"].shape[-1]
        values = {"fid": Value(None, values["fid"].n)} if few else values
        counts = {"real": len(sets["held_out"]), "train": len(sets["train"]), "synthetic": len(sets["synthetic"])}
        ball = Ball.around(sets["synthetic"])
        moments = {
            which: noisy(Moments.of(ball.clip(sets[which]), images.patients()), ball.radius, seen.moments_noise)
            for which, images in zip(("held_out", "train"), seen.real, strict=True)
            if enough(sets[which])
        }
        return Answer(values | {"pooled_fid": Value(None, counts)}, moments)

    def combine(self, answers: dict[str, Answer], centre: MeasureInputs) -> dict[str, Value]:
        return super().combine(answers, centre) | {"pooled_fid": pooled_fid(list(answers.values()), centre)}


def pooled_fid(answers: list[Answer], centre: MeasureInputs) -> Value:
    """Returns the FID of all sites' held-out images together, from the sites' moments; None if a site has none.

    Its variance is the sum of two: over random parts of the synthetic set (a delete-d jackknife: Shao & Wu 1989), and
    over normal features drawn with each site's moments, because the distance assumes normal features: as many as a
    site has independent images, since several of one patient are alike. Without that number there is no interval.
    """
    synthetic = centre.features("synthetic")
    counts = {kind: sum(a.values["pooled_fid"].n[kind] for a in answers) for kind in ("real", "train")} | {
        "synthetic": len(synthetic)
    }
    if not answers or any("held_out" not in a.moments for a in answers) or not enough(synthetic):
        return Value(None, counts)
    real = pool([a.moments["held_out"] for a in answers])
    value = frechet(real, Moments.of(synthetic))
    train = [a.moments["train"] for a in answers if "train" in a.moments]
    floor = frechet(real, pool(train)) if len(train) == len(answers) else None
    rng = centre.generator("pooled_fid")
    if any(a.moments["held_out"].independent is None for a in answers):
        return around(value, None, counts, floor)
    draws = [pool([redrawn(a.moments["held_out"], rng) for a in answers]) for _ in range(PARTS)]
    parts = [
        Moments.of(synthetic[rng.permutation(len(synthetic))[: round(KEPT * len(synthetic))]]) for _ in range(PARTS)
    ]
    variances = [
        np.var([frechet(other, Moments.of(synthetic)) for other in draws], ddof=1),
        KEPT / (1 - KEPT) * np.var([frechet(real, some) for some in parts], ddof=1),
    ]
    return around(value, float(np.sqrt(np.sum(variances))), counts, floor)


def redrawn(moments: Moments, rng: np.random.Generator) -> Moments:
    """Returns the moments of as many normal feature vectors as there are independent images, drawn with these moments
    (a parametric bootstrap); they count for as many images as before.
    """
    n = moments.independent or moments.n
    drawn = Moments.of(rng.multivariate_normal(moments.mean, moments.covariance, n, check_valid="ignore"))
    return replace(drawn, n=moments.n)


def pool(parts: list[Moments]) -> Moments:
    """Returns the moments of all images together, exactly.

    mu = sum w_i mu_i, S' = sum w_i (S'_i + mu_i mu_i^T) - mu mu^T, where S' is the covariance with n and S the one with
    n - 1.
    """
    n = sum(m.n for m in parts)
    mean = np.sum([m.n * m.mean for m in parts], axis=0) / n
    # The same, centred at the common mean, which avoids subtracting large numbers from each other.
    within = np.sum([(m.n - 1) * m.covariance for m in parts], axis=0)
    between = np.sum([m.n * np.outer(m.mean - mean, m.mean - mean) for m in parts], axis=0)
    return Moments(n, mean, (within + between) / (n - 1))


def enough(features: np.ndarray) -> bool:
    """Whether features (N, F) have at least as many images as features, and at least two."""
    return features.ndim == 2 and len(features) >= max(2, features.shape[1])


def fid(reference: np.ndarray, candidate: np.ndarray) -> float:
    """Returns the FID of two sets of features (N, F) and (N', F); NaN for fewer than two images."""
    if min(len(reference), len(candidate)) < 2:
        return float("nan")
    return frechet(Moments.of(reference), Moments.of(candidate))


def frechet(a: Moments, b: Moments) -> float:
    """Returns the Fréchet distance of two moments, at least 0.

    torchmetrics computes the trace of the matrix root from eigenvalues; MONAI's matrix root fails if a feature is
    constant.
    """
    import torch
    from torchmetrics.image.fid import _compute_fid

    found = _compute_fid(*(torch.from_numpy(np.asarray(v, np.float64)) for m in (a, b) for v in (m.mean, m.covariance)))
    return max(0.0, float(found))
