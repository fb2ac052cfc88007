"""What a study that `fedsynth init --from` writes must pass."""

from __future__ import annotations

from pathlib import Path

from fedsynth import checks
from fedsynth.params import Params, names
from fedsynth.stages.ingest import ingest
from fedsynth.validation.expectations import validate


def passes(root: Path, params: Params) -> None:
    """Checks find nothing, and each site's images pass validation."""
    _, problems = checks.of_file(root / "params.yaml")
    assert not problems, "\n".join(map(str, problems))
    for site in ingest(params, root / "data"):
        verdict = validate(root / "data" / names.key(site), params, site, None)
        assert verdict.passed, verdict.message()
