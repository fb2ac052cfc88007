"""What the server takes from the sites, and what it refuses, without FLARE."""

from __future__ import annotations

import numpy as np
import pytest

from nvflare_jobs import build
from nvflare_jobs.federation import reason
from nvflare_jobs.server import check


def update(site: str, array: np.ndarray, weight: float = 1.0) -> tuple:
    return site, weight, {"w": array}


GOOD = np.zeros((2, 2), np.float32)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (np.full((2, 2), np.nan, np.float32), "south sent NaN or Inf in w"),
        (np.full((2, 2), np.inf, np.float32), "south sent NaN or Inf in w"),
        (np.zeros((2, 3), np.float32), "south sent other parameters or shapes than north"),
        (np.zeros((2, 2), np.int64), "south sent w as int64"),
    ],
)
def test_a_bad_update_is_refused_with_the_site(bad, said):
    with pytest.raises(ValueError, match=said):
        check([update("south", bad), update("north", GOOD)], ["north", "south"])


def test_a_weight_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="north sent the weight 0"):
        check([update("north", GOOD, 0.0)], ["north"])


def test_good_updates_pass_whatever_their_order():
    check([update("b", GOOD), update("a", GOOD + 1)], ["a", "b"])


def test_a_round_without_one_of_its_sites_is_refused():
    with pytest.raises(ValueError, match="no update from north"):
        check([update("south", GOOD)], ["north", "south"])


def test_a_job_names_no_path_of_this_machine_and_its_content_is_its_token(tmp_path):
    algorithm = {"class_path": "fedsynth.algorithms.scaffold.Scaffold", "args": {}}
    jobs = [
        build.train(tmp_path / name, "train_x", ["north", "east"], {"a": 1}, algorithm, {"w": GOOD}, rounds=3, start_round=1)
        for name in ("one", "two")
    ]
    for path in jobs[0].rglob("*"):
        if path.suffix in (".json", ".py"):
            assert str(tmp_path) not in path.read_text()
            assert str(build.Path(build.__file__).parent) not in path.read_text()
    assert build.token(jobs[0]) == build.token(jobs[1])
    (jobs[1] / "app/custom/job.json").write_text("{}")
    assert build.token(jobs[0]) != build.token(jobs[1])


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("x\nFEDSYNTH FAILED site a: ValueError: no\nSubprocess died for client b, exit code: 3", "site a: ValueError: no"),
        ("2026 - ERROR - Subprocess died for client b, exit code: -9", "site b died (exit code -9)"),
        ("2026 - ERROR - Communication error with client b: ", "site b died"),
        ("all is well", ""),
    ],
)
def test_the_reason_of_a_failure_is_read_from_the_log_in_one_line(log, said):
    assert reason(log) == said
