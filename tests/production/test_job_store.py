"""What a study's jobs leave at a federation's server and sites, and that it goes but for the newest runs' worth."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nvflare_jobs.federation import local_system, submitted
from nvflare_jobs.federation.interface import Event
from nvflare_jobs.federation.provisioned import Provisioned
from tests.jobs.test_federation import training
from tests.production.conftest import Trial, started

pytestmark = pytest.mark.flare

SITES = ["east", "north"]


@pytest.fixture
def trial(tmp_path) -> Iterator[Trial]:
    with started(tmp_path, SITES) as made:
        made.system.places["north"]["FEDSYNTH_KEEP_RUNS"] = "1"
        made.system.kill("north")
        made.system.start("north")  # with it
        made.all_connected()
        yield made


def stored(trial: Trial) -> dict[str, str]:
    """Jobs that the server knows, by id, with their names."""
    with Provisioned(trial.settings(), trial.root / "look", trial.system.admin) as connected:
        return {job["job_id"]: job["job_name"] for job in connected.call("list_jobs")}


def ids(trial: Trial) -> list[str]:
    """Of the jobs that this study has submitted, in their order."""
    return list(dict.fromkeys(event.status for event in trial.seen if event.kind == "job"))


def workspaces(trial: Trial, site: str) -> set[str]:
    """Jobs whose folders FLARE has left at a site."""
    return {path.parent.name for path in (trial.system.kits / site).glob("*/meta.json")}


def numbers(root: Path) -> list[int]:
    return sorted(json.loads(path.read_text())["number"] for path in (root / submitted.PLACE).glob("*.json"))


def forbid(trial: Trial) -> None:
    """Let the centre's user delete no job any more, as the server's administrator may."""
    local = trial.system.kits / local_system.SERVER / "local"
    raw = json.loads((local / "authorization.json.default").read_text())
    raw["permissions"]["lead"]["manage_job"] = "none"
    (local / "authorization.json").write_text(json.dumps(raw))
    trial.system.kill(local_system.SERVER)
    trial.system.start(local_system.SERVER)


def test_a_study_deletes_its_own_jobs_that_have_ended_but_the_newest_and_no_others(trial: Trial, tmp_path):
    other = replace(trial, root=tmp_path / "another study", seen=[])
    other.root.mkdir()
    other.run(training(other.root, {}, sites=SITES, rounds=1, name="another"))
    job, asked = training(tmp_path, {}, sites=SITES, rounds=1), []
    trial.run(job)

    def bound_meanwhile(event: Event) -> None:
        """While the second job runs, which is not the newest to the eye."""
        if event.status == "RUNNING":
            path = trial.root / submitted.PLACE / f"{ids(trial)[-1]}.json"
            os.utime(path, (1, 1))
            asked.append(submitted.bound(trial.settings(), 1))
            path.touch()

    trial.run(job, bound_meanwhile)
    first, second = ids(trial)
    assert asked == [""]
    assert set(stored(trial)) == {first, second, *ids(other)}
    assert submitted.bound(trial.settings(), 1) == ""
    assert set(stored(trial)) == {second, *ids(other)}
    # a site keeps what the hospital says: three of each stage by default, one at north
    assert workspaces(trial, "east") == {first, second, *ids(other)}
    assert workspaces(trial, "north") == {second}
    trial.run(job)  # under a new number at once: the server takes a job's files before it refuses a used one
    third = ids(trial)[-1]
    assert numbers(trial.root) == [2, 3]
    forbid(trial)
    trial.all_connected()
    said = submitted.bound(trial.settings(), 1)
    assert said.startswith("jobs of earlier runs stay at the federation's server: ")
    assert f"does not let {local_system.ADMIN} do this" in said
    assert "\n" not in said
    assert set(stored(trial)) == {second, third, *ids(other)}
    assert numbers(trial.root) == [2, 3]  # it is asked for again after the next run
