"""A hospital's checks: each thing that can be wrong is found, named, and comes with what to do."""

from __future__ import annotations

import json
import platform
import shutil
import socket
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from fedsynth.__main__ import app
from fedsynth.data.manifest import ARRAY
from fedsynth.hospital import check, check_folders, check_installation, check_kit
from fedsynth.hospital.findings import Finding
from fedsynth.hospital.policy import Policy, study
from fedsynth.hospital.policy.model import Study
from fedsynth.hospital.policy.words import text
from fedsynth.hospital.record import Record
from fedsynth.params import names
from fedsynth.settings import Settings
from tests.kits import EXAMPLES, Authority, listening, make_kit, pem
from tests.sets import TINY, make_set, tiny_params

# --- a site that is looked at


pytestmark = pytest.mark.usefixtures("at_once")


@pytest.fixture
def hospital(tmp_path, monkeypatch) -> Path:
    """A working directory with params.yaml, and the two folders that the environment names, closed to others."""
    for name in ("data", "state"):
        (tmp_path / name).mkdir(mode=0o700)
        monkeypatch.setenv(f"FEDSYNTH_{name.upper()}", str(tmp_path / name))
    (tmp_path / "project").mkdir()
    (tmp_path / "project/params.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))
    monkeypatch.setenv("FEDSYNTH_ROOT", str(tmp_path / "project"))
    return tmp_path


def look(name: str | None = "north", kit: Path | None = None, timeout_s: float = 2) -> list[Finding]:
    return list(check.site(Settings.read(), name, kit, timeout_s))


def of(found: list[Finding], what: str) -> Finding:
    rows = [row for row in found if row.what == what]
    assert len(rows) == 1, f"{what}: {rows} of {[row.what for row in found]}"
    return rows[0]


def agreed(hospital: Path) -> Path:
    """A policy of the study, which this user may not write to."""
    path = hospital / "state/north/policy.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text(Policy(studies={"study": Study(params=study.agreed(tiny_params()))}), "of a test"))
    path.chmod(0o444)
    return path


def test_a_site_that_is_ready_has_nothing_to_mend(hospital, authority):
    make_set(hospital / "data/north", tiny_params())
    agreed(hospital)
    with listening(hospital / "server", authority) as port:
        found = look(name=None, kit=make_kit(hospital / "kit", authority, port))
    assert [row for row in found if row.verdict != "ok" or row.todo] == []
    assert {
        "Python",
        "packages",
        "FEDSYNTH_DATA",
        "FEDSYNTH_STATE",
        "data",
        "validation",
        "certificate",
        "server takes this kit",
    } <= {row.what for row in found}


# --- the policy


def test_a_site_without_a_policy_is_told_that_every_job_is_refused(hospital):
    row = of(look(), "policy")
    assert (row.verdict, "policy init" in row.todo) == ("fails", True)


def test_a_policy_that_cannot_be_read_is_named_with_the_key(hospital):
    agreed(hospital).chmod(0o644)
    agreed(hospital).chmod(0o644)
    (hospital / "state/north/policy.yaml").write_text("floors: {imges: 3}")
    row = of(look(), "policy")
    assert (row.verdict, "floors.imges" in row.found) == ("fails", True)


def test_a_pause_is_shown(hospital):
    agreed(hospital).with_suffix(".paused").write_text("audit\n")
    assert "audit" in of(look(), "policy").found


def test_a_record_that_was_changed_is_found(hospital):
    agreed(hospital)
    record = Record(hospital / "state/north")
    record.add({"what": "asked", "job": "train"})
    assert of(look(), "record").found == "1 entries, whole"
    record.chain.path.write_text("{}\n")
    assert of(look(), "record").verdict == "fails"


# --- the installation


def test_the_versions_are_held_against_the_bounds_that_the_package_declares(monkeypatch):
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "2.8.1" if name == "nvflare" else real(name))
    row = of(list(check_installation.versions()), "package nvflare")
    assert row.verdict == "fails"
    assert "2.8.1" in row.found
    assert row.todo in ("pip install 'nvflare<2.10,>=2.9'", "pip install 'nvflare>=2.9,<2.10'")


def test_a_package_that_is_missing_is_named(monkeypatch):
    def version(name: str) -> str:
        if name == "monai":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    real = metadata.version
    monkeypatch.setattr(metadata, "version", version)
    assert "not installed" in of(list(check_installation.versions()), "package monai").found


