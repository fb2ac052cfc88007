"""What a generative model may see at a site: the training split, and no more. The synthetic set is drawn from it and
judged on the rest.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fedsynth.data.dataset import ImageSet
from fedsynth.hospital.canaries import of_training
from fedsynth.hospital.failures import word
from fedsynth.hospital.ledger import Ledger
from fedsynth.hospital.policy.model import Policy, PolicyError
from fedsynth.privacy import PrivacyError
from fedsynth.privacy.dpsgd import DPSGD
from nvflare_jobs.train import client
from nvflare_jobs.train import job as training
from tests.jobs.gates import gate
from tests.sets import make_set, spoilt, tiny_params

PARAMS = tiny_params()
DIGESTS = {"north": "0" * 64}


def difference(real: ImageSet, folder, params=PARAMS) -> dict[str, np.ndarray]:
    return round_of(real, folder, params)[0]


def round_of(real: ImageSet, folder, params=PARAMS, **privacy: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The difference and the facts that one round of a site with this set sends."""
    config, sent = training.question(params, "vae", DIGESTS), []
    received = SimpleNamespace(params=training.begin(params, "vae"), current_round=0)
    site = SimpleNamespace(
        name="north",
        config=config,
        params=params,
        state=folder,
        settings=SimpleNamespace(keep_runs=3, processes=1, stall_s=60),
        gate=gate(Policy(privacy=privacy)),
        cells={},
        min_cell=5,
        validated_set=lambda: real,
        seed=lambda: 1,
        model_seed=1,
        tasks=lambda: [received],
        update=lambda difference, received, facts, *rest: sent.append((difference, facts)),
    )
    client.work(site)
    return sent[0]


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_generative_model_sees_no_image_that_it_is_judged_on(tmp_path, split):
    real = make_set(tmp_path / "north", PARAMS, "north", n=40)
    assert (real.manifest["split"] == split).any()
    clean, with_poison = difference(real, tmp_path / "a"), difference(spoilt(real, split), tmp_path / "b")
    assert clean.keys() == with_poison.keys()
    assert all(np.array_equal(clean[name], with_poison[name]) for name in clean)
    assert any(np.abs(array).max() > 0 for array in clean.values())


def test_the_losses_that_sites_may_send_are_those_of_the_models_players():
    gan = {"class_path": "fedsynth.families.gan.GAN"}
    made = tiny_params(models={"gan": {"family": gan, "training": {"rounds": 1}}})
    assert list(training.described(made, "gan").players()) == ["generator", "discriminator"]
    assert list(training.described(PARAMS, "vae").players()) == ["autoencoder"]


@pytest.mark.parametrize(("ema", "rounds"), [(0.99, [1, 4]), (None, [])])
def test_the_server_knows_in_which_rounds_averaged_weights_are_sent(ema, rounds):
    """The last of each of the two phases, if there is an average at all."""
    latent = {"class_path": "fedsynth.families.latent.Latent"}
    made = tiny_params(models={"latent": {"family": latent, "training": {"rounds": 5, "ema": ema}}})
    assert training.averaged(training.described(made, "latent"), made.models["latent"].training) == rounds


def test_canaries_change_the_difference_and_nothing_that_is_counted(tmp_path):
    real, marked = make_set(tmp_path / "north", PARAMS, "north", n=40), tiny_params(audit={"canaries": 8})
    (without, plain), (with_them, facts) = (
        round_of(real, tmp_path / name, params) for name, params in (("a", PARAMS), ("b", marked))
    )
    assert any(not np.array_equal(without[name], with_them[name]) for name in without)
    assert [plain[key] for key in ("steps", "weight")] == [facts[key] for key in ("steps", "weight")]
    assert of_training(marked, tmp_path / "b", "vae") is not None
    assert training.question(marked, "vae", DIGESTS)["key"] != training.question(PARAMS, "vae", DIGESTS)["key"]


