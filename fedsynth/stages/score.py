"""Stage `score` at one site: rows of the table of worth, their covariance, and all measures.

nvflare_jobs/score/ runs it with FLARE.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsynth.data.dataset import ImageSet, concatenate
from fedsynth.features import Extractor
from fedsynth.measures import Answer, Measure, MeasureInputs, Moments, Value, Z
from fedsynth.measures._statistics import plain
from fedsynth.params import Block, Params, Training
from fedsynth.stages import reference
from fedsynth.uses import Table, Use
from fedsynth.worth.calibration import at_site as by_group
from fedsynth.worth.use_networks import SHARES, Networks, choosing, fit, held_out, network, testing, training, uses

if TYPE_CHECKING:
    from fedsynth.families import Family

Retrain = Callable[[ImageSet, int], "Family"]
GROUPS = 200  # most parts of the test subjects that are left out in turn
TINY = 1e-9  # differences of a metric that are of rounding
COULD_NOT = "could not be computed"
SOME = "some; the hospital does not say how many"
TESTS_ONLY = "tests only, so there are no training images to compare with"
TRAINS_ONLY = "trains only, so there are no held-out images to compare with"


def fit_synthetic(params: Params, synthetic: ImageSet) -> Networks:
    """Fit networks on the synthetic set alone.

    Train on synthetic, test on real (Esteban et al. 2017, arXiv:1706.02633).
    """
    return {
        name: {seed: fit(use, params, synthetic, seed) for seed in params.score.seeds}
        for name, use in uses(params).items()
    }


def rows_at_site(params: Params, site: str, real: ImageSet, synthetic: ImageSet, sent: dict[str, Networks], state: Path,
                 model: str, min_cell: int = 2, calibration: list[dict[str, Any]] | None = None,
                 ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:  # fmt: skip
    """Return the rows `synthetic` and `augmented` of one site, and the covariance of all rows.

    `calibration`, if it is given, gets the calibration by group of the networks trained on synthetic images, and of the
    reference on all sites' images beside it.

    `synthetic`: networks sent by the centre; `augmented`: trained here on the site's own and the synthetic images, none
    at a site that tests only.
    `sent`: row -> networks: "synthetic", "federated" and, in simulation, "pooled". `min_cell`: with fewer test subjects
    there is no covariance.
    """
    both, rows, spread, tested = concatenate([training(real), synthetic]), [], [], testing(real)
    trains = params.split.only(site) != "test"
    own = reference.local(params, real, state) if trains else {}
    for name, use in uses(params).items():
        added: Networks = {name: {}} if trains else {}
        weights = balance(both, len(training(real)), real_share(params, use, real, both)) if trains else None
        for seed in params.score.seeds if trains else []:
            added[name][seed] = fit(use, params, both, seed, weights)
            print(f"{site}: {name} with seed {seed} trained on own and synthetic images", flush=True)  # resets stall_s
        networks = {"local": own, **sent, "augmented": added}
        judged = {
            kind: [reference.judge(params, use, real, of[name][seed], seed) for seed in params.score.seeds]
            for kind, of in networks.items()
            if name in of
        }
        about, least = {"use": name, "model": model, "site": site}, max(min_cell, params.consortium.min_cell)
        if calibration is not None and "ece" in use.metrics:
            calibration += calibrated(params, judged, tested, about, least)
        for kind, on in (("synthetic", model), ("augmented", site)):
            for seed, table in zip(params.score.seeds, judged.get(kind, []), strict=kind in judged):
                rows.append(reference.row(params, use, real, {}, name, kind, on, model, site, seed, table))
        spread.append(
            {"use": name, "model": model, "site": site, "metric": use.headline}
            | covariance(use, judged, tested.patients(), params.seed, min_cell)
        )
    return rows, spread


def calibrated(
    params: Params, judged: dict[str, list[Table]], tested: ImageSet, about: dict[str, str], min_cell: int
) -> list[dict[str, Any]]:
    """Return the calibration of `synthetic`, and of `pooled` or else `federated`, by group of the images `tested`."""
    kinds = ["synthetic", "pooled" if "pooled" in judged else "federated"]
    of_each = {
        kind: by_group(judged[kind], tested.manifest, params.image.labels, min_cell, params.seed)
        for kind in kinds
        if kind in judged
    }
    return [about | {"name": kind} | of for kind, found in of_each.items() for of in found]


def covariance(
    use: Use, judged: dict[str, list[Table]], subjects: np.ndarray, seed: int, least: int = 2
) -> dict[str, Any]:
    """Return the covariance of the rows' headline metrics over the test subjects, from a paired jackknife.

    `judged`: row -> a table for each seed, all of the same images; `subjects` (N,): whose image each is. Images of one
    subject are alike, so that subjects are left out and not images (or random parts of them, GROUPS at most), for all
    rows and seeds alike. A row's metric is the mean over its seeds. With few subjects the covariance is uncertain
    itself: it is widened by the square of Student's t quantile over the normal one, so that a normal interval covers
    as it states. A row in which nothing varies has at least the variance of one image more that is told otherwise.

    Only this matrix leaves the site. The metrics without a subject must not: their difference is that subject's
    contribution. `covariance` is None with fewer than `least` subjects, where a class has a single one, whose metric
    varies by nobody knows what, and where a metric is not finite.
    """
    from scipy.stats import t

    names, tables = list(judged), list(judged.values())
    y, n = tables[0][0]["y"], use.summarise(tables[0][0])[1][use.headline]
    answer: dict[str, Any] = {"names": names, "covariance": None, "n": n}
    parts = parted(subjects, np.random.default_rng([seed, 4]))
    counted = use.counted(tables[0][0])
    out = [parts != part for part in np.unique(parts[counted])]
    classes = len(np.unique(y[counted]))
    lone = any(len(np.unique(y[counted & kept])) < classes for kept in out)
    found = np.array([_means(use, tables, kept) for kept in out]).reshape(-1, len(names))
    if len(found) < max(least, 2) or lone or not np.isfinite(found).all():
        return answer
    apart, free = found - found.mean(0), len(found) - 1
    matrix = free / len(found) * apart.T @ apart * (t.ppf(0.975, free) / Z) ** 2
    np.fill_diagonal(matrix, np.where(np.abs(apart).max(0) > TINY, np.diag(matrix), 1 / (n + 1) ** 2))
    low, high = use.within(use.headline)
    largest = ((high - low) / 2) ** 2  # of a number in this range the variance is no larger (Popoviciu)
    return answer | {"covariance": (matrix * min(1.0, largest / np.diag(matrix).max())).round(8).tolist()}


def parted(subjects: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return (N,) the part of each image: its subject, or a random part of the subjects where there are many."""
    found = np.unique(subjects, return_inverse=True)[1]
    many = found.max(initial=-1) + 1
    return (rng.permutation(many) % GROUPS)[found] if many > GROUPS else found


