"""The report's tables of measures beside their real-real floors, and of the privacy audit."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fedsynth.worth.wording import Facts, is_number, measured

# Titles of the numbers that a judgement should have; those that no model has are listed as missing.
EXPECTED = {
    "fid": "FID",
    "kid": "KID",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "frozen_fid": "FID, frozen features",
    "texture_distance": "texture distance",
    "spectrum_distance": "spectrum distance",
    "ms_ssim": "MS-SSIM",
    "intensity_distance": "distance of intensities",
    "mask_area_distance": "distance of mask areas",
    "mask_agreement": "mask agreement",
    "class_agreement": "class agreement",
}
# Title and plain meaning of each number of the privacy audit, for the people in the training images.
COPIES = {
    "copies_pixel": (
        "copies, by pixels",
        "synthetic images nearer to a training image than chance explains: each may show a patient",
    ),
    "copies_feature": (
        "copies, by features",
        "the same in the extractor's features, where a shifted or darker copy is still near",
    ),
    "copies_ssim": ("copies, by structure", "the same by SSIM, which sees the structure and less of the noise"),
    "copies_patch": (
        "copies, by patches",
        "the same of parts of an image: a copied lesion in another head, at whatever place",
    ),
    "copy_power": (
        "copies that would have been found",
        "had the set held a copy of one training image with a little noise, it would have been found with this chance",
    ),
    "nearest_ratio_pixel": (
        "nearest-neighbour ratio, by pixels",
        (
            "how near the nearest training patient is, beside the others near "
            "by; clearly below the floor, which real images of other patients set, the set was learnt by heart"
        ),
    ),
    "nearest_ratio_feature": ("nearest-neighbour ratio, by features", "the same in the extractor's features"),
    "nearest_ratio_ssim": ("nearest-neighbour ratio, by structure", "the same by SSIM"),
    "nearest_ratio_patch": ("nearest-neighbour ratio, by patches", "the same of an image's nearest patch"),
}
ATTACKERS = {
    "distance": ("by distance", "one who holds the synthetic set"),
    "feature": ("by distance in features", "one who holds the synthetic set and compares in the extractor's features"),
    "loss": ("by loss", "one who holds the released weights"),
    "reference": ("by loss, with reference models", "one who holds the weights and trains models of their own beside"),
}
MEMBERSHIP = {
    "membership_auc": (
        "membership, strongest attack, AUC",
        "the largest of the AUCs below, with their largest upper end",
    ),
    "membership_tpr": ("membership, strongest attack, TPR", "the largest share that one of them finds at a low FPR"),
} | {
    f"membership_{kind}_{number}": (f"membership {by}, {title}", plain.format(who))
    for kind, (by, who) in ATTACKERS.items()
    for number, title, plain in (
        ("auc", "AUC", "how well {} tells training images from others of the site; 0.5 is guessing"),
        (
            "tpr",
            "TPR at a low FPR",
            "share of the training patients that {} finds where few others are taken for one; the floor is guessing",
        ),
        ("tpr_tenth", "TPR at a tenth of it", "the same for {} where next to nobody is taken for one"),
    )
}
EPSILONS = {
    "membership_epsilon": (
        "epsilon, lower bound",
        "what these attacks prove of epsilon; a stated epsilon below it would be wrong. 0: nothing is shown",
    ),
    "canaries_auc": (
        "canaries, AUC",
        "how well marked images of no patient, put among the training images, are told from such that were not",
    ),
    "canaries_found": ("canaries found", "the share of them that the audit finds: what it would find of one image"),
    "canaries_epsilon": ("epsilon, lower bound by canaries", "what they prove of epsilon; 0: nothing is shown"),
}
GIVES_AWAY = COPIES | MEMBERSHIP | EPSILONS
ON_REQUEST = (
    "membership_reference_",
    "canaries_",
)  # how the names of numbers begin that are there only where asked for
# Numbers of image pairs (a real image and what a model generated from its given channels): direction and floor.
ALONE, REAL = "floor: without a model, see definitions", "floor: on the real images"
PAIRED = {
    "psnr": f"higher is better; {ALONE}", "ssim": f"higher is better; {ALONE}", "mae": f"lower is better; {ALONE}",
    "converted_dice": f"higher is better; {REAL}", "baseline_dice": f"the same without a model; {REAL}",
    "converted_accuracy": f"higher is better; {REAL}", "baseline_accuracy": f"the same without a model; {REAL}",
}  # fmt: skip
BETTER = {"lower": "lower is better", "higher": "higher is better", "floor": "nearest to the floor is best"}


def measures(facts: Facts) -> dict[str, Any]:
    """Return {"lines", "paired", "audit", "audited", "missing", "extractors"}.

    A line is {"name", "measure": its block of params.yaml, "n", "title", "text", "better", "cells": {model: cell},
    "sites": {site: {model: cell}}}.

    - `lines`: all measures but those of `paired` and `audit`.
    - `paired`: the measures of PAIRED that some model has.
    - `audit`: all measures of `audit_of`, computed or not; `audited`: whether any of them was computed.
    - `missing`: titles of the measures of EXPECTED that no model has.
    - `extractors`: {model: extractor}.
    """
    names = list(dict.fromkeys(name for of in facts.values() for name in of.get("measures") or {}))
    audit = [_line(name, facts) | {"title": title, "plain": plain} for name, (title, plain) in audit_of(names).items()]
    return {
        "lines": [_line(name, facts) for name in names if name not in GIVES_AWAY and name not in PAIRED],
        "paired": [_line(name, facts) | {"plain": plain} for name, plain in PAIRED.items() if name in names],
        "audit": audit,
        "audited": any(cell["value"] != "missing" for line in audit for cell in line["cells"].values()),
        "missing": [title for name, title in EXPECTED.items() if name not in names],
        "extractors": {model: of["extractor"] for model, of in facts.items() if of.get("extractor")},
    }


def audit_of(names: Collection[str]) -> dict[str, tuple[str, str]]:
    """Return those of GIVES_AWAY that a page shows: all but those on request that are not among the known `names`."""
    return {name: of for name, of in GIVES_AWAY.items() if name in names or not name.startswith(ON_REQUEST)}


def _line(name: str, facts: Facts) -> dict[str, Any]:
    of = {model: (found.get("measures") or {}).get(name) for model, found in facts.items()}
    about: dict[str, Any] = next((number for number in of.values() if number), {})
    sites = list(dict.fromkeys(site for number in of.values() if number for site in number.get("sites") or {}))
    return {
        "name": name,
        "measure": about.get("measure", ""),
        "n": counted(of),
        "title": about.get("title", EXPECTED.get(name, name)),
        "text": about.get("text", ""),
        "better": BETTER.get(about.get("better", ""), ""),
        "cells": {model: cell(number) for model, number in of.items()},
        "sites": {
            s: {model: cell(((number or {}).get("sites") or {}).get(s)) for model, number in of.items()} for s in sites
        },
    }


def counted(of: dict[str, dict[str, Any] | None]) -> str:
    """Return the image counts behind a measure, once if they are the same for all models."""
    counts = {model: n for model, number in of.items() if (n := cell(number)["n"])}
    return (
        next(iter(counts.values()), "")
        if len(set(counts.values())) < 2
        else "; ".join(f"{model}: {n}" for model, n in counts.items())
    )


def cell(number: dict[str, Any] | None) -> dict[str, Any]:
    """Return a number as text: {"value", "interval", "floor", "n", "why"}; a missing value is "missing"."""
    number = number or {}
    value, low, high, floor = (number.get(key) for key in ("value", "low", "high", "floor"))
    both = is_number(value) and is_number(low) and is_number(high)
    return {
        "value": measured(value),
        "interval": f"{measured(low)} to {measured(high)}" if both else "",
        "floor": measured(floor) if is_number(floor) else "",
        "n": " · ".join(f"{n} {kind.replace('_', '-')}" for kind, n in (number.get("n") or {}).items()),
        "why": "" if is_number(value) else number.get("why") or "not computed",
    }
