"""The job in which the centre asks its sites at every step: what a site answers and refuses, and what the centre makes
of it.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from nvflare.collab import CollabCallError
from nvflare.collab.api.context import set_call_context

from fedsynth.data import manifest as table
from fedsynth.data.dataset import ImageSet
from fedsynth.errors import UserError
from fedsynth.hospital import outgoing
from fedsynth.hospital.failures import FAILURES
from fedsynth.hospital.policy import simulated
from fedsynth.params import Params, Training
from fedsynth.settings import Settings
from fedsynth.training import weights
from nvflare_jobs.centre import job_folder
from nvflare_jobs.exchange import job as exchange
from nvflare_jobs.exchange.client import Exchange
from nvflare_jobs.exchange.server import Centre
from nvflare_jobs.server import round_log
from nvflare_jobs.train import job as training
from tests.sets import make_set, passed, spoilt, tiny_params

GAN = {"class_path": "fedsynth.families.gan.GAN", "args": {"channels": [4, 8], "width": 4, "depth": 1}}
SITES = ["east", "north"]


def params(algorithm: dict[str, Any] | None = None, **model: Any) -> Params:
    block = {"class_path": "fedsynth.algorithms.mdgan.MDGAN", "args": algorithm or {}}
    plan = {"rounds": 2, "epochs": 0.5, "batch": 4, "lr": 1e-3, "ema": 0.9}
    return tiny_params(models={"mdgan": {"family": GAN, "algorithm": block, "training": plan} | model})


PARAMS = params()


def validation(root, made: Params = PARAMS, n: int = 40) -> dict[str, Any]:
    """Sites with ingested sets in data/sites, and what their validation has shown."""
    verdicts = {}
    for site in SITES:
        real = make_set(root / "data" / "sites" / site, made, site, n=n)
        counts = outgoing.shown(real.manifest, made.image.labels, 5)
        verdicts[site] = {"digest": passed(root / "state" / site, real, simulated=True), "images": n, "counts": counts}
    return {"sites": verdicts, "used": SITES}


def asked(digest: str, made: Params = PARAMS) -> dict[str, Any]:
    return training.question(made, "mdgan", {"north": digest}) | {"steps": 3}


@pytest.fixture
def called_by(monkeypatch, tmp_path):
    """Who calls, as Collab says it."""

    def call(name: str) -> None:
        set_call_context(SimpleNamespace(caller=name, app=SimpleNamespace(name="north")))

    monkeypatch.setenv("FEDSYNTH_DATA", str(tmp_path / "data" / "sites"))
    monkeypatch.setenv("FEDSYNTH_STATE", str(tmp_path / "state"))
    simulated.write(tmp_path / "state", ["north"])
    call("server")
    yield call
    set_call_context(None)


def batch(n: int = 4, made: Params = PARAMS) -> tuple[np.ndarray, np.ndarray]:
    """What the centre sends: two batches of images, and their classes."""
    shape = (2, n, len(made.image.channels), *made.image.size)
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32), np.arange(2 * n).reshape(2, n) % 3


def begun(tmp_path) -> Exchange:
    real = make_set(tmp_path / "data" / "sites" / "north", PARAMS, "north", n=40)
    site = Exchange()
    assert site.begin(asked(passed(tmp_path / "state" / "north", real))) == {}
    return site


def test_a_site_answers_with_a_gradient_of_the_shape_of_the_images_and_at_the_end_of_the_round_with_mean_losses(
    tmp_path, called_by
):
    site, (images, classes) = begun(tmp_path), batch()
    for _ in range(2):
        answer = site.step(images, classes)
        assert answer.keys() == {"feedback"}
        assert (answer["feedback"].shape, answer["feedback"].dtype) == (images.shape[1:], np.float32)
        assert np.abs(answer["feedback"]).max() > 0
    told = site.end_round()
    assert told.keys() == {"losses", "steps"}
    assert (told["losses"].keys(), told["steps"]) == ({"generator", "discriminator"}, 2)
    site.step(images, classes)
    assert site.end_round()["steps"] == 1


def test_no_pixel_of_the_site_is_in_anything_that_it_answers(tmp_path, called_by):
    site, (images, classes) = begun(tmp_path), batch()
    real = np.load(tmp_path / "data" / "sites" / "north" / table.ARRAY)
    said = (
        b"".join(site.step(images, classes)["feedback"].tobytes() for _ in range(3))
        + json.dumps(site.end_round()).encode()
    )
    marks = [np.ascontiguousarray(image.ravel()[i : i + 3]).tobytes() for image in real for i in (0, 100, 200)]
    assert not [mark for mark in marks if mark in said]
    assert images.ravel()[:3].tobytes() in images.tobytes()  # such a mark is found where it is


@pytest.mark.parametrize("split", ["val", "test", "train"])
def test_the_discriminator_sees_the_training_images_and_no_others(tmp_path, called_by, monkeypatch, split):
    answers = []
    for spoil in (False, True):
        site = Exchange()
        real = make_set(tmp_path / "data" / "sites" / "north", PARAMS, "north", n=40)
        monkeypatch.setattr(
            ImageSet, "load", lambda folder, real=real, spoil=spoil: spoilt(real, split) if spoil else real
        )
        assert site.begin(asked(passed(tmp_path / "state" / "north", real))) == {}
        answers.append(site.step(*batch()))
    if split == "train":
        assert answers[1] == {"failure": "diverged"}  # NaN of the poison: it would be seen
    else:
        assert np.array_equal(answers[0]["feedback"], answers[1]["feedback"])


@pytest.mark.parametrize("caller", ["east", "north", ""])
def test_another_site_of_the_job_is_not_answered(tmp_path, called_by, caller):
    site = begun(tmp_path)
    called_by(caller)
    assert site.begin(asked("0" * 64)) == site.step(*batch()) == site.end_round() == {"failure": "withheld"}


@pytest.mark.parametrize(
    "sent",
    [
        (batch()[0].astype(np.float64), batch()[1]),
        (batch()[0][:, :, :2], batch()[1]),
        (batch()[0][..., :8], batch()[1]),
        (batch()[0][:, :3], batch()[1]),
        (batch()[0][0], batch()[1][0]),  # one batch, as an older version sent
        (np.where(batch()[0] > 0.9, np.nan, batch()[0]), batch()[1]),
        (batch()[0], batch()[1] + 1),
        (batch()[0], batch()[1] - 1),
        (batch()[0], batch()[1].astype(float)),
    ],
)
def test_what_the_centre_sends_must_be_images_and_classes_of_params_yaml(tmp_path, called_by, sent):
    assert begun(tmp_path).step(*sent) == {"failure": "version"}


def test_data_that_have_not_passed_validation_are_refused(tmp_path, called_by):
    make_set(tmp_path / "data" / "sites" / "north", PARAMS, "north", n=40)
    assert Exchange().begin(asked("0" * 64)) == {"failure": "not_validated"}


def test_a_job_cannot_lead_a_site_out_of_its_folders_nor_ask_before_it_has_begun(called_by):
    assert Exchange().begin(asked("0" * 64) | {"name": "../elsewhere"}) == {"failure": "withheld"}
    assert Exchange().step(*batch()) == {"failure": "error"}


def test_an_error_leaves_as_one_word_and_its_text_stays(tmp_path, called_by, monkeypatch):
    site = begun(tmp_path)
    monkeypatch.setattr(
        site._half, "step", lambda *sent: (_ for _ in ()).throw(RuntimeError("Subject-4711 in scan.png"))
    )
    assert site.step(*batch()) == {"failure": "error"}


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"family": {"class_path": "fedsynth.families.vae.VAE"}}, "VAE cannot be parted so"),
        (
            {"privacy": {"class_path": "fedsynth.privacy.dpsgd.DPSGD", "args": {"epsilon": 8}}},
            "MDGAN has no differential privacy",
        ),
    ],
)
def test_what_does_not_go_with_it_is_refused_before_a_job_is_made(model, said):
    made = params(**model)
    with pytest.raises(UserError, match=said):
        training.begin(made, "mdgan")


def job(tmp_path, thin: bool = True, made: Params = PARAMS):
    shown = validation(tmp_path, made)
    config = training.question(made, "mdgan", {site: shown["sites"][site]["digest"] for site in SITES})
    return exchange.prepare(
        tmp_path / "job", made, "mdgan", config, training.begin(made, "mdgan"), training.shares(made, shown), thin
    )


@pytest.mark.parametrize(("thin", "cls"), [(True, "client.Exchange"), (False, "nvflare_jobs.exchange.client.Exchange")])
def test_a_job_carries_the_generator_to_the_server_alone_and_at_most_the_thin_client_to_the_sites(tmp_path, thin, cls):
    made = job(tmp_path, thin)
    assert [str(p.relative_to(made)) for p in made.rglob("*.safetensors")] == ["app_server/config/initial.safetensors"]
    assert [str(p.relative_to(made)) for p in made.rglob("*.py")] == (["app_site/custom/client.py"] if thin else [])
    raw = json.loads((made / "app_site/config/config_fed_client.json").read_text())
    assert [component["path"] for component in raw["components"]] == [cls]
    meta = json.loads((made / "meta.json").read_text())
    assert (meta["min_clients"], meta["deploy_map"]) == (2, {"app_server": ["server"], "app_site": SITES})
    assert not [p for p in made.rglob("*.json") if str(tmp_path) in p.read_text()]


@pytest.mark.parametrize("weighting", ["images", "equal"])
def test_the_centre_asks_each_site_for_classes_in_its_shares_and_weighs_by_images_or_not(tmp_path, weighting):
    config = json.loads(
        (job(tmp_path, made=params({"weighting": weighting})) / "app_server/config/job.json").read_text()
    )
    counts = {
        site: outgoing.shown(table.read(tmp_path / "data" / "sites" / site), PARAMS.image.labels, 5) for site in SITES
    }
    shares = [counts["north"][label]["train"] for label in PARAMS.image.labels]
    assert config["centre"]["shares"]["north"] == shares
    assert config["centre"]["weights"]["north"] == (sum(shares) if weighting == "images" else 1.0)


def test_a_round_is_an_epoch_over_as_many_images_as_a_site_has_on_the_average():
    plan = Training(rounds=1, epochs=2, batch=8)
    assert exchange.steps(plan, [100.0, 20.0]) == 15
    assert exchange.steps(plan, [1.0, 1.0]) == 1


class Proxy:
    """A site as the server sees it: what it answers, by the name of the call."""

    def __init__(self, **answers: Any):
        self.answers = answers

    def __call__(self, timeout: float) -> Proxy:
        return self

    def __getattr__(self, name: str) -> Any:
        return self.answers[name]


def centre(tmp_path, monkeypatch, **north: Any) -> Centre:
    """The server's half with two sites, one of which answers as told; it may read the job and write into `tmp_path`."""
    good = {"begin": lambda question: {}, "step": lambda images, classes: {"feedback": np.ones_like(images[1])},
            "end_round": lambda: {"losses": {"generator": 0.5, "discriminator": 1.0}, "steps": 2}}  # fmt: skip
    server = Centre(SITES, call_s=5, begin_s=5)
    folder = job(tmp_path) / "app_server" / "config"
    engine = SimpleNamespace(
        get_workspace=lambda: SimpleNamespace(
            get_run_dir=lambda _: str(tmp_path), get_app_config_dir=lambda _: str(folder)
        )
    )
    context = SimpleNamespace(get_engine=lambda: engine, get_job_id=lambda: "1")
    proxies = {"east": Proxy(**good), "north": Proxy(**good | north)}
    for name, proxy in proxies.items():
        proxy.name = name
    app = SimpleNamespace(name="server", get_prop=lambda *_: context)
    set_call_context(SimpleNamespace(caller="server", app=app, clients=list(proxies.values())))
    return server


