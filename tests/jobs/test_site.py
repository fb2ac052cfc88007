"""The hospital's half of a job: which data it trains on, and where it keeps its state. Without FLARE."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from fedsynth.data import manifest as table
from fedsynth.data.dataset import ImageSet
from fedsynth.hospital import failures
from fedsynth.hospital.outgoing import Diverged, LeakError, leave
from fedsynth.settings import Settings, SettingsError
from nvflare_jobs.federation.simulator import _Run
from nvflare_jobs.site.site import CrashCounter, ProcessDied, Site, checked
from tests.sets import make_set, passed, tiny_params


def site(data, digest: str) -> Site:
    """A site as it is once FLARE has told it its name."""
    made = object.__new__(Site)
    made.name, made.params, made.config = "north", tiny_params(), {"digests": {"north": digest}}
    made.job, made._received = "train", None
    made.settings = Settings("simulator", data, data, data / "state", 60, False)
    return made


@pytest.fixture(autouse=True)
def places(monkeypatch):
    """As a hospital's environment has them; what they hold is the test's."""
    monkeypatch.setenv("FEDSYNTH_DATA", "set")
    monkeypatch.setenv("FEDSYNTH_STATE", "set")


@pytest.mark.parametrize(("variable", "folder"), [("FEDSYNTH_DATA", "data"), ("FEDSYNTH_STATE", "state")])
def test_a_site_whose_environment_names_no_folder_is_told_which(tmp_path, monkeypatch, variable, folder):
    monkeypatch.delenv(variable)
    with pytest.raises(SettingsError, match=f"north: {variable} is not set"):
        getattr(site(tmp_path, ""), folder)


def test_data_that_passed_are_loaded(tmp_path):
    real = make_set(tmp_path / "north", tiny_params())
    assert len(site(tmp_path, passed(tmp_path / "state" / "north", real)).validated_set()) == len(real)


def test_data_that_have_not_passed_are_refused(tmp_path):
    make_set(tmp_path / "north", tiny_params())
    with pytest.raises(table.SetError, match="not those that passed validation"):
        site(tmp_path, "0" * 64).validated_set()


def test_pixels_that_were_changed_after_validation_are_refused(tmp_path):
    real = make_set(tmp_path / "north", tiny_params())
    images = np.load(tmp_path / "north" / table.ARRAY)
    images[3] *= 0.5
    np.save(tmp_path / "north" / table.ARRAY, images)
    with pytest.raises(table.SetError, match=str(real.manifest["image_id"][3])):
        site(tmp_path, passed(tmp_path / "state" / "north", real)).validated_set()


@pytest.mark.parametrize(("consortium", "own", "least"), [(1, 5, 5), (5, 5, 5), (10, 5, 10), (5, 20, 20), (1, 1, 1)])
def test_the_larger_of_the_centres_and_the_sites_smallest_cell_holds(tmp_path, monkeypatch, consortium, own, least):
    monkeypatch.setenv("FEDSYNTH_MIN_CELL", str(own))
    made = site(tmp_path, "")
    made.settings, made.params = Settings.read(), tiny_params(consortium={"min_cell": consortium})
    assert made.min_cell == least


def test_what_a_site_answers_is_cut_at_its_own_smallest_cell_whatever_the_centre_asks_for(tmp_path, monkeypatch):
    real, sent = make_set(tmp_path / "north", tiny_params(), n=60), []
    monkeypatch.setattr("nvflare_jobs.site.site.flare.send", sent.append)
    made = site(tmp_path, passed(tmp_path / "state" / "north", real))
    made.params = tiny_params(consortium={"min_cell": 1})
    n = len(real.split("test"))
    row = {
        "use": "classification",
        "name": "local",
        "trained_on": "north",
        "model": "",
        "site": "north",
        "seed": 1,
        "metrics": {"balanced_accuracy": 0.712345, "auroc": 0.9},
        "n": {"balanced_accuracy": n, "auroc": n},
    }
    for own, shown in ((1, n), (100, "< 100")):
        made.settings = dataclasses.replace(made.settings, min_cell=own)
        made.validated_set()
        made.answer("reference", {"rows": [{**row, "n": dict(row["n"])}]})
        assert sent[-1].meta["answer"]["rows"][0]["n"]["balanced_accuracy"] == shown


def test_the_weight_of_a_site_with_few_training_images_of_a_class_is_of_the_others(tmp_path, monkeypatch):
    real, sent = make_set(tmp_path / "north", tiny_params(), n=60), []
    monkeypatch.setattr("nvflare_jobs.site.site.flare.send", sent.append)
    rare = np.flatnonzero((real.manifest["label"] == "none") & (real.manifest["split"] == "train"))
    changed = real.manifest.copy()
    changed.loc[rare[3:], "label"] = "infiltrating"
    table.write(tmp_path / "north", changed, real.images)
    made = site(tmp_path, passed(tmp_path / "state" / "north", ImageSet.load(tmp_path / "north")))
    weight = float(len(made.validated_set().split("train")))
    made.update({}, {}, {"losses": {}, "steps": 3, "weight": weight}, [])
    assert sent[-1].meta["weight"] == weight - 3


@pytest.mark.parametrize("name", ["../../elsewhere", "/etc/x", "a/b", "a\x00b", ".."])
def test_a_job_cannot_lead_a_site_to_another_folder(name):
    for key in ("name", "key"):
        with pytest.raises(LeakError, match=f"the job's {key}"):
            checked({key: name})
    assert checked({"name": "vae_2", "key": "0f3a"}) == {"name": "vae_2", "key": "0f3a"}


def test_every_site_draws_its_own_noise(tmp_path):
    one, other = site(tmp_path, ""), site(tmp_path, "")
    other.name = "south"
    assert one.seed() == site(tmp_path, "").seed() != other.seed()


def test_a_site_says_so_once_two_of_its_processes_have_died_of_a_task_and_tries_again_in_the_next_run(tmp_path):
    path = tmp_path / "running" / "task"
    CrashCounter(path)  # and dies
    CrashCounter(path)  # and dies
    with pytest.raises(ProcessDied, match="2 processes have died"):
        CrashCounter(path)
    CrashCounter(path)


def test_what_a_process_survived_does_not_count_and_an_orderly_end_leaves_nothing(tmp_path):
    path = tmp_path / "running" / "task"
    CrashCounter(path)
    second = CrashCounter(path)
    second.survived()
    third = CrashCounter(path)  # the second died of a later task
    third.end()
    assert not path.exists()


def test_a_simulated_job_that_ends_leaves_the_marks_of_others_at_its_sites(tmp_path, monkeypatch):
    """Two trainings run at once; the end of one is no reason for the other to fail."""
    folder = tmp_path / "north" / "running"
    monkeypatch.setenv("FEDSYNTH_RUN", "that one")
    other = CrashCounter(folder / "task")
    monkeypatch.setenv("FEDSYNTH_RUN", "this one")
    CrashCounter(folder / "own task")
    process = SimpleNamespace(poll=lambda: None)
    _Run(process, "this one", tmp_path / "job", ["north"], 1, tmp_path).kill()
    assert [path.name for path in folder.iterdir()] == ["task"]
    other.survived()


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (OSError(28, "No space left on device"), "disk"),
        (FileNotFoundError("patient_x.png"), "error"),
        (PermissionError("x"), "settings"),
        (MemoryError(), "memory"),
        (table.SetError("x"), "data"),
        (Diverged("x"), "diverged"),
        (LeakError("x"), "withheld"),
        (RuntimeError("x"), "error"),
    ],
)
def test_a_failure_leaves_as_one_word_that_may_leave(error, word):
    assert failures.word(error) == word
    assert leave("failure", {"failure": word}) == {"failure": word}


def test_every_word_has_a_sentence_and_may_leave_and_nothing_else_may():
    for word in {*failures.WORDS.values(), *failures.FAILURES}:
        assert failures.FAILURES[word]
        leave("failure", {"failure": word})
    with pytest.raises(LeakError):
        leave("failure", {"failure": "patient_x.png cannot be read"})
