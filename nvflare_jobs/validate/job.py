"""The centre's half: ask every site for its verdict, decide which take part, and write reports/validation.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedsynth.data import outputs
from fedsynth.params import Params, names
from fedsynth.settings import Settings
from nvflare_jobs.centre import build_question, jobs, program, show
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
    answers = jobs.ask("validate", job, sites, settings)
    verdicts = {site: answers[site].get("answer") or unanswered(answers[site]["failed"]) for site in sites}
    used = decide(params, verdicts, settings)
    outputs.write(settings.root / "reports/validation.json", {"sites": verdicts, "used": used})


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
    if len(used) < params.consortium.min_sites:
        raise program.StageError(
            f"only {len(used)} sites passed, consortium.min_sites is {params.consortium.min_sites}\n{text}"
        )
    if failed:
        for line in f"left out: {', '.join(failed)}\n{text}".splitlines():
            print(f"{show.WARNING}{line}", flush=True)
    for site in used:
        print(f"validate: {site} passed, {verdicts[site]['images']} images", flush=True)
    return used


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