def test_the_poison_would_be_seen(tmp_path):
    real = make_set(tmp_path / "north", PARAMS, "north", n=40)
    assert not all(np.isfinite(array).all() for array in difference(spoilt(real, "train"), tmp_path / "b").values())


def test_a_mechanism_learns_whose_the_training_images_are(tmp_path, monkeypatch):
    subject = {"class_path": "fedsynth.privacy.dpsgd.DPSGD", "args": {"epsilon": 8, "unit": "subject"}}
    private = tiny_params(models={"vae": PARAMS.models["vae"].model_dump() | {"privacy": subject}})
    real, seen = make_set(tmp_path / "north", PARAMS, "north", n=40), []
    protect = DPSGD.protect

    def watched(self, *given):
        seen.append(given[5])
        protect(self, *given)

    monkeypatch.setattr(DPSGD, "protect", watched)
    difference(real, tmp_path / "a", private)
    whose = real.split("train").manifest["subject"]
    assert len(set(whose)) < len(whose)
    assert seen[0].tolist() == [list(dict.fromkeys(whose)).index(subject) for subject in whose]


def test_what_is_spent_is_written_at_the_site_and_what_all_trainings_spent_is_sent(tmp_path):
    dp = {"class_path": "fedsynth.privacy.dpsgd.DPSGD", "args": {"epsilon": 8, "unit": "image"}}
    private = tiny_params(models={"vae": PARAMS.models["vae"].model_dump() | {"privacy": dp}})
    real = make_set(tmp_path / "north", PARAMS, "north", n=40)
    facts = [round_of(real, tmp_path / "state", private)[1] for _ in range(2)]
    first, second = Ledger(tmp_path / "state").entries
    assert (first.model, first.unit, first.digest, first.losses) == ("vae", "image", DIGESTS["north"], False)
    assert first.group == 2  # images of one subject, of the training set alone
    assert facts[1]["epsilon"] == facts[0]["epsilon"]  # each is a whole training of one round
    assert 8 < facts[0]["epsilon_total"] < facts[1]["epsilon_total"]
    assert second.at > first.at


def test_a_ledger_that_is_lost_ends_the_training_before_a_round(tmp_path):
    dp = {"class_path": "fedsynth.privacy.dpsgd.DPSGD", "args": {"epsilon": 8}}
    private = tiny_params(models={"vae": PARAMS.models["vae"].model_dump() | {"privacy": dp}})
    real = make_set(tmp_path / "north", PARAMS, "north", n=40)
    difference(real, tmp_path / "state", private)
    (tmp_path / "state" / "ledger.jsonl").unlink()
    with pytest.raises(PrivacyError, match="lines are lost") as caught:
        difference(real, tmp_path / "state", private)
    assert word(caught.value) == "privacy"
    assert difference(real, tmp_path / "state")  # plain training is none of the ledger's business


def test_a_training_beyond_the_cap_of_the_hospital_is_refused_before_a_round(tmp_path):
    dp = {"class_path": "fedsynth.privacy.dpsgd.DPSGD", "args": {"epsilon": 8}}
    private = tiny_params(models={"vae": PARAMS.models["vae"].model_dump() | {"privacy": dp}})
    real = make_set(tmp_path / "north", PARAMS, "north", n=40)
    round_of(real, tmp_path / "state", private, epsilon=8)
    with pytest.raises(PolicyError, match=r"privacy\.epsilon: with this training.* at most 8 is allowed here"):
        round_of(real, tmp_path / "state", private, epsilon=8)
    assert len(Ledger(tmp_path / "state").entries) == 1
    round_of(real, tmp_path / "state", private, epsilon=13)


def test_trainings_of_one_model_begin_with_other_weights():
    block = PARAMS.models["vae"].model_dump(mode="json")
    params = tiny_params(models={"vae": block, "vae_2": block | {"seed": 7}})
    one, other = (training.begin(params, name) for name in params.models)
    assert any(not np.array_equal(array, other[name]) for name, array in one.items())
