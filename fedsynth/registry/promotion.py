"""The verdict as tags of a registered version, the check of its gates, and the comparison with the champion."""

from __future__ import annotations

import re
from collections.abc import Mapping
from statistics import mean
from typing import Any

from fedsynth.errors import UserError
from fedsynth.params import names
from fedsynth.registry.tracked_values import metric_key
from fedsynth.worth.judgement import TOO_FEW, held_said

Tags = Mapping[str, str]
# prefixes of the tags below, which are deleted before a new verdict is written
PREFIXES = ("gates", "gate.", "worth.", "measure.", "worst_site.", "reference.", "epsilon")
NOT_COMPUTED, NO_VERDICT = "not computed", "no verdict"
SHARES = ("retained", "gap_closed", "gap_closed_poorest")
LONGEST = 5000  # maximum length of a tag's value
GATE = re.compile(  # a gate ends in its limit: the name of a site or label before it may hold anything
    r"(?P<kind>require|warn) (?P<held>holds|does not hold|too few to tell): "
    r"(?P<gate>.*?[<>]=?\s*[-+.\deE]+(?:\s*\*\s*floor)?(?:\s+by\s+(?:bound|point))?): (?P<reason>.*)",
    re.DOTALL,
)


class Refused(UserError):
    """A version may not become the champion; the message says why and what can be done."""


def tags(facts: dict[str, Any]) -> dict[str, str]:
    """Return the verdict of a model as tags of its version.

    - gates: "passed", "failed: 2 of 9" or "none set"; gate.<nn>: kind, whether it holds, gate and reason
    - worth.<use>.<share>; worth.<use>.against: what the shares are relative to
    - measure.<name>
    - worst_site.<use>: among the sites with a known value
    - epsilon ("none" without differential privacy), epsilon.delta, epsilon.unit, epsilon.relation; epsilon.total, of
      all trainings at a site, for one subject
    - reference.sha256: the digest of the reference rows that it was judged against
    """
    found = {"gates": facts["verdict"]["said"], "reference.sha256": facts["reference_sha256"]}
    for i, g in enumerate(facts["verdict"]["gates"], 1):
        text = f"{g['kind']} {held_said(g)}: {g['gate']}: {g['reason']}"
        found[f"gate.{i:02d}"] = text[:LONGEST]
    for use, of in facts["uses"].items():
        found |= {f"worth.{use}.{share}": _number(of.get(share)) for share in SHARES} | {
            f"worth.{use}.against": of["against"]
        }
    found |= {f"measure.{name}": _number(of.get("value"), ".6g") for name, of in facts["measures"].items()}
    found |= {f"worst_site.{use}": _site(of["site"]) for use, of in facts["worst"].items() if of["site"]}
    spent = facts["epsilon"]
    if spent is None:
        return found | {"epsilon": "none"}
    of = {
        "epsilon.delta": _number(spent.get("delta"), "g"),
        "epsilon.unit": spent.get("unit", "image"),
        "epsilon.relation": spent.get("relation", "add_remove"),
        "epsilon.total": _number(spent.get("total"), ".6g"),
    }
    return found | {"epsilon": _number(spent.get("epsilon"), ".6g")} | of


def metrics(facts: dict[str, Any]) -> dict[str, float]:
    """Return the numbers for MLflow's compare view; a number that was not computed has no key.

    `<use>/<share>`, `<use>/<share>/low` and `/high`, `<use>/worst_site/<metric>`, `measure/<name>` with `/floor`,
    `/low`, `/high` and `/<site>`, `epsilon`, `epsilon_total`, `gates/failed`, `gates/warnings`.
    """
    found: dict[str, float | None] = {}
    for use, of in facts["uses"].items():
        found |= {f"{use}/{share}": of.get(share) for share in SHARES}
        for share in SHARES:
            ends = (of.get("intervals") or {}).get(share) or ()
            found |= dict(zip((f"{use}/{share}/low", f"{use}/{share}/high"), ends, strict=False))
    for use, metric in ((use, metric) for use, of in facts["scores"].items() for metric in of):
        found[f"{use}/worst_site/{metric_key(metric)}"] = facts["numbers"].get(f"{use}/{metric}@worst_site")
    for name, of in facts["measures"].items():
        found |= {f"measure/{name}": of.get("value")} | {
            f"measure/{name}/{key}": of.get(key) for key in ("floor", "low", "high")
        }
        found |= {
            f"measure/{name}/{names.key(site)}": value.get("value") for site, value in (of.get("sites") or {}).items()
        }
    broken = [g["kind"] for g in facts["verdict"]["gates"] if not g["held"]]
    found |= {
        **{name: facts["numbers"].get(name) for name in ("epsilon", "epsilon_total")},
        "gates/failed": broken.count("require"),
        "gates/warnings": broken.count("warn"),
    }
    return {name: float(value) for name, value in found.items() if value is not None}


