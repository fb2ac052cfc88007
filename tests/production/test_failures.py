"""All that goes wrong, against a real provisioned system on loopback: what the user sees, how long it takes, that
nothing is lost.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fedsynth.hospital.kit import KitError
from fedsynth.training import weights
from nvflare_jobs.centre import job_folder
from nvflare_jobs.federation import interface, local_system, runner
from nvflare_jobs.server.saved import GLOBAL
from tests.jobs.test_federation import SAID, named_in_each_round, training
from tests.production.conftest import SITES, Trial, Watch, started

pytestmark = pytest.mark.production


def after(number: int):
    """When a round is done."""
    return lambda event: event.kind == "round" and event.round == number


def ones(path: Path, rounds: int) -> None:
    """Each round adds the mean of ones: what the global parameters are after so many."""
    np.testing.assert_array_equal(weights.load(path / GLOBAL)["w"], np.full((2, 3), rounds, np.float32))


def test_a_script_that_raises_at_one_site_ends_the_job_with_the_site_and_a_word_for_it(trial: Trial, measured):
    job = training(trial.root, {"north": "raise"}, sites=SITES)
    watch = Watch(after(0), lambda: None)
    said = trial.fails(job, watch)
    measured("a site's script raises, every site is needed", said, watch.seconds())
    assert "site north: failed: an error; its log has the reason" in said
    assert "disk of this site" not in said  # the site's own words stay there
    ones(trial.root / "work" / "result", 1)  # of the round that was done
    # the next run of the same training goes on from there
    again = training(trial.root, {}, sites=SITES, rounds=3)
    ones(trial.run(again, work="again"), 3)
    assert [(e.round, e.resumed) for e in trial.rounds()[-3:]] == [(0, False), (1, True), (2, False)]


def test_with_a_quorum_the_rounds_go_on_without_a_site_whose_script_raises(trial: Trial, measured):
    job = training(trial.root, {"north": "raise"}, sites=SITES, quorum=2)
    watch = Watch(after(0), lambda: None)
    ones(trial.run(job, watch), 3)
    measured("a site's script raises, two of three are enough", trial.rounds()[1].left_out["north"], watch.seconds())
    assert [sorted(e.sites) for e in trial.rounds()] == [SITES, ["east", "west"], ["east", "west"]]
    assert trial.rounds()[1].left_out == {"north": "failed: an error; its log has the reason"}


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("nan", "sent NaN or Inf in w"),
        ("inf", "sent NaN or Inf in w"),
        ("shape", "sent other parameters or shapes"),
        ("keys", "sent other parameters or shapes"),
        ("ints", "sent w as int64"),
    ],
)
def test_an_update_that_cannot_be_used_is_left_out_with_its_site(tmp_path, how, said):
    with started(tmp_path, SITES) as trial:
        job = training(trial.root, {"north": how}, sites=SITES, rounds=2, at=0, quorum=2)
        ones(trial.run(job), 2)
        assert said in trial.rounds()[0].left_out["north"]
        assert sorted(trial.rounds()[1].sites) == SITES  # it comes back


def test_a_hostile_site_is_left_out_of_each_round_and_named_and_the_training_ends_well(trial: Trial, measured):
    job = training(trial.root, {"north": "hostile always"}, sites=SITES, rounds=len(SAID) + 1, quorum=2,
                   images=dict.fromkeys(SITES, 1))  # fmt: skip
    watch = Watch(after(0), lambda: None)
    result = trial.run(job, watch)
    named_in_each_round(trial.rounds(), result, SITES)
    measured("a site sends hostile things", trial.rounds()[1].left_out["north"], watch.seconds())


def test_a_slow_site_is_left_out_of_a_round_and_comes_back(trial: Trial, measured):
    job = training(trial.root, {"north": "slow"}, sites=SITES, rounds=6, quorum=2, grace_s=2, slow_s=6, pause=1)
    watch = Watch(after(0), lambda: None)
    ones(trial.run(job, watch), 6)
    seen = {e.round: sorted(e.sites) for e in trial.rounds()}
    assert seen[1] == ["east", "west"]
    assert trial.rounds()[1].left_out == {"north": "no update within the time of grace"}
    assert seen[5] == SITES
    measured("a site is slow, two of three are enough", trial.rounds()[1].left_out["north"], trial.rounds()[1].seconds)


def test_a_client_process_that_is_killed_in_a_round_comes_back_in_a_new_job(trial: Trial, measured):
    """FLARE ends the whole job then: the training goes on in another one, from its last round."""
    job = training(trial.root, {"north": "die once"}, sites=SITES, marks=str(trial.root))
    watch = Watch(after(0), lambda: None)
    ones(trial.run(job, watch), 3)
    lost = [e.status for e in trial.seen if e.status.startswith(interface.LOST)]
    measured("a site's client process is killed", lost[0], watch.seconds())
    assert len(lost) == 1
    assert [sorted(e.sites) for e in trial.rounds()] == [SITES] * 3
    assert [e.resumed for e in trial.rounds()] == [False, True, False]


def test_a_client_process_that_dies_again_and_again_is_left_out_with_a_quorum(trial: Trial, measured):
    job = training(trial.root, {"north": "die"}, sites=SITES, quorum=2)
    watch = Watch(after(0), lambda: None)
    ones(trial.run(job, watch), 3)
    measured(
        "a site's client process dies in each job, two of three are enough",
        trial.rounds()[1].left_out["north"],
        watch.seconds(),
    )
    assert [sorted(e.sites) for e in trial.rounds()] == [SITES, ["east", "west"], ["east", "west"]]
    assert "its process died twice" in trial.rounds()[1].left_out["north"]


def test_a_client_process_that_dies_again_and_again_is_named_where_every_site_is_needed(trial: Trial, measured):
    job = training(trial.root, {"north": "die"}, sites=SITES)
    watch = Watch(after(0), lambda: None)
    said = trial.fails(job, watch)
    measured("a site's client process dies in each job, every site is needed", said, watch.seconds())
    assert "site north: failed: its process died twice at this point" in said
    ones(trial.root / "work" / "result", 1)


def test_a_site_that_is_killed_and_started_again_is_left_out_and_comes_back(trial: Trial, measured):
    """FLARE gives a running job to nobody who comes later, so that it goes on in a new one."""
    job = training(trial.root, {}, sites=SITES, rounds=14, quorum=2, grace_s=3, pause=1)
    watch = Watch(after(0), lambda: (trial.system.kill("north"), time.sleep(3), trial.system.start("north")))
    ones(trial.run(job, watch), 14)
    without = [e for e in trial.rounds() if "north" in e.left_out]
    lost = [e.status for e in trial.seen if e.status.startswith(interface.LOST)]
    measured("a whole site is killed and started again, two of three are enough", lost[0], watch.seconds())
    assert without
    assert "north had gone and is back" in lost[0]
    assert [e.round for e in trial.rounds()] == list(range(14))
    assert sorted(trial.rounds()[-1].sites) == SITES


def test_a_site_that_is_killed_ends_the_job_where_every_site_is_needed(trial: Trial, measured):
    job = training(trial.root, {}, sites=SITES, rounds=30, pause=1)
    watch = Watch(after(0), lambda: trial.system.kill("north"))
    said = trial.fails(job, watch, stall_s=200, connect_s=15)
    measured("a whole site is killed and stays away, every site is needed (15 s were set)", said, watch.seconds())
    assert "not connected: north" in said
    # the next run goes on from there
    assert list((trial.state(local_system.SERVER) / "server" / "train").glob("*/global.safetensors"))


def test_a_server_that_is_killed_and_started_again_loses_the_job_and_the_training_goes_on(trial: Trial, measured):
    job = training(trial.root, {}, sites=SITES, rounds=8, pause=1)
    watch = Watch(
        after(2),
        lambda: (trial.system.kill(local_system.SERVER), time.sleep(2), trial.system.start(local_system.SERVER)),
    )
    ones(trial.run(job, watch), 8)
    lost = next(e.status for e in trial.seen if e.status.startswith(interface.LOST))
    measured("the server is killed and started again in a round", lost, watch.seconds())
    assert [e.round for e in trial.rounds()] == list(range(8))  # no round twice, none missing
    assert next(e.round for e in trial.rounds() if e.resumed) >= 3
    assert len([e for e in trial.seen if e.kind == "job"]) == 2


def test_a_server_that_cannot_be_reached_is_said_within_the_time_that_was_set(tmp_path, measured):
    with started(tmp_path, SITES) as trial:
        trial.system.stop()
        began = time.monotonic()
        said = trial.fails(training(trial.root, {}, sites=SITES), connect_s=6.0)
        measured("the server cannot be reached at submission (6 s were set)", said, time.monotonic() - began)
        assert f"localhost:{trial.system.port} could not be reached for 6 s" in said
        assert time.monotonic() - began < 20


def test_a_kit_of_another_federation_is_refused_at_once_and_said(tmp_path, measured):
    with started(tmp_path / "one", SITES) as trial:
        other = local_system.LocalSystem(tmp_path / "other", SITES, {})
        other.provision()
        admin = other.admin / "startup" / "fed_admin.json"
        admin.write_text(admin.read_text().replace(str(other.port), str(trial.system.port)))
        began = time.monotonic()
        said = trial.fails(training(trial.root, {}, sites=SITES), kit=other.admin)
        measured("the kit is another federation's", said, time.monotonic() - began)
        assert "do not belong together" in said


def test_sites_that_are_not_connected_are_waited_for_and_named(tmp_path, measured):
    with started(tmp_path, SITES) as trial:
        trial.system.kill("north")
        began = time.monotonic()
        said = trial.fails(training(trial.root, {}, sites=SITES), connect_s=8.0)
        measured("a site is not connected at submission (8 s were set)", said, time.monotonic() - began)
        assert "not connected: north" in said
        with runner.connect(trial.settings(), tmp_path / "look") as connected:
            # it does not start at night after all
            assert [j["status"] for j in connected.call("list_jobs")] == ["FINISHED:ABORTED"]


def submit_and_die(trial: Trial, job: Path, after_round: int) -> None:
    """A centre that is killed (not ended) once it has seen a round."""
    script = f"""