def test_the_server_writes_each_rounds_losses_steps_and_images_and_the_generator(tmp_path, monkeypatch):
    server = centre(tmp_path, monkeypatch)
    server.run()
    written = round_log.read(tmp_path / round_log.ROUNDS)
    assert [record["round"] for record in written] == [0, 1]
    images = float(sum(training.shares(PARAMS, validation(tmp_path))["east"]))
    assert written[0]["sites"]["east"] == {
        "loss/generator": 0.5,
        "loss/discriminator": 1.0,
        "steps": 2.0,
        "weight": images,
    }
    assert round_log.is_complete(tmp_path)
    assert all(name.startswith("generator.") for name in weights.load(tmp_path / "global.safetensors"))
    assert server.progress() == {"rounds": written}


def raises(error: Exception) -> Any:
    def call(*args: Any) -> Any:
        raise error

    return call


@pytest.mark.parametrize(
    ("north", "said"),
    [
        ({"begin": lambda question: {"failure": "not_validated"}}, f"site north: failed: {FAILURES['not_validated']}"),
        ({"step": lambda *sent: {"failure": "Subject-4711"}}, f"site north: failed: {FAILURES['error']}"),
        (
            {"step": raises(CollabCallError("north", "step", TimeoutError("after 5 seconds")))},
            "site north: no answer: .*after 5 seconds",
        ),
        ({"step": lambda images, classes: {"feedback": np.ones((1, 2), np.float32)}}, "site north: sent no gradient"),
        ({"step": lambda images, classes: {"feedback": images[1] * np.nan}}, "site north: sent no gradient"),
        ({"step": lambda images, classes: {}}, "site north: sent no gradient"),
        ({"end_round": lambda: {"failure": "diverged"}}, "site north: failed: its training diverged"),
    ],
)
def test_a_site_that_fails_ends_the_job_with_the_reason(tmp_path, monkeypatch, north, said):
    server = centre(tmp_path, monkeypatch, **north)
    with pytest.raises(RuntimeError, match=said.replace("(", r"\(").replace(")", r"\)")):
        server.run()
    assert round_log.refused(tmp_path).startswith("site north: ")
    assert "4711" not in round_log.refused(tmp_path)
    assert not round_log.is_complete(tmp_path)


