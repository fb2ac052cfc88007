"""The attacks of tests/attacks over a provisioned federation: a centre that is taken over submits them as jobs, and the
hospital's own record says that nothing has left for them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fedsynth.data import manifest
from fedsynth.data.dataset import ImageSet
from fedsynth.hospital import policy, secret
from fedsynth.hospital.policy import Policy, words
from fedsynth.hospital.policy.model import Privacy
from fedsynth.hospital.record import Record
from fedsynth.params import Params
from fedsynth.stages.ingest import ingest
from fedsynth.training import weights
from fedsynth.worth import use_networks
from nvflare_jobs.centre import build_question, build_rounds
from nvflare_jobs.centre.program import public
from nvflare_jobs.server.ask import ANSWERS
from nvflare_jobs.server.saved import GLOBAL
from nvflare_jobs.train import job as training
from tests.attacks import division, oracle, trap
from tests.attacks.hospital import NAME, floors_only, of_study, with_model
from tests.production.conftest import Trial, started

pytestmark = pytest.mark.production

HONEST = {"rounds": 2, "epochs": 1, "batch": 8, "lr": 2e-3, "ema": 0.99, "flip": [1]}
ASKING = oracle.asking(copies="copies.Copies")
STUDY = with_model(ASKING, "vae.VAE", {"sigma": 0.2, "latent": 16}, **HONEST)
DP = {"class_path": "fedsynth.privacy.dpsgd.DPSGD", "args": {"epsilon": 8}}
PRIVATE = with_model(ASKING, "vae.VAE", {"sigma": 0.2, "latent": 16}, DP, **HONEST)


class Centre:
    """A centre that submits what it likes to the hospital `north`, whose images lie in its own folder."""

    def __init__(self, trial: Trial):
        self.trial, self.state, self.jobs = trial, trial.state(NAME) / NAME, 0
        data = trial.root / "places" / NAME / "data"
        ingest(STUDY, data)
        self.real, self.public = ImageSet.load(data / NAME), ImageSet.load(data / "public")

    def agreed(self, to: Policy) -> None:
        words.write(self.state / policy.FILE, to, "under attack")

    @property
    def digests(self) -> dict[str, str]:
        """What validation would have told the centre."""
        return {NAME: secret.keyed(self.state, manifest.digest(self.real.manifest))}

    def folder(self) -> Path:
        self.jobs += 1
        return self.trial.root / f"job{self.jobs}"

    def training(self, params: Params, initial: dict[str, np.ndarray] | None = None, key: str = "") -> Path:
        config = training.question(params, "attacked", self.digests)
        config |= {"key": key} if key else {}
        begin, model = training.begin(params, "attacked"), params.models["attacked"]
        players = list(training.described(params, "attacked").players())
        return build_rounds.train(self.folder(), "attack", [NAME], params.consortium, config,
                                  config["model"]["algorithm"], begin if initial is None else initial,
                                  model.training.rounds, players=players)  # fmt: skip

    def question(self, kind: str, params: Params, config: dict[str, Any], payload: dict[str, np.ndarray]) -> Path:
        return build_question.ask(self.folder(), kind, "attack", [NAME], params.consortium, config, payload)

    def scoring(self, params: Params, images: np.ndarray, model: dict[str, np.ndarray], net: Any = None) -> Path:
        """A score job about images and networks of the centre's choice."""
        arrays = oracle.payload(params, oracle.Judged(images, np.zeros(len(images), np.int64), model), net)
        return self.question("score", params, training.question(params, "attacked", self.digests), arrays)

    def runs(self, job: Path) -> Path:
        return self.trial.run(job, work=f"work{self.jobs}")

    def refused(self, job: Path) -> str:
        """Submit a job that the hospital refuses: the rule as its record says it. Nothing may have left for it."""
        before = len(self.record())
        said = self.trial.fails(job, work=f"work{self.jobs}")
        assert "its policy does not allow this job" in said
        new = self.record()[before:]
        left = [entry for entry in new if entry["what"] == "sent"]
        assert [(entry.get("arrays"), entry["keys"]) for entry in left] == [(None, ["failure"])]  # one word
        (rule,) = [entry["rule"] for entry in new if entry["what"] == "refused"]
        return str(rule)

    def record(self) -> list[dict[str, Any]]:
        return Record(self.state).read()


