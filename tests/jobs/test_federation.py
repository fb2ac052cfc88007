"""The simulator behind the one interface: what it brings back, and that every way of going wrong ends soon, clearly and
without a trace.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from fedsynth import processes
from fedsynth.params import Consortium
from fedsynth.settings import Settings
from fedsynth.training import weights
from nvflare_jobs.centre import answers, build_question, build_rounds, job_folder, jobs
from nvflare_jobs.centre.program import public
from nvflare_jobs.federation import interface, runner, simulator
from nvflare_jobs.server.ask import ANSWERS
from nvflare_jobs.server.saved import GLOBAL
from tests.sets import tiny_params

pytestmark = pytest.mark.flare

SITES = ["east", "north"]
CLIENT = str(Path(__file__).parent / "misbehaving")
LIMIT_S = 30  # from the misbehaviour to the end of the run


def settings(tmp_path: Path, stall_s: float = 120) -> Settings:
    return Settings(
        federation="simulator",
        root=tmp_path,
        data=tmp_path / "data",
        state=tmp_path / "state",
        stall_s=stall_s,
        events=False,
    )


def training(
    tmp_path: Path,
    how: dict[str, str],
    rounds: int = 3,
    at: int = 1,
    sites: list[str] = SITES,
    thin: bool = True,
    quorum: int | None = None,
    grace_s: int = 5,
    initial: dict[str, np.ndarray] | None = None,
    images: dict[str, int] | None = None,
    **more: Any,
) -> Path:
    """A job of the given length in which a site misbehaves in round `at`."""
    config = {"params": public(tiny_params()), "how": how, "at": at, "name": "misbehaving", "key": "k"} | more
    algorithm = {"class_path": "fedsynth.algorithms.fedavg.FedAvg", "args": {}}
    consortium = Consortium(quorum=quorum, grace_s=grace_s)
    initial = initial or {"w": np.zeros((2, 3), np.float32)}
    return build_rounds.train(
        tmp_path / "job",
        "misbehaving",
        sites,
        consortium,
        config,
        algorithm,
        initial,
        rounds,
        thin,
        CLIENT,
        None,
        images,
    )


def left(folder: Path) -> list[list[str]]:
    """Command lines of the processes that still work in `folder`: those of other runs on the machine are not ours."""
    found = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if (
                process.status() != psutil.STATUS_ZOMBIE
                and simulator.RUN in process.environ()
                and any(str(folder) in c for c in command)
            ):
                found.append(command)
        except psutil.Error:
            continue
    return found


def imported(folder: Path) -> set[str]:
    """Modules that the server and the sites of the runs in `folder` have imported, with PYTHONPROFILEIMPORTTIME."""
    logs = "\n".join(path.read_text(errors="replace") for path in folder.glob("*/log.txt"))
    return set(re.findall(r"^import time: .*\| +(\S+)$", logs, re.MULTILINE))


def test_a_job_runs_its_rounds_shows_each_site_live_and_brings_back_the_global_model(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    initial = {"w": np.zeros((2, 3), np.float32), "large": np.zeros((600, 500), np.float32)}
    job = training(tmp_path, {}, initial=initial)
    events = []
    with runner.connect(settings(tmp_path), tmp_path / "work") as connected:
        result = runner.run(connected, job, job_folder.token(job), SITES, tmp_path / "result", events.append)
    rounds = [e for e in events if e.kind == "round"]
    assert [e.round for e in rounds] == [0, 1, 2]
    assert rounds[2].sites == {"east": {"loss/net": 6.0, "weight": 1.0}, "north": {"loss/net": 7.0, "weight": 1.0}}
    # measured: the arrays, and what FLARE adds
    for of in (traffic for event in rounds for traffic in event.traffic.values()):
        assert all(1 < of[way] / sum(a.nbytes for a in initial.values()) < 1.03 for way in ("bytes_up", "bytes_down"))
    assert [sorted(event.traffic) for event in rounds] == [SITES] * 3
    assert events[-1].status == "FINISHED:COMPLETED"
    # three rounds of a mean of ones
    np.testing.assert_array_equal(weights.load(result / GLOBAL)["w"], np.full((2, 3), 3.0, np.float32))
    assert left(tmp_path) == []
    assert "nvflare_jobs.server.run" in imported(tmp_path / "work")
    assert "torch" not in imported(tmp_path / "work")  # neither by the server nor for what a site does in every job


def test_a_question_brings_back_one_answer_for_each_site(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    job = build_question.ask(
        tmp_path / "job", CLIENT, "question", SITES, Consortium(), {"params": public(tiny_params()), "how": {}}
    )
    with runner.connect(settings(tmp_path), tmp_path / "work") as connected:
        result = runner.run(connected, job, job_folder.token(job), SITES, tmp_path / "result", lambda event: None)
    assert json.loads((result / ANSWERS).read_text()) == {
        "east": {"answer": {"site": "east"}},
        "north": {"answer": {"site": "north"}},
    }
    assert left(tmp_path) == []
    assert "nvflare_jobs.server.run" in imported(tmp_path / "work")
    assert "torch" not in imported(tmp_path / "work")


def test_hostile_answers_leave_their_sites_out_and_the_job_ends_with_the_others(tmp_path, capsys):
    """Over FLARE: what no door at the site has let out, as a site sends it that has none."""
    kinds = ["nan", "deep", "array", "bytes", "another site's", "none"]
    hostile = {f"site-{i}": kind for i, kind in enumerate(kinds)}
    sites = [*SITES, *hostile]
    config = {"params": public(tiny_params()), "how": {}, "answers": hostile}
    job = build_question.ask(tmp_path / "job", CLIENT, "question", sites, Consortium(quorum=2, grace_s=60), config)
    found = answers.held("source", jobs.ask("source", job, sites, settings(tmp_path)), answers.look, quorum=2)
    assert {site for site, of in found.items() if "answer" in of} == set(SITES)
    printed = capsys.readouterr().out
    assert all(
        f"source: no answer from {site}" in printed or f"source: {site} is left out" in printed for site in hostile
    )


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raise", "site north: RuntimeError: the disk of this site is full"),
        ("die", "site north died"),
        ("hang", "no sign of life for 20 s"),
        ("nan", "site north: sent NaN or Inf in w"),
    ],
)
def test_a_site_that_fails_ends_the_run_with_the_reason_and_keeps_what_was_computed(tmp_path, how, said):
    job = training(tmp_path, {"north": how})
    last = time.monotonic()

    def seen(event):
        nonlocal last
        last = time.monotonic()

    with runner.connect(settings(tmp_path, stall_s=20 if how == "hang" else 120), tmp_path / "work") as connected:
        with pytest.raises(interface.FederationError) as error:
            runner.run(connected, job, "t", SITES, tmp_path / "result", seen)
        took = time.monotonic() - last
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert took < LIMIT_S
    assert left(tmp_path) == []
    np.testing.assert_array_equal(
        weights.load(tmp_path / "result" / GLOBAL)["w"], np.ones((2, 3), np.float32)
    )  # of the round that was done


def test_with_a_quorum_a_site_that_dies_in_each_job_is_left_out_and_the_rounds_go_on(tmp_path):
    job = training(tmp_path, {"north": "die"}, quorum=1, grace_s=60)  # a second process may need long to start
    events = []
    with runner.connect(settings(tmp_path), tmp_path / "work") as connected:
        result = runner.run(connected, job, job_folder.token(job), SITES, tmp_path / "result", events.append)
    rounds = [e for e in events if e.kind == "round"]
    assert [(e.round, sorted(e.sites)) for e in rounds[:2]] == [(0, SITES), (1, ["east"])]
    assert (rounds[2].round, "east" in rounds[2].sites) == (2, True)  # `north` may be back by then, and may not
    assert "its process died twice" in rounds[1].left_out["north"]
    assert len([e for e in events if e.status.startswith(interface.LOST)]) == 2
    np.testing.assert_array_equal(weights.load(result / GLOBAL)["w"], np.full((2, 3), 3.0, np.float32))
    assert left(tmp_path) == []


# What is said of the site in each round of tests/jobs/misbehaving: HOSTILE.
SAID = [
    "sent a str as weight instead of a number",
    "sent the weight 1e+300",
    "sent a bool as weight instead of a number",
    "sent NaN or Inf in w",
    "sent numbers as large as 3e+38 in w",
    "sent other parameters or shapes",
    "sent w as complex128",
    "sent w as a list instead of an array",
    "sent other parameters or shapes",
    "sent a str as loss/net instead of a number",
    "sent no losses with its update",
    "failed: an error",
    "sent ",
]


def named_in_each_round(rounds: list[interface.Event], result: Path, sites: list[str]) -> None:
    """Every round has its good sites, the hostile one is named with what it sent, and the model is the good sites'."""
    for event, said in zip(rounds, SAID, strict=False):
        assert event.left_out["north"].startswith(said), (event.round, event.left_out)
        assert sorted(event.sites) == [site for site in sites if site != "north"]
    assert "north" in rounds[-1].sites
    assert rounds[-1].bounded == {
        "north": "sent the weight 500, which counts as the 1 images that validation has shown"
    }
    assert [event.round for event in rounds] == list(range(len(SAID) + 1))
    np.testing.assert_array_equal(weights.load(result / GLOBAL)["w"], np.full((2, 3), len(rounds), np.float32))


