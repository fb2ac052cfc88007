"""Environment variables: defaults from the working directory, and errors that name the variable."""

from __future__ import annotations

import os
from urllib.request import proxy_bypass_environment

import pytest
from typer.testing import CliRunner

from fedsynth.__main__ import app
from fedsynth.settings import DESCRIBED, PROXIES, Settings, SettingsError, ingest_processes, masked, quiet


def test_by_default_everything_lies_under_the_working_directory(tmp_path, monkeypatch):
    for name in DESCRIBED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    settings = Settings.read()
    assert (settings.root, settings.data, settings.state) == (
        tmp_path,
        tmp_path / "data/sites",
        tmp_path / ".work/sites",
    )
    assert settings.simulation


def test_a_hospital_says_where_its_data_and_its_state_lie(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDSYNTH_DATA", str(tmp_path / "pacs"))
    monkeypatch.setenv("FEDSYNTH_STATE", str(tmp_path / "state"))
    assert (Settings.read().data, Settings.read().state) == (tmp_path / "pacs", tmp_path / "state")


@pytest.mark.parametrize(("name", "value"), [("FEDSYNTH_STALL_S", "soon"), ("FEDSYNTH_FEDERATION", "moon")])
def test_a_value_that_cannot_be_used_is_named(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        Settings.read()


@pytest.mark.parametrize("value", ["0", "-1", "5.5", "few", "10000"])
def test_the_smallest_cell_of_a_site_is_a_number_of_images(monkeypatch, value):
    monkeypatch.setenv("FEDSYNTH_MIN_CELL", value)
    with pytest.raises(SettingsError, match="FEDSYNTH_MIN_CELL"):
        Settings.read()


def test_a_hospital_sets_its_own_smallest_cell_and_has_five_without(monkeypatch):
    monkeypatch.delenv("FEDSYNTH_MIN_CELL", raising=False)
    assert Settings.read().min_cell == 5
    monkeypatch.setenv("FEDSYNTH_MIN_CELL", "12")
    assert Settings.read().min_cell == 12
    assert ("FEDSYNTH_MIN_CELL", "12", DESCRIBED["FEDSYNTH_MIN_CELL"]) in Settings.read().rows()


def test_every_variable_is_described():
    assert {name for name, _, _ in Settings.read().rows()} == set(DESCRIBED)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize(("before", "kept"), [("", []), ("hospital.org, .intern", ["hospital.org", ".intern"])])
def test_a_proxy_is_not_asked_for_the_servers_of_this_computer(monkeypatch, name, before, kept):
    """Prefect's client gave up its own server after 138 s where a proxy was set."""
    clear_proxies(monkeypatch)
    monkeypatch.setenv(name, "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", before)
    quiet()
    quiet()  # a second time changes nothing
    for spelling in ("no_proxy", "NO_PROXY"):
        assert os.environ[spelling].split(",") == [*kept, "localhost", "127.0.0.1", "::1"]
    for address in ("127.0.0.1", "localhost"):
        assert proxy_bypass_environment(address)
    assert not proxy_bypass_environment("mlflow.example")


def test_without_a_proxy_and_where_none_is_asked_at_all_nothing_is_set(monkeypatch):
    clear_proxies(monkeypatch)
    quiet()
    assert "NO_PROXY" not in os.environ
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "*")
    quiet()
    assert os.environ["NO_PROXY"] == "*"


def clear_proxies(monkeypatch):
    for name in [name for name in os.environ if name.lower() in (*PROXIES, "no_proxy")]:
        monkeypatch.delenv(name)
    for name in ("no_proxy", "NO_PROXY"):  # what a test sets is taken back, too
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


SECRET = "SECRET4711"


def shown(monkeypatch, **environment: str) -> str:
    """What `fedsynth env` prints, in a terminal that is wide enough not to break a value over two lines."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(app, ["env"], env={"COLUMNS": "600"})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_URI", "PREFECT_API_URL"])
@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg2", "mysql", "http", "https"])
def test_the_environment_is_shown_without_the_password_of_an_address(monkeypatch, name, scheme):
    said = shown(monkeypatch, **{name: f"{scheme}://user:{SECRET}@centre.org:5432/db"})
    assert f"{scheme}://user:***@centre.org:5432/db" in said
    assert SECRET not in said


def test_tokens_and_keys_are_not_shown_at_all(monkeypatch):
    secrets = (
        "MLFLOW_TRACKING_TOKEN",
        "MLFLOW_TRACKING_PASSWORD",
        "PREFECT_API_KEY",
        "PREFECT_API_AUTH_STRING",
        "AWS_SECRET_ACCESS_KEY",
    )
    said = shown(monkeypatch, FEDSYNTH_KIT="/srv/kit", **dict.fromkeys(secrets, SECRET))
    assert "/srv/kit" in said
    assert SECRET not in said


@pytest.mark.parametrize(
    "plain",
    [
        "sqlite:////srv/mlflow.db",
        "http://127.0.0.1:4200/api?a=1",
        "postgresql://user@host/db",
        "models:/fedsynth-vae@champion",
        "/srv/kit",
        "",
    ],
)
def test_what_holds_no_secret_is_shown_as_it_is(plain):
    assert masked(plain) == plain


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("postgresql://host/db?user=me&password={}", "postgresql://host/db?user=me&password=***"),
        ("postgresql://host/db?PASSWORD={}&sslmode=require", "postgresql://host/db?PASSWORD=***&sslmode=require"),
        ("https://host/mlflow?token={}#top", "https://host/mlflow?token=***#top"),
        ("https://host/?api_key={}&access_token={}&x=1", "https://host/?api_key=***&access_token=***&x=1"),
        (
            "https://bucket.host/x?X-Amz-Signature={}&X-Amz-Credential={}",
            "https://bucket.host/x?X-Amz-Signature=***&X-Amz-Credential=***",
        ),
        ("postgresql://me:{}@@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:a/{}@host/db", "postgresql://me:***@host/db"),
        ("postgresql://:{}@host/db", "postgresql://:***@host/db"),
        ("https://{}@host/repository.git", "https://***@host/repository.git"),
        ("http://{}@host/api", "http://***@host/api"),
        ("no mysql://me:{}@a/db, then no http://me:{}@b/", "no mysql://me:***@a/db, then no http://me:***@b/"),
    ],
)
def test_no_form_of_an_address_shows_its_password_or_token(monkeypatch, address, said):
    address = address.replace("{}", SECRET)
    assert masked(address) == said
    assert SECRET not in shown(monkeypatch, MLFLOW_TRACKING_URI=address, PREFECT_API_URL=address)


def test_images_are_prepared_in_as_many_processes_as_there_are_cores_unless_the_environment_says(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 3, 5})
    for said, number in (("", 3), ("7", 7)):
        monkeypatch.setenv("FEDSYNTH_INGEST_PROCESSES", said)
        assert ingest_processes() == number
    monkeypatch.setenv("FEDSYNTH_INGEST_PROCESSES", "two")
    with pytest.raises(SettingsError, match="INGEST_PROCESSES='two' is not a number of processes from 1 to 999"):
        ingest_processes()
    monkeypatch.setattr("sys.platform", "darwin")
    assert ingest_processes() == 1, "where a process that has threads is not forked safely"