HOSTILE_STEPS = {
    "a text": lambda images, classes: "gradient",
    "nothing": lambda images, classes: None,
    "a list": lambda images, classes: [images],
    "another key": lambda images, classes: {"weights": images},
    "a list of numbers": lambda images, classes: {"feedback": images.tolist()},
    "integers": lambda images, classes: {"feedback": images.astype(np.int64)},
    "longer numbers": lambda images, classes: {"feedback": images.astype(np.float64)},
    "objects": lambda images, classes: {"feedback": images.astype(object)},
    "Inf": lambda images, classes: {"feedback": images * np.inf},
    "1e38": lambda images, classes: {"feedback": np.full_like(images, 1e38)},
    "a failure that is no text": lambda images, classes: {"failure": ["data"]},
    "no time": raises(CollabCallError("north", "step", TimeoutError("after 5 seconds"))),
    "another error": raises(ValueError("what is this")),
}


@pytest.mark.parametrize("how", HOSTILE_STEPS)
def test_with_a_quorum_a_site_whose_answers_cannot_be_used_is_left_out_and_named(tmp_path, monkeypatch, how):
    asked = []

    def hostile(*sent):
        asked.append(1)
        return HOSTILE_STEPS[how](*sent)

    server = centre(tmp_path, monkeypatch, step=hostile)
    server.quorum = 1
    server.run()
    written = round_log.read(tmp_path / round_log.ROUNDS)
    assert [sorted(record["sites"]) for record in written] == [["east"], ["east"]]
    assert [list(record["left_out"]) for record in written] == [["north"], ["north"]]
    assert written[0]["left_out"]["north"].startswith(("sent", "failed", "no answer"))
    assert len(asked) == 2  # once a round: a slow site must not cost its time at every step
    assert round_log.is_complete(tmp_path)
    assert all(np.isfinite(a).all() for a in weights.load(tmp_path / "global.safetensors").values())


