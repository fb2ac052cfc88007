"""What images are drawn from: versions of the registry, folders and archives, each held against its hashes first."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pytest

import fedsynth
from fedsynth.errors import UserError
from fedsynth.generation.source import released
from fedsynth.registry import aliases, hashes, promotion, stale, tracking, versions
from tests.alone import alone
from tests.registry.test_stale import withdraws
from tests.registry.test_versions import WHO, scored
from tests.sets import tiny_params
from tests.trained import trained

PARAMS = tiny_params(
    gates={"by": "point", "require": ["c/retained >= 0.5"]},
    models={name: tiny_params().models["vae"].model_dump() for name in ("vae", "second")},
)
NORTH = "a" * 64


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study with versions 1 (scored) and 2 of `vae` and version 1 of `second`; north's set of 2 has a digest."""
    root = tmp_path_factory.mktemp("study")
    with alone():
        trained(root, PARAMS, seed=1)
        trained(root, PARAMS, "second", seed=3)
        scored(root, 0.7)
        with tracking.Tracker(root, PARAMS) as tracker:
            tracker.publish("vae")
            tracker.publish("second")
        about = trained(root, PARAMS, seed=2) | {"digests": {"north": NORTH}}
        (root / "models/vae/model.json").write_text(json.dumps(about))
        with tracking.Tracker(root, PARAMS) as tracker:
            tracker.publish("vae")
    (root / "params.yaml").write_text(json.dumps(PARAMS.model_dump(mode="json")))
    return root


