"""A startup kit is held against its certificates, and a server that refuses it is told from one that is away."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fedsynth.hospital.kit import Kit, KitError
from tests.kits import Authority, listening, make_admin_kit, make_kit, pem

pytestmark = pytest.mark.usefixtures("at_once")


@contextmanager
def going_away() -> Iterator[int]:
    """A server that takes the connection and ends it, as one that is being stopped. Gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            listener.accept()[0].close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)
    assert not thread.is_alive()


def test_the_kit_of_an_admin_says_who_signs_in_where_and_for_how_long(tmp_path, authority):
    kit = Kit.read(make_admin_kit(tmp_path / "kit", authority, port=8443))
    assert (kit.folder, kit.user, kit.host, kit.port, kit.address) == (
        tmp_path / "kit", "lead@centre.org", "127.0.0.1", 8443, "127.0.0.1:8443",
    )  # fmt: skip
    start, end = kit.valid()
    assert 360 <= (end - start).days <= 361


def test_the_kit_of_a_site_is_read_as_one_and_not_as_an_admins(tmp_path, authority):
    folder = make_kit(tmp_path / "kit", authority, port=8443)
    assert (Kit.of_site(folder).user, Kit.of_site(folder).address) == ("north", "127.0.0.1:8443")
    with pytest.raises(KitError, match=r"no startup/fed_admin\.json.*FEDSYNTH_KIT"):
        Kit.read(folder)


def test_the_kit_of_an_admin_is_not_read_as_a_sites(tmp_path, authority):
    with pytest.raises(KitError, match=r"fed_client\.json is missing"):
        Kit.of_site(make_admin_kit(tmp_path / "kit", authority))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"admin": []}',
        '{"admin": {"username": "a", "host": "b", "port": "c"}}',
        '{"admin": {"host": "b"}}',
    ],
)
def test_a_kit_that_names_no_user_and_server_is_an_error_that_a_person_can_read(tmp_path, authority, content):
    folder = make_admin_kit(tmp_path / "kit", authority)
    (folder / "startup/fed_admin.json").write_text(content)
    with pytest.raises(KitError, match="names no user and server"):
        Kit.read(folder)


@pytest.mark.parametrize("servers", [[], [{}], [{"service": {"target": "centre"}}], [{"service": {"target": 5}}], {}])
def test_a_sites_kit_that_names_no_server_is_an_error_that_a_person_can_read(tmp_path, authority, servers):
    folder = make_kit(tmp_path / "kit", authority)
    about = json.loads((folder / "startup/fed_client.json").read_text())
    (folder / "startup/fed_client.json").write_text(json.dumps(about | {"servers": servers}))
    with pytest.raises(KitError, match="names no site and server"):
        Kit.of_site(folder)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_key_that_anyone_else_can_read_is_refused_with_the_command_that_closes_it(tmp_path, authority, mode):
    folder = make_admin_kit(tmp_path / "kit", authority)
    (folder / "startup/client.key").chmod(mode)
    with pytest.raises(KitError, match=f"chmod 600 {folder}/startup/client.key"):
        Kit.read(folder)


@pytest.mark.parametrize(
    ("start", "end", "said"), [(-9, -1, "expired: .*was valid until"), (1, 9, "not yet valid: .*is valid from")]
)
def test_a_certificate_that_is_not_valid_by_this_clock_is_refused(tmp_path, authority, start, end, said):
    with pytest.raises(KitError, match=said):
        Kit.read(make_admin_kit(tmp_path / "kit", authority, start=start, end=end))


def test_the_certificate_of_someone_else_another_key_and_another_federation_are_each_named(tmp_path, authority):
    folder = make_admin_kit(tmp_path / "kit", authority)
    certificate, _ = authority.issue("nobody@centre.org")
    (folder / "startup/client.crt").write_bytes(certificate)
    (folder / "startup/rootCA.pem").write_bytes(pem(Authority().certificate))
    about = json.loads((folder / "startup/fed_admin.json").read_text())["admin"]
    kit = Kit(folder, about["username"], about["host"], about["port"], about["server_identity"])
    assert [fault.what for fault in kit.faults()] == [
        "certificate's name",
        "certificate's key",
        "certificate's signature",
    ]


def test_nothing_of_a_key_is_in_a_message_about_it(tmp_path, authority):
    folder = make_admin_kit(tmp_path / "kit", authority)
    lines = (folder / "startup/client.key").read_text().splitlines()
    (folder / "startup/client.key").write_text("\n".join(lines[1:]))  # no longer a PEM file
    with pytest.raises(KitError) as error:
        Kit.read(folder)
    assert "client.key is not a certificate, or not a key" in str(error.value)
    assert not any(line in str(error.value) + repr(error.value) for line in lines)


def test_a_server_that_takes_the_kit_does_not_refuse_it(tmp_path, authority):
    with listening(tmp_path / "server", authority) as port:
        assert Kit.read(make_admin_kit(tmp_path / "kit", authority, port)).refused(2) == ""


def test_a_server_of_another_federation_and_the_kit_do_not_belong_together(tmp_path, authority):
    with listening(tmp_path / "server", Authority(), trusts=authority) as port:
        said = Kit.read(make_admin_kit(tmp_path / "kit", authority, port)).refused(2)
    assert f"127.0.0.1:{port}" in said
    assert "do not belong together: the kit does not trust the server" in said
    with listening(tmp_path / "other", authority, trusts=Authority()) as port:
        said = Kit.read(make_admin_kit(tmp_path / "mine", authority, port)).refused(2)
    assert "do not belong together: the server refused this kit" in said
    assert "\n" not in said


def test_a_server_that_is_away_or_goes_away_does_not_refuse_the_kit_and_may_be_waited_for(tmp_path, authority):
    with going_away() as port:
        kit = Kit.read(make_admin_kit(tmp_path / "kit", authority, port))
        assert kit.refused(2) == ""
    assert kit.refused(2) == ""  # its port is closed by now


def test_a_site_that_checks_itself_is_told_even_of_a_server_that_closes_without_a_reason(tmp_path, authority):
    with going_away() as port:
        kit = Kit.of_site(make_kit(tmp_path / "kit", authority, port))
        with kit.connect(2) as connection, pytest.raises(KitError, match="the server refused this kit"):
            kit.shake(connection, 2)