def test_an_old_python_is_told_to_make_the_environment_again(monkeypatch):
    monkeypatch.setattr(platform, "python_version", lambda: "3.10.12")
    row = of(list(check_installation.versions()), "Python")
    assert (row.verdict, "3.10.12" in row.found, "virtual environment" in row.todo) == ("fails", True, True)


# --- the folders


@pytest.mark.parametrize("variable", ["FEDSYNTH_DATA", "FEDSYNTH_STATE"])
def test_a_variable_that_is_not_set_is_told_what_it_is_for(hospital, monkeypatch, variable):
    monkeypatch.delenv(variable)
    row = of(look(), variable)
    assert (row.verdict, row.found) == ("fails", "not set")
    assert check_folders.FOLDERS[variable] in row.todo


def test_a_folder_that_others_can_read_is_a_warning_with_the_command_that_closes_it(hospital):
    (hospital / "state").chmod(0o755)
    row = of(look(), "FEDSYNTH_STATE")
    assert (row.verdict, row.todo) == ("warning", f"chmod 700 {hospital / 'state'}")


def test_a_folder_that_is_not_there_yet_can_be_made_or_fails(hospital, monkeypatch):
    monkeypatch.setenv("FEDSYNTH_STATE", str(hospital / "new/state"))
    assert of(look(), "FEDSYNTH_STATE").todo.startswith(f"mkdir -p {hospital / 'new/state'}")
    (hospital / "file").touch()
    monkeypatch.setenv("FEDSYNTH_STATE", str(hospital / "file/state"))
    assert of(look(), "FEDSYNTH_STATE").verdict == "fails"


@pytest.mark.parametrize(("gib", "verdict"), [(0.5, "fails"), (3, "warning"), (20, "ok")])
def test_a_full_disk_is_seen_before_a_training_sees_it(hospital, monkeypatch, gib, verdict):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=gib * 2**30))
    assert [of(look(), f"disk of {v}").verdict for v in check_folders.FOLDERS] == [verdict, verdict]


# --- the data


def test_a_site_without_data_is_told_to_ingest(hospital):
    row = of(look(), "data")
    assert row.verdict == "fails"
    assert "fedsynth ingest --site north" in row.todo


def test_without_a_name_or_a_kit_the_data_are_not_guessed(hospital):
    found = look(name=None)
    assert [of(found, what).verdict for what in ("data", "startup kit")] == ["warning", "warning"]


def test_the_images_are_counted_by_label_and_split(hospital):
    make_set(hospital / "data/north", tiny_params(), n=30)
    (hospital / "project/params.yaml").unlink()
    found = look()
    assert "30 images" in of(found, "data").found
    assert "infiltrating 10 (6 train, 2 val, 2 test)" in of(found, "data").found
    assert of(found, "validation").verdict == "warning"


def test_a_changed_pixel_is_found(hospital):
    make_set(hospital / "data/north", tiny_params(), n=6)
    pixels = np.load(hospital / "data/north" / ARRAY)
    pixels[3, 0, 2, 2] += 0.1
    np.save(hospital / "data/north" / ARRAY, pixels)
    row = of(look(), "data")
    assert row.verdict == "fails"
    assert "north-00003" in row.found


def test_a_failed_validation_says_how_many_expectations_failed_and_writes_nothing(hospital):
    make_set(hospital / "data/north", tiny_params(), n=30, split="train")
    before = sorted(hospital.rglob("*"))
    row = of(look(), "validation")
    assert row.verdict == "fails"
    assert row.found.startswith("1 of ")
    assert sorted(hospital.rglob("*")) == before


def test_a_params_file_that_cannot_be_used_is_a_finding(hospital):
    make_set(hospital / "data/north", tiny_params(), n=6)
    (hospital / "project/params.yaml").write_text(yaml.safe_dump(TINY | {"imgae": {}}))
    row = of(look(), "validation")
    assert (row.verdict, "imgae" in row.found) == ("fails", True)


# --- the startup kit


def test_a_folder_that_is_no_kit_is_told_what_a_kit_is(hospital):
    row = of(look(kit=hospital), "startup kit")
    assert (row.verdict, "fed_client.json" in row.found) == ("fails", True)


def test_the_kit_of_another_site_fails(hospital, authority):
    row = of(look("south", make_kit(hospital / "kit", authority)), "startup kit")
    assert (row.verdict, row.todo) == ("fails", "use --site north, or ask the centre for the kit of south")