@pytest.fixture
def study(made, tmp_path, monkeypatch):
    """The study, without aliases; its registry may be changed, and is then as before."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(made / "mlflow.db", tmp_path / "before.db")
    yield made
    shutil.copy(tmp_path / "before.db", made / "mlflow.db")
    shutil.rmtree(made / "data", ignore_errors=True)


def artifact(study, number=1):
    return versions.version_of(study, "vae", number).source.removeprefix("file://")


def drawn(model):
    return next(iter(fedsynth.load(model).generate(4, seed=1))).images.tobytes()


def test_a_name_is_its_champion_or_the_version_that_is_asked_for(study):
    aliases.promote(study, "vae", 1, *WHO)
    champion, second = released("vae", study=study), released("vae", 2, study)
    assert champion.title.endswith("vae version 1")
    assert (champion.number, second.number) == (1, 2)
    assert champion.version != second.version
    assert champion.verdict == "passed"
    assert second.study == PARAMS
    assert "against the registry" in champion.held[0]
    assert champion.objections == []
    assert champion.card.startswith("# Model card: vae")


def test_champion_alone_is_that_of_the_only_model_that_has_one(study):
    with pytest.raises(UserError, match=r"no model has a champion; promote .*registered: second, vae$"):
        released("champion", study=study)
    aliases.promote(study, "vae", 2, *WHO)
    assert released("champion", study=study).number == 2
    with pytest.raises(UserError, match="`champion` is a version itself"):
        released("champion", 1, study)
    aliases.promote(study, "second", 1, *WHO)
    with pytest.raises(UserError, match=r"2 models have a champion: second \(version 1\), vae \(version 2\); name"):
        released("champion", study=study)


def test_what_is_not_there_is_answered_with_what_is(study, tmp_path):
    for name, number, said in (
        ("gan", None, "no version of a model 'gan'; models that have one: second, vae"),
        ("vae", 7, "has no version 7; there are 1, 2"),
        ("vae", None, "no version of vae is the champion; promote one"),
        ("./vae", None, "vae is not there; give the folder models/<name>/ of a study or the artifact"),
        (study / "models/vae", 2, "--version 2 goes with a model's name"),
        (study / "reports", None, "reports holds no model; give"),
        (study / "params.yaml", None, r"params\.yaml is no folder, zip or tar file; give"),
    ):
        with pytest.raises(UserError, match=said):
            released(name, number, study)
    with pytest.raises(UserError, match=r"there is no registry in .* and no folder or archive vae"):
        released("vae", study=tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("what", ["data/model/weights.safetensors", "data/model/model.json", "MODEL_CARD.md"])
def test_a_version_whose_files_were_changed_is_refused_whatever_one_says(study, tmp_path, what):
    file = Path(artifact(study)) / what
    before = file.read_bytes()
    try:
        file.write_bytes(before + b" ")
        with pytest.raises(hashes.Swapped):
            fedsynth.generate("vae", 3, tmp_path / "out", version=1, study=study, although="I trust it")
        assert not (tmp_path / "out").exists()
    finally:
        file.write_bytes(before)


def test_a_stale_version_needs_a_reason_which_stays_with_it(study, tmp_path):
    withdraws(study, north=[NORTH])
    with pytest.raises(stale.Refused, match="version 2 is stale, data withdrawn at north"):
        released("vae", 2, study)
    found = released("vae", 2, study, although="for the demonstration", by="Grace")
    assert "is stale" in found.objections[0]
    assert "used although: for the demonstration" in found.objections[0]
    version = versions.version_of(study, "vae", 2)
    assert (version.tags["drawn.by"], version.tags["drawn.although"]) == ("Grace", "for the demonstration")
    assert "Drawn from, by Grace, although: for the demonstration" in version.description
    assert released("vae", 1, study).objections == []


def test_a_model_s_folder_knows_what_its_study_knows(study):
    assert released(study / "models/vae").study == PARAMS
    assert released(study / "models/second").verdict == "", "it was not scored"
    withdraws(study, north=[NORTH])
    with pytest.raises(promotion.Refused, match="the model in vae is stale, data withdrawn at north"):
        released(study / "models/vae")
    assert "used although: a test" in released(study / "models/vae", although="a test").objections[0]


def test_a_scored_model_s_folder_has_the_card_with_what_was_computed(study, monkeypatch):
    about = json.loads((study / "models/second/model.json").read_text())
    score = json.loads((study / "reports/score/vae.json").read_text())
    for row in score["rows"]:
        row["model"] = "second"
    (study / "reports/score/second.json").write_text(json.dumps(score | {"weights_sha256": about["weights_sha256"]}))
    try:
        found = released(study / "models/second")
    finally:
        (study / "reports/score/second.json").unlink()
    assert found.verdict == "passed"
    assert "## Quantitative analyses" in found.card
    assert "Not judged" not in found.card


@pytest.mark.parametrize("packed", ["folder", "zip", "tar", "gztar"])
def test_a_downloaded_artifact_draws_what_its_version_draws_away_from_the_study(study, tmp_path, monkeypatch, packed):
    shutil.copytree(artifact(study), tmp_path / "away" / "model")
    path = tmp_path / "away" / "model"
    if packed != "folder":
        path = Path(shutil.make_archive(str(tmp_path / "model"), packed, tmp_path / "away"))
        shutil.rmtree(tmp_path / "away")
    found = released(path)
    assert hashes.FILE in found.held[0]
    assert found.study is None
    assert found.card.startswith("# Model card: vae")
    assert drawn(path) == next(iter(fedsynth.load("vae", 1, study).generate(4, seed=1))).images.tobytes()


def test_a_downloaded_artifact_that_was_changed_or_has_no_hashes_is_refused(study, tmp_path):
    shutil.copytree(artifact(study), tmp_path / "model")
    (tmp_path / "model" / "MLmodel").write_text("another")
    with pytest.raises(hashes.Swapped, match="MLmodel is not the file that was registered"):
        released(tmp_path / "model", although="I trust it")
    (tmp_path / "model" / hashes.FILE).unlink()
    with pytest.raises(promotion.Refused, match=r"has no hashes\.json, so nobody can tell .*--although TEXT"):
        released(tmp_path / "model")
    assert "used although: my own" in released(tmp_path / "model", although="my own").objections[0]


@pytest.fixture
def folder(tmp_path):
    trained(tmp_path, PARAMS)
    return tmp_path / "models" / "vae"


def test_weights_that_are_not_those_of_model_json_are_refused(folder):
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(content)
    with pytest.raises(hashes.Swapped, match=r"weights\.safetensors is not the file that model\.json names"):
        released(folder, although="I trust it")


@pytest.mark.parametrize(
    "change",
    [
        {"family": {"class_path": "fedsynth.features.torchscript.TorchScript", "args": {}}},
        {"algorithm": {"class_path": "fedsynth.sources.table.Table", "args": {}}},
        {"name": "../../up"},
        {"image": {"size": [16]}},
        {"sites": None, "family": None},
    ],
)
def test_a_model_json_of_anybody_builds_nothing_but_a_family(folder, change):
    about = json.loads((folder / "model.json").read_text()) | change
    (folder / "model.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match=r"the model in vae: model\.json is none that this fedsynth reads"):
        released(folder)


def test_an_archive_writes_nowhere_else_and_a_broken_one_is_said(folder, tmp_path):
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        tar.add(folder / "model.json", "../../evil.json")
    with pytest.raises(UserError, match="cannot be unpacked"):
        released(tmp_path / "evil.tar")
    assert not list(tmp_path.parent.glob("evil.json"))
    path = Path(shutil.make_archive(str(tmp_path / "model"), "gztar", folder))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"model\.tar\.gz"):
        released(path)


def test_a_folder_with_the_name_of_a_model_is_meant_only_as_a_path(study, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert released("vae", 1, study).number == 1
    assert released("./vae", study=study).number is None
    assert released("vae", study=tmp_path / "elsewhere").number is None, "where there is no registry"
