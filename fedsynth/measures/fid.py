"""FID: how far the features of the synthetic images lie from the real ones', at each site, and of all sites together without pooling."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fedsynth.measures import DRAWS, About, Answer, Measure, Moments, Seen, Value, Z, beside_floor


class FID(Measure):
    """Frechet distance between normal distributions fitted to features (Heusel et al. 2017, arXiv:1706.08500, equation 6):
    |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)).

    Not computed where a set has fewer images than features: its covariance would be noise, and moments of so few images do not leave.
    """

    about: ClassVar = {
        "fid": About(
            "lower",
            "FID",
            "Fréchet distance between the features of held-out real images and of synthetic ones in the same shares of classes; the floor "
            "is as many real training images in their place. Over all sites it is Dist-FID, the mean by their real images.",
        ),
        "pooled_fid": About(
            "lower",
            "pooled FID",
            "FID of all sites' held-out images together against the whole synthetic set, exact from the sites' means and covariances; its "
            "floor is all training images in the place of the synthetic ones, its interval comes from random halves of the synthetic set. "
            "A mix of classes that is not the sites' counts as a distance.",
        ),
    }
    independent = False

    def at_site(self, seen: Seen) -> Answer:
        sets = {which: seen.features(which) for which in ("held_out", "train", "synthetic")}  # type: ignore[arg-type]
        values = beside_floor(seen, lambda a, b: {"fid": fid(a, b)}, sets["held_out"], sets["train"], sets["synthetic"], "fid")
        counts = {"real": len(sets["held_out"]), "train": len(sets["train"]), "synthetic": len(sets["synthetic"])}
        moments = {which: Moments.of(sets[which]) for which in ("held_out", "train") if enough(sets[which])}
        return Answer(values | {"pooled_fid": Value(None, counts)}, moments)

    def combine(self, answers: dict[str, Answer], centre: Seen) -> dict[str, Value]:
        return super().combine(answers, centre) | {"pooled_fid": pooled_fid(list(answers.values()), centre)}


def pooled_fid(answers: list[Answer], centre: Seen) -> Value:
    """From the sites' moments; None where a site has none.

    The spread of the whole set's FID is that of random halves (a delete-half jackknife: Shao & Wu 1989).
    """
    synthetic = centre.features("synthetic")
    counts = {kind: sum(a.values["pooled_fid"].n[kind] for a in answers) for kind in ("real", "train")} | {"synthetic": len(synthetic)}
    if not answers or any("held_out" not in a.moments for a in answers) or not enough(synthetic):
        return Value(None, counts)
    real = pool([a.moments["held_out"] for a in answers])
    value = frechet(real, Moments.of(synthetic))
    train = [a.moments["train"] for a in answers if "train" in a.moments]
    floor = frechet(real, pool(train)) if len(train) == len(answers) else None
    if len(synthetic) // 2 < synthetic.shape[1]:
        return Value(value, counts, floor)
    rng = centre.generator("pooled_fid")
    halves = [synthetic[rng.permutation(len(synthetic))[: len(synthetic) // 2]] for _ in range(DRAWS)]
    spread = float(np.std([frechet(real, Moments.of(half)) for half in halves], ddof=1))
    return Value(value, counts, floor, max(0.0, value - Z * spread), value + Z * spread)


def pool(parts: list[Moments]) -> Moments:
    """Of all images together, as if they lay in one place: mu = sum w_i mu_i, S' = sum w_i (S'_i + mu_i mu_i^T) - mu mu^T,
    where S' is the covariance with n and S the one with n - 1."""
    n = sum(m.n for m in parts)
    mean = np.sum([m.n * m.mean for m in parts], axis=0) / n
    # The same as above around the common mean, which does not subtract large numbers from each other.
    within = np.sum([(m.n - 1) * m.covariance for m in parts], axis=0)
    between = np.sum([m.n * np.outer(m.mean - mean, m.mean - mean) for m in parts], axis=0)
    return Moments(n, mean, (within + between) / (n - 1))


def enough(features: np.ndarray) -> bool:
    """Whether (N, F) has as many images as features, and at least two."""
    return features.ndim == 2 and len(features) >= max(2, features.shape[1])


def fid(reference: np.ndarray, candidate: np.ndarray) -> float:
    """Of two sets of features (N, F), (N', F); NaN where one has fewer images than features."""
    if not (enough(reference) and enough(candidate)):
        return float("nan")
    return frechet(Moments.of(reference), Moments.of(candidate))


def frechet(a: Moments, b: Moments) -> float:
    """torchmetrics takes the trace of the root from eigenvalues; MONAI's root of a matrix fails where a feature is constant."""
    import torch
    from torchmetrics.image.fid import _compute_fid

    found = _compute_fid(*(torch.from_numpy(np.asarray(v, np.float64)) for m in (a, b) for v in (m.mean, m.covariance)))
    return max(0.0, float(found))
