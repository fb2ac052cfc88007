"""Metrics come from files that runs leave, in Prometheus' own format, as its parser reads it."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fedsynth.stages import last_run, plan
from fedsynth.study import metrics
from flows.record import Record


def samples(text: str) -> dict[tuple, float]:
    return {
        (sample.name.removeprefix("fedsynth_"), *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def root(tmp_path):
    record = Record(tmp_path, "odd-otter", "nightly")
    record.wait(["train@vae", "score@vae", "report"])
    record.start("train@vae")
    sites = {"north": {"loss/vae": 0.5}}
    record.round("train@vae", {"round": 1, "rounds": 10, "sites": sites, "left_out": {'so "uth"': "not connected"}})
    plan.keep_time(tmp_path, "train@vae", 12.5)
    return tmp_path


def test_a_run_that_goes_on_shows_its_queue_its_rounds_and_its_sites(root):
    found = samples(metrics.text(root))
    assert found["run_outcome", "running"] == 1
    assert found["run_duration_seconds",] >= 0
    assert ("run_ended_timestamp_seconds",) not in found
    assert (found["stages", "running"], found["stages", "waiting"]) == (1, 2)
    assert (found["rounds_done", "train@vae"], found["rounds_planned", "train@vae"]) == (2, 10)
    assert (found["site_answered", "north"], found["site_answered", 'so "uth"']) == (1, 0)
    assert found["stage_duration_seconds", "train@vae"] == 12.5


def test_a_run_that_failed_keeps_when_the_last_one_succeeded(root):
    Record(root).end(last_run.COMPLETED)
    succeeded = last_run.read(root)["succeeded"]
    Record(root).end(last_run.FAILED, "train@vae, an error")
    found = samples(metrics.text(root))
    assert (found["run_outcome", "failed"], found["run_outcome", "completed"]) == (1, 0)
    assert found["run_succeeded_timestamp_seconds",] == pytest.approx(succeeded)
    assert found["run_ended_timestamp_seconds",] >= succeeded


def test_gates_are_counted_by_their_state(root):
    gates = [
        {"gate": "fid <= 3", "kind": "require", "held": True, "value": 2.0, "limit": 3.0},
        {"gate": "kid <= 3", "kind": "require", "held": False, "value": None, "limit": None},
    ]
    (root / "reports").mkdir()
    (root / "reports" / "verdict.json").write_text(json.dumps({"vae": {"passed": False, "said": "", "gates": gates}}))
    found = samples(metrics.text(root))
    assert found["gates", "held", "require", "vae"] == 1
    assert found["gates", "missing", "require", "vae"] == 1
    assert found["gates", "held", "vae", "warn"] == 0
    assert found["model_promotable", "vae"] == 0


def test_before_the_first_run_there_is_no_run(tmp_path):
    assert not [name for name, *_ in samples(metrics.text(tmp_path)) if name.startswith("run_")]


def test_metrics_are_served_on_this_computer_and_read_anew_each_time(root):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threading.Thread(target=metrics.serve, args=(root, port), daemon=True).start()

    def ask() -> dict[tuple, float]:
        for _ in range(50):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                    return samples(answer.read().decode())
            except OSError:
                time.sleep(0.1)
        pytest.fail("nobody answers")

    assert ask()["run_outcome", "running"] == 1
    Record(root).end(last_run.CANCELLED)
    assert ask()["run_outcome", "cancelled"] == 1
    with pytest.raises(metrics.MetricsError, match=f"port {port} cannot be used"):
        metrics.serve(root, port)
