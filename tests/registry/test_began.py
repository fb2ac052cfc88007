"""What a model began with follows it: into tags, papers, withdrawals, epsilon, and the next training that goes on."""

from __future__ import annotations

import json

import pytest

from fedsynth.checks import problems
from fedsynth.params import Params
from fedsynth.params.start import Start
from fedsynth.registry import aliases, began, stale, starts, tracking, versions
from fedsynth.report.card import card, model_card
from fedsynth.report.datasheet import datasheet
from fedsynth.training import weights
from fedsynth.training.start import StartError
from fedsynth.worth import withdrawn
from nvflare_jobs.train.beginning import after
from tests.registry.test_versions import WHO
from tests.sets import make_set, tiny_params
from tests.trained import trained

PARAMS = tiny_params()
OLD, NEW = "a" * 64, "b" * 64
OTHERS = {
    "from": "file maisi.pt",
    "sha256": "c" * 64,
    "trained_on": ["CT of a public | archive"],
    "digests": {},
    "taken": 3,
    "of": 9,
    "weights_sha256": "d" * 64,
}
MINE = OTHERS | {
    "from": "models:/fedsynth-vae@champion, version 3",
    "trained_on": ["private: training images of north"],
    "digests": {"north": [OLD]},
}


@pytest.fixture
def about(tmp_path):
    return trained(tmp_path, PARAMS) | {"digests": {"north": NEW}}


def test_the_tags_say_where_it_is_from_and_what_was_behind_it(about):
    assert began.tags(about) == {}
    found = began.tags(about | {"began": MINE})
    assert found["start.from"] == "models:/fedsynth-vae@champion, version 3"
    assert found["start.sha256"] == "c" * 64
    assert found["start.trained_on"] == "private: training images of north"
    assert found["start.taken"] == "3 of 9 parameters"
    assert found["start.digests.north.0"] == OLD


def test_digests_that_do_not_fit_into_one_tag_are_in_several(about):
    many = [f"{n:064x}" for n in range(150)]
    found = began.tags(about | {"began": MINE | {"digests": {"north": many}}})
    kept = [value for name, value in sorted(found.items()) if name.startswith("start.digests.north.")]
    assert ",".join(kept).split(",") == many
    assert max(map(len, kept)) <= 5000


DRAWN = {
    "title": "fedsynth-vae version 3", "verdict": "passed", "fedsynth": "0.1.0", "checked": [], "warnings": {},
    "held": [], "objections": [], "mends": {"masks emptied": 0, "drawn again": 0},
}  # fmt: skip


def test_card_and_datasheet_say_it_and_say_nothing_without_a_start(tmp_path, about):
    images = make_set(tmp_path / "set", PARAMS, n=12, model="vae", seed=1)
    for of, said in (({}, False), ({"began": OTHERS, "trainable": ["*.decoder.*"]}, True)):
        texts = [
            card(about | of, None),
            model_card(about | of, None),
            datasheet(PARAMS, about | of, images, None, DRAWN),
        ]
        assert ["begun with file maisi.pt (SHA-256 cccccccccccc…, 3 of 9" in text for text in texts] == [said] * 3
        assert ["*.decoder.*" in text for text in texts[1:]] == [said] * 2
        assert ("the permissions for these are not those" in texts[2]) is said
    assert "CT of a public \\| archive" in model_card(about | {"began": OTHERS}, None)


def test_a_start_on_public_images_asks_for_no_other_permission(tmp_path, about):
    images = make_set(tmp_path / "set", PARAMS, n=12, model="vae", seed=1)
    text = datasheet(PARAMS, about | {"began": OTHERS | {"trained_on": ["public"]}}, images, None, DRAWN)
    assert "trained on public" in text
    assert "the permissions for these" not in text


def test_a_model_is_stale_where_only_its_start_was_trained_with_what_a_site_has_withdrawn(about):
    assert withdrawn.sites(about | {"began": MINE}, {"north": [OLD]}) == ["north"]
    assert withdrawn.sites(about | {"began": OTHERS}, {"north": [OLD]}) == []
    tags = {"data.digest.north": NEW} | began.tags(about | {"began": MINE})
    assert stale._new(tags, {"north": [OLD]}) == {"north": OLD}
    assert stale._new(tags | {"stale.cleared.digests": OLD}, {"north": [OLD]}) == {}
    assert stale._new({"data.digest.north": NEW}, {"north": [OLD]}) == {}
    assert stale._new({}, {"north": [OLD]}) == {}


