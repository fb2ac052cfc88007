"""Keys of encrypted updates: from the startup kits (FLARE's HEBuilder), in simulation from a folder; shared by both
sides.
"""

from __future__ import annotations

import os
from pathlib import Path

from nvflare.fuel.sec.security_content_service import LoadResult, SecurityContentService

from fedsynth.privacy import he

SECRET, PUBLIC = "client_context.tenseal", "server_context.tenseal"  # FLARE's own names
ENCRYPTED, OPEN = "encrypted", "open"  # an update, or a sum of some; the task of opening one, and of which sites it is
FOLDER = "keys"  # in FEDSYNTH_STATE, of a simulation


def read(name: str) -> bytes:
    """A context of the startup kit, whose signature must hold. Raises EncryptionError where there is none."""
    data, found = SecurityContentService.load_content(name)
    if found == LoadResult.OK:
        return bytes(data)
    simulated = Path(os.environ.get("FEDSYNTH_STATE", "")) / FOLDER / name
    if found in (LoadResult.NO_SUCH_CONTENT, LoadResult.NOT_MANAGED) and simulated.is_file():
        return simulated.read_bytes()
    raise he.EncryptionError(
        f"the startup kit has no {name} that holds ({found.value}): provision with HEBuilder, see docs/privacy.md"
    )


def simulate(state: Path) -> None:
    """Keys for the simulator, which provisions nothing. Sites and server are one machine: they keep nothing secret from
    it.
    """
    folder = state / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, context in zip((SECRET, PUBLIC), he.make(), strict=True):
        (folder / name).write_bytes(context)
