"""Facts made by hand, as fedsynth/worth/facts.py gives them, so that a test of the report needs no job: three models,
three sites.
"""

from __future__ import annotations

from typing import Any

SITES = ("north", "east", "south")
USES = ("classification", "segmentation")


def number(
    value: float | None,
    floor: float | None = None,
    better: str = "lower",
    title: str = "",
    why: str = "",
    width: float = 0.1,
    sites: tuple[str, ...] = SITES,
) -> dict[str, Any]:
    """One measure with an interval of `width` times the value around it, the same at every site."""
    known = value is not None
    own = {"value": value, "floor": floor, "n": {"real": 48, "train": 70, "synthetic": 70}}
    own |= {"low": value * (1 - width) if known else None, "high": value * (1 + width) if known else None}
    about = {"measure": "m", "better": better, "title": title, "text": f"Definition of {title}.", "why": why}
    return own | about | {"sites": {site: dict(own) for site in sites}}


def measures(
    auc: float = 0.53, fid: float | None = 2.31, copies: float = 0, sites: tuple[str, ...] = SITES
) -> dict[str, Any]:
    made = {
        "fid": number(
            fid, 0.94, title="FID", why="" if fid is not None else "east has fewer images than features", sites=sites
        ),
        "kid": number(0.0021, 0.0004, title="KID", sites=sites),
        "precision": number(0.83, 0.91, "higher", "precision", sites=sites),
        "recall": number(0.61, 0.9, "higher", "recall", sites=sites),
        "ms_ssim": number(0.34, 0.31, "floor", "MS-SSIM", sites=sites),
        "mask_agreement": number(0.71, 0.82, "higher", "mask agreement", sites=sites),
        "copies_pixel": number(copies, 0, title="Copies (pixels)", sites=sites),
        "copies_feature": number(0, 0, title="Copies (features)", sites=sites),
        "nearest_ratio_pixel": number(0.95, 0.97, "higher", "Nearest ratio (pixels)", sites=sites),
        "membership_distance_auc": number(auc, title="Membership by distance, AUC", sites=sites),
        "membership_distance_tpr": number(0.013, title="Membership by distance, TPR", sites=sites),
        "membership_loss_auc": number(auc - 0.02, title="Membership by loss, AUC", sites=sites),
        "membership_loss_tpr": number(0.012, title="Membership by loss, TPR", sites=sites),
    }
    return made


def gate(
    text: str, value: float | None, limit: float | None, held: bool, kind: str = "require", reason: str = ""
) -> dict[str, Any]:
    return {
        "gate": text,
        "kind": kind,
        "value": value,
        "limit": limit,
        "held": held,
        "reason": reason or f"{value} beside {limit}",
    }


def verdict(*gates: dict[str, Any]) -> dict[str, Any]:
    required = [g["held"] for g in gates if g["kind"] == "require"]
    return {"passed": bool(required) and all(required), "said": "", "gates": list(gates)}


def good_gates() -> list[dict[str, Any]]:
    return [
        gate("classification/retained >= 0.85", 0.93, 0.85, True, reason="0.93 is at least 0.85"),
        gate("copies_pixel <= 0", 0, 0, True, reason="0 is at most 0"),
        gate("membership_loss_auc <= 0.6", 0.51, 0.6, True, reason="0.51 is at most 0.6"),
        gate("epsilon <= 8", None, 8, False, "warn", "missing: trained without differential privacy"),
    ]


def bad_gates() -> list[dict[str, Any]]:
    return [
        gate("classification/retained >= 0.85", 0.77, 0.85, False, reason="0.77 is below 0.85"),
        gate("copies_pixel <= 0", 3, 0, False, reason="3 is above 0"),
        gate("membership_loss_auc <= 0.6", None, 0.6, False, reason="missing: not computed"),
        gate("epsilon <= 8", None, 8, False, "warn", "missing: trained without differential privacy"),
    ]


def summary(retained: float, sites: tuple[str, ...] = SITES) -> dict[str, Any]:
    of = {
        "synthetic": 0.9 * retained,
        "augmented": 0.8,
        "retained": retained,
        "gap_closed": 0.75,
        "gap_closed_poorest": 0.6,
    }
    ends = {"retained": [retained - 0.05, retained + 0.05], "gap_closed": [0.5, 0.9], "gap_closed_poorest": [0.1, 1.1]}
    by_site = {
        "retained_by_site": {s: retained - 0.1 * i for i, s in enumerate(sites)},
        "gap_closed_by_site": dict.fromkeys(sites, 0.7),
    }
    return of | by_site | {"poorest_site": sites[-1], "headline": "dice", "why": {}, "intervals": ends}


def facts_of(
    model: str,
    retained: float = 0.93,
    gates: list[dict[str, Any]] | None = None,
    epsilon: dict[str, Any] | None = None,
    sites: tuple[str, ...] = SITES,
    **how: Any,
) -> dict[str, Any]:
    heads = {"classification": "balanced_accuracy", "segmentation": "dice"}
    values = {s: 0.9 - 0.12 * i for i, s in enumerate(sites)}
    scores = {use: {heads[use]: {"mean": 0.8, "sites": values, "worst_site": sites[-1]}} for use in USES}
    scores["classification"]["ece"] = {"mean": 0.061, "sites": dict.fromkeys(sites, 0.06), "worst_site": sites[0]}
    return {
        "model": model,
        "uses": {use: summary(retained, sites) | {"headline": heads[use]} for use in USES},
        "scores": scores,
        "by_class": {},
        "measures": measures(sites=sites, **how),
        "extractor": "penultimate layer of the federated classification network (16 features)",
        "epsilon": epsilon,
        "numbers": {},
        "floors": {},
        "verdict": verdict(*(good_gates() if gates is None else gates)),
    }
