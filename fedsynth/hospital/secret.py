"""A site's secret: 32 random bytes that never leave it, so that no digest and no random number of the site can be
guessed at the centre.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from fedsynth.data.disk import sync_folder
from fedsynth.settings import SettingsError

FILE, BYTES = "secret", 32
SIMULATED = "FEDSYNTH_SIMULATED"  # set by the simulator and poc for the processes of their sites, to the names of all


def secret(folder: Path, simulated: bool = False) -> bytes:
    """The secret of the site whose state is in `folder`, made where there is none yet.

    Simulated sites have one that follows from their name: there is nobody to keep it from, and a run can be repeated on
    any machine. Raises SettingsError where the file holds something else.
    """
    if simulated or os.environ.get(SIMULATED):
        return hashlib.sha256(b"fedsynth: a simulated site\0" + folder.name.encode()).digest()
    if not (folder / FILE).exists():
        _make(folder)
    found = (folder / FILE).read_bytes()
    if len(found) != BYTES:
        raise SettingsError(
            f"{folder / FILE} is not the secret that fedsynth made: it has {len(found)} bytes, not {BYTES}. Restore it"
            " from a backup, or delete it and run validate again"
        )
    return found


def keyed(folder: Path, digest: str, simulated: bool = False) -> str:
    """The digest of the site's data as it leaves: HMAC-SHA256 with the site's secret, 64 hex digits; "" stays "".

    Equal data have equal digests at one site. Who does not know the secret can neither test whether data that he
    guesses are those of the site, nor compare two sites.
    """
    return hmac.new(secret(folder, simulated), digest.encode(), hashlib.sha256).hexdigest() if digest else ""


def number(folder: Path, about: str) -> int:
    """A seed of the site (0 to 2^32 - 1) for a purpose: always the same here, and unknown at the centre."""
    return int.from_bytes(hmac.new(secret(folder), about.encode(), hashlib.sha256).digest()[:4], "big")


def _make(folder: Path) -> None:
    """Write a new secret, whole and synced before it has its name; of two processes at once one makes it."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{FILE}-{secrets.token_hex(8)}"
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_bytes(BYTES))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(part, folder / FILE)
    except FileExistsError:
        pass  # another process was faster
    finally:
        part.unlink()
    sync_folder(folder)
