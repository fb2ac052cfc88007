"""Keys of encrypted updates, shared by server and sites.

They come from the startup kits (FLARE's HEBuilder), in simulation from a folder.
"""

from __future__ import annotations

import os
from pathlib import Path

from nvflare.fuel.sec.security_content_service import LoadResult, SecurityContentService

from fedsynth.privacy import he

SECRET, PUBLIC = "client_context.tenseal", "server_context.tenseal"  # FLARE's own names
# array name of an encrypted update or sum; meta key of a decryption task, whose value lists the sites in the sum
ENCRYPTED, OPEN = "encrypted", "open"
FOLDER = "keys"  # in FEDSYNTH_STATE, in simulation only


def read(name: str) -> bytes:
    """Return a TenSEAL context from the startup kit, whose signature must be valid.

    In simulation the context is read from FEDSYNTH_STATE/keys. Raises EncryptionError where there is none.
    """
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
    """Write a secret and a public context for the simulator, which has no provisioning.

    Sites and server are one machine there, so the secret key protects nothing.
    """
    folder = state / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, context in zip((SECRET, PUBLIC), he.make(), strict=True):
        (folder / name).write_bytes(context)
