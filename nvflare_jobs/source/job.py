"""The stage `source`, which always runs: params.yaml is checked whole, and what lies outside of DVC's graph is written
down.

That is, for each stage, its code, its values of params.yaml and where it runs (fedsynth/stages/inputs.py); and what the
sites' images look like now. In simulation the source's files are looked at here; in a federation every site is asked
for the digest of what it has ingested.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from fedsynth import checks
from fedsynth.data import outputs
from fedsynth.errors import UserError
from fedsynth.settings import Settings, quiet
from fedsynth.stages import inputs

if TYPE_CHECKING:
    from fedsynth.params import Params


def stage(params: Params, settings: Settings) -> None:
    path = settings.root / "data" / "source.json"
    wanted = inputs.texts(settings.root, params, settings)
    inputs.checked(settings.root, wanted, settings)
    inputs.write(settings.root, wanted)
    given(params, settings)
    if settings.simulation:
        from fedsynth.stages import ingest

        outputs.write(path, ingest.fingerprint(params))
        return
    from nvflare_jobs.centre import build_question, jobs, program

    sites = program.expected(params, settings)
    job = build_question.ask(settings.root / ".work/jobs/source-job", "validate", "source", sites, params.consortium,
                    {"params": program.public(params), "look": True}, quorum=1, thin=settings.thin)  # fmt: skip
    found = jobs.ask("source", job, sites, settings)
    outputs.write(
        path, {"source": "sites", "digests": {s: found[s].get("answer", {}).get("digest") or "none" for s in sites}}
    )


def given(params: Params, settings: Settings) -> None:
    """What the set that `sample.given` names looks like now, at the centre: models draw again where that changes."""
    named = params.sample.given
    if isinstance(named, str):
        from pathlib import Path

        from fedsynth.data import manifest

        fingerprint = manifest.digest(manifest.read(Path(named)))
    else:
        fingerprint = named.build(image=params.image.sourced, seed=params.seed).fingerprint() if named else ""
    outputs.write(settings.root / "data" / "given.json", {"fingerprint": fingerprint})


def main() -> None:
    """FLARE is imported only where a job is run: this looks at each start, also where nothing has changed."""
    quiet()
    if os.environ.get("FEDSYNTH_FEDERATION") == "production":
        from nvflare_jobs.centre import program

        program.main(stage)
        return
    try:
        settings = Settings.read()
        os.chdir(settings.root)
        stage(checks.load_or_list(settings.root / "params.yaml"), settings)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