@pytest.mark.parametrize(
    "told",
    [
        "losses", {}, {"losses": {"generator": "0.5"}, "steps": 2}, {"losses": {"generator": float("nan")}, "steps": 2},
        {"losses": {"Subject-4711": 0.5}, "steps": 2}, {"losses": {}, "steps": 1e300}, {"losses": [], "steps": True},
    ],
)  # fmt: skip
def test_numbers_of_a_round_that_cannot_be_used_leave_the_site_out_of_its_record(tmp_path, monkeypatch, told):
    server = centre(tmp_path, monkeypatch, end_round=lambda: told)
    server.quorum = 1
    server.run()
    written = round_log.read(tmp_path / round_log.ROUNDS)
    assert [sorted(record["sites"]) for record in written] == [["east"], ["east"]]
    assert "4711" not in json.dumps(written)


def test_a_site_that_did_not_begin_is_left_out_of_every_round(tmp_path, monkeypatch):
    server = centre(tmp_path, monkeypatch, begin=lambda question: {"failure": "disk"}, step=raises(AssertionError()))
    server.quorum = 1
    server.run()
    written = round_log.read(tmp_path / round_log.ROUNDS)
    assert [record["left_out"] for record in written] == [{"north": f"failed: {FAILURES['disk']}"}] * 2