import os, signal, sys
from pathlib import Path
from fedsynth.settings import Settings
from nvflare_jobs.centre import job_folder
from nvflare_jobs.federation import runner
root, job = Path({str(trial.root)!r}), Path({str(job)!r})
kit = Path({str(trial.system.admin)!r})
settings = Settings("production", root, root / "data", root / "state", 90, False, kit=kit, connect_s=20)
def show(event):
    if event.kind == "round" and event.round == {after_round}:
        os.kill(os.getpid(), signal.SIGKILL)
with runner.connect(settings, root / "work") as connected:
    runner.run(connected, job, job_folder.token(job), {SITES!r}, root / "work" / "result", show)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def jobs(trial: Trial) -> list[dict]:
    with runner.connect(trial.settings(), trial.root / "look") as connected:
        return connected.call("list_jobs")


def test_a_centre_that_was_killed_finds_its_running_job_again_and_starts_no_other(trial: Trial, measured):
    job = training(trial.root, {}, sites=SITES, rounds=10, pause=1)
    submit_and_die(trial, job, 1)
    began = time.monotonic()
    ones(trial.run(job), 10)
    said = "the same job's rounds, then its result"
    measured("the centre's process is killed, and started again while the job runs", said, time.monotonic() - began)
    assert [e.round for e in trial.rounds()] == list(range(10))  # those that it had missed too
    assert len(jobs(trial)) == 1


