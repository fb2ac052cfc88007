"""Facts of one model from all result files: the only input of card, datasheet, report, registry and gates."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from fedsynth.data import mends, outputs
from fedsynth.errors import UserError
from fedsynth.params import Params
from fedsynth.params.gates import parse
from fedsynth.training.weights import ABOUT
from fedsynth.worth import calibration, gates, rehearsal, withdrawn
from fedsynth.worth.ratios import finite_or_none
from fedsynth.worth.wording import compared

WORTH = ("retained", "gap_closed", "gap_closed_poorest")
BY_SITE = {"retained": "retained_by_site", "gap_closed": "gap_closed_by_site"}
EPSILONS = ("epsilon", "epsilon_total")  # of this training, and of all at a site
OF_THE_SET = (*EPSILONS, *mends.MEANING)  # exact numbers of a set, beside those of uses and measures
NO_EPSILON = "no differential privacy was used, so there is no epsilon"


class FactsError(UserError):
    """The result files do not belong to the same weights; the message says which stage to run."""


def facts(params: Params, root: Path, model: str) -> dict[str, Any]:
    """Collect all facts of a model from its result files, as plain JSON.

    Reads models/<model>/model.json, reports/reference.json and reports/score/<model>.json. Keys:

    - `model`; `uses`: worth.summary of the model; `measures`; `extractor`; `verdict`: gates.evaluate;
      `reference_sha256`.
    - `scores`: {use: {metric: {mean, sites, worst_site}}} of the networks trained on synthetic images alone.
    - `by_class`: {use: {metric.label: {mean, sites}}} of the same networks.
    - `worst`: {use: {site, class}}.
    - `epsilon`: {epsilon, total, delta, unit, relation, and `why` they are unknown}; None without differential privacy.
    - `numbers`, `floors`, `why` (why a number is missing): by flat name, which is `<use>/<metric>`, `<measure>`,
      `epsilon`, `epsilon_total`, `masks_emptied` or `drawn_again`, with `@<site>` for one site and `@worst_site` for
      the worst one.
    - `intervals`, `seeds`, `n`, `audits`: of the same names, as in gates.Known.
    - `calibration`: the calibration of networks by site, class, sex and age band (worth/calibration.py).
    - `mends`: {counts, rates, labels without a mask} of what the sampler mended in the set (data/mends.py); None if
      nothing was counted.
    - `withdrawn`: sites that have withdrawn data which it was trained with.
    - `rehearsed`: sentences on policies of simulated hospitals that somebody has changed.
    - `left_out`: {job: {site: why it did not answer}}; for "federated", the rounds that the site missed.

    If one site has no value, the values for all sites and for the worst site are missing. Raises UserError if a file is
    missing or belongs to other weights.
    """
    about = outputs.read(root / "models" / model / ABOUT, f"train@{model}")
    reference = outputs.read(root / "reports" / "reference.json", "reference")
    score = outputs.read(root / "reports" / "score" / f"{model}.json", f"score@{model}")
    if score.get("weights_sha256", about["weights_sha256"]) != about["weights_sha256"]:
        raise FactsError(
            f"reports/score/{model}.json is of other weights than models/{model}; run `dvc repro score@{model}`"
        )
    from fedsynth.worth.worth import headline

    rows = reference["rows"] + score["rows"]
    means = _means(rows, model)
    known = {
        "model": model,
        "uses": _summary(reference, score).get(model, {}),
        "scores": {
            use: {m: _only(of, "mean", "sites", "worst_site") for m, of in metrics.items() if "." not in m}
            for use, metrics in means.items()
        },
        "by_class": {
            use: {m: _only(of, "mean", "sites") for m, of in metrics.items() if "." in m}
            for use, metrics in means.items()
        },
        "worst": {use: _worst(metrics, headline(rows, use)) for use, metrics in means.items()},
        "measures": score.get("measures", {}),
        "extractor": score.get("extractor", ""),
        "epsilon": about.get("epsilon"),
        "calibration": score.get("calibration", []),
        "mends": _mends(params, root, model),
        "left_out": left_out(reference, score),
        "withdrawn": withdrawn.sites(about, withdrawn.known(root)),
        "rehearsed": rehearsal.known(root),
        "reference_sha256": digest(reference["rows"]),
    }
    known |= _flat(known, list(params.score.uses)) | _around(known, rows)
    known["why"] |= {
        f"{use}/{name}": why
        for use, metrics in means.items()
        for m, of in metrics.items()
        for name, why in _whys(m, of)
    }
    of = {
        f"{use}/{name}": said for use, one in known["uses"].items() for name, said in share_of(one["against"]).items()
    }
    if known["epsilon"]:
        of |= {"epsilon": f"for {compared(known['epsilon'])}", "epsilon_total": "for one subject more or less"}
    asked = params.gates.model_dump()
    if not known["epsilon"]:  # a warning about an epsilon that nobody asked for would say nothing; a requirement does
        asked["warn"] = [text for text in asked["warn"] if parse(text).name not in EPSILONS]
    given = {key: known[key] for key in ("numbers", "floors", "why", "intervals", "seeds", "n", "audits")}
    return known | {"verdict": gates.evaluate(asked, gates.Known(of=of, **given))}


def _mends(params: Params, root: Path, model: str) -> dict[str, Any] | None:
    path = root / "data" / "synthetic" / model / mends.FILE
    counts = outputs.read(path, f"sample@{model}") if path.is_file() else None
    if counts is None:
        return None
    return {"counts": counts, "rates": mends.rates(counts), "labels": params.image.empty_labels}


def left_out(reference: dict[str, Any], score: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return job -> site -> why the site did not answer; empty if all sites answered.

    Under "federated": the rounds of the federated reference that the site was left out of, and why.
    """
    found = {
        "reference": reference.get("left_out"),
        "federated": reference.get("federated_without"),
        "score": score.get("left_out"),
    }
    return {job: dict(sites) for job, sites in found.items() if sites}


