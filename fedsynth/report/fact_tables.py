"""The facts of a model as table cells in the page's wording, shared by datasheet, model card and registry."""

from __future__ import annotations

from typing import Any

from fedsynth.report import mended
from fedsynth.report.calibration_table import calibration
from fedsynth.report.measure_tables import BETTER, GIVES_AWAY, audit_of, cell, measures
from fedsynth.report.use_tables import ends, points
from fedsynth.worth.facts import WORTH, share_of
from fedsynth.worth.judgement import card as judgement
from fedsynth.worth.judgement import gates_of, held_said, sentence
from fedsynth.worth.wording import epsilon_said, is_number, label_of, total_said

NOT_COMPUTED = "not computed"
AGAINST = {
    "pooled": "one network trained on the real images of all sites together, which a simulation alone can do",
    "federated": (
        "a network trained on the real images of all sites by FedAvg, since nobody can pool the images of hospitals"
    ),
}
LEFT_OUT = {
    "reference": "{site} did not answer the job of the references ({why}): what rests on all sites is not computed",
    "score": "{site} did not answer the job of scoring ({why}): what rests on all sites is not computed",
    "federated": "{site} was left out of rounds of the federated reference: {why}",
}


def tables(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of a model as text.

    Keys: said (the verdict in a sentence), gates, beyond (public images), worth, seeds (their number), against (what
    shares are relative to), left_out, rehearsed, measures, audit, missing, mended, extractor, epsilon and epsilon_total
    (word, meaning), worst.
    """
    found = measures({facts["model"]: facts})
    return {
        "said": _verdict(facts),
        "gates": [
            {
                "gate": g["gate"],
                "kind": g["kind"],
                "held": held_said(g),
                "reason": g["reason"],
            }
            for g in gates_of(facts)
        ],
        "beyond": [beyond(use, of) for use, of in facts["uses"].items() if is_number(of.get("public"))],
        "worth": [worth_line(use, of) for use, of in facts["uses"].items()],
        "seeds": min((of.get("seeds", 1) for of in facts["uses"].values()), default=1),
        "against": {of["against"]: AGAINST[of["against"]] for of in facts["uses"].values()},
        "left_out": [
            LEFT_OUT[job].format(site=site, why=why)
            for job, sites in facts["left_out"].items()
            for site, why in sites.items()
        ],
        "rehearsed": facts.get("rehearsed", []),
        "measures": [_measure(name, of) for name, of in facts["measures"].items() if name not in GIVES_AWAY],
        "audit": [
            _measure(name, facts["measures"].get(name) or {}) | {"title": title, "text": plain}
            for name, (title, plain) in audit_of(facts["measures"]).items()
        ],
        "missing": found["missing"],
        "mended": mended.sentences(facts["model"], facts),
        "extractor": facts["extractor"] or "not recorded",
        "epsilon": epsilon_said(facts),
        "epsilon_total": total_said(facts),
        "worst": worst(facts) + calibrated(facts),
    }


def worth_line(use: str, of: dict[str, Any]) -> dict[str, str]:
    """Return one use: its headline metric, the scores, and the three shares with their 95 % intervals."""
    intervals, why, shares = of.get("intervals") or {}, of.get("why") or {}, share_of(of["against"])
    line = {"use": use, "metric": label_of(of["headline"]), "poorest_site": of.get("poorest_site") or "not known"}
    line |= {name: NOT_COMPUTED if of.get(name) is None else f"{of[name]:.3f}" for name in ("synthetic", "augmented")}
    return line | {name: share(of.get(name), shares[name], intervals.get(name), why.get(name, "")) for name in WORTH}


def beyond(use: str, of: dict[str, Any]) -> str:
    """Return what a set is worth beyond public images: "classification: synthetic − public is +0.12 (...)"."""
    value, around = points(of.get("over_public"), of.get("over_public_interval"))
    known = f"{use}: synthetic − public is {value}" + (f" ({around})" if around else "")
    return f"{known}; public images, which cost no patient anything, reach {of['public']:.3f}"


def share(value: float | None, of: str, interval: list[float | None] | None = None, why: str = "") -> str:
    """Return a share as text: "83 % of pooled (81 to 86 %)"."""
    if not is_number(value):
        return f"{NOT_COMPUTED}{': ' + why if why else ''}"
    around = ends(interval)
    return f"{100 * value:.0f} % {of}" + (f" ({around})" if around else "")


def _measure(name: str, number: dict[str, Any]) -> dict[str, str]:
    shown = cell(number)
    about = {
        "title": number.get("title", name),
        "text": number.get("text", ""),
        "better": BETTER.get(number.get("better", ""), ""),
    }
    if not is_number(number.get("value")):
        why = "" if shown["why"] == NOT_COMPUTED else f": {shown['why']}"
        return about | shown | {"value": f"{NOT_COMPUTED}{why}"}
    return about | shown


def worst(facts: dict[str, Any]) -> list[str]:
    """Return a sentence for each use: the site and the class with the worst known score."""
    said = []
    for use, of in facts["worst"].items():
        site, label = of["site"], of["class"]
        at = (
            f"worst at {site['site']} ({label_of(site['metric'])} {site['value']:.2f}){_known(site)}"
            if site
            else f"worst site {NOT_COMPUTED}"
        )
        by = (
            f"worst class {label['label']} ({label_of(label['metric'])} {label['value']:.2f}){_known(label)}"
            if label
            else f"worst class {NOT_COMPUTED}"
        )
        said.append(f"{use}: {at}; {by}")
    return said or [f"worst site and class {NOT_COMPUTED}"]


def calibrated(facts: dict[str, Any]) -> list[str]:
    """Return a sentence for each use: the group of test images whose calibration error is largest, of those known."""
    tables = [calibration(use, {facts["model"]: facts}) for use in facts["uses"]]
    return [f"{t['use']}: calibration error largest for {said}" for t in tables for said in t["worst"].values()]


def _known(worst: dict[str, Any]) -> str:
    return f" of those known, {', '.join(worst['unknown'])} withheld or missing" if worst["unknown"] else ""


def short_verdict(facts: dict[str, Any]) -> list[str]:
    """Return the verdict's sentence, then each gate that does not hold."""
    broken = [
        f"{'required' if g['kind'] == 'require' else 'warning'}: {sentence(g)}"
        for g in gates_of(facts)
        if not g["held"]
    ]
    return [_verdict(facts), *broken]


def _verdict(facts: dict[str, Any]) -> str:
    text = judgement(facts["model"], facts)["said"]
    return text[:1].upper() + text[1:]