def test_a_job_that_ended_while_nobody_looked_is_collected_once_and_run_again_only_after_that(trial: Trial, measured):
    job = training(trial.root, {}, sites=SITES, rounds=3)
    submit_and_die(trial, job, 0)
    deadline = time.monotonic() + 60
    while jobs(trial)[0]["status"] != "FINISHED:COMPLETED":
        assert time.monotonic() < deadline
        time.sleep(1)
    began = time.monotonic()
    ones(trial.run(job), 3)
    measured(
        "the centre's process is killed, and started again when the job has ended",
        "its result",
        time.monotonic() - began,
    )
    assert time.monotonic() - began < 10
    assert len(jobs(trial)) == 1
    trial.run(job)  # the same question at another time is another job
    assert len(jobs(trial)) == 2


def test_two_centres_that_submit_the_same_job_have_one_job(trial: Trial):
    job = training(trial.root, {}, sites=SITES, rounds=3, pause=1)
    with (
        runner.connect(trial.settings(), trial.root / "one") as one,
        runner.connect(trial.settings(), trial.root / "two") as two,
    ):
        token = job_folder.token(job)
        assert one.submit(job, token, SITES) == two.submit(job, token, SITES)
        assert list(one.follow(one.submit(job, token, SITES)))[-1].status == "FINISHED:COMPLETED"


