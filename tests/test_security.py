"""What comes from outside runs no code and leaves no folder, and what is secret is in no log, parameter, tag, model or
job.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import stat
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from fedsynth.params import Block, ParamsError
from fedsynth.registry import tracking
from fedsynth.training import checkpoint, weights
from tests.alone import alone
from tests.sets import tiny_params
from tests.trained import trained

SECRET = "SECRET4711"
URI = f"postgresql://user:{SECRET}@127.0.0.1:1/mlflow"
SECRETS = (
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_PASSWORD",
    "PREFECT_API_KEY",
    "AWS_SECRET_ACCESS_KEY",
    "FEDSYNTH_KIT",
    "ANY_VARIABLE",
)

LOAD = """
import pickle, sys
import mlflow, torch, cloudpickle
import pandas as pd
from fedsynth.registry.serving import Generator  # what torch and MONAI do at import is not a model's

def forbidden(*given, **more):
    raise AssertionError("pickled code was to be run")

pickle.load = pickle.loads = pickle.Unpickler = pickle._Unpickler = forbidden
cloudpickle.load = cloudpickle.loads = torch.load = forbidden
model = mlflow.pyfunc.load_model(sys.argv[1])
print(model.predict(pd.DataFrame({"label": ["none"]})).shape)
"""


class Evil:
    """What a pickle of it does when it is loaded."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A project with a registered model, made with secrets in the environment, in git's remote and in an address of
    params.yaml.
    """
    root = tmp_path_factory.mktemp("project")
    with alone() as patch:
        for name in SECRETS:
            patch.setenv(name, f"{SECRET}-{name}")
        remote = f"https://robot:{SECRET}@git.example.org/consortium.git"
        for words in (
            ["init", "-q"],
            ["remote", "add", "origin", remote],
            ["commit", "-q", "--allow-empty", "-m", "first"],
        ):
            subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=root, check=True)
        source = {
            "class_path": "fedsynth.sources.table.Table",
            "args": {"folder": f"https://pacs:{SECRET}@archive.example.org/images"},
        }
        params = tiny_params(source=source)
        trained(root, params)
        with tracking.Tracker(root, params, tags={"store": URI}) as tracker:
            tracker.publish("vae")
    return root


def folder_of(root: Path) -> Path:
    """Of the one model that is registered there."""
    (found,) = root.glob("mlartifacts/**/MLmodel")
    return found.parent


# --- pickles


def test_a_registered_model_holds_no_pickle(registry):
    files = [path for path in folder_of(registry).rglob("*") if path.is_file()]
    assert {"weights.safetensors", "model.json", "hashes.json"} <= {path.name for path in files}
    assert [path for path in files if path.suffix in (".py", ".pyc", ".so", ".whl")] == [], "nor code"
    for path in files:
        assert path.suffix not in (".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib"), path
        assert not (
            zipfile.is_zipfile(path) and any(name.endswith(".pkl") for name in zipfile.ZipFile(path).namelist())
        ), path
        with path.open("rb") as file:
            start = file.read(2)
        assert not (start[:1] == b"\x80" and start[1:] in (b"\x02", b"\x03", b"\x04", b"\x05")), path


def test_a_registered_model_is_loaded_and_samples_without_unpickling_anything(registry):
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(folder_of(registry))],
        cwd=Path(__file__).parents[1],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-2] == "(1, 3, 16, 16)"


def as_torch_saves(evil: Evil) -> bytes:
    file = io.BytesIO()
    torch.save({"state": evil}, file)
    return file.getvalue()


@pytest.mark.parametrize("written", [as_torch_saves, pickle.dumps, lambda evil: pickle.dumps({"state": evil}, 2)])
def test_a_sites_state_that_would_run_code_is_refused_and_does_not_run(tmp_path, written):
    proof, path = tmp_path / "proof", tmp_path / "state.pt"
    path.write_bytes(written(Evil(proof)))
    with pytest.raises(pickle.UnpicklingError, match=r"[Ww]eights.only"):
        checkpoint.load(path)
    assert not proof.exists()
    with suppress(RuntimeError):  # a bare pickle is run first, and is then found to be no state
        torch.load(path, weights_only=False)
    assert proof.exists(), "loaded as one must not, the same file does its harm"


def test_what_a_site_keeps_passes_through_its_file_unchanged(tmp_path):
    state = {"optimizer": {"step": 3, "m": torch.arange(4.0)}, "names": ["a"], "random": torch.get_rng_state()}
    checkpoint.save(tmp_path / "state.pt", state)
    back = checkpoint.load(tmp_path / "state.pt")
    assert (back["names"], back["optimizer"]["step"]) == (["a"], 3)
    assert torch.equal(back["optimizer"]["m"], state["optimizer"]["m"])


def test_weights_that_are_a_pickle_are_no_weights(tmp_path):
    proof, path = tmp_path / "proof", tmp_path / weights.FILE
    path.write_bytes(pickle.dumps(Evil(proof)))
    with pytest.raises(weights.WeightsError, match="not a safetensors file"):
        weights.load(path)
    assert not proof.exists()


# --- class_path


@pytest.mark.parametrize(
    "path",
    [
        "fedsynth.params.Path",
        "fedsynth.processes.suppress",
        "fedsynth.training.checkpoint.load",
        "fedsynth.training.checkpoint.torch.load",
        "fedsynth.params.importlib.import_module",
        "fedsynth.params.Block.build",
        "fedsynth.params",
        "os.system",
        "fedsynth..params.Block",
        "fedsynth.params.Block ",
        " fedsynth.params.Block",
        "fedsynth.params.Block()",
        "Fedsynth.params.Block",
        "fedsynth",
        "",
    ],
)
def test_a_class_path_reaches_classes_of_this_package_and_nothing_that_they_import(path):
    with pytest.raises((ParamsError, ValidationError)) as error:
        Block(class_path=path).build()
    assert repr(path) in str(error.value)


def test_a_model_that_names_a_class_of_others_is_not_built(registry):
    about = json.loads((registry / "models/vae/model.json").read_text())
    about["family"] = {"class_path": "fedsynth.params.Path", "args": {}}
    with pytest.raises(ParamsError, match=r"fedsynth\.params\.Path"):
        weights.build_family(about, weights.load(registry / "models/vae/weights.safetensors"))


# --- archives: nothing of ours unpacks one; NVFLARE unpacks jobs and results


def zipped(path: Path, name: str, content: str, mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("fine.txt", "fine")
        entry = zipfile.ZipInfo(name)
        entry.create_system, entry.external_attr = 3, mode << 16
        out.writestr(entry, content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "mode"),
    [
        ("../evil", "", 0),
        ("folder/../../evil", "", 0),
        ("..\\evil", "", 0),
        ("{}/evil", "", 0),
        ("evil", "/etc", stat.S_IFLNK | 0o777),
    ],
)
def test_flare_refuses_an_archive_with_a_way_out_of_its_folder_before_it_unpacks_any_of_it(
    tmp_path, name, content, mode
):
    from nvflare.fuel.utils.zip_utils import unzip_all_from_bytes, unzip_all_from_file

    (tmp_path / "out").mkdir()
    archive = zipped(tmp_path / "result.zip", name.format(tmp_path), content, mode)
    with pytest.raises(ValueError, match="unsafe"):
        unzip_all_from_file(str(archive), str(tmp_path / "out"))
    with pytest.raises(ValueError, match="unsafe"):
        unzip_all_from_bytes(archive.read_bytes(), str(tmp_path / "out"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["out", "result.zip"]


# a model that a person brings (`fedsynth generate model.zip`); what is refused: tests/generation/test_source.py
UNPACKS = "fedsynth/generation/exported.py"


def test_our_own_code_unpacks_an_archive_in_one_place_alone():
    """Elsewhere it writes tar files, each opened by a line that says "w", and reads none."""
    root, words = (
        Path(__file__).parents[1],
        ("extractall", "unpack_archive", "from tarfile", ".extract(", ".extractfile("),
    )
    files = [path for folder in ("fedsynth", "flows", "nvflare_jobs") for path in (root / folder).rglob("*.py")]
    files = [path for path in files if path.relative_to(root).as_posix() != UNPACKS]
    assert len(files) > 50
    assert [f"{path.name}: {word}" for path in files for word in words if word in path.read_text()] == []
    opened = [
        line
        for path in files
        for line in path.read_text().splitlines()
        if "tarfile.open(" in line or "TarFile(" in line
    ]
    assert [line for line in opened if '"w"' not in line] == []
    assert 'tar.extractall(to, filter="data")' in (root / UNPACKS).read_text()


@pytest.mark.parametrize(("name", "content", "mode"), [("../evil", "", 0), ("evil", "/etc", stat.S_IFLNK | 0o777)])
def test_a_zip_that_a_person_brings_writes_nothing_outside_and_makes_no_link(tmp_path, name, content, mode):
    from fedsynth.generation.exported import _unpack

    (tmp_path / "in/deep").mkdir(parents=True)
    _unpack(zipped(tmp_path / "model.zip", name, content, mode), tmp_path / "in/deep")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "model.zip"]
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["deep"]


# --- secrets


def holding_a_secret(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file() and ".git" not in path.relative_to(folder).parts]
    assert files
    return [str(path.relative_to(folder)) for path in files if SECRET.encode() in path.read_bytes()]


def test_nothing_secret_is_in_mlflows_database_or_in_a_model(registry):
    assert holding_a_secret(registry) == []
    # it was written, without the password
    assert b"https://pacs:***@archive.example.org/images" in (registry / "mlflow.db").read_bytes()
    assert b"git.example.org" not in (registry / "mlflow.db").read_bytes()  # git's remote is not told at all


def test_a_tracking_server_that_fails_is_said_without_its_password(registry, monkeypatch, caplog):
    from mlflow.exceptions import MlflowException

    def fail(*given, **more):
        raise MlflowException(f"could not connect to {URI}")

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with tracking.Tracker(registry, tiny_params(), name="fails") as tracker:
        monkeypatch.setattr(tracker, "_rounds", fail)
        tracker.round("vae", {"round": 0, "sites": {}})
    assert "did not reach MLflow" in caplog.text
    assert "postgresql://user:***@127.0.0.1" in caplog.text
    assert SECRET not in caplog.text


def test_a_job_holds_no_value_of_an_environment_variable_and_nothing_of_where_images_come_from(tmp_path, monkeypatch):
    from fedsynth.params import Consortium
    from nvflare_jobs.centre import build_question, build_rounds, program
    from nvflare_jobs.train import job as training

    for name in (*SECRETS, "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, f"{SECRET}-{name}")
    source = {
        "class_path": "fedsynth.sources.table.Table",
        "args": {"folder": f"/{SECRET}/images", "labels": {SECRET: "none"}},
    }
    params = tiny_params(source=source)
    config, initial = training.question(params, "vae", {"north": "d"}), training.begin(params, "vae")
    algorithm = config["model"]["algorithm"]
    for thin in (True, False):
        build_rounds.train(
            tmp_path / f"train-{thin}", "train_vae", ["north"], Consortium(), config, algorithm, initial, 1, thin
        )
        asked = {"params": program.public(params), "look": False}
        build_question.ask(tmp_path / f"ask-{thin}", "validate", "validate", ["north"], Consortium(), asked, thin=thin)
    assert len(list(tmp_path.rglob("job.json"))) == 4
    assert holding_a_secret(tmp_path) == []


def test_the_summary_of_a_run_shows_no_password(tmp_path, monkeypatch, capsys):
    from fedsynth.worth import terminal, worth
    from flows import summary

    for name in SECRETS:
        monkeypatch.setenv(name, f"{SECRET}-{name}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", URI)
    monkeypatch.setattr(worth, "rows", lambda root, models: [])
    monkeypatch.setattr(terminal, "text", lambda tables, width: "")
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/verdict.json").write_text('{"vae": {"said": "every gate holds", "gates": []}}')
    summary.show(summary.summary(tmp_path, tiny_params()))
    shown = capsys.readouterr().out
    assert "postgresql://user:***@127.0.0.1:1/mlflow" in shown
    assert SECRET not in shown