SPENT = {"epsilon": 8.0, "total": 10.0, "delta": 1e-5}


@pytest.mark.parametrize(
    ("began", "known"),
    [
        (None, True),
        (OTHERS, True),  # of images that are not this study's
        (MINE, False),
        (MINE | {"epsilon": None}, False),
        (MINE | {"epsilon": SPENT | {"epsilon": None}}, False),
        (MINE | {"epsilon": SPENT}, True),  # the ledgers of the sites have both
    ],
)
def test_an_epsilon_is_none_where_the_start_has_seen_the_same_patients_without_one(began, known):
    found = after(SPENT, began)
    assert (found["epsilon"] == 8.0) is (found["total"] == 10.0) is known
    assert known or "trained on images of patients without a known epsilon" in found["why"]
    assert after(None, began) is None


# --- the registry itself


def study(**keys) -> Params:
    block = PARAMS.models["vae"].model_dump(mode="json")
    return tiny_params(models={"vae": block | {"start": {"registry": "models:/fedsynth-vae@champion"} | keys}})


def look(root, params, name="vae"):
    return starts.resolved(root, params.models[name].start.model_dump(mode="json"))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A project with version 1, the champion, and version 2."""
    made = tmp_path_factory.mktemp("a project")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
            patch.delenv(name, raising=False)
        for seed in (1, 2):
            told = trained(made, PARAMS, seed=seed)
            if seed == 1:
                told |= {"began": OTHERS, "digests": {"north": OLD}, "sites": {"north": 24}}
                (made / "models/vae/model.json").write_text(json.dumps(told))
                first = told["weights_sha256"]
            with tracking.Tracker(made, PARAMS) as tracker:
                tracker.publish("vae")
        aliases.promote(made, "vae", 1, *WHO)
    return made, first


def test_a_training_goes_on_from_the_champion_and_knows_all_that_was_behind_it(root):
    folder, first = root
    params = study()
    found = look(folder, params)
    assert found == {"version": "1", "sha256": first}
    begun = starts.begun(folder, params, "vae", found)
    assert begun.about["from"] == "models:/fedsynth-vae@champion, version 1"
    assert begun.about["trained_on"] == ["CT of a public | archive", "private: training images of north"]
    assert begun.about["digests"] == {"north": [OLD]}
    assert (
        begun.arrays.keys()
        == dict(PARAMS.models["vae"].family.build(**PARAMS.image.context()).named_parameters()).keys()
    )
    assert versions.version_of(folder, "vae", 1).tags["start.from"] == "file maisi.pt"


def test_what_params_yaml_says_of_a_version_is_told_with_what_it_knows_itself(root):
    folder, _ = root
    params = study(trained_on="CT of 2025")
    assert starts.begun(folder, params, "vae", look(folder, params)).about["trained_on"][0] == "CT of 2025"


def test_another_champion_is_another_start_and_a_number_stays(root):
    folder, first = root
    aliases.promote(folder, "vae", 2, *WHO)
    try:
        assert look(folder, study())["version"] == "2"
        assert look(folder, study(registry="models:/fedsynth-vae/1")) == {"version": "1", "sha256": first}
    finally:
        aliases.rollback(folder, "vae", "Ada", "a test", "run")


def test_what_the_run_began_with_is_taken_though_the_champion_has_changed_since(root):
    folder, first = root
    found = look(folder, study())
    aliases.promote(folder, "vae", 2, *WHO)
    try:
        assert starts.begun(folder, study(), "vae", found).about["sha256"] == first
    finally:
        aliases.rollback(folder, "vae", "Ada", "a test", "run")


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("models:/fedsynth-vae@nobody", "has no such version yet; promote one (`fedsynth promote vae`)"),
        ("models:/fedsynth-vae/9", "has no version 9; there are 1, 2"),
        ("models:/fedsynth-gan@champion", "has no such version yet"),
        ("models:/other-vae@champion", "other-vae is no model of this study, whose names begin with fedsynth-"),
    ],
)
def test_a_version_that_is_not_there_is_said_before_anything_runs(root, monkeypatch, uri, why):
    folder, _ = root
    monkeypatch.chdir(folder)
    (found,) = problems(study(registry=uri), source=False)
    assert found.key == "models.vae.start.registry"
    assert why in str(found)
    with pytest.raises(StartError, match=r"models\.vae\.start: "):
        starts.begun(folder, study(registry=uri), "vae", look(folder, study(registry=uri)))


def test_until_there_is_one_the_training_begins_with_the_seeds_weights_where_that_is_said(root, tmp_path, monkeypatch):
    folder, _ = root
    for where, uri in ((folder, "models:/fedsynth-vae@nobody"), (tmp_path, "models:/fedsynth-vae@champion")):
        monkeypatch.chdir(where)
        params = study(registry=uri, missing="seed")
        assert problems(params, source=False) == []
        assert starts.begun(where, params, "vae", look(where, params)) is None
    assert list(tmp_path.iterdir()) == [], "no registry is made by looking"


def test_a_registry_that_does_not_answer_is_not_an_empty_one(root, monkeypatch):
    folder, _ = root
    monkeypatch.setattr(versions, "models_of_study", lambda root: 1 / 0)
    params = study(missing="seed")
    found = look(folder, params)
    assert "the registry does not answer" in found["failed"]
    with pytest.raises(StartError, match="does not answer"):
        starts.begun(folder, params, "vae", found)


def test_a_model_of_another_size_is_refused_with_the_parameter(root, monkeypatch):
    folder, _ = root
    monkeypatch.chdir(folder)
    raw = study().model_dump(mode="json")
    raw["models"]["vae"]["family"]["args"] = {"latent": 5}
    (found,) = problems(Params.model_validate(raw), source=False)
    assert found.key == "models.vae.start"
    assert "of VAE has [" in str(found)


def test_weights_of_this_software_as_a_file_say_themselves_what_was_behind_them(root):
    folder, _ = root
    said = Start(file="models/vae/weights.safetensors", trained_on="private")
    params = tiny_params(
        models={"vae": PARAMS.models["vae"].model_dump(mode="json") | {"start": said.model_dump(mode="json")}}
    )
    begun = starts.begun(folder, params, "vae", look(folder, params))
    assert begun.about["digests"] == {"north": ["digest-north"], "east": ["digest-east"]}
    assert begun.about["trained_on"] == ["private", "private: training images of east, north"]


def test_the_check_of_params_yaml_names_what_is_wrong_with_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    block = PARAMS.models["vae"].model_dump(mode="json")

    def said(**keys):
        of = {"file": "weights.safetensors", "trained_on": "public"} | keys
        return [str(p) for p in problems(tiny_params(models={"vae": block | {"start": of}}), source=False)]

    assert "is not there; put the file" in said()[0]
    trained(tmp_path, PARAMS)
    (tmp_path / "models/vae/weights.safetensors").rename(tmp_path / "weights.safetensors")
    digest = weights.sha256(tmp_path / "weights.safetensors")
    assert said() == said(sha256=digest) == []
    assert f"has the SHA-256 {digest}, params.yaml says 0000" in said(sha256="0" * 64)[0]
    assert "start.take matches no parameter of VAE" in said(take=["x"])[0]
    assert "is what this training makes" in said(file="models/vae/weights.safetensors")[0]


def test_the_check_of_params_yaml_names_patterns_that_train_nothing():
    block = PARAMS.models["vae"].model_dump(mode="json")

    def said(**keys):
        return [str(p) for p in problems(tiny_params(models={"vae": block | keys}), source=False)]

    assert said(trainable=["*.decoder.*"]) == []
    assert "the widest patterns are autoencoder.*; did you mean" in said(trainable=["autoencoder"])[0]
    assert "leaves no parameter of VAE" in said(trainable=["*", "!*"])[0]
    shared = {"class_path": "fedsynth.algorithms.fedavg.FedAvg", "args": {"shared": "*.encoder.*"}}
    assert "no parameter of VAE that is trained matches" in said(trainable=["*.decoder.*"], algorithm=shared)[0]