def _means(use: Use, tables: list[list[Table]], kept: np.ndarray) -> list[float]:
    """Return the rows' headline metrics on some of the images, each the mean over its seeds."""
    return [float(np.mean([use.value({k: v[kept] for k, v in t.items()}) for t in seeds])) for seeds in tables]


def real_share(params: Params, use: Use, real: ImageSet, both: ImageSet) -> float:
    """Return the share of real images in the training of `augmented`: that of params.yaml, or with "val" the one of
    SHARES whose network, of the first seed, is best on the site's validation images; the first where these cannot tell.

    Neither the share nor the scores on the validation images leave the site.
    """
    if params.score.real_share != "val":
        return float(params.score.real_share)
    val, n = choosing(real), len(training(real))
    best, chosen, seed = -math.inf, SHARES[0], params.score.seeds[0]
    for share in SHARES if len(val) else ():
        state = fit(use, params, both, seed, balance(both, n, share))
        print(f"share of {share:g} real images tried", flush=True)  # resets stall_s
        reached = use.value(use.judged(network(use, state, seed), *val.tensors(params.image)))
        reached = -reached if use.headline in use.lower else reached
        if reached > best:
            best, chosen = reached, share
    return chosen


def balance(both: ImageSet, n_real: int, real_share: float) -> np.ndarray:
    """Return sampling weights (N,) for real and synthetic images together.

    Within a class, the real images (the first `n_real`) get the share `real_share` and the synthetic ones the rest.
    With equal weights, 16 real images of a small site would hardly count beside 300 synthetic ones.
    """
    labels = both.manifest["label"].to_numpy()
    is_real = np.arange(len(labels)) < n_real
    weights = np.zeros(len(labels))
    for label in set(labels):
        for part, share in ((is_real, real_share), (~is_real, 1 - real_share)):
            if (chosen := part & (labels == label)).any():
                weights[chosen] = share / chosen.sum()
    return weights


def measures(params: Params) -> dict[str, Measure]:
    return {name: block.build(**params.image.context()) for name, block in params.score.measures.items()}


def seen(
    params: Params,
    synthetic: ImageSet,
    federated: Networks,
    extractors: Path,
    real: ImageSet | None = None,
    family: Family | None = None,
    flip: tuple[int, ...] = (),
    keep: Path | None = None,
    moments_noise: float = 0.0,
    retrain: Retrain | None = None,
    canaries: tuple[ImageSet, ImageSet] | None = None,
) -> MeasureInputs:
    """Return the inputs of the measures at a site, or (without `real`) at the centre.

    `extractors`: the folder of extractor files on this machine; `moments_noise`: as the site's policy asks; `retrain`:
    see `retraining`; `canaries`: see hospital/canaries.py.
    """
    seed = params.score.seeds[0]
    networks = {name: (use, network(use, federated[name][seed], seed)) for name, use in uses(params).items()}
    extractor: Extractor = params.score.features.build(**params.image.context()).open(networks, extractors)
    sets = {}
    if real is not None:
        sets = {"held_out": held_out(real), "train": training(real)}
        # synthetic images are compared without the channels that all real images here lack
        synthetic = synthetic.without(
            params.image, [name for name in params.image.may_lack if not real.has(params.image, name).any()]
        )
    return MeasureInputs(
        params.image, synthetic, extractor, networks, **sets, family=family, flip=flip, seed=params.seed,
        retrain=retrain, canaries=canaries, keep=keep, moments_noise=moments_noise,
    )  # fmt: skip