def test_another_job_under_a_used_token_gets_one_of_its_own(trial: Trial):
    """As where an admin deletes jobs from the server, so that their number is no more the number of tokens."""
    one, other = (
        training(trial.root / "a", {}, sites=SITES, rounds=1),
        training(trial.root / "b", {}, sites=SITES, rounds=2),
    )
    settings = trial.settings()
    with (
        runner.connect(settings, trial.root / "work") as connected,
        runner.connect(settings, trial.root / "two") as two,
    ):
        first = connected.submit(one, "token", SITES)
        list(connected.follow(first))
        connected.collect(first, trial.root / "result")
        second = two.submit(other, "token", SITES)
        assert first != second
        two.abort(second)
        connected.call("delete_job", first)
        third = connected.submit(one, "token", SITES)
        assert third not in (first, second)
        list(connected.follow(third))


def test_a_session_that_has_ended_is_opened_again(trial: Trial):
    job = training(trial.root, {}, sites=SITES, rounds=4, pause=1)
    with runner.connect(trial.settings(), trial.root / "work") as connected:

        def show(event):
            if event.kind == "round" and event.round == 1:
                connected._session.close()  # as FLARE does after 15 idle minutes

        ones(runner.run(connected, job, job_folder.token(job), SITES, trial.root / "result", show), 4)


def test_an_abort_by_another_admin_ends_the_run_and_starts_no_other_job(trial: Trial, measured):
    job = training(trial.root, {}, sites=SITES, rounds=60, pause=1, quorum=2)

    def abort() -> None:
        with runner.connect(trial.settings(), trial.root / "admin") as other:
            other.abort(next(e.status for e in trial.seen if e.kind == "job"))

    watch = Watch(after(1), abort)
    said = trial.fails(job, watch)
    measured("the job is aborted by an admin of the federation", said, watch.seconds())
    assert "the job was aborted" in said
    assert len(jobs(trial)) == 1
    assert int(weights.load(trial.root / "work" / "result" / GLOBAL)["w"][0, 0]) >= 2


def test_a_full_disk_at_the_centre_while_collecting_is_said_and_the_result_is_kept_at_the_server(
    trial: Trial, measured
):
    """On a small tmpfs, which only root may make."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    small = trial.root / "small"
    small.mkdir()
    if (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)], check=False, capture_output=True
        ).returncode
        != 0
    ):
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        job = training(trial.root, {}, sites=SITES, rounds=2, initial={"w": np.zeros((300, 300), np.float32)})
        began = time.monotonic()
        watch = Watch(after(0), lambda: None)
        said = trial.fails(job, watch, work="small/work")
        measured("the centre's disk is full while it collects", said, watch.seconds())
        assert "could not be brought to" in said
        assert "is the disk full?" in said
        # nothing half is left to fill it
        assert sum(p.stat().st_size for p in small.rglob("*") if p.is_file()) < 20_000
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)  # room was made
        began = time.monotonic()
        result = trial.run(job, work="small/work")
        measured("the same, run again once there is room", "the result", time.monotonic() - began)
        assert weights.load(result / GLOBAL)["w"][0, 0] == 2
        assert len(jobs(trial)) == 1
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)


@pytest.mark.parametrize(("days", "said"), [((-9, -1), "was valid until"), ((1, 9), "is valid from")])
def test_a_certificate_that_is_not_valid_by_this_clock_is_said_before_anything_is_tried(tmp_path, days, said, measured):
    system = local_system.LocalSystem(tmp_path / "system", SITES, {})
    system.provision()
    certificate(system.admin, *days)
    settings = Trial(tmp_path, system, SITES).settings()
    began = time.monotonic()
    with pytest.raises(KitError, match=said):
        runner.connect(settings, tmp_path / "work")
    measured("the kit's certificate has expired, or the clock is wrong", said, time.monotonic() - began)


def certificate(kit: Path, begin: int, end: int) -> None:
    """Give the kit a certificate of its own making, valid from and until so many days from now."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    path, now = kit / "startup" / "client.crt", datetime.now(UTC)
    key = serialization.load_pem_private_key((kit / "startup" / "client.key").read_bytes(), None)
    old = x509.load_pem_x509_certificate(path.read_bytes())
    made = x509.CertificateBuilder().subject_name(old.subject).issuer_name(old.issuer).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number())
    made = made.not_valid_before(now + timedelta(days=begin)).not_valid_after(now + timedelta(days=end))
    path.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def test_a_key_that_others_can_read_is_refused(tmp_path):
    system = local_system.LocalSystem(tmp_path / "system", SITES, {})
    system.provision()
    (system.admin / "startup" / "client.key").chmod(0o644)
    with pytest.raises(KitError, match="chmod 600"):
        runner.connect(Trial(tmp_path, system, SITES).settings(), tmp_path / "work")
