"""A federation's certificates, startup kits and server, made by hand: no NVFLARE has to be started to try what becomes
of a bad one.
"""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

EXAMPLES = Path(__file__).parents[1] / "docs" / "site"
LOCAL = {"client": {"fqsn": "north", "connection_security": "mtls"}}


class Authority:
    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign("consortium", self.key.public_key(), -400, 400, ca=True)

    def issue(self, name: str, start: float = -1, end: float = 360) -> tuple[bytes, bytes]:
        """Certificate and key as PEM, valid from `start` to `end` days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        return pem(self._sign(name, key.public_key(), start, end)), pem_of_key(key)

    def _sign(self, name: str, public, start: float, end: float, ca: bool = False) -> x509.Certificate:
        now, subject = datetime.now(UTC), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = subject if ca else self.certificate.subject
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
        builder = builder.serial_number(x509.random_serial_number()).add_extension(
            x509.BasicConstraints(ca, None), critical=True
        )
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        builder = builder.not_valid_before(now + timedelta(days=start)).not_valid_after(now + timedelta(days=end))
        return builder.sign(self.key, hashes.SHA256())


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def make_kit(
    folder: Path, authority: Authority, port: int = 1, name: str = "north", identity: str = "centre", **dates: float
) -> Path:
    """A startup kit as `nvflare provision` 2.9 lays it out, with the example's site policy."""
    (folder / "startup").mkdir(parents=True)
    (folder / "local").mkdir()
    folder.chmod(0o700)
    certificate, key = authority.issue(name, **dates)
    servers = [
        {"name": "consortium", "service": {"target": f"127.0.0.1:{port}", "scheme": "http"}, "identity": identity}
    ]
    (folder / "startup/fed_client.json").write_text(json.dumps(LOCAL | {"servers": servers}))
    (folder / "startup/client.crt").write_bytes(certificate)
    (folder / "startup/client.key").write_bytes(key)
    (folder / "startup/client.key").chmod(0o600)
    (folder / "startup/rootCA.pem").write_bytes(pem(authority.certificate))
    shutil.copy(EXAMPLES / "resources.json", folder / "local")
    return folder


def make_admin_kit(
    folder: Path, authority: Authority, port: int = 1, name: str = "lead@centre.org", **dates: float
) -> Path:
    """As `make_kit`, of who submits the jobs."""
    make_kit(folder, authority, port, name, **dates)
    (folder / "startup/fed_client.json").unlink()
    admin = {
        "username": name,
        "server_identity": "centre",
        "host": "127.0.0.1",
        "port": port,
        "connection_security": "mtls",
    }
    (folder / "startup/fed_admin.json").write_text(json.dumps({"admin": admin}))
    return folder


@contextmanager
def listening(
    folder: Path, authority: Authority, trusts: Authority | None = None, name: str = "centre"
) -> Iterator[int]:
    """A server that asks for a client's certificate, as FLARE's does, and then says nothing. Gives its port."""
    folder.mkdir(parents=True)
    certificate, key = authority.issue(name)
    (folder / "server.pem").write_bytes(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=pem((trusts or authority).certificate).decode())
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        plain, _ = listener.accept()
        with plain:
            try:
                with context.wrap_socket(plain, server_side=True) as secure:
                    secure.recv(1)
            except OSError:
                return  # the client was refused or left: what a test looks at is what the client says of it

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with listener:
        yield listener.getsockname()[1]
        thread.join(5)
    assert not thread.is_alive()