def test_a_key_that_others_can_read_fails_with_the_command_that_closes_it(hospital, authority):
    key = make_kit(hospital / "kit", authority) / "startup/client.key"
    key.chmod(0o644)
    row = of(look(kit=hospital / "kit"), "private key")
    assert (row.verdict, row.todo) == ("fails", f"chmod 600 {key}")


def test_a_site_of_any_name_has_the_kit_of_its_key(hospital, authority):
    text = "St. Mary's Hospital"
    kit = make_kit(hospital / "kit", authority, name=names.key(text))
    about = kit / "startup/fed_client.json"
    about.write_text(about.read_text().replace('"north"', f'"{names.key(text)}"'))
    row = of(look(text, kit), "startup kit")
    assert (row.verdict, row.found) == ("ok", f"of {names.key(text)}")


def test_a_kit_in_a_folder_with_blanks_fails_because_flare_cannot_start_jobs_there(hospital, authority):
    row = of(look("north", make_kit(hospital / "my kit", authority)), "kit's folder")
    assert (row.verdict, row.todo) == ("fails", "move the kit to a folder without blanks in its path")


def test_a_kit_that_others_can_read_is_a_warning_since_its_logs_name_files(hospital, authority):
    kit = make_kit(hospital / "kit", authority)
    kit.chmod(0o750)
    assert of(look(kit=kit), "kit's folder").todo == f"chmod 700 {kit}"


@pytest.mark.parametrize(
    ("start", "end", "verdict", "says"),
    [
        (-400, -1, "fails", "expired"),
        (2, 360, "fails", "not yet valid"),
        (-300, 12.5, "warning", "12 days left"),
        (-1, 360, "ok", "valid"),
    ],
)
def test_the_dates_of_the_certificate(hospital, authority, start, end, verdict, says):
    row = of(look(kit=make_kit(hospital / "kit", authority, start=start, end=end)), "certificate")
    assert (row.verdict, says in row.found) == (verdict, True)
    assert ("clock" in row.todo) == (verdict == "fails")


def test_a_certificate_of_another_name_fails(hospital, authority):
    kit = make_kit(hospital / "kit", authority)
    certificate, key = authority.issue("south")
    (kit / "startup/client.crt").write_bytes(certificate)
    (kit / "startup/client.key").write_bytes(key)
    assert "south" in of(look(kit=kit), "certificate's name").found


def test_a_certificate_of_another_federation_fails(hospital, authority):
    kit = make_kit(hospital / "kit", authority)
    (kit / "startup/rootCA.pem").write_bytes(pem(Authority().certificate))
    assert of(look(kit=kit), "certificate's signature").verdict == "fails"


def test_a_key_of_another_certificate_fails_and_is_not_shown(hospital, authority):
    kit = make_kit(hospital / "kit", authority)
    _, key = authority.issue("north")
    (kit / "startup/client.key").write_bytes(key)
    found = look(kit=kit)
    assert of(found, "certificate's key").verdict == "fails"
    assert not any(line in str(found) for line in key.decode().splitlines())


def test_a_certificate_that_cannot_be_read_fails(hospital, authority):
    kit = make_kit(hospital / "kit", authority)
    (kit / "startup/client.crt").write_text("not a certificate")
    assert of(look(kit=kit), "certificate").verdict == "fails"
    (kit / "startup/client.crt").unlink()
    assert "client.crt cannot be read" in of(look(kit=kit), "certificate").found


# --- the server


def test_a_server_that_does_not_answer_is_a_matter_of_the_firewall(hospital, authority):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    row = of(look(kit=make_kit(hospital / "kit", authority, port)), "server")
    assert row.verdict == "fails"
    assert f"127.0.0.1:{port}" in row.found
    assert f"port {port} (firewall" in row.todo


def test_a_server_of_another_federation_refuses_the_kit(hospital, authority):
    with listening(hospital / "server", authority, trusts=Authority()) as port:
        row = of(look(kit=make_kit(hospital / "kit", authority, port)), "server takes this kit")
    assert row.verdict == "fails"
    assert "the server refused this kit" in row.found


def test_a_server_that_the_kit_does_not_know_fails(hospital, authority):
    with listening(hospital / "server", Authority(), trusts=authority) as port:
        row = of(look(kit=make_kit(hospital / "kit", authority, port)), "server takes this kit")
    assert (row.verdict, "does not trust the server" in row.found) == ("fails", True)


def test_a_server_of_another_name_fails(hospital, authority):
    with listening(hospital / "server", authority, name="elsewhere") as port:
        row = of(look(kit=make_kit(hospital / "kit", authority, port)), "server takes this kit")
    assert (row.verdict, row.found) == ("fails", "the server is elsewhere, the kit expects centre")


