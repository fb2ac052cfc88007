"""The summary at the end of a run, and the check whether anything must run.

The summary is kept with a digest of all that it is made of. So a run that finds nothing to do imports neither MLflow
nor pandas, which takes seconds: it shows the kept one where that digest is still the same.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from fedsynth import checks
from fedsynth.params import Params, study_of
from fedsynth.registry import place
from fedsynth.settings import Settings, masked, tracking_uri
from fedsynth.stages import code, inputs, last_run, outside
from fedsynth.stages.plan import SOURCE
from fedsynth.worth import missing
from flows import dvcx

Summary = dict[str, Any]  # {"of": digest of what it is made of, "tables": of worth, "lines": below them}
REPORT = "report"  # the stage that ends a run
KEPT = Path(".work") / "summary.json"
MAKERS = (
    *(f"fedsynth.registry.{name}" for name in ("tracking", "stale", "by_hand")),
    *(f"fedsynth.worth.{name}" for name in ("terminal", "gained")),
)


def unchanged(root: Path, params: Params, settings: Settings) -> Summary | None:
    """Return the summary where DVC has nothing to do and the registry has every model's weights and verdict, else None.

    This takes a second or two, a flow run fifteen; in a federation the sites are asked, too. Raises ParamsError with
    all problems of params.yaml before anything is started.
    """
    wanted = inputs.texts(root, params, settings)
    inputs.checked(root, wanted, settings)
    if inputs.changed(root, wanted | outside.texts(params, settings)) or dvcx.status(root)[0]:
        return None
    if not settings.simulation:
        dvcx.Runner(root).repro(SOURCE, lambda line: None)
        if dvcx.status(root)[0]:
            return None
    made_of = _made_of(root)
    if made_of and (kept := _kept(root)).get("of") == made_of:
        return kept
    from fedsynth.registry import tracking

    return summary(root, params) if tracking.registered(root, params) else None


def of_run(study: Path, root: Path) -> Summary | None:
    """Return the summary of the run that has just ended, None where it came to no report.

    `root`: where it took place, which is not the study's folder for an experiment.
    """
    state = last_run.read(study)["stages"].get(REPORT, {}).get("state")
    if state not in (dvcx.RAN, dvcx.RESTORED, dvcx.UNCHANGED):
        return None
    return summary(root, checks.load_or_list(root / "params.yaml"))


def summary(root: Path, params: Params) -> Summary:
    """Return the table of worth, verdicts, what was gained, and where to find report, runs and flows.

    It is kept for the next run, where the registry has all that belongs there.
    """
    from fedsynth.worth import terminal, worth
    from fedsynth.worth.gained import gained

    made_of = _made_of(root)  # before the registry is asked, so that a change meanwhile is seen by the next run
    gone = missing.of_run(root)
    rows = worth.rows(root, [model for model in params.models if model not in gone])
    said, registered = _registry(root, params)
    lines = [*_verdicts(root), *said, *(f"gained   {line}" for line in gained(rows))]
    lines += [
        f"report   {root / 'reports/report/index.html'}",
        f"runs     {_runs(root)}",
        f"flows    {_program(root, 'prefect')} server start",
    ]
    made: Summary = {"of": made_of, "tables": terminal.tables(rows), "lines": lines}
    if made_of and registered and not gone:
        (root / KEPT).parent.mkdir(parents=True, exist_ok=True)
        (root / KEPT).write_text(json.dumps(made), encoding="utf-8")
    return made


def show(made: Summary) -> None:
    """Print a summary."""
    from rich.console import Console

    from fedsynth.worth import terminal

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 140  # a log has no width, and the table must not be cut
    console.print(terminal.text(made["tables"], console.width))
    print("\n".join(made["lines"]))


def _runs(root: Path) -> str:
    """Return where runs are to be seen: a tracking server's address, or the command that starts one.

    By default MLflow starts 15 processes, which take 2.7 GB; this one starts 2, which take 0.5.
    """
    uri = masked(tracking_uri(root))
    if uri.startswith("http"):
        return uri
    words = [_program(root, "mlflow"), "ui", "--workers", "1", "--host", "127.0.0.1", "--backend-store-uri", uri]
    return f"MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false {shlex.join(map(str, words))}"


def _program(root: Path, name: str) -> Path:
    """Return the path of a program beside this Python, relative to the project's folder if it lies there."""
    path = Path(sys.executable).parent / name
    return path.relative_to(root) if path.is_relative_to(root) else path


def _made_of(root: Path) -> str:
    """Return a digest of all that the summary follows from where DVC has nothing to do.

    dvc.lock holds the digests of all outputs and inputs. "" if the registry is a server, which must be asked each time.
    """
    if not (registry := place.stamp(root)):
        return ""
    made_by = json.dumps(code.digests(MAKERS, (), root)) + Path(__file__).read_text(encoding="utf-8")
    parts = [
        sys.executable,
        str(root),
        study_of(root),
        registry,
        made_by,
        (root / "dvc.lock").read_text(encoding="utf-8"),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _kept(root: Path) -> Summary:
    try:
        return dict(json.loads((root / KEPT).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):  # it only saves time
        return {}


def _verdicts(root: Path) -> list[str]:
    lines = []
    for model, verdict in json.loads((root / "reports" / "verdict.json").read_text(encoding="utf-8")).items():
        lines.append(f"gates    {model}: {verdict['said']}")
        failed = [g for g in verdict["gates"] if not g["held"] and g["kind"] == "require"]
        if len({g["reason"] for g in failed}) > 1 or len(failed) == 1:  # of a model without results all say the same
            lines += [f"         {g['gate']}: {g['reason']}" for g in failed]
    return lines


def _registry(root: Path, params: Params) -> tuple[list[str], bool]:
    """Return lines on stale versions in use and on aliases that were changed by hand, and whether all is registered.

    All is where the registry has each model's weights and verdict. Where it does not answer, a line says that it is not
    known.
    """
    from fedsynth.registry import by_hand, stale, tracking

    try:
        said = [f"stale    {line}" for line in stale.lines(root)] + [f"alias    {line}" for line in by_hand.lines(root)]
        return said, tracking.registered(root, params)
    except Exception as error:  # of MLflow, SQLAlchemy or a driver: what was computed is summed up nevertheless
        return [f"stale    not known, the registry does not answer: {masked(str(error)).splitlines()[0]}"], False
