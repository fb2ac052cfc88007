"""The centre's half: ask every site for its verdict, decide which take part, and write reports/validation.json."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from fedsynth.data import outputs
from fedsynth.params import Params, names
from fedsynth.settings import Settings
from fedsynth.worth import rehearsal
from nvflare_jobs.centre import build_question, jobs, program, show
from nvflare_jobs.centre.answers import held, verdict
from nvflare_jobs.federation import interface


def stage(params: Params, settings: Settings) -> None:
    sites = program.expected(params, settings)
    enough = min(params.consortium.min_sites, len(sites))
    job = build_question.ask(
        settings.root / ".work/jobs/validate-job",
        "validate",
        "validate",
        sites,
        params.consortium,
        {"params": program.public(params), "look": False},
        quorum=enough,
        thin=settings.thin,
    )
    answers = held("validate", jobs.ask("validate", job, sites, settings), partial(verdict, params))
    verdicts = {site: answers[site].get("answer") or unanswered(answers[site]["failed"]) for site in sites}
    used = decide(params, verdicts, settings)
    # with the sites that only train or only test: the stages after this one are stale when these change
    only = {site: of for site in used if (of := params.split.only(site))}
    found = {"sites": verdicts, "used": used} | ({"only": only} if only else {})
    # trainings stand on these floors, too, and are asked again when they change
    if floors := {site: of for site, of in rehearsal.outside(settings.root).items() if site in used}:
        found[rehearsal.FLOORS] = floors
        for said in rehearsal.sentences(floors):
            print(f"{show.WARNING}{said}", flush=True)
    outputs.write(settings.root / "reports/validation.json", found)


def unanswered(why: str) -> dict[str, Any]:
    """Return the verdict for a site that did not answer."""
    return {"passed": False, "digest": "", "images": 0, "failed": [], "warnings": [], "counts": {}, "no_answer": why}


def decide(params: Params, verdicts: dict[str, dict[str, Any]], settings: Settings) -> list[str]:
    """Return the sites that take part.

    Raises StageError where a site failed and `consortium.failed_site` is stop, or where too few sites passed, and
    FederationError where a verdict is missing and `failed_site` is stop.
    """
    failed = [site for site, verdict in verdicts.items() if not verdict["passed"]]
    used = [site for site in verdicts if site not in failed]
    text = "\n".join(explain(site, verdicts[site], settings) for site in failed)
    silent = [site for site in failed if verdicts[site].get("no_answer")]
    if silent and params.consortium.failed_site == "stop":  # a retry may reach them
        raise interface.FederationError(f"no verdict from {', '.join(silent)}: {verdicts[silent[0]]['no_answer']}")
    if failed and params.consortium.failed_site == "stop":
        raise program.StageError(
            f"validation failed at {', '.join(failed)}\n{text}\nMend the data and ingest again, or set"
            " consortium.failed_site to leave_out."
        )
    _enough(params, used, text)
    if failed:
        for line in f"left out: {', '.join(failed)}\n{text}".splitlines():
            print(f"{show.WARNING}{line}", flush=True)
    for site in used:
        print(f"validate: {site} passed, {verdicts[site]['images']} images", flush=True)
    return used


def _enough(params: Params, used: list[str], text: str) -> None:
    """Raise StageError where too few sites passed, or too few of them train or test; `text`: what the others failed."""
    asked, training, testing = params.consortium.min_sites, params.split.training(used), params.split.testing(used)
    if len(used) < asked:
        raise program.StageError(f"only {len(used)} sites passed, consortium.min_sites is {asked}\n{text}")
    if len(training) < asked:
        said = f"only {len(training)} of the sites that passed train models, consortium.min_sites is {asked}"
        raise program.StageError(f"{said}: the others are in split.test_only\n{text}".rstrip())
    if not testing:
        raise program.StageError(f"no site that passed tests models: all are in split.train_only\n{text}".rstrip())


def explain(site: str, verdict: dict[str, Any], settings: Settings) -> str:
    """Describe a site's failure, as far as the centre may know it.

    In simulation, where the site is this machine, this is the site's own message with rows and files.
    """
    if why := verdict.get("no_answer"):
        return f"  {site}: no answer: {why}"
    own = settings.state / names.key(site) / "validation"
    if settings.simulation and (message := _message(own)):
        return f"{message}\n  report: {own / 'index.html'}"
    failures = ", ".join(f"{f['expectation']} ({f['count']})" for f in verdict["failed"])
    return f"  {site}: {failures}; rows and files are in the report at the site"


def _message(folder: Path) -> str:
    path = folder / "message.txt"
    return path.read_text(encoding="utf-8").rstrip() if path.is_file() else ""


if __name__ == "__main__":
    program.main(stage)
