"""What is registered cannot be swapped: whatever is changed in an artifact, nothing of it is loaded or promoted."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from fedsynth.registry import aliases, hashes, loading, promotion, server, tracking, versions
from fedsynth.training import weights
from tests.registry.test_versions import WHO, scored
from tests.sets import make_set, tiny_params
from tests.trained import trained

PARAMS = tiny_params(gates={"by": "point", "require": ["c/retained >= 0.5"]})
ONE = pd.DataFrame({"label": ["none"]})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project with two versions of one model; the second has scores, card and datasheet."""
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("DVC_ROOT", raising=False)
        for seed in (1, 2):
            trained(root, PARAMS, seed=seed)
            if seed == 2:
                scored(root, 0.4)
                kind = {"site": "synthetic", "origin": "synthetic", "model": "vae/c3c3c3"}
                make_set(root / "data" / "synthetic" / "vae", PARAMS, n=12, **kind)
            with tracking.Tracker(root, PARAMS) as tracker:
                tracker.publish("vae")
    return root


@pytest.fixture
def root(made, tmp_path, monkeypatch):
    """The project as it was made, for one test: the artifact's folders and the versions' tags are put back."""
    client = versions.client_of(made)
    before = {number: dict(client.get_model_version("fedsynth-vae", number).tags) for number in ("1", "2")}
    shutil.copytree(made / "mlartifacts", tmp_path / "before")
    yield made
    shutil.rmtree(made / "mlartifacts")
    shutil.copytree(tmp_path / "before", made / "mlartifacts")
    for number, tags in before.items():
        for name in set(client.get_model_version("fedsynth-vae", number).tags) - set(tags):
            client.delete_model_version_tag("fedsynth-vae", number, name)
        for name, value in tags.items():
            client.set_model_version_tag("fedsynth-vae", number, name, value)
    for alias in client.get_registered_model("fedsynth-vae").aliases:
        client.delete_registered_model_alias("fedsynth-vae", alias)


def folder(root, number="2") -> Path:
    source = versions.client_of(root).get_model_version("fedsynth-vae", number).source
    return Path(source.removeprefix("file://"))


def retag(root, name, value, number="2"):
    versions.client_of(root).set_model_version_tag("fedsynth-vae", number, name, value)


def other_weights(path: Path):
    weights.save(path, {name: array + 1 for name, array in weights.load(path).items()})


