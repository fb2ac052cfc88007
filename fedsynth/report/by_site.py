"""What a synthetic set is worth at each site, and the scores of its networks by site and class."""

from __future__ import annotations

from typing import Any

from fedsynth.params import Split
from fedsynth.report.use_tables import NO_GAP, Summary, against_of
from fedsynth.worth import worth
from fedsynth.worth.wording import LOWER_IS_BETTER, is_number, label_of


def by_class(use: str, rows: worth.Rows, models: list[str], sites: list[str], min_cell: int) -> dict[str, Any]:
    """Return {"use", "lines", "worst"}: per-class metrics of the networks trained on synthetic images alone.

    A line is {"metric", "label", "cells": {(model, site): cell}}, a cell {"value", "n", "state": "known" | "withheld" |
    "missing", "worst"}. With fewer than `min_cell` test images a cell is withheld, because a share of a few patients
    can identify them. `worst`: the worst known cell of each model.
    """
    scores = worth.table([r for r in rows if r["use"] == use and r["name"] == "synthetic"])
    found = {(r.metric, r.model, r.site): (r.value, r.n) for r in scores.itertuples() if "." in r.metric}
    metrics = list(dict.fromkeys(metric for metric, _, _ in found))
    lines = [
        {
            "metric": m,
            "label": label_of(m),
            "cells": {(k, s): _cell(found.get((m, k, s)), min_cell) for k in models for s in sites},
        }
        for m in metrics
    ]
    return {"use": use, "lines": lines, "worst": {k: said for k in models if (said := _worst(lines, k)) is not None}}


def _cell(found: tuple[float, Any] | None, min_cell: int) -> dict[str, Any]:
    value, n = found if found is not None else (None, None)
    if isinstance(n, str) or (is_number(n) and n < min_cell):
        return {"value": None, "n": None, "state": "withheld", "worst": False}
    known = is_number(value)
    number = float(value) if known else None  # type: ignore[arg-type]
    return {"value": number, "n": n, "state": "known" if known else "missing", "worst": False}


def _worst(lines: list[dict[str, Any]], model: str) -> dict[str, Any] | None:
    """Mark the worst known cell of a model and return it; None if no cell is known."""
    every = [(line, key[1], cell) for line in lines for key, cell in line["cells"].items() if key[0] == model]
    cells = [c for c in every if c[2]["state"] == "known"]
    if not cells:
        return None
    line, site, cell = min(
        cells, key=lambda c: -c[2]["value"] if c[0]["metric"].partition(".")[0] in LOWER_IS_BETTER else c[2]["value"]
    )
    cell["worst"] = True
    return {
        "label": line["label"],
        "site": site,
        "value": cell["value"],
        "rest": ", of those known" if len(cells) < len(every) else "",
    }


def by_site(use: str, summary: Summary, models: list[str], sites: list[str]) -> dict[str, Any]:
    """Return retained and gap closed at each site.

    {"use", "against", "lines": [{"site", "cells": {model: {"retained", "gap_closed", "worst"}}}]}; the worst site of a
    model is the one with the lowest `retained`.
    """
    found = {model: summary.get(model, {}).get(use, {}) for model in models}
    cells = {model: _site_cells(of, sites) for model, of in found.items()}
    return {
        "use": use,
        "against": against_of(found),
        "lines": [{"site": site, "cells": {model: cells[model][site] for model in models}} for site in sites],
    }


def _site_cells(of: dict[str, Any], sites: list[str]) -> dict[str, dict[str, Any]]:
    kept, closed = of.get("retained_by_site") or {}, of.get("gap_closed_by_site") or {}
    known = {s: kept[s] for s in sites if is_number(kept.get(s))}
    worst = min(known, key=lambda s: known[s]) if len(known) > 1 else None
    own = {s: closed.get(s) if s in closed or not kept else worth.TESTS_ONLY for s in sites}
    why = {s: of.get("why", {}).get(f"gap_closed@{s}", "") for s in sites}
    own |= {s: NO_GAP for s in sites if own[s] is None and why[s].startswith(NO_GAP)}
    return {s: {"retained": kept.get(s), "gap_closed": own[s], "worst": s == worst} for s in sites}


def roles(split: Split, sites: list[str]) -> dict[str, str]:
    """Return site -> what it takes part in, of the sites that do not both train and test."""
    said = {
        "train": "trains only: it has no test images, and no table has a column for it",
        "test": "tests only: no network is trained on its images, and gap closed is of the other sites",
    }
    return {site: said[only] for site in sites if (only := split.only(site)) is not None}


def absent(validation: dict[str, Any], left_out: dict[str, dict[str, str]]) -> dict[str, str]:
    """Return site -> why the site, or its answer to a job, is not in the report.

    `validation`: reports/validation.json; `left_out`: job -> site -> why, from reports/reference.json and
    reports/score/.
    """
    found = {site: [_not_valid(of)] for site, of in validation["sites"].items() if site not in validation["used"]}
    for job, sites in left_out.items():
        for site, why in sites.items():
            found.setdefault(site, []).append(f"no answer to {job} ({why}): its numbers there are missing")
    return {site: "; ".join(said) for site, said in found.items()}


def _not_valid(verdict: dict[str, Any]) -> str:
    why = verdict.get("no_answer")
    return (
        f"{f'no answer to the validation ({why})' if why else 'its data failed validation'}, and nothing below rests"
        " on it"
    )