def test_a_job_has_the_consortiums_quorum(tmp_path):
    made = job(tmp_path, made=tiny_params(models=PARAMS.model_dump()["models"], consortium={"quorum": 1}))
    assert json.loads((made / "app_server/config/config_fed_server.json").read_text())["workflows"]
    assert '"quorum": 1' in (made / "app_server/config/config_fed_server.json").read_text()


def test_a_site_that_is_not_there_is_named(tmp_path, monkeypatch):
    server = centre(tmp_path, monkeypatch)
    server.sites = [*SITES, "south"]
    with pytest.raises(RuntimeError, match="3 of 3 sites are needed; not there: south"):
        server.run()


@pytest.mark.flare
def test_in_the_simulator_the_stage_leaves_what_every_other_training_leaves(tmp_path):
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "validation.json").write_text(json.dumps(validation(tmp_path)))
    settings = Settings("simulator", tmp_path, tmp_path / "data" / "sites", tmp_path / "state", 90, False)
    training.stage(PARAMS, settings, "mdgan")
    folder = tmp_path / "models" / "mdgan"
    about, history = (json.loads((folder / name).read_text()) for name in ("model.json", "history.json"))
    assert [(r["round"], sorted(r["sites"])) for r in history["rounds"]] == [(0, SITES), (1, SITES)]
    assert history["rounds"][0]["sites"]["north"].keys() == {"loss/generator", "loss/discriminator", "steps", "weight"}
    arrays = weights.load(folder / weights.FILE)
    initial = training.begin(PARAMS, "mdgan")
    assert arrays.keys() == initial.keys()
    assert any(not np.array_equal(arrays[name], initial[name]) for name in arrays)
    import torch

    drawn = weights.build_family(about, arrays).sample(torch.tensor([0, 1, 2]))
    assert drawn.shape == (3, 3, 16, 16)
    assert job_folder.token(tmp_path / ".work" / "train" / "mdgan" / "train_mdgan") == history["job_id"]
