"""The stage `source`, which always runs: checks params.yaml and records everything outside DVC's graph.

This is, for each stage, its code, its values of params.yaml and where it runs (fedsynth/stages/inputs.py); and the
state of the sites' images. In simulation the source's files are inspected here; in a federation every site is asked for
the digest of what it has ingested.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from fedsynth import checks
from fedsynth.data import outputs
from fedsynth.errors import UserError
from fedsynth.processes import in_utf8
from fedsynth.settings import Settings, quiet
from fedsynth.stages import inputs, outside
from fedsynth.worth import missing, withdrawn

if TYPE_CHECKING:
    from fedsynth.params import Params


def stage(params: Params, settings: Settings) -> None:
    wanted = inputs.texts(settings.root, params, settings)
    inputs.checked(settings.root, wanted, settings)
    inputs.write(settings.root, wanted)
    missing.write(settings.root, {})  # this run begins
    for path, text in outside.texts(params, settings).items():
        (settings.root / path).write_text(text, encoding="utf-8")
    if settings.simulation:
        return
    from nvflare_jobs.centre import answers, build_question, jobs, program

    sites = program.expected(params, settings)
    job = build_question.ask(settings.root / ".work/jobs/source-job", "validate", "source", sites, params.consortium,
                    {"params": program.public(params), "look": True}, quorum=1, thin=settings.thin)  # fmt: skip
    found = answers.held("source", jobs.ask("source", job, sites, settings), answers.look)
    said = {site: found[site].get("answer", {}) for site in sites}
    digests = {site: answer.get("digest") or "none" for site, answer in said.items()}
    gone = told(withdrawn.known(settings.root), said)
    content = {"source": "sites", "digests": digests} | ({"withdrawn": gone} if gone else {})
    outputs.write(settings.root / withdrawn.SOURCE, content)


def told(before: dict[str, list[str]], answers: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """Return site -> digests of its withdrawn sets, those of earlier answers too.

    A site that does not answer has taken nothing back, and one answer holds a bounded number of them.
    """
    found = {site: list(digests) for site, digests in before.items()}
    for site, answer in answers.items():
        had = found.get(site, [])
        if more := [*had, *(digest for digest in answer.get("withdrawn", []) if digest not in had)]:
            found[site] = more
    return found


def main() -> None:
    """Run the stage.

    FLARE is imported only where a job is run, because this stage runs every time, also where nothing has changed.
    """
    in_utf8()
    quiet()
    try:
        settings = Settings.read()
        if settings.simulation:
            os.chdir(settings.root)
            stage(checks.load_or_list(settings.root / "params.yaml"), settings)
            return
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(1)
    from nvflare_jobs.centre import program

    program.main(stage)


if __name__ == "__main__":
    main()
