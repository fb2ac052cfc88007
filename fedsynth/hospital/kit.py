"""Reads an NVFLARE startup kit of an admin or a site: identity, server, certificates. Does not need NVFLARE."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsynth.errors import UserError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

KEY, CERTIFICATE, ROOT = "client.key", "client.crt", "rootCA.pem"  # in `startup` of every kit
ALERT_S = 1.0  # TLS 1.3 servers refuse a certificate after the handshake: seconds to wait for that
AGAIN = "ask for a new startup kit where you got this one"


class KitError(UserError):
    """A startup kit cannot be used: `what` is at fault, what was `found`, and the remedy (`todo`).

    The message names files, never the content of a key.
    """

    def __init__(self, what: str, found: str, todo: str):
        super().__init__(what, found, todo)
        self.what, self.found, self.todo = what, found, todo

    def __str__(self) -> str:
        return f"{self.found}; {self.todo}"


class Refused(KitError):
    """The server and the kit do not trust each other; trying again later will not help."""


@dataclass(frozen=True)
class Kit:
    """The startup kit of `user`, an admin or a site.

    `host`, `port`: the server's address; `identity`: the name that the server's certificate must have.
    """

    folder: Path
    user: str
    host: str
    port: int
    identity: str
    security: str = "mtls"

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def startup(self) -> Path:
        return self.folder / "startup"

    @classmethod
    def read(cls, folder: Path) -> Kit:
        """Read the kit of an admin.

        Raises KitError if the folder is not the kit of an admin, or for the first of its `faults`.
        """
        try:
            admin = json_of(folder / "startup" / "fed_admin.json")["admin"]
            host, port, user = str(admin["host"]), int(admin["port"]), str(admin["username"])
            kit = cls(
                folder,
                user,
                host,
                port,
                str(admin.get("server_identity", host)),
                admin.get("connection_security", "mtls"),
            )
        except (KeyError, ValueError, TypeError) as error:
            found = (
                f"{folder} is not the startup kit of an admin: it has no startup/fed_admin.json, or one that names no"
                " user and server"
            )
            raise KitError("startup kit", found, "FEDSYNTH_KIT names the folder above `startup`") from error
        for fault in kit.faults():
            raise fault
        return kit

    @classmethod
    def of_site(cls, folder: Path) -> Kit:
        """Read the kit of a site without checking its `faults`. Raises KitError if it is not the kit of a site."""
        about = folder / "startup" / "fed_client.json"
        try:
            startup = json_of(about)
            client, server = startup["client"], startup["servers"][0]
            host, port = server["service"]["target"].rsplit(":", 1)
            user, identity = client["fqsn"].rpartition(".")[2], str(server.get("identity", host))
            return cls(folder, user, host.strip("[]"), int(port), identity, client.get("connection_security", "mtls"))
        except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
            found = f"{about} is missing, or names no site and server"
            raise KitError("startup kit", found, "unzip the kit again; --kit is the folder above `startup`") from error

    def faults(self) -> Iterator[KitError]:
        """Yield every reason why the kit cannot be used.

        The key is missing or readable by other users; a certificate cannot be read, is not valid now, does not match
        the user or the key, or was not issued by the kit's root.
        """
        if not (key := self.startup / KEY).is_file():
            yield KitError("private key", f"{key} is not there", f"unzip the kit again, or {AGAIN}")
        elif key.stat().st_mode & 0o077:
            yield KitError("private key", f"{key} is readable by other users", f"chmod 600 {key}")
        try:
            (own, root), public = self._certificates(), _public_key_of(key)
        except KitError as fault:
            yield fault
            return
        start, end = _valid(own, root)
        yield from _dated(self.startup / CERTIFICATE, start, end)
        yield from self._belonging(own, root, public)

    def valid(self) -> tuple[datetime, datetime]:
        """Return start and end of validity in UTC. Raises KitError if a certificate cannot be read."""
        return _valid(*self._certificates())

    def _certificates(self) -> tuple[Certificate, Certificate]:
        """Load the kit's own certificate and the federation's root certificate."""
        from cryptography.x509 import load_pem_x509_certificate

        own, root = (_load(self.startup / name, load_pem_x509_certificate) for name in (CERTIFICATE, ROOT))
        return own, root

    def _belonging(self, own: Certificate, root: Certificate, public: Any) -> Iterator[KitError]:
        from cryptography.exceptions import InvalidSignature
        from cryptography.x509.oid import NameOID

        names = [str(a.value) for a in own.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        if names != [self.user]:
            yield KitError(
                "certificate's name",
                f"{CERTIFICATE} is of {', '.join(names) or 'nobody'}, the kit of {self.user}",
                AGAIN,
            )
        if own.public_key() != public:
            yield KitError("certificate's key", f"{self.startup / KEY} is not the key of {CERTIFICATE}", AGAIN)
        try:
            own.verify_directly_issued_by(root)
        except (InvalidSignature, ValueError, TypeError):
            yield KitError(
                "certificate's signature", f"{self.startup / CERTIFICATE} was not issued by the kit's {ROOT}", AGAIN
            )

    def connect(self, timeout_s: float) -> socket.socket:
        """Open a TCP connection to the server, without TLS.

        Raises KitError if the server does not answer within `timeout_s` seconds.
        """
        try:
            return socket.create_connection((self.host, self.port), timeout_s)
        except OSError as error:
            port = f"outgoing TCP connections to {self.host}, port {self.port}"
            wall = f"let this computer open {port} (firewall, proxy); if it may, ask the centre"
            found = f"{self.address} does not answer within {timeout_s:g} s ({error.strerror or error})"
            raise KitError("server", found, wall) from error

    def shake(self, connection: socket.socket, timeout_s: float) -> None:
        """Perform the mutual TLS handshake as FLARE does.

        Only the kit's root is trusted, and the server's name is compared with `identity` instead of the host name.
        Raises Refused if server and kit do not accept each other, and KitError if the connection ends without a reason.
        """
        what, ask = (
            "server takes this kit",
            "ask whether the kit is of this federation and still good; if a proxy opens TLS, exempt this server",
        )
        try:
            context = ssl.create_default_context(cafile=str(self.startup / ROOT))
            context.check_hostname = False
            context.load_cert_chain(self.startup / CERTIFICATE, self.startup / KEY)
            with context.wrap_socket(connection, server_hostname=self.identity) as secure:
                if self.identity not in (names := _names(secure.getpeercert() or {})):
                    raise Refused(what, f"the server is {', '.join(names)}, the kit expects {self.identity}", ask)
                secure.settimeout(min(timeout_s, ALERT_S))
                with suppress(TimeoutError):  # it waits for a request, so it has accepted the certificate
                    if secure.recv(1) == b"":
                        raise KitError(what, "the server refused this kit: it closed the connection", ask)
        except ssl.SSLCertVerificationError as error:
            raise Refused(what, f"the kit does not trust the server: {error.verify_message}", ask) from error
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            raise KitError(what, f"the server refused this kit: {error.reason or error}", ask) from error
        except ssl.SSLError as error:
            raise Refused(what, f"the server refused this kit: {error.reason or error}", ask) from error
        except OSError as error:
            raise KitError(what, f"the server refused this kit: {error.strerror or error}", ask) from error

    def refused(self, timeout_s: float = 5) -> str:
        """Return in one line why the server does not accept this kit.

        Empty if the server accepts it, or may still do so: it cannot be reached, or it closed the connection.
        """
        if self.security != "mtls":
            return ""
        try:
            with self.connect(timeout_s) as connection:
                self.shake(connection, timeout_s)
        except Refused as error:
            return f"the server {self.address} and the kit {self.folder} do not belong together: {error}"
        except KitError:
            return ""
        return ""


def json_of(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; empty if there is none, so that the caller can report what is missing."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _load(path: Path, parse: Any) -> Any:
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise KitError("certificate", f"{path} cannot be read ({error.strerror})", AGAIN) from error
    except (ValueError, TypeError) as error:  # TypeError: the key has a password
        raise KitError("certificate", f"{path} is not a certificate, or not a key without a password", AGAIN) from error


def _public_key_of(path: Path) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return _load(path, lambda content: load_pem_private_key(content, password=None)).public_key()


def _valid(*certificates: Certificate) -> tuple[datetime, datetime]:
    """Return start and end of the time in which all certificates are valid: no kit is valid longer than the root."""
    return max(c.not_valid_before_utc for c in certificates), min(c.not_valid_after_utc for c in certificates)


def _dated(path: Path, start: datetime, end: datetime) -> Iterator[KitError]:
    now = datetime.now(UTC)
    clock = f"check this computer's clock: it says {now:%Y-%m-%d %H:%M} UTC"
    if now < start:
        yield KitError("certificate", f"not yet valid: {path} is valid from {start:%Y-%m-%d %H:%M} UTC on", clock)
    if now > end:
        yield KitError(
            "certificate",
            f"expired: {path} was valid until {end:%Y-%m-%d %H:%M} UTC",
            f"{clock}; if that is right, {AGAIN}",
        )


def _names(peer: dict[str, Any]) -> list[str]:
    """Return the common name and the alternative names of a certificate in the form of `getpeercert`."""
    common = [value for part in peer.get("subject", ()) for key, value in part if key == "commonName"]
    return list(dict.fromkeys([*common, *(value for _, value in peer.get("subjectAltName", ()))]))
