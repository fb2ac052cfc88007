"""An NVFLARE startup kit: whose it is, which server it is for, and whether it can be used. Needs no NVFLARE."""

from __future__ import annotations

import json
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from fedsynth.errors import UserError


class KitError(UserError):
    """A startup kit cannot be used; the message names the file and says what to do."""


@dataclass(frozen=True)
class Kit:
    """The kit of an admin: who signs in, where."""

    folder: Path
    user: str
    host: str
    port: int

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @classmethod
    def read(cls, folder: Path) -> Kit:
        """Raises KitError where it is no admin's kit, its key may be read by others, or its certificate is not valid now."""
        about = folder / "startup" / "fed_admin.json"
        if not about.is_file():
            raise KitError(f"{folder} is not the startup kit of an admin: it has no startup/fed_admin.json (FEDSYNTH_KIT names the folder above it)")
        admin = json.loads(about.read_text())["admin"]
        key = folder / "startup" / admin["client_key"]
        if key.stat().st_mode & 0o077:
            raise KitError(f"{key} can be read by other users of this machine; run `chmod 600 {key}`")
        valid_now(folder / "startup" / admin["client_cert"])
        return cls(folder, admin["username"], admin["host"], int(admin["port"]))

    def refused(self, timeout_s: float = 5) -> str:
        """Why the server does not take this kit, where it answers at all; nothing where it does, or cannot be reached."""
        startup = self.folder / "startup"
        try:
            raw = socket.create_connection((self.host, self.port), timeout=timeout_s)
        except OSError:
            return ""
        with raw:
            try:
                context = ssl.create_default_context(cafile=str(startup / "rootCA.pem"))
                context.load_cert_chain(startup / "client.crt", startup / "client.key")
                with context.wrap_socket(raw, server_hostname=self.host) as secure:
                    secure.settimeout(1)
                    secure.recv(1)  # a server that refuses the certificate says so after the handshake
            except TimeoutError:
                return ""  # it waits for a request: it has taken the certificate
            except ssl.SSLError as error:
                return f"the server {self.address} and the kit {self.folder} do not belong together ({error.reason or error}); ask for a new kit"
            except OSError:
                return ""
        return ""


def valid_now(certificate: Path) -> None:
    """Raises KitError where a certificate is not yet, or no more, valid by this machine's clock."""
    from datetime import UTC, datetime

    from cryptography import x509

    found, now = x509.load_pem_x509_certificate(certificate.read_bytes()), datetime.now(UTC)
    if now < found.not_valid_before_utc:
        raise KitError(f"{certificate} is valid from {found.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on; is this machine's clock ({now:%Y-%m-%d %H:%M} UTC) right?")
    if now > found.not_valid_after_utc:
        raise KitError(f"{certificate} was valid until {found.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; ask who provisions the federation for a new kit")