def retraining(params: Params, model: dict[str, Any]) -> Retrain:
    """Return what trains a model like `model` (its params) on some of the site's images, for the privacy audit.

    It has neither mechanism nor federation: no weight of it leaves the process.
    """
    from fedsynth.training.alone import train_alone

    family, training = Block.model_validate(model["family"]), Training.model_validate(model["training"])
    return lambda images, seed: train_alone(family, training, params.image, images, params.seed + seed)


def measured_at_site(params: Params, of: MeasureInputs) -> dict[str, dict[str, Any]]:
    """Return measure -> {"values": {name: number with counts, floor, interval}, "moments": {...}} of one site.

    The result is in the form in which it may leave the site.
    """
    found = {}
    for name, measure in measures(params).items():
        answer = measure.at_site(of)
        print(f"measured: {name}", flush=True)  # resets stall_s
        moments = {
            k: {"n": m.n, "independent": m.independent, "mean": m.mean.tolist(), "covariance": m.covariance.tolist()}
            for k, m in answer.moments.items()
        }
        found[name] = {"values": {n: plain(v) for n, v in answer.values.items()}, "moments": moments}
    return found


def combined(
    params: Params,
    centre: MeasureInputs,
    sites: dict[str, dict[str, Any]],
    left_out: dict[str, str],
    trains_only: Collection[str] = (),
) -> dict[str, dict[str, Any]]:
    """Combine the numbers of all sites at the centre. Returns number name -> value, sites, definition and reason.

    `sites`: site -> what it sent; `left_out`: site -> why it did not answer. If a site did not answer, the number for
    all sites is missing: a copy, for example, may exist at that site only. `trains_only`: the sites that were not
    asked, because they have no held-out images; an audit of training images is missing with them. A site that tests
    only does not count for all sites, and has most numbers not itself: it has no training images to compare with.
    """
    out = {}
    for name, measure in measures(params).items():
        answers = {site: _answer(sent[name]) for site, sent in sites.items()}
        both = {site: answer for site, answer in answers.items() if params.split.only(site) is None}
        absent = {site: f"did not answer: {why}" for site, why in left_out.items()}
        absent |= dict.fromkeys(trains_only if measure.audits_training else (), TRAINS_ONLY)
        for number, of_those in measure.combine(both, centre).items():
            about, told = measure.about[number], {site: sent[name]["values"][number] for site, sent in sites.items()}
            value = Value(None, of_those.n) if absent else of_those
            by_site = {site: plain(answers[site].values[number]) | {"n": of["n"]} for site, of in told.items()}
            by_site |= {site: plain(Value(None)) for site in absent}
            if value.value is None:
                for site, of in by_site.items():
                    of["why"] = absent[site] if site in absent else _why(told[site])
            counted = {site: of for site, of in by_site.items() if site in both or site in absent}
            for site in by_site.keys() - counted.keys():
                by_site[site] |= {} if by_site[site]["value"] is not None else {"why": TESTS_ONLY}
            out[number] = {
                "measure": name,
                "audit": measure.audits_training,
                "kind": about.kind,
                "better": about.better,
                "title": about.title,
                "text": about.text,
                **plain(value),
                "why": "" if value.value is not None else "; ".join(filter(None, (_where(counted), measure.needs))),
                "sites": by_site,
            }
    return out


def _why(sent: dict[str, Any]) -> str:
    """Return why a site sent no number, as far as its counts say.

    Possible causes: too few images, a model that diverged, a use that does not exist.
    """
    if sent.get("some"):
        return SOME
    few = [f"{kind} {n}" for kind, n in sent["n"].items() if isinstance(n, str) and n.startswith("<")]
    return "" if sent["value"] is not None else f"too few images: {', '.join(few)}" if few else COULD_NOT


def _where(by_site: dict[str, dict[str, Any]]) -> str:
    """Return where a number is missing: "could not be computed at north, south (too few images: real < 5)"."""
    absent = [f"{s} ({of['why']})" if of["why"] != COULD_NOT else s for s, of in by_site.items() if of["value"] is None]
    return f"{COULD_NOT} at {', '.join(absent) or 'the centre'}"


def _answer(sent: dict[str, Any]) -> Answer:
    """Restore a measure's Answer from what a site sent; withheld counts become 0 in the sum over sites."""
    values = {
        name: Value(
            v["value"], {k: n if isinstance(n, int) else 0 for k, n in v["n"].items()}, v["floor"], v["low"], v["high"]
        )
        for name, v in sent["values"].items()
    }
    moments = {
        k: Moments(m["n"], np.array(m["mean"]), np.array(m["covariance"]), m.get("independent"))
        for k, m in sent["moments"].items()
    }
    return Answer(values, moments)