def test_a_hostile_site_sends_something_else_in_each_round_and_is_left_out_and_named_in_each(tmp_path):
    hostile = {"north": "hostile always"}
    job = training(tmp_path, hostile, len(SAID) + 1, quorum=1, images=dict.fromkeys(SITES, 1))
    events = []
    with runner.connect(settings(tmp_path), tmp_path / "work") as connected:
        result = runner.run(connected, job, job_folder.token(job), SITES, tmp_path / "result", events.append)
    named_in_each_round([e for e in events if e.kind == "round"], result, SITES)
    assert left(tmp_path) == []


def test_a_site_that_sends_a_thousand_times_its_update_is_bounded_and_named_with_a_robust_rule(tmp_path):
    sites = [*SITES, "west"]
    clip = {"class_path": "fedsynth.robust.median_clip.MedianClip", "args": {"bound": 1.0}}
    job = training(tmp_path, {"north": "thousandfold"}, 2, sites=sites, model={"robust": clip})
    events = []
    with runner.connect(settings(tmp_path), tmp_path / "work") as connected:
        result = runner.run(connected, job, job_folder.token(job), sites, tmp_path / "result", events.append)
    rounds = [e for e in events if e.kind == "round"]
    said = "the norm of its update is 1e+03 times the median, and was scaled down to 1 times"
    assert [e.bounded for e in rounds] == [{}, {"north": said}]
    assert [sorted(e.sites) for e in rounds] == [sites] * 2
    np.testing.assert_allclose(weights.load(result / GLOBAL)["w"], np.full((2, 3), 2.0, np.float32), rtol=1e-6)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, "its flow is killed"])
def test_a_signal_ends_the_run_at_once_and_leaves_no_process(tmp_path, number):
    job = training(tmp_path, {"north": "hang"}, at=0)
    script = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from nvflare_jobs.centre import jobs, program
from tests.jobs.test_federation import SITES, settings
def stage(params, settings_):
    jobs.run("hanging", Path({str(job)!r}), SITES, settings(Path({str(tmp_path)!r})), 3)
program.inputs.params_of_run = lambda *_: None
program.main(stage)
"""
    flow = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    env = os.environ | {"PYTHONUNBUFFERED": "1", processes.OWNER: str(flow.pid)}
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        env=env,
    )
    log = tmp_path / ".work/jobs/hanging"
    try:
        deadline = time.monotonic() + 60
        while not any("start" in p.read_text(errors="replace").lower() for p in log.glob("*/workspace/server/log.txt")):
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline, "the simulator did not start"
            time.sleep(0.2)
        if isinstance(number, str):
            flow.kill()
        else:
            process.send_signal(number)
        started = time.monotonic()
        code = process.wait(timeout=LIMIT_S)
    finally:
        flow.kill()
        flow.wait()
    assert code != 0
    assert time.monotonic() - started < LIMIT_S
    assert left(tmp_path) == []
