"""What MLflow keeps of earlier runs: pages and pictures may go, numbers and models stay."""

from __future__ import annotations

import shutil

from fedsynth.registry import aliases, loading, runs, tracking, unused
from fedsynth.registry.versions import client_of, version_of
from tests.sets import tiny_params
from tests.trained import trained


def test_pages_of_earlier_runs_may_go_and_numbers_and_models_stay(tmp_path):
    params, page = tiny_params(), tmp_path / "page"
    page.mkdir()
    (page / "index.html").write_text("a page")
    trained(tmp_path, params)
    ids = []
    for number in range(3):
        with tracking.Tracker(tmp_path, params) as tracker:
            if not number:
                tracker.publish("vae")
            tracker.client.log_artifacts(tracker.run_id, str(page), "report")
            ids.append(tracker.run_id)
    old = unused.artifacts(tmp_path, 2)
    assert any(ids[0] in path.parts for path in old)
    assert not any(run in path.parts for run in ids[1:] for path in old)
    for path in old:
        shutil.rmtree(path)
    assert unused.artifacts(tmp_path, 2) == []
    assert client_of(tmp_path).get_run(ids[0]).data.tags[runs.KIND] == runs.PIPELINE
    aliases.promote(tmp_path, "vae", 1, "Ada", "the only one", "none")
    with loading.admitted(tmp_path, version_of(tmp_path, "vae"), ""):
        pass


def test_before_the_first_run_there_is_nothing(tmp_path):
    assert unused.artifacts(tmp_path, 1) == []
    assert not (tmp_path / "mlflow.db").exists()