def test_a_kit_without_mutual_tls_is_not_tried(hospital, authority):
    kit = make_kit(hospital / "kit", authority)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        about = json.loads((kit / "startup/fed_client.json").read_text())
        about["servers"][0]["service"]["target"] = f"127.0.0.1:{listener.getsockname()[1]}"
        about["client"]["connection_security"] = "tls"
        (kit / "startup/fed_client.json").write_text(json.dumps(about))
        row = of(look(kit=kit), "server takes this kit")
    assert (row.verdict, "'tls'" in row.found) == ("warning", True)


# --- the site's policy


def resources(kit: Path, **changes) -> list[Finding]:
    path = kit / "local/resources.json"
    path.write_text(json.dumps(json.loads((EXAMPLES / "resources.json").read_text()) | changes))
    return list(check_kit.policy(kit))


def test_flares_default_refuses_jobs_without_code_and_lets_logs_go(tmp_path, authority):
    kit = make_kit(tmp_path / "kit", authority)
    (kit / "local/resources.json").rename(kit / "local/resources.json.default")
    found = resources(kit, class_allow_list=["nvflare.app_common.np.np_trainer.NPTrainer"], allow_log_streaming=True)
    assert [(row.what, row.verdict) for row in found] == [("jobs without code", "warning"), ("logs", "warning")]


@pytest.mark.parametrize("entry", ["nvflare_jobs.", "nvflare.", "nvflare_jobs.site.installed", "*"])
def test_a_list_so_wide_that_a_job_without_code_runs_any_command_is_a_warning(tmp_path, authority, entry):
    found = resources(make_kit(tmp_path / "kit", authority), class_allow_list=[entry])
    row = of(found, "class_allow_list")
    assert "any command" in row.found
    assert '"nvflare_jobs.site.installed.Installed"' in row.todo


def test_a_policy_that_is_no_json_fails(tmp_path, authority):
    kit = make_kit(tmp_path / "kit", authority)
    (kit / "local/resources.json").write_text("{")
    assert [row.verdict for row in check_kit.policy(kit)] == ["fails"]


def test_the_examples_allow_the_one_class_that_runs_at_a_site_and_no_other():
    from nvflare.app_common.widgets.component_path_authorizer import ComponentPathAuthorizer as Authorizer

    from nvflare_jobs.site import installed

    listed = Authorizer._normalize_allow_list(json.loads((EXAMPLES / "resources.json").read_text())["class_allow_list"])
    assert listed == [check_kit.CLIENT] == [f"{installed.Installed.__module__}.{installed.Installed.__name__}"]
    # or the warning is about nothing
    assert all(hasattr(installed, runner.rpartition(".")[2]) for runner in check_kit.RUNNERS)
    assert not any(Authorizer._path_matches_prefix(runner, entry) for runner in check_kit.RUNNERS for entry in listed)


def test_by_the_example_the_lead_alone_may_submit_and_nobody_may_look_around():
    from nvflare.fuel.sec.authz import AuthzContext, Person
    from nvflare.security.security import FLAuthorizer

    authorizer = FLAuthorizer("north_hospital", json.loads((EXAMPLES / "authorization.json").read_text()))

    def allowed(role: str) -> set[str]:
        asked = Person(f"{role}@centre.org", "centre", role)
        rights = (
            "submit_job",
            "byoc",
            "abort_job",
            "check_status",
            "show_errors",
            "configure_job_log",
            "app_command",
            "cat",
            "sys_info",
        )
        return {right for right in rights if authorizer.authorize(AuthzContext(right, asked, asked))[0]}

    assert allowed("lead") == {"submit_job", "byoc", "abort_job", "check_status"}
    assert allowed("project_admin") == {"check_status"}
    assert allowed("org_admin") == allowed("member") == set()


# --- the command


def test_the_command_ends_with_1_only_where_something_fails(hospital, authority):
    make_set(hospital / "data/north", tiny_params(), n=30)
    agreed(hospital)
    shown = CliRunner().invoke(app, ["check", "--site", "north"], env={"COLUMNS": "200"})
    assert (shown.exit_code, "30 images" in shown.stdout) == (0, True)
    shutil.rmtree(hospital / "data/north")
    shown = CliRunner().invoke(app, ["check", "--site", "north"], env={"COLUMNS": "200"})
    assert (shown.exit_code, "fedsynth ingest --site north" in shown.stdout) == (1, True)
