"""The environment of simulated sites, in the simulator and in `poc`."""

from __future__ import annotations

from fedsynth.hospital.secret import SIMULATED
from fedsynth.params import keep_runs
from fedsynth.settings import Settings


def of_simulated(settings: Settings, sites: list[str]) -> dict[str, str]:
    """Return the variables that a hospital sets itself: its folders lie in the study's, which says how much is kept.

    `sites` are all that share this machine, by which each knows its share of the GPUs.
    """
    # sites run in folders of their own, so that a relative path of a policy would be another
    policy = {"FEDSYNTH_POLICY": str(settings.policy)} if settings.policy else {}
    return policy | {
        "FEDSYNTH_DATA": str(settings.data),
        "FEDSYNTH_STATE": str(settings.state),
        "FEDSYNTH_KEEP_RUNS": str(keep_runs(settings.root)),
        SIMULATED: ",".join(sites) or "1",
    }