def edited(path: Path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewritten(place: Path):
    """Hashes that fit the files as they are now, as whoever swaps all of them would write."""
    about = json.loads((place / "data/model/model.json").read_text())
    digest = weights.sha256(place / "data/model/weights.safetensors")
    edited(place / "data/model/model.json", weights_sha256=digest)
    hashes.write(place, about | {"weights_sha256": digest}, "none")


CHANGES = {
    "other weights": (lambda f: other_weights(f / "data/model/weights.safetensors"), "data/model/weights.safetensors"),
    "an edited model.json": (lambda f: edited(f / "data/model/model.json", name="x"), "data/model/model.json"),
    "another family": (
        lambda f: edited(f / "data/model/model.json", family={"class_path": "fedsynth.families.gan.GAN", "args": {}}),
        "data/model/model.json",
    ),
    "an edited MLmodel": (lambda f: (f / "MLmodel").write_text("flavors: {}"), "MLmodel"),
    "another environment": (lambda f: (f / "requirements.txt").write_text("evil==1"), "requirements.txt"),
    "an added file": (lambda f: (f / "data/model/more.txt").write_text("x"), "data/model/more.txt"),
    "an added link": (lambda f: (f / "data/link").symlink_to("/etc/hostname"), "data/link"),
    "an added module": (lambda f: (f / "sitecustomize.py").write_text("1/0"), "sitecustomize.py"),
    "a lost file": (lambda f: (f / "data/model/model.json").unlink(), "data/model/model.json"),
    "a lost environment": (lambda f: (f / "conda.yaml").unlink(), "conda.yaml"),
    "an edited card": (lambda f: (f / "MODEL_CARD.md").write_text("May be promoted"), "MODEL_CARD.md"),
    "a lost datasheet": (lambda f: (f / "DATASHEET.md").unlink(), "DATASHEET.md"),
    "lost hashes": (lambda f: (f / "hashes.json").unlink(), "hashes.json"),
    "edited hashes": (lambda f: edited(f / "hashes.json", weights_sha256="0" * 64), "hashes.json"),
    "hashes that are none": (lambda f: (f / "hashes.json").write_text("[]"), "hashes.json"),
    "other weights with hashes that fit them": (
        lambda f: (other_weights(f / "data/model/weights.safetensors"), rewritten(f)),
        "hashes.json and the tag manifest.sha256 disagree",
    ),
    "no artifact at all": (shutil.rmtree, ""),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_artifact_is_neither_loaded_nor_promoted_nor_served_whatever_is_said(root, change, monkeypatch):
    do, what = CHANGES[change]
    do(folder(root))
    monkeypatch.setattr(weights, "build_family", lambda *_: pytest.fail("something was built of it"))
    ways = [
        lambda: loading.load(root, "vae", 2, although="I know"),
        lambda: server.model_of(root, "vae", 2, "Ada", although="I know"),
        lambda: aliases.promote(root, "vae", 2, *WHO, although="I know"),
    ]
    for way in ways:
        with pytest.raises(hashes.Swapped) as error:
            way()
        assert "fedsynth-vae version 2" in str(error.value)
        assert what in str(error.value)
        assert "fedsynth run" in str(error.value)
    assert versions.alias_of(root, "vae", "champion") is None


def test_a_changed_version_is_not_rolled_back_to(root):
    aliases.promote(root, "vae", 1, *WHO)
    aliases.promote(root, "vae", 2, *WHO)
    other_weights(folder(root, "1") / "data/model/weights.safetensors")
    with pytest.raises(hashes.Swapped, match=r"fedsynth-vae version 1: data/model/weights\.safetensors is not"):
        aliases.rollback(root, "vae", "Grace", "artefacts", "none", although="I know")
    assert versions.alias_of(root, "vae", "champion") == "2"


@pytest.mark.parametrize("tag", [hashes.TAG, "weights_sha256", "paper.MODEL_CARD.md"])
def test_a_changed_tag_refuses(root, tag):
    retag(root, tag, "0" * 64)
    with pytest.raises(hashes.Swapped, match="version 2"):
        loading.load(root, "vae", 2, although="I know")


def test_a_lost_tag_is_no_way_round_the_hashes(root):
    versions.client_of(root).delete_model_version_tag("fedsynth-vae", "2", hashes.TAG)
    with pytest.raises(hashes.Swapped, match=r"has lost its tag manifest\.sha256"):
        loading.load(root, "vae", 2, although="I know")


def evil_mlmodel(place: Path, marker: Path, how: str):
    """An artifact whose MLmodel has MLflow run what lies in it, and that leaves a marker when it is run."""
    (place / "code").mkdir()
    write = f"from pathlib import Path; Path({str(marker)!r}).touch()"
    (place / "code" / "evil.py").write_text(f"{write}\ndef _load_pyfunc(path): ...\n")
    described = yaml.safe_load((place / "MLmodel").read_text())
    flavor = described["flavors"]["python_function"]
    if how == "loader":
        flavor |= {"loader_module": "evil", "code": "code"}
    else:
        (place / "python_model.pkl").write_bytes(pickle.dumps(Touch(marker)))
        flavor |= {
            "loader_module": "mlflow.pyfunc.model",
            "python_model": "python_model.pkl",
            "cloudpickle_version": "3",
        }
        flavor.pop("data", None)
    (place / "MLmodel").write_text(yaml.safe_dump(described))


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


RUN = """
import sys
import pandas as pd
from pathlib import Path
from fedsynth.registry import hashes, loading, server
way = {"load": lambda r: loading.load(r, "vae", 2), "serve": lambda r: server.model_of(r, "vae", 2, "Ada", "why")}
if sys.argv[2] == "mlflow":
    import mlflow
    mlflow.pyfunc.load_model(sys.argv[3])
else:
    way[sys.argv[2]](Path(sys.argv[1]))
"""


@pytest.mark.parametrize("how", ["loader", "pickle"])
def test_code_in_an_artifact_is_not_run_by_any_way_of_ours(root, tmp_path, how):
    marker, place = tmp_path / "marker", folder(root)
    evil_mlmodel(place, marker, how)
    for way, runs in (("load", False), ("serve", False), ("mlflow", True)):
        words = [sys.executable, "-c", RUN, str(root), way, str(place)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=False, cwd=tmp_path)
        assert done.returncode, way
        assert marker.exists() is runs, "the same artifact does its harm where MLflow alone loads it"
        assert ("Swapped" in done.stderr) is not runs


def test_what_is_loaded_makes_the_images_that_mlflow_makes(root, monkeypatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
    ways = [
        loading.load(root, "vae", 2),
        server.model_of(root, "vae", 2, "Ada"),
        mlflow.pyfunc.load_model("models:/fedsynth-vae/2"),
    ]
    first, *others = (way.predict(ONE, params={"seed": 3}) for way in ways)
    assert first.shape == (1, 3, 16, 16)
    for other in others:
        np.testing.assert_array_equal(first, other)
    loading.load(root, "vae", 2)  # also with the file that MLflow has put beside it


def test_mlflow_alone_finds_damage_and_what_lost_its_tag(root, monkeypatch, caplog):
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
    with caplog.at_level(logging.WARNING):
        mlflow.pyfunc.load_model(str(folder(root)))
    assert "was held against the hashes in it alone" in caplog.text
    other_weights(folder(root) / "data/model/weights.safetensors")
    for uri in ("models:/fedsynth-vae/2", str(folder(root))):
        with pytest.raises(hashes.Swapped, match="weights"):
            mlflow.pyfunc.load_model(uri)
    rewritten(folder(root))
    with pytest.raises(hashes.Swapped, match="disagree"):
        mlflow.pyfunc.load_model("models:/fedsynth-vae/2")


def older(root):
    """Version 2 as an older fedsynth registered it: weights as artifacts, no hashes."""
    place = folder(root)
    (place / "data/model").rename(place / "artifacts")
    (place / hashes.FILE).unlink()
    versions.client_of(root).delete_model_version_tag("fedsynth-vae", "2", hashes.TAG)


def test_a_version_without_hashes_is_used_for_a_reason_alone_which_is_kept(root, caplog):
    older(root)
    ways = [
        lambda why: loading.load(root, "vae", 2, although=why),
        lambda why: server.model_of(root, "vae", 2, "Ada", although=why),
        lambda why: aliases.promote(root, "vae", 2, *WHO, although=why),
    ]
    for way in ways:
        for none in ("", "  "):
            with pytest.raises(
                (promotion.Refused, versions.RegistryError), match=r"has no hashes|`(although|why)` has 0"
            ):
                way(none)
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            way("it is the one of the paper")
        assert "has no hashes" in caplog.text
    tags = versions.version_of(root, "vae", 2).tags
    assert (tags["served.by"], tags["served.although"]) == ("Ada", "it is the one of the paper")
    assert "has no hashes" in tags["promotion.overruled"]
    assert tags["promotion.although"] == "it is the one of the paper"


def test_weights_of_a_version_without_hashes_are_registered_again_with_hashes(root):
    older(root)
    assert not tracking.registered(root, PARAMS)
    with tracking.Tracker(root, PARAMS) as tracker:
        number = tracker.publish("vae")
    assert number == "3"
    assert hashes.TAG in versions.version_of(root, "vae").tags
    assert tracking.registered(root, PARAMS)
    loading.load(root, "vae")
    versions.client_of(root).delete_model_version("fedsynth-vae", "3")


def test_the_hashes_name_every_file_the_weights_and_the_code(root):
    kept = json.loads((folder(root) / hashes.FILE).read_text())
    there = {p.relative_to(folder(root)).as_posix() for p in folder(root).rglob("*") if p.is_file()}
    assert set(kept["files"]) == there - {hashes.FILE, *hashes.PAPERS}
    assert {"MLmodel", "conda.yaml", "requirements.txt", "data/model/model.json"} <= set(kept["files"])
    about = json.loads((folder(root) / "data/model/model.json").read_text())
    assert kept["weights_sha256"] == about["weights_sha256"] == versions.version_of(root, "vae").tags["weights_sha256"]
    assert "fedsynth.families.vae" in kept["code"]["modules"]
    tags = versions.version_of(root, "vae").tags
    assert tags[hashes.TAG] == weights.sha256(folder(root) / hashes.FILE)
    assert all(tags[f"paper.{name}"] == weights.sha256(folder(root) / name) for name in hashes.PAPERS)


def test_a_new_scoring_writes_the_papers_and_their_tags_and_leaves_the_hashes(root):
    before = versions.version_of(root, "vae", 2).tags
    scored(root, 0.2)
    with tracking.Tracker(root, PARAMS) as tracker:
        assert tracker.publish("vae") == "2"
    after = versions.version_of(root, "vae", 2).tags
    assert after[hashes.TAG] == before[hashes.TAG]
    assert after["paper.MODEL_CARD.md"] != before["paper.MODEL_CARD.md"]
    loading.load(root, "vae", 2)
    scored(root, 0.4)


def test_other_code_than_at_registration_is_said_and_another_familys_is_not(root, monkeypatch, caplog):
    now = hashes.modules()
    monkeypatch.setattr(hashes, "modules", lambda: now | {"fedsynth.families.gan": "0" * 64})
    with caplog.at_level(logging.WARNING):
        loading.load(root, "vae", 2)
    assert caplog.text == ""
    monkeypatch.setattr(hashes, "modules", lambda: now | {"fedsynth.families.vae": "0" * 64})
    with caplog.at_level(logging.WARNING):
        loading.load(root, "vae", 2)
    assert "fedsynth.families.vae has changed since: the same seed may give other images" in caplog.text


def test_serving_wants_a_champion_or_a_number(root):
    with pytest.raises(versions.RegistryError, match="no version of vae is the champion; promote one"):
        server.model_of(root, "vae", None, "Ada")
    aliases.promote(root, "vae", 1, *WHO)
    assert server.model_of(root, "vae", None, "Ada").predict(ONE).shape == (1, 3, 16, 16)
