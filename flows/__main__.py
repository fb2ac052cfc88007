"""The command `fedsynth run`, or `python -m flows`: starts the flow where something must run, ends with the summary.

Prefect is imported only where something must run, because that takes seconds.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
import traceback

from fedsynth import checks
from fedsynth.errors import UserError
from fedsynth.processes import in_utf8
from fedsynth.settings import Settings, masked, quiet
from fedsynth.stages import last_run
from flows import chosen, concerns, dvcx, experiment, summary, tidy


def main() -> int:
    started = time.monotonic()
    quiet()
    in_utf8()
    # Prefect passes SIGTERM on to the previous handler. The default one ends the process at once and leaves its server
    # behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    given = _arguments()
    try:
        made, failed = _run(given.set or [], given.models or [])
    except KeyboardInterrupt:
        print("interrupted; what was computed is kept", file=sys.stderr)
        return 130
    except (UserError, RuntimeError) as error:  # a failed stage has printed the reason above
        print(masked(f"error: {error}"), file=sys.stderr)
        return 1
    except Exception as error:
        print(masked(traceback.format_exc()), file=sys.stderr)
        print(masked(f"error: {type(error).__name__}: {error}"), file=sys.stderr)
        return 1
    if made:
        summary.show(made)
        print(f"{time.monotonic() - started:.0f} s")
    if failed:
        print(f"error: {failed}; what was computed is kept", file=sys.stderr)
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fedsynth run", description="Run what must run, then the registry.")
    parser.add_argument(
        "-S", "--set", action="append", metavar="KEY=VALUE",
        help="another value than params.yaml has, or a params file, for this run alone: an experiment of DVC",
    )  # fmt: skip
    parser.add_argument("--models", action="append", metavar="NAMES", help="only these: vae,gan; default: all")
    return parser.parse_args()


def _run(params: list[str], models: list[str]) -> tuple[summary.Summary | None, str]:
    """Run what must run. Returns the summary, None where nothing has been scored, and what failed."""
    settings = Settings.read()
    os.chdir(settings.root)
    study = checks.load_or_list(settings.root / "params.yaml", settings.simulation)
    if said := dvcx.allow_no_git(settings.root):
        print(said, flush=True)
    wanted, name = chosen.asked(models, study.models), experiment.name_of(params)
    last_run.alone(settings.root, name)
    if not params and not models and (made := summary.unchanged(settings.root, study, settings)):
        print("Nothing has changed since the last run.")
        if said := tidy.after(settings):  # over a federation its sites were asked, which was a job
            print(said, flush=True)
        return made, ""
    root = experiment.place(settings.root, params)
    where = f"{settings.federation}, the experiment {name}" if name else settings.federation
    print(f"fedsynth: {', '.join(wanted)} over {where}; Ctrl-C ends the run and its federation", flush=True)
    # The terminal shows our own lines, Prefect's go to its server. Set before the import, which reads it.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    from flows.pipeline import pipeline, serve

    serve()
    state = pipeline(params, models, return_state=True)
    if not (state.is_completed() or (state.is_failed() and (state.message or "").startswith(concerns.MARK))):
        state.result()  # raises what went wrong
    failed = "" if state.is_completed() else (state.message or "").removeprefix(concerns.MARK)
    os.environ[experiment.DVC_ROOT] = str(settings.root)  # where the registry of an experiment is
    return summary.of_run(settings.root, root), failed


if __name__ == "__main__":
    sys.exit(main())