def share_of(against: str) -> dict[str, str]:
    """Return in words what each share is relative to."""
    return {
        "retained": f"of {against}",
        "gap_closed": f"of the gap to {against}",
        "gap_closed_poorest": f"of the gap to {against}",
    }


def _whys(metric: str, of: dict[str, Any]) -> list[tuple[str, str]]:
    """Return why a metric is missing at a site, and therefore for all sites, as (name, reason) pairs."""
    absent = {site: of["why"].get(site) or "not computed" for site, value in of["sites"].items() if value is None}
    said = ", ".join(f"{site} ({why})" for site, why in absent.items())
    return [(f"{metric}@{site}", why) for site, why in absent.items()] + (
        [(metric, f"no value at {said}")] if absent else []
    )


def digest(rows: list[dict[str, Any]]) -> str:
    """Return the SHA-256 of the reference rows; versions with the same digest were judged on the same references."""
    return hashlib.sha256(json.dumps(rows, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _summary(reference: dict[str, Any], score: dict[str, Any]) -> dict[str, Any]:
    from fedsynth.worth import worth

    rows, spread = ([of for answer in (reference, score) for of in answer.get(key, [])] for key in ("rows", "spread"))
    return worth.summary(rows, spread)


def _means(rows: list[dict[str, Any]], model: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Return use -> metric -> {mean, sites, worst_site, why} of the networks trained on synthetic images alone.

    `mean` is over the sites, and each site's value is a mean over the seeds. `sites` has every site with a row of the
    use; `why` is the reason why a site has no value.
    """
    from fedsynth.worth import worth

    found: dict[str, dict[str, dict[str, Any]]] = {}
    table = worth.table([r for r in rows if r["name"] == "synthetic" and r["model"] == model])
    for (use, metric), part in table.groupby(["use", "metric"], sort=False):
        there = {str(site): finite_or_none(value) for site, value in zip(part["site"], part["value"], strict=True)}
        sites = {r["site"]: there.get(r["site"]) for r in rows if r["use"] == use}
        found.setdefault(str(use), {})[str(metric)] = {
            "mean": _mean(sites),
            "sites": sites,
            "worst_site": _worst_site(sites, lower(metric)),
            "why": dict(zip(part["site"], part["why"], strict=True)),
        }
    return found


def lower(metric: str) -> bool:
    """Whether a lower value of a use's metric is better."""
    from fedsynth.worth.wording import LOWER_IS_BETTER

    return metric.partition(".")[0] in LOWER_IS_BETTER


def _mean(sites: dict[str, float | None]) -> float | None:
    """Return the mean over the sites; None if one is missing, because a mean over fewer sites is another quantity."""
    values = [v for v in sites.values() if v is not None]
    return round(sum(values) / len(values), 4) if values and len(values) == len(sites) else None


def _worst_site(sites: dict[str, float | None], low_is_good: bool) -> str | None:
    """Return the site with the worst known value; None if no value is known."""
    known = {s: v for s, v in sites.items() if v is not None}
    return (max if low_is_good else min)(known, key=lambda s: known[s]) if known else None


def _worst(metrics: dict[str, dict[str, Any]], headline: str) -> dict[str, dict[str, Any] | None]:
    """Return the worst site and the worst class of one use.

    {"site": {"metric", "site", "value", "unknown"}, "class": {"metric", "label", "value", "unknown"}}, each None if not
    known. `unknown`: the sites or classes without a value; each of them may be worse.

    The site is chosen by the headline metric. The class is chosen by the headline's values per class if it has any,
    else by the first metric that has them: balanced accuracy is the mean of the sensitivities. Classes are compared by
    the mean over the sites, among those that are known.
    """
    bases = [m.partition(".")[0] for m in metrics if "." in m]
    base = headline if headline in bases else bases[0] if bases else ""
    classes = {m.partition(".")[2]: of["mean"] for m, of in metrics.items() if m.startswith(f"{base}.")} if base else {}
    site, label = metrics[headline]["worst_site"] if headline in metrics else None, _worst_site(classes, lower(base))
    return {
        "site": None
        if site is None
        else {
            "metric": headline,
            "site": site,
            "value": metrics[headline]["sites"][site],
            "unknown": _unknown(metrics[headline]["sites"]),
        },
        "class": None
        if label is None
        else {"metric": base, "label": label, "value": classes[label], "unknown": _unknown(classes)},
    }


def _unknown(values: dict[str, float | None]) -> list[str]:
    return [name for name, value in values.items() if value is None]


def _flat(known: dict[str, Any], uses: list[str]) -> dict[str, dict[str, Any]]:
    """Return `numbers`, `floors` and `why` by flat name."""
    numbers: dict[str, float | None] = {}
    floors: dict[str, float | None] = {}
    why: dict[str, str] = {}
    for use in dict.fromkeys([*uses, *known["uses"], *known["scores"]]):
        of = known["uses"].get(use, {})
        for name in WORTH:
            _put(numbers, f"{use}/{name}", of.get(name), of.get(BY_SITE.get(name, ""), {}), False)
        _put(numbers, f"{use}/over_public", of.get("over_public"), of.get("over_public_by_site", {}), False)
        why |= {f"{use}/{name}": reason for name, reason in of.get("why", {}).items()}
        why |= {f"{use}/over_public": said} if (said := of.get("over_public_why")) else {}
        if groups := _calibrated(known, use):
            worst = calibration.worst(groups)
            numbers[f"{use}/{calibration.WORST}"] = worst["value"] if worst else None
        for metric, values in {**known["scores"].get(use, {}), **known["by_class"].get(use, {})}.items():
            _put(numbers, f"{use}/{metric}", values["mean"], values["sites"], lower(metric))
    for name, number in known["measures"].items():
        sites = number.get("sites") or {}
        by_site = {s: _value(of.get("value")) for s, of in sites.items()}
        floors |= {
            name: _value(number.get("floor")),
            **{f"{name}@{s}": _value(of.get("floor")) for s, of in sites.items()},
        }
        _put(numbers, name, _value(number.get("value")), by_site, number.get("better") != "higher")
        if number.get("better") == "floor":
            numbers |= _furthest(name, by_site, floors)
        why |= {f"{name}@{s}": of["why"] for s, of in sites.items() if of.get("why")} | (
            {name: number["why"]} if number.get("why") else {}
        )
    spent = known["epsilon"]
    for name, key in {"epsilon": "epsilon", "epsilon_total": "total"}.items():
        numbers[name] = None if spent is None else _value(spent.get(key))
        why |= {name: NO_EPSILON} if spent is None else {name: spent["why"]} if spent.get("why") else {}
    numbers |= known["mends"]["rates"] if known["mends"] else mends.rates(None)
    why |= {name: mends.NONE for name in mends.MEANING if numbers[name] is None}
    return {"numbers": numbers, "floors": floors, "why": why}


def _calibrated(known: dict[str, Any], use: str) -> list[calibration.Entry]:
    """Return the groups by which the networks trained on the synthetic set are calibrated."""
    return [of for of in known["calibration"] if (of["use"], of["name"]) == (use, "synthetic")]


def _around(known: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return `intervals`, `seeds`, `n` and `audits` by flat name; see gates.Known."""
    from fedsynth.worth import worth

    found: dict[str, Any] = {"intervals": {}, "seeds": {}, "n": {}, "audits": []}
    for use, of in known["uses"].items():
        tested = worth.tested(rows, use, of["headline"])
        found["intervals"][f"{use}/over_public"] = of["over_public_interval"]
        found["intervals"] |= {f"{use}/over_public@{s}": e for s, e in of["over_public_interval_by_site"].items()}
        if (group := calibration.worst(_calibrated(known, use))) is not None:
            found["intervals"][f"{use}/{calibration.WORST}"] = [group["low"], group["high"]]
        for name, ends in of["intervals"].items():
            share, at, site = name.partition("@")
            to = f"{use}/{of['headline'] if share == 'synthetic' else share}{at}{site}"
            found["intervals"][to], found["seeds"][to] = ends, of["seed_intervals"][name]
            where = str(of["poorest_site"]) if share == "gap_closed_poorest" else site
            counts = [tested.get(where)] if where else list(tested.values())
            known_counts = [n for n in counts if n is not None]
            found["n"][to] = sum(known_counts) if counts and len(known_counts) == len(counts) else None
    for name, number in known["measures"].items():
        for to, of in {name: number, **{f"{name}@{s}": v for s, v in (number.get("sites") or {}).items()}}.items():
            ends, kind = (_value(of.get("low")), _value(of.get("high"))), number.get("kind", "estimate")
            found["intervals"] |= {to: None if ends == (None, None) else list(ends)} if kind != "bound" else {}
            n = (of.get("n") or {}).get("real")
            found["n"][to] = n if isinstance(n, int) and kind == "estimate" else None
        found["audits"] += [name] if number.get("audit") else []
    return found


def _put(
    numbers: dict[str, float | None], name: str, value: float | None, sites: dict[str, float | None], low_is_good: bool
) -> None:
    """Add a number with its value at each site and at the worst site.

    The worst site is unknown (None) if a site has no value.
    """
    numbers[name] = value
    if sites:
        numbers |= {f"{name}@{site}": of for site, of in sites.items()}
        worst = _worst_site(sites, low_is_good)
        numbers[f"{name}@{gates.WORST}"] = None if worst is None or None in sites.values() else sites[worst]


def _furthest(name: str, sites: dict[str, float | None], floors: dict[str, float | None]) -> dict[str, float | None]:
    """Return the worst site's value of a measure that is best at its floor: the site furthest from its floor."""
    off = {
        s: abs(v - floor) for s, v in sites.items() if v is not None and (floor := floors[f"{name}@{s}"]) is not None
    }
    worst = sites[max(off, key=lambda s: off[s])] if sites and len(off) == len(sites) else None
    return {f"{name}@{gates.WORST}": worst} if sites else {}


def _value(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _only(of: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: of[key] for key in keys}