@pytest.fixture(scope="module")
def centre(tmp_path_factory) -> Iterator[Centre]:
    with started(tmp_path_factory.mktemp("attacks"), [NAME], heart_beat_s=15) as trial:
        yield Centre(trial)


@pytest.mark.timeout(600)
def test_a_job_of_nothing_but_configuration_divides_no_image_out(centre):
    centre.agreed(of_study(STUDY))
    attack = division.job(STUDY, rounds=2)
    assert centre.refused(centre.training(attack)).startswith("studies.study.params.models.attacked")
    centre.agreed(floors_only())
    assert centre.refused(centre.training(attack)) == "floors.batch"
    floor = {"batch": 4, "epochs": 0.5, "clip": 1e-2, "lr": 1e-6}
    assert centre.refused(centre.training(division.job(STUDY, rounds=2, **floor))) == "floors.first_layer"


@pytest.mark.timeout(600)
def test_crafted_weights_are_refused_whichever_round_they_say_they_are_of(centre):
    centre.agreed(of_study(STUDY))
    at: Any = SimpleNamespace(public=centre.public)
    crafted = trap.Asked(at, STUDY, 0, trap.GENTLE).opened(0, 2, True)
    assert centre.refused(centre.training(STUDY, crafted)) == "floors.start"


@pytest.mark.timeout(600)
def test_the_score_job_is_no_oracle(centre):
    """After an honest training: sets of five copies, sets with one patient's image, crafted networks."""
    centre.agreed(of_study(STUDY))
    trained = weights.load(centre.runs(centre.training(STUDY)) / GLOBAL)
    model = {name: array for name, array in trained.items() if ":" not in name}
    image = np.asarray(centre.real.split("train").images[:1])
    assert centre.refused(centre.scoring(STUDY, np.repeat(image, 5, 0), model)) == "floors.set_images"
    among = np.concatenate([image, np.asarray(centre.public.images[:40])])
    assert centre.refused(centre.scoring(STUDY, among, model)) in ("floors.drawn", "floors.trained")
    use: Any = use_networks.uses(STUDY)["classification"]
    net = use.network(1)
    oracle.gate(net, 0, np.linspace(0, 1e4, use.features), 0)
    assert centre.refused(centre.scoring(STUDY, among, model, net)).startswith("floors.")


@pytest.mark.timeout(600)
def test_a_training_that_is_done_again_counts_again_and_the_cap_ends_it(centre):
    held = of_study(PRIVATE)
    centre.agreed(held.model_copy(update={"privacy": Privacy(require="dp", unit="subject", epsilon=10)}))
    centre.runs(centre.training(PRIVATE, key="one"))
    spent = [entry["epsilon"] for entry in centre.record() if entry["what"] == "sent" and entry.get("epsilon")]
    assert 7 < max(spent) <= 8
    assert centre.refused(centre.training(PRIVATE, key="two")) == "privacy.epsilon"
    assert centre.refused(centre.training(STUDY)).startswith("studies.")  # the same without its mechanism


@pytest.mark.timeout(600)
def test_a_repeated_question_learns_nothing_new(centre):
    centre.agreed(of_study(STUDY))
    config = {"params": public(STUDY), "name": "", "digests": centre.digests}
    job = centre.question("reference", STUDY, config, {})
    first = json.loads((centre.runs(job) / ANSWERS).read_text())[NAME]["answer"]
    again = json.loads((centre.trial.run(job, work="again") / ANSWERS).read_text())[NAME]["answer"]
    assert first == again
    assert [entry["what"] for entry in centre.record()[-2:]] == ["repeated", "sent"]
