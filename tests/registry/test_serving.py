"""A registered model makes images: in this process, in one of its own, and behind MLflow's scoring server."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

import fedsynth
from fedsynth.registry import tracking
from tests.sets import tiny_params
from tests.trained import trained

LABELS = ["none", "extra_axial", "infiltrating", "none"]

ALONE = """
import json, sys
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model("models:/fedsynth-vae/1")
images = [model.predict(pd.DataFrame({"label": json.loads(sys.argv[1])}), params={"seed": seed}) for seed in (7, 7, 8)]
import fedsynth
print(json.dumps({"file": fedsynth.__file__, "images": [i.tolist() for i in images], "dtype": str(images[0].dtype)}))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Two models in the registry: one without and one with given channels."""
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("DVC_ROOT", raising=False)
        params = tiny_params()
        trained(root, params)
        tiny = params.model_dump(mode="json")
        tiny["models"]["given"] = tiny["models"]["vae"]
        tiny["image"]["given"] = ["t1"]
        trained(root, tiny_params(**tiny), "given")
        with tracking.Tracker(root, params) as tracker:
            tracker.publish("vae")
            tracker.publish("given")
    return root


@pytest.fixture(scope="module")
def models(project):
    import mlflow  # late: telemetry is off by the time that a tracker has been made

    client = mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db")
    return {
        name: mlflow.pyfunc.load_model(client.get_model_version(f"fedsynth-{name}", "1").source)
        for name in ("vae", "given")
    }


def rows(*labels):
    return pd.DataFrame({"label": list(labels)})


def with_given(shape, *labels):
    return rows(*labels).assign(given=[np.full(shape, i / 10).tolist() for i in range(len(labels))])


def refused(why):
    from mlflow.exceptions import MlflowException

    return pytest.raises(MlflowException, match=why)


def test_labels_become_images_in_their_range(models):
    images = models["vae"].predict(rows(*LABELS))
    assert images.shape == (4, 3, 16, 16)
    assert images.dtype == np.float32
    assert np.abs(images).max() <= 1


def test_the_same_seed_gives_the_same_images_and_another_seed_others(models):
    first, again, other = (models["vae"].predict(rows(*LABELS), params={"seed": seed}) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_a_label_may_be_its_place(models):
    np.testing.assert_array_equal(models["vae"].predict(rows("none", "extra_axial")), models["vae"].predict(rows(0, 2)))


@pytest.mark.parametrize("label", ["benign", 3, -1, 0.5, None, True])
def test_an_unknown_label_is_named_with_its_row_and_the_known_ones(models, label):
    with refused(r"row 1: the label .* is not known; this model knows none, infiltrating, extra_axial"):
        models["vae"].predict(pd.DataFrame({"label": pd.Series(["none", label], dtype=object)}))


def test_more_images_than_fit_into_a_batch_are_those_of_one_stream_of_random_numbers(models):
    many = models["vae"].predict(rows(*["none"] * 70))
    assert many.shape == (70, 3, 16, 16)
    assert len({image.tobytes() for image in many}) == 70


def test_given_channels_change_what_is_made_and_must_have_their_shape(models):
    a = models["given"].predict(with_given((1, 16, 16), "none", "none"))
    b = models["given"].predict(rows("none", "none").assign(given=[np.ones((1, 16, 16)).tolist()] * 2))
    assert a.shape == (2, 2, 16, 16)
    assert np.abs(a - b).max() > 0
    with refused(r"row 0: `given` \(t1\) has the shape \(1, 8, 16\), not \(1, 16, 16\)"):
        models["given"].predict(with_given((1, 8, 16), "none"))
    with refused(r"row 0: `given` \(t1\) holds NaN or Inf"):
        models["given"].predict(rows("none").assign(given=[np.full((1, 16, 16), np.nan).tolist()]))
    with refused("missing inputs"):
        models["given"].predict(rows("none"))


def test_no_label_makes_no_image(models):
    assert models["vae"].predict(rows()).shape == (0, 3, 16, 16)


def test_mlflow_alone_loads_it_with_the_installed_package_and_makes_the_same_images(project, models, tmp_path):
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    done = subprocess.run(
        [sys.executable, "-c", ALONE, json.dumps(LABELS)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert Path(said["file"]) == Path(fedsynth.__file__), "no code comes from the model"
    assert said["dtype"] == "float32"
    first, again, other = (np.array(images, np.float32) for images in said["images"])
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(first, models["vae"].predict(rows(*LABELS), params={"seed": 7}), atol=1e-6)
    assert np.abs(first - other).max() > 0.01


def test_the_model_asks_for_what_it_needs_pinned_and_not_for_a_build_that_no_index_has(models):
    folder = Path(models["vae"]._model_meta.artifact_path.removeprefix("file://"))
    wanted = (folder / "requirements.txt").read_text().split()
    assert all("==" in line and "+" not in line for line in wanted)
    assert {"torch", "monai", "safetensors", "mlflow"} <= {line.partition("==")[0] for line in wanted}
    assert not list(folder.rglob("*.pkl")), "weights are read without pickle"


FEDSYNTH = ["fedsynth", "serve", "vae", "--version", "1"]
MLFLOW = ["mlflow", "models", "serve", "-m", "models:/fedsynth-vae/1", "--env-manager", "local", "--workers", "1"]


@pytest.fixture(params=[FEDSYNTH, MLFLOW], ids=["fedsynth", "mlflow"])
def server(project, tmp_path, request):
    """The scoring server on a free port of this machine, as users start it; ended with all its processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "FEDSYNTH_ROOT": str(project),
    }
    # MLflow starts `uvicorn` by name
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    command = [sys.executable, "-m", *request.param, "--host", "127.0.0.1", "--port", str(port)]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            _wait(f"http://127.0.0.1:{port}/ping", process, tmp_path / "log")
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            _end(process)


def _wait(url, process, log, seconds=120):
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.2)
    pytest.fail(f"the scoring server did not come up:\n{log.read_text()}")


def _end(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        tree = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        for one in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.terminate()
        _, alive = psutil.wait_procs(tree, timeout=10)
        for one in alive:
            one.kill()


def ask(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.mark.pipeline
def test_the_scoring_server_answers_with_the_same_images_and_says_what_is_wrong(server, models):
    status, answer = ask(server, {"dataframe_records": [{"label": label} for label in LABELS], "params": {"seed": 7}})
    assert status == 200
    images = np.array(answer["predictions"], np.float32)
    np.testing.assert_allclose(images, models["vae"].predict(rows(*LABELS), params={"seed": 7}), atol=1e-6)
    status, answer = ask(server, {"dataframe_records": [{"label": "benign"}]})
    assert status == 400
    assert "the label 'benign' is not known; this model knows none, infiltrating, extra_axial" in answer["message"]
    status, answer = ask(server, {"dataframe_records": [{"lable": "none"}]})
    assert status == 400
    assert "missing inputs ['label']" in answer["message"]
