"""Epsilon forgotten: a training that the centre starts again spends again, and the hospital has to say so."""

import pytest

from fedsynth.privacy import PrivacyError
from fedsynth.privacy.noise import Spending
from nvflare_jobs.train import job as training
from tests.attacks.hospital import hospital, study, with_model

DP = {"class_path": "fedsynth.privacy.dpsgd.DPSGD", "args": {"epsilon": 8}}
PARAMS = with_model(study(images=60, size=8), "vae.VAE", {"channels": [8], "latent": 2}, DP, rounds=2, batch=16)


@pytest.fixture
def spent(monkeypatch):
    """All steps that were taken with noise, by whichever job; `Spending` of a new job knows its own alone."""
    true, add = Spending(), Spending.add

    def watched(self, noise, rate, steps=1):
        if self is not true:
            add(true, noise, rate, steps)
        add(self, noise, rate, steps)

    monkeypatch.setattr(Spending, "add", watched)
    return true


def said(message) -> float:
    """The largest epsilon that left with an update."""
    return max(value for name, value in message.metrics.items() if name.startswith("epsilon"))


def test_the_steps_of_one_job_are_counted(spent):
    with hospital(PARAMS) as at:
        at.train(PARAMS, [training.begin(PARAMS, "attacked")] * 2)
        assert said(at.sent[-1]) == pytest.approx(spent.epsilon(1e-5))
        assert 7 < said(at.sent[-1]) <= 8


def test_a_first_round_that_is_done_again_in_a_new_job_is_not_forgotten(spent):
    begin = training.begin(PARAMS, "attacked")
    with hospital(PARAMS) as at:
        at.train(PARAMS, [begin])
        try:
            at.train(PARAMS, [begin] * 2)
        except PrivacyError:
            return  # what is left of the budget is not enough, and nothing was sent for it
        assert said(at.sent[-1]) >= spent.epsilon(1e-5) - 1e-6


def test_another_training_on_the_same_images_adds_to_it(spent):
    other = PARAMS.model_copy(update={"seed": 2})
    with hospital(PARAMS) as at:
        at.train(PARAMS, [training.begin(PARAMS, "attacked")] * 2)
        try:
            at.train(other, [training.begin(other, "attacked")] * 2)
        except PrivacyError:
            return
        assert said(at.sent[-1]) >= spent.epsilon(1e-5) - 1e-6
