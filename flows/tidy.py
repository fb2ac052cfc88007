"""What a run removes once it has ended: what runs before the last `keep_runs` of params.yaml have left."""

from __future__ import annotations

from fedsynth.params import keep_runs
from fedsynth.settings import Settings
from fedsynth.study import leftovers


def after(settings: Settings) -> str:
    """Remove it here and, in a federation, at the server. Returns what is to be said of it, "" where all is well."""
    leftovers.bound(settings)
    if settings.federation != "production":  # in any other mode the server ends with its job
        return ""
    from nvflare_jobs.federation import submitted

    return submitted.bound(settings, keep_runs(settings.root))
