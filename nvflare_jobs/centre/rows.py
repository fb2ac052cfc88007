"""Asks every site that tests for rows of the table of worth."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any, Literal

from fedsynth.data import outputs
from fedsynth.params import Params, names
from fedsynth.settings import Settings
from nvflare_jobs.centre import build_question, jobs
from nvflare_jobs.centre.answers import Answers, combined, held
from nvflare_jobs.centre.asked import Asked
from nvflare_jobs.centre.program import public, validated


def rows(params: Params, settings: Settings, kind: Literal["reference", "score"], name: str, payload: dict[str, Any],
         more: dict[str, Any], started: float, combine: Callable[[Answers], dict[str, Any]]) -> None:  # fmt: skip
    """Ask every site that tests for rows of the table of worth and write them to reports/, completed by `complete`.

    The file also has `left_out`: site -> why it has no answer, and what `combine` makes of the answers. `kind`: whose
    client answers. `name`: the model, "" if none. `more`: further entries of the question. `started`:
    time.monotonic() when the stage began.
    """
    from fedsynth.worth.use_networks import uses

    validation = validated(settings.root)
    sites, stage = params.split.testing(validation["used"]), f"{kind}@{name}" if name else kind
    digests = {names.key(site): validation["sites"][site]["digest"] for site in sites}
    config = {"params": public(params), "name": name, "digests": digests, **more}
    folder = settings.root / ".work" / "jobs" / f"{stage.replace('@', '-')}-job"
    fitted = time.monotonic() - started
    job = build_question.ask(
        folder, kind, stage.replace("@", "_"), sites, params.consortium, config, payload, thin=settings.thin
    )
    shown = {site: validation["sites"][site]["counts"] for site in sites}
    sent = {key.split("/")[1] for key in payload if key.startswith("net/")} - {"synthetic"}
    asked = Asked(kind, params, name, frozenset(sent), shown)
    quorum = params.consortium.enough(sites)
    found = held(stage, jobs.ask(stage, job, sites, settings), asked.hold, quorum)
    found, beside = combined(stage, found, combine, quorum)
    answers = {site: found[site]["answer"] for site in sites if "answer" in found[site]}
    seconds = {"centre": round(fitted, 1)}
    seconds |= {site: told for site, of in answers.items() if (told := of.get("seconds")) is not None}
    left_out = {site: found[site]["failed"] for site in sites if site not in answers}
    out = settings.root / "reports" / (f"{kind}/{name}.json" if name else f"{kind}.json")
    built = uses(params)
    headlines = {use: of.headline for use, of in built.items()}
    tests_only = [site for site in sites if params.split.only(site) == "test"]
    written = complete([answer["rows"] for answer in answers.values()], left_out, headlines, tests_only)
    written = [row | {"chance": round(built[row["use"]].chance(row["n"]), 6)} for row in written]
    outputs.write(out, {"rows": written, "seconds": seconds, "left_out": left_out} | beside)
    print(f"{stage}: {len(answers)} of {len(sites)} sites answered", flush=True)


def complete(
    answers: list[list[dict[str, Any]]], left_out: dict[str, str], headlines: dict[str, str],
    tests_only: Collection[str] = (),
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the rows of all sites, each with every metric of its use, the headline first, whatever a site withheld.

    A site that did not answer gets the rows that the others have, without values: a mean over the others would be
    another quantity. So does a site that tests only, of networks trained on a site's own images; they say `tests_only`.
    """
    rows = [row for answer in answers for row in answer]
    metrics = {
        use: dict.fromkeys([first, *(m for r in rows if r["use"] == use for m in r["metrics"])])
        for use, first in headlines.items()
    }
    kinds = {(row["use"], row["name"], row["model"], row["seed"]): row for row in rows}.values()
    own = [row for row in kinds if row["trained_on"] == row["site"]]
    absent = [
        _absent(row, site, {"left_out": why})
        for site, why in left_out.items()
        for row in kinds
        if row not in own or site not in tests_only
    ]
    absent += [_absent(row, site, {"tests_only": True}) for site in tests_only for row in own]
    return [row | {"metrics": metrics[row["use"]] | row["metrics"]} for row in [*rows, *absent]]


def _absent(row: dict[str, Any], site: str, why: dict[str, Any]) -> dict[str, Any]:
    on = site if row["trained_on"] == row["site"] else row["trained_on"]
    return row | {"site": site, "trained_on": on, "metrics": {}, "n": {}} | why
