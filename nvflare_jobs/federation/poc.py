"""Mode `poc`: a federation that is provisioned and started on this machine, and ends with the job."""

from __future__ import annotations

import shutil
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from fedsynth.settings import Settings
from nvflare_jobs.federation.interface import FederationError, reason
from nvflare_jobs.federation.links import Links
from nvflare_jobs.federation.local_system import LocalSystem
from nvflare_jobs.federation.place import of_simulated
from nvflare_jobs.federation.provisioned import Provisioned


class Poc(Provisioned):
    """Mode `production` on a federation that is provisioned and started here, and ends with the job."""

    def __init__(self, settings: Settings, work: Path, system: LocalSystem, links: Links):
        self.system, self.links = system, links
        super().__init__(settings, work, system.admin)

    def words(self, job_id: str) -> str:
        return reason(self.system.logs(), own=True)

    def wait(self, sites: list[str]) -> None:
        """Wait until all sites are connected. Raises FederationError after `connect_s` seconds.

        Without the wait, FLARE's scheduler would retry a job that lacks sites only after 10 s.
        """
        deadline = time.monotonic() + self.settings.connect_s
        while missing := set(sites) - set(self.sites()):
            if time.monotonic() > deadline:
                raise FederationError(f"{', '.join(sorted(missing))} did not start; logs are in {self.work / 'poc'}")
            time.sleep(0.2)

    def _remember(self, job_id: str, name: str, number: int) -> None:
        """The server ends with the job, and with it what it has stored."""

    def close(self) -> None:
        try:
            super().close()
        finally:
            self.system.stop()
            if self.system.folder != self.work / "poc":  # its logs are wanted
                shutil.rmtree(self.work / "poc", ignore_errors=True)
                shutil.move(self.system.folder, self.work / "poc")
            self.links.close()


def poc(settings: Settings, work: Path, sites: list[str]) -> Poc:
    """Provision and start a federation in `work`; `sites` use the project's own folders for their data and state."""
    place = of_simulated(settings, sites)
    names = ["localhost", *sites]
    encryption = find_spec("tenseal") is not None
    work.mkdir(parents=True, exist_ok=True)
    links = Links()  # FLARE starts a job's processes in the way of the simulator
    system = LocalSystem(
        links.room(work) / "poc",
        sites,
        dict.fromkeys(names, place),
        locked=not settings.thin,
        encryption=encryption,
        python=links.python(sys.executable, sys.prefix),
    )
    try:
        system.provision()
        made = Poc(settings, work, system, links)
    except BaseException:
        links.close()
        raise
    try:
        system.start()
        made._pending_file.unlink(missing_ok=True)  # left by an earlier system
        made.wait(sites)
    except BaseException:
        made.close()
        raise
    return made
