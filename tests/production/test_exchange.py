"""A generator at the centre over a provisioned federation: what the server received holds no pixel, and a site that
dies ends the job.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fedsynth.data import manifest as table
from fedsynth.hospital import outgoing
from fedsynth.training import weights
from nvflare_jobs.exchange import job as exchange
from nvflare_jobs.federation import interface, local_system
from nvflare_jobs.server.saved import GLOBAL
from nvflare_jobs.train import job as training
from tests.jobs.test_exchange import params
from tests.production.conftest import Trial, Watch, started
from tests.sets import make_set, passed

pytestmark = pytest.mark.production

SITES = ["east", "north"]


def job(trial: Trial, rounds: int, epochs: float = 2) -> Path:
    made = params(training={"rounds": rounds, "epochs": epochs, "batch": 4, "lr": 1e-3})
    shown = {"sites": {}, "used": SITES}
    for site in SITES:
        real = make_set(Path(trial.system.places[site]["FEDSYNTH_DATA"]) / site, made, site, n=40)
        counts = outgoing.shown(real.manifest, made.image.labels, 5)
        shown["sites"][site] = {"digest": passed(trial.state(site) / site, real), "counts": counts}
    config = training.question(made, "mdgan", {site: shown["sites"][site]["digest"] for site in SITES})
    initial = training.begin(made, "mdgan")
    return exchange.prepare(trial.root / "job", made, "mdgan", config, initial, training.shares(made, shown), thin=True)


def test_a_training_ends_with_the_generator_and_nothing_that_the_server_received_holds_a_pixel(tmp_path):
    with started(tmp_path, SITES, streaming=True) as trial:
        result = trial.run(job(trial, rounds=2))
        assert [event.round for event in trial.rounds()] == [0, 1]
        assert all(name.startswith("generator.") for name in weights.load(result / GLOBAL))
        marks = []
        for site in SITES:
            images = np.load(Path(trial.system.places[site]["FEDSYNTH_DATA"]) / site / table.ARRAY)
            marks += [
                np.ascontiguousarray(image.ravel()[i : i + 3]).tobytes() for image in images for i in (0, 100, 200)
            ]
        folders = [
            trial.system.kits / local_system.SERVER,
            trial.system.folder / "jobs",
            trial.system.folder / "tmp",
            result,
        ]
        files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        assert len(files) > 20
        assert not [path for path in files if any(mark in path.read_bytes() for mark in marks)]


def test_a_site_that_is_killed_ends_the_training_with_the_reason(tmp_path, measured):
    with started(tmp_path, SITES, heart_beat_s=15) as trial:
        watch = Watch(lambda event: event.kind == "round", lambda: trial.system.kill("north"))
        said = trial.fails(job(trial, rounds=200, epochs=20), watch)
        measured("a site is killed while the generator is at the centre", said, watch.seconds())
        assert "north" in said
        assert watch.seconds() < 120
        assert interface.LOST not in json.dumps([event.status for event in trial.seen])
