"""A withdrawal on its way: what a site's jobs note and heed, and what the centre keeps of its answers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from fedsynth.data import manifest
from fedsynth.hospital import forget, secret, trained, withdrawals
from fedsynth.settings import Settings
from nvflare_jobs.exchange.client import Exchange
from nvflare_jobs.site.site import Site
from nvflare_jobs.source.job import told
from nvflare_jobs.train import client as train
from nvflare_jobs.train import job as training
from nvflare_jobs.validate import client as validate
from tests.jobs.gates import gate
from tests.sets import make_set, tiny_params

VAE = {"family": {"class_path": "fedsynth.families.vae.VAE"}, "training": {"rounds": 2, "batch": 8}}
PARAMS = tiny_params(models={"vae": VAE})
A, B, C = "a" * 64, "b" * 64, "c" * 64


class Here(Site):
    """A site without FLARE: tasks come from a list, answers go into one. `between` is done while a round is trained."""

    def __init__(self, folder, rounds: int = 2):
        self.real = make_set(folder / "data/north", PARAMS, n=60)
        self.settings = Settings("simulator", folder, folder / "data", folder / "state", 60, False)
        self.name, self.params, self.sent = "north", PARAMS, []
        self.plain = manifest.digest(self.real.manifest)
        self.digest = secret.keyed(self.state, self.plain)  # as the centre knows the set
        self.config = training.question(PARAMS, "vae", {"north": self.digest}) | {"look": True}
        self.rounds, self.gate = rounds, gate()
        self.gate.keep, self._received = lambda allowed: None, None

    def tasks(self):
        for number in range(self.rounds):
            yield SimpleNamespace(params=training.begin(PARAMS, "vae"), current_round=number)

    def forgets(self):
        folders = forget.Site("north", self.data, self.state)
        forget.carry_out(forget.plan(folders, [self.real.manifest["subject"][0]]))


@pytest.fixture
def site(tmp_path, monkeypatch):
    for name in ("FEDSYNTH_DATA", "FEDSYNTH_STATE"):
        monkeypatch.setenv(name, "set")
    made = Here(tmp_path)
    monkeypatch.setattr("nvflare_jobs.site.site.flare.send", made.sent.append)
    return made


def during_the_second_round(monkeypatch, site):
    from fedsynth.training.trainer import Trainer

    trains = Trainer.round

    def round_with(self, incoming, number, frozen=None):
        found = trains(self, incoming, number, frozen)
        if number == 1:
            assert any((site.state / "train").iterdir())
            site.forgets()
            trains(self, incoming, number)  # its state is written once more
        return found

    monkeypatch.setattr(Trainer, "round", round_with)


def test_a_training_sends_nothing_once_a_patient_has_withdrawn_and_leaves_no_state(site, monkeypatch):
    during_the_second_round(monkeypatch, site)
    with pytest.raises(withdrawals.Withdrawn):
        train.work(site)
    assert len(site.sent) == 1
    assert withdrawals.made(site.state) == []


def test_a_training_notes_its_model_and_set_and_goes_on_where_nobody_has_withdrawn(site):
    train.work(site)
    assert len(site.sent) == 2
    assert [line.split(" ")[0] for line in trained.models_of(site.state, [site.plain])] == ["vae"]


def test_an_answer_is_not_sent_once_a_patient_has_withdrawn_since_the_images_were_read(site):
    site.validated_set()
    site.answer("reference", {"rows": []})
    site.forgets()
    with pytest.raises(withdrawals.Withdrawn):
        site.answer("reference", {"rows": []})
    assert len(site.sent) == 1


def test_a_discriminator_answers_no_more_once_a_patient_has_withdrawn(site):
    site.validated_set()
    exchange = Exchange()
    exchange._site, exchange._done = site, 0
    site.forgets()
    with pytest.raises(withdrawals.Withdrawn):
        exchange._step(None, None)


def test_a_site_tells_of_withdrawn_sets_where_there_are_some(site):
    site.rounds = 1
    validate.work(site)
    site.forgets()
    validate.work(site)
    first, second = (model.meta["answer"] for model in site.sent)
    assert first == {"digest": site.digest}
    assert second["withdrawn"] == [site.digest]
    assert second["digest"] != site.digest


def test_the_centre_keeps_what_it_was_told_before_by_a_site_that_says_less_or_nothing():
    before = {"north": [A], "east": [B]}
    answers = {"north": {"digest": C, "withdrawn": [C, A]}, "east": {}, "south": {"digest": "", "withdrawn": []}}
    assert told(before, answers) == {"north": [A, C], "east": [B]}
    assert told({}, {"north": {"digest": A}}) == {}
