"""What runs are called, and the headline that they are compared by."""

from __future__ import annotations

import pytest

from fedsynth.registry import headline, naming
from tests.sets import TINY, tiny_params

VAE, GAN = TINY["models"]["vae"], {"family": {"class_path": "fedsynth.families.gan.GAN"}, "training": {"rounds": 2}}
DP = {"class_path": "fedsynth.privacy.dpsgd.DPSGD", "args": {"epsilon": 8}}


def vae(**training):
    return {"vae": VAE | {"training": VAE["training"] | training}}


@pytest.mark.parametrize(
    ("before", "after", "of_model", "of_pipeline"),
    [
        ({}, {}, "", ""),
        ({}, {"models": vae(rounds=20)}, "rounds=20", "vae.rounds=20"),
        ({}, {"image": {"size": [8, 8]}, "seed": 3}, "seed=3, image.size=[8,8]", "seed=3, image.size=[8,8]"),
        ({}, {"models": {"vae": VAE | {"privacy": DP}}}, "privacy=DPSGD, privacy.epsilon=8",
         "vae.privacy=DPSGD, vae.epsilon=8"),
        ({"models": {"vae": VAE | {"privacy": DP}}}, {}, "privacy=none", "vae.privacy=none"),
        ({"models": {"vae": VAE, "old": GAN}}, {"models": {"vae": VAE, "gan": GAN}}, "", "with gan, without old"),
        ({}, {"study": "busi", "promote": {"approvers": ["Ada"]}}, "", ""),
        ({}, {"models": vae(rounds=2, batch=4, lr=0.1, ema=0.9, clip=2.0, lr_end=0.2)},
         "rounds=2, batch=4, lr=0.1, lr_end=0.2, +2 more",
         "vae.rounds=2, vae.batch=4, vae.lr=0.1, vae.lr_end=0.2, +2 more"),
    ],
)  # fmt: skip
def test_a_change_is_told_in_short(before, after, of_model, of_pipeline):
    a, b = tiny_params(**before), tiny_params(**after)
    assert naming.change(naming.of_model(a, "vae"), naming.of_model(b, "vae")) == of_model
    assert naming.change(naming.of_pipeline(a), naming.of_pipeline(b)) == of_pipeline


def test_keys_with_a_default_that_an_older_run_does_not_have_are_no_change():
    now = naming.of_model(tiny_params(), "vae")
    before = {key: value for key, value in now.items() if key != "training.local_steps"}
    assert now["training.local_steps"] == "null"
    assert naming.change(before, now) == ""


def test_params_of_a_model_are_called_the_same_for_all_models():
    params = tiny_params(models={"vae": VAE, "gan": GAN})
    of_vae, of_gan = (naming.of_model(params, model) for model in ("vae", "gan"))
    assert (of_vae["training.rounds"], of_gan["training.rounds"]) == ("1", "2")
    assert of_vae["image.size"] == of_gan["image.size"] == "[16, 16]"
    assert not any(key.startswith(("models.", "source.", "study")) for key in of_vae)


FACTS = {
    "uses": {"c": {"retained": 0.8, "gap_closed": 0.5, "gap_closed_poorest": None}, "s": {"retained": 0.6}},
    "measures": {"fid": {}, "membership_loss_auc": {}},
    "numbers": {"fid": 2.0, "fid@north": 3.0, "membership_loss_auc": None, "epsilon": 4.0, "epsilon_total": 9.0},
    "verdict": {"gates": [{"kind": "require", "held": False}, {"kind": "warn", "held": True}]},
}
HISTORY = {"rounds": [{"round": i, "traffic": {"north": {"bytes_up": 10, "bytes_down": 5}}} for i in range(3)]}


def test_the_headline_is_worth_attacks_cost_and_verdict_without_what_was_not_computed():
    assert headline.headline(FACTS, HISTORY) == {
        "retained": pytest.approx(0.7), "c/retained": 0.8, "c/gap_closed": 0.5, "s/retained": 0.6, "fid": 2.0,
        "epsilon": 4.0, "epsilon_total": 9.0, "bytes": 45, "gates/failed": 1, "gates/warnings": 0,
    }  # fmt: skip
    assert headline.headline(None, HISTORY) == {"bytes": 45}
    unknown = FACTS | {"uses": {"c": {"retained": 0.8}, "s": {"retained": None}}}
    assert "retained" not in headline.headline(unknown, HISTORY), "a mean over fewer uses is another quantity"


def test_the_best_model_may_be_promoted_and_retains_most():
    worse, better = {"gates/failed": 0, "retained": 0.5}, {"gates/failed": 0, "retained": 0.6}
    assert headline.best({"a": worse, "b": better, "c": {"gates/failed": 1, "retained": 0.9}, "d": {}}) == "b"
    assert headline.best({"c": {"gates/failed": 1, "retained": 0.9}, "d": {}}) == "c"
    assert headline.best({}) == ""
