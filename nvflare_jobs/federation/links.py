"""Links to folders whose paths FLARE cannot take: it joins the command of a process with blanks and splits it again."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from nvflare_jobs.federation.interface import FederationError

PLACES = ("/tmp", "/var/tmp", "/dev/shm")  # after TMPDIR


class Links:
    """Folders under paths without blanks, quotes and backslashes, by links where they have one. `close` removes these.

    Raises FederationError where no folder for links is writable.
    """

    def __init__(self) -> None:
        self._made: list[Path] = []

    def plain(self, folder: Path) -> Path:
        """The folder itself, or a link to it."""
        return folder if _is_plain(folder) else self._place() / self._linked(folder)

    def room(self, folder: Path) -> Path:
        """The folder itself, or another one, which ends with the links: FLARE's server follows links to their ends."""
        return folder if _is_plain(folder) else self._place()

    def python(self, executable: str, prefix: str) -> str:
        """The interpreter of an environment. The link is to all of that: Python finds its packages beside itself."""
        if _is_plain(Path(executable)):
            return executable
        return str(self.plain(Path(prefix)) / Path(executable).relative_to(prefix))

    def _linked(self, folder: Path) -> str:
        name = f"link{len(list(self._place().iterdir()))}"
        (self._place() / name).symlink_to(folder.absolute(), target_is_directory=True)
        return name

    def _place(self) -> Path:
        if not self._made:
            places = [Path(tempfile.gettempdir()), *map(Path, PLACES)]
            usable = [place for place in places if _is_plain(place) and os.access(place, os.W_OK | os.X_OK)]
            if not usable:
                raise FederationError(
                    "FLARE needs a folder for links without blanks in its path, and of"
                    f" {', '.join(map(str, places))} each has one or cannot be written to; set TMPDIR to another"
                )
            self._made.append(Path(tempfile.mkdtemp(prefix="fedsynth-", dir=usable[0])))
        return self._made[0]

    def close(self) -> None:
        for folder in self._made:
            shutil.rmtree(folder, ignore_errors=True)  # the links, not what they lead to
        self._made.clear()


def _is_plain(path: Path) -> bool:
    return not any(c.isspace() or c in "'\"\\#" for c in str(path))
