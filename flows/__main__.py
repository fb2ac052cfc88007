"""The command `python -m flows`: starts the flow where something must run, and ends with the summary.

Prefect is imported only where something must run, because that takes seconds.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback

from fedsynth import checks
from fedsynth.errors import UserError
from fedsynth.processes import in_utf8
from fedsynth.settings import Settings, masked, quiet
from flows import dvcx, summary


def main() -> int:
    started = time.monotonic()
    quiet()
    in_utf8()
    # Prefect passes SIGTERM on to the previous handler. The default one ends the process at once and leaves its server
    # behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        made = _run()
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
    summary.show(made)
    print(f"{time.monotonic() - started:.0f} s")
    return 0


def _run() -> summary.Summary:
    """Run what must run. Returns the summary."""
    settings = Settings.read()
    os.chdir(settings.root)
    if said := dvcx.allow_no_git(settings.root):
        print(said, flush=True)
    params = checks.load_or_list(settings.root / "params.yaml", settings.simulation)
    if made := summary.unchanged(settings.root, params, settings):
        print("Nothing has changed since the last run.")
        return made
    print(
        f"fedsynth: {', '.join(params.models)} over {settings.federation}; Ctrl-C ends the run and its federation",
        flush=True,
    )
    # The terminal shows our own lines, Prefect's go to its server. Set before the import, which reads it.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    from flows.pipeline import pipeline, serve

    serve()
    pipeline()
    return summary.summary(settings.root, params)


if __name__ == "__main__":
    sys.exit(main())