def said(tags: Tags) -> str:
    """Return the verdict in short, "no verdict" for a version that was never judged."""
    return tags.get("gates", NO_VERDICT)


def gates(tags: Tags) -> list[dict[str, Any]]:
    """Parse the gates in the tags, in order: [{"kind", "held", "gate", "reason"}]."""
    found = [GATE.fullmatch(value) for name, value in sorted(tags.items()) if name.startswith("gate.")]
    return [{**g.groupdict(), "held": g["held"] == "holds"} for g in found if g]


def warnings(tags: Tags) -> list[str]:
    """Return the gates of kind `warn` that do not hold, with their reasons."""
    return [f"{g['gate']}: {g['reason']}" for g in gates(tags) if g["kind"] == "warn" and not g["held"]]


def check_gates(title: str, tags: Tags) -> None:
    """Raise Refused if a required gate does not hold or the version was never judged."""
    if said(tags) == NO_VERDICT:
        raise Refused(
            f"{title} has no verdict, and none is not passed: its weights were not scored since they were registered; "
            "run the pipeline with them (`fedsynth run`), which judges them by the gates of params.yaml"
        )
    broken = [f"{g['gate']}: {g['reason']}" for g in gates(tags) if g["kind"] == "require" and not g["held"]]
    if broken or said(tags).startswith("failed"):
        lines = "".join(f"\n  {line}" for line in broken)
        few = " or, where these are too few to tell, test it on more images" if TOO_FEW in "".join(broken) else ""
        raise Refused(
            f"{title} must not be promoted, gates {said(tags)}:{lines}\ntrain it better{few}; or, if a limit is wrong,"
            " change `gates` in params.yaml and run the pipeline (`fedsynth run`), which judges it anew"
        )


def compare(title: str, tags: Tags, champion: str, other: Tags) -> tuple[bool, str]:
    """Return whether a version is better than the champion on the same references, and a sentence with both numbers.

    The number is the mean of `retained` over the uses; if the version is not better, the sentence says why. Versions
    judged against different references (by digest) cannot be compared; `pooled` and `federated` references have
    different rows and therefore different digests.
    """
    mine, theirs = _retained(tags), _retained(other)
    digests = tags.get("reference.sha256"), other.get("reference.sha256")
    if said(other) == NO_VERDICT:
        return False, f"{title} cannot be compared: {champion} has no verdict, so its worth is not known"
    shown = f"{title} retains {_words(mine)}{_against(tags)}, {champion} {_words(theirs)}{_against(other)}"
    if None in digests or digests[0] != digests[1]:
        return (
            False,
            (
                f"{shown}: they were judged on different references ({_short(digests[0])} and {_short(digests[1])}), so"
                " neither is better"
            ),
        )
    if None in mine.values() or None in theirs.values() or not mine or set(mine) != set(theirs):
        return False, f"{shown}: they cannot be compared"
    ahead = mean(v for v in mine.values() if v is not None) - mean(v for v in theirs.values() if v is not None)
    if ahead > 0:
        return True, f"{shown}: better on the same references"
    return False, f"{shown}: {'worse' if ahead < 0 else 'not better'} on the same references"


def _retained(tags: Tags) -> dict[str, float | None]:
    found = {n: v for n, v in tags.items() if n.startswith("worth.") and n.endswith(".retained")}
    return {
        n.removeprefix("worth.").removesuffix(".retained"): None if v == NOT_COMPUTED else float(v)
        for n, v in found.items()
    }


def _against(tags: Tags) -> str:
    """Return " of pooled": what the shares are relative to; empty for versions whose tags do not say it."""
    found = dict.fromkeys(v for n, v in sorted(tags.items()) if n.startswith("worth.") and n.endswith(".against"))
    return f" of {' and '.join(found)}" if found else ""


def _site(worst: dict[str, Any]) -> str:
    return (
        f"{worst['site']} of those known, {', '.join(worst['unknown'])} withheld or missing"
        if worst["unknown"]
        else str(worst["site"])
    )


def _words(retained: dict[str, float | None]) -> str:
    """Return the mean and the value of each use: "0.8210 (classification 0.8300, segmentation 0.8120)"."""
    if not retained:
        return NOT_COMPUTED
    each = ", ".join(f"{use} {_number(v)}" for use, v in sorted(retained.items()))
    known = [v for v in retained.values() if v is not None]
    return f"{_number(mean(known) if len(known) == len(retained) else None)} ({each})"


def _number(value: float | None, form: str = ".4f") -> str:
    return NOT_COMPUTED if value is None else format(value, form)


def _short(digest: str | None) -> str:
    return digest[:8] if digest else "not recorded"
