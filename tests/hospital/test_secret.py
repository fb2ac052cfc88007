"""A site's secret stays at the site, and a digest that is keyed with it tells the centre only whether data changed."""

from __future__ import annotations

import hashlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from fedsynth.data import manifest
from fedsynth.hospital import secret
from fedsynth.settings import SettingsError
from nvflare_jobs.validate import client
from tests.jobs import test_site
from tests.sets import make_set, tiny_params

DIGEST = hashlib.sha256(b"the manifest").hexdigest()


def test_a_secret_is_made_once_and_readable_by_its_owner_alone(tmp_path):
    first = secret.secret(tmp_path / "north")
    assert len(first) == 32
    assert secret.secret(tmp_path / "north") == first != secret.secret(tmp_path / "east")
    assert [p.name for p in (tmp_path / "north").iterdir()] == ["secret"]
    assert stat.S_IMODE((tmp_path / "north" / "secret").stat().st_mode) == 0o600


def test_a_secret_is_readable_by_its_owner_alone_whatever_the_mask_of_the_process(tmp_path):
    before = os.umask(0)
    try:
        secret.secret(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_processes_that_start_at_once_have_one_secret(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        found = set(pool.map(lambda _: secret.secret(tmp_path / "north"), range(64)))
    assert len(found) == 1
    assert [p.name for p in (tmp_path / "north").iterdir()] == ["secret"]


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_a_file_that_is_no_secret_is_refused_and_not_overwritten(tmp_path, content):
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(SettingsError, match="secret is not the secret that fedsynth made"):
        secret.secret(tmp_path)
    assert (tmp_path / "secret").read_bytes() == content


def test_equal_data_have_equal_digests_at_one_site_and_other_ones_elsewhere(tmp_path):
    there = secret.keyed(tmp_path / "north", DIGEST)
    assert there == secret.keyed(tmp_path / "north", DIGEST)
    assert there != secret.keyed(tmp_path / "east", DIGEST)
    assert there != secret.keyed(tmp_path / "north", hashlib.sha256(b"another").hexdigest())
    assert DIGEST not in there
    assert secret.keyed(tmp_path / "north", "") == ""  # of no data


def test_a_lost_secret_makes_other_digests_so_that_nothing_passes_for_validated(tmp_path):
    before = secret.keyed(tmp_path, DIGEST)
    (tmp_path / "secret").unlink()
    assert secret.keyed(tmp_path, DIGEST) != before


def test_a_simulated_site_has_the_same_secret_on_every_machine_and_no_file(tmp_path, monkeypatch):
    real = secret.secret(tmp_path / "north")
    monkeypatch.setenv(secret.SIMULATED, "1")
    assert secret.secret(tmp_path / "north") == secret.secret(tmp_path / "elsewhere" / "north") != real
    assert secret.secret(tmp_path / "north") != secret.secret(tmp_path / "east")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("looks", [True, False])
def test_what_a_site_says_of_its_data_is_what_it_asks_for_later_and_no_digest_that_can_be_guessed(
    tmp_path, monkeypatch, looks
):
    for name in ("FEDSYNTH_DATA", "FEDSYNTH_STATE"):
        monkeypatch.setenv(name, "set")
    real, sent = make_set(tmp_path / "north", tiny_params()), []
    monkeypatch.setattr("nvflare_jobs.site.site.flare.send", sent.append)
    site = test_site.site(tmp_path, "")
    site.config, site.tasks = {"look": looks, "digests": {}}, lambda: [None]
    client.work(site)
    told = sent[0].meta["answer"]["digest"]
    assert told == secret.keyed(site.state, manifest.digest(real.manifest)) != manifest.digest(real.manifest)
    assert len(test_site.site(tmp_path, told).validated_set()) == len(real)
    with pytest.raises(manifest.SetError, match="not those that passed validation"):
        test_site.site(tmp_path, manifest.digest(real.manifest)).validated_set()
