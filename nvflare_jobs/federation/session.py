"""Calls of FLARE's API with reconnection, because FLARE's sessions do not recover."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import time
from pathlib import Path
from typing import Any

from nvflare.apis.fl_exception import FLCommunicationError
from nvflare.fuel.flare_api.api_spec import (
    AuthenticationError,
    AuthorizationError,
    NoConnection,
    SessionClosed,
)
from nvflare.fuel.flare_api.flare_api import Session, new_secure_session

from fedsynth.hospital import kit as kits
from fedsynth.settings import Settings
from nvflare_jobs.federation.interface import FederationError

LOOK_S = 1.0  # seconds between two polls of a job


class Calls:
    """API calls of one centre, which signs in with the startup kit `kit`. `work`: the caller's own folder."""

    def __init__(self, settings: Settings, work: Path, kit: Path):
        self.settings, self.work = settings, work.resolve()
        self.kit = kits.Kit.read(kit)
        self._own = self.work / f"session-{os.getpid()}"
        self._session: Session | None = None

    def _connected(self, timeout_s: float) -> Session:
        if self._session is None:
            with contextlib.redirect_stdout(io.StringIO()):  # hides "Connecting to FLARE ..."
                self._session = new_secure_session(self.kit.user, str(self._own_kit()), timeout=timeout_s)
        return self._session

    def _own_kit(self) -> Path:
        """Return a folder that links to the kit and has a transfer folder of its own.

        Stages that run at once would share the kit's transfer folder, which may also be read-only. The folder belongs
        to this process alone: of two processes that list the sites at once, the first to end would delete the other's.
        """
        folder = self._own
        (folder / "transfer").mkdir(parents=True, exist_ok=True)
        for name in ("startup", "local"):
            with contextlib.suppress(FileExistsError):
                (folder / name).symlink_to(self.kit.folder / name)
        return folder

    def call(self, method: str, *args: Any, patience_s: float | None = None, **kwargs: Any) -> Any:
        """Call a method of FLARE's API, and repeat it in a new session while the server cannot be reached.

        Raises FederationError after `patience_s` seconds (default: `connect_s`), or where the server refuses the user.
        """
        patience_s = self.settings.connect_s if patience_s is None else patience_s
        deadline = time.monotonic() + patience_s
        while True:
            try:
                return getattr(self._connected(min(10, patience_s)), method)(*args, **kwargs)
            except (AuthenticationError, AuthorizationError) as error:
                raise FederationError(
                    f"{self.kit.address} does not let {self.kit.user} do this: {line(error)}"
                ) from error
            except (NoConnection, SessionClosed, FLCommunicationError) as error:
                self.drop()
                if refusal := self.kit.refused():
                    raise FederationError(refusal) from error
                if time.monotonic() > deadline:
                    raise FederationError(
                        f"the federation's server {self.kit.address} could not be reached for {patience_s:.0f} s; "
                        "is it up, and is its port open to here? (FEDSYNTH_CONNECT_S waits longer)"
                    ) from error
                time.sleep(LOOK_S)

    def drop(self) -> None:
        if self._session is not None:
            with contextlib.suppress(Exception):  # it may be dead already; only its threads must end
                self._session.close()
            self._session = None

    def close(self) -> None:
        self.drop()
        shutil.rmtree(self._own, ignore_errors=True)


def line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
