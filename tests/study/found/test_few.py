"""Few patients: what policies of hospitals allow with them, and what is said where they allow nothing."""

from __future__ import annotations

import pytest

from fedsynth.hospital.policy import PolicyError, load, simulated
from fedsynth.hospital.policy.simulated import LESS
from fedsynth.study.found import Machine, refused, written
from tests.study.found import folders
from tests.study.found.conftest import SMALL
from tests.study.found.passing import passes

SLOW = Machine(cores=1, memory_gb=8)


def patients(folder, number, images):
    """Pictures of patients, as many of each."""
    for i in range(number * images):
        folders.picture(folder / f"patient{i // images:02d}_{i % images}.png", i)
    return folder


def head(folder):
    return (folder / "study" / "params.yaml").read_text().split("\nstudy:")[0]


def test_with_fourteen_subjects_fewer_test_so_that_five_train_at_each_of_two_sites(write, tmp_path):
    _, params = write(patients(tmp_path / "data", 14, 3))
    assert params.source.args["partition"] == {"kind": "iid", "sites": 2}
    assert params.split.test == 0.3
    assert params.models["diffusion"].training.batch == LESS.batch
    assert all(said not in head(tmp_path) for said in ("ATTENTION", "NOTE"))


def test_where_two_sites_would_test_on_too_few_images_for_any_number_there_is_one(write, tmp_path):
    _, params = write(patients(tmp_path / "data", 14, 2))
    assert params.source.args["partition"] == {"kind": "iid", "sites": 1}
    assert "copies are looked for" not in (tmp_path / "study" / "params.yaml").read_text()


def test_subjects_for_one_site_are_at_one(write, tmp_path):
    found, params = write(patients(tmp_path / "data", 6, 4))
    for said in (written(found, "trial", SMALL).attention, " ".join(head(tmp_path).replace("#", "").split())):
        assert "NOTE: one simulated site, so that nothing is federated" in said
        assert "Two sites need 12 subjects and 10 images to test" in said
    assert params.source.args["partition"] == {"kind": "iid", "sites": 1}
    assert params.consortium.min_sites == 1
    assert not any("gap" in gate for gate in params.gates.warn)  # no other site's images
    assert "copies are looked for with 5 patients" in (tmp_path / "study" / "params.yaml").read_text()
    assert "ATTENTION" not in head(tmp_path)
    assert not (tmp_path / "study" / refused.FILE).exists()
    passes(tmp_path / "study", params)


def test_too_few_subjects_for_any_policy_are_told_at_once_with_what_can_be_done(write, tmp_path):
    found, params = write(patients(tmp_path / "data", 5, 6))
    made = written(found, "trial", SMALL)
    for said in (made.attention, " ".join(head(tmp_path).replace("#", "").split())):
        assert "`fedsynth run` will refuse to train. At the only site 24 images of 4 subjects train" in said
        assert "10 images of 5 subjects at each site, 5 of a class, and another subject must test: 6 in all" in said
        assert "`FEDSYNTH_POLICY=rehearsal.yaml fedsynth run`" in said
    with pytest.raises(PolicyError, match=r"floors\.subjects: the training images here are of 4 subjects"):
        passes(tmp_path / "study", params)


def test_a_rehearsal_lowers_what_must_be_lowered_and_nothing_else(write, tmp_path):
    _, params = write(patients(tmp_path / "data", 5, 6))
    path = tmp_path / "study" / refused.FILE
    assert simulated.changed(path) == {"subjects": [4, 5]}
    passes(tmp_path / "study", params, load(path)[0])


def test_no_policy_is_offered_that_could_not_help(write, tmp_path):
    """The smallest cell is a floor, too: with 4 images to train the site tells no number at all."""
    found, _ = write(patients(tmp_path / "data", 4, 2))
    made = written(found, "trial", SMALL)
    assert "ATTENTION" in made.attention
    assert (refused.FILE in made.files) == (refused.FILE in made.attention)
    if refused.FILE in made.files:
        assert simulated.changed(tmp_path / "study" / refused.FILE).keys() == {"images", "subjects"}


def test_a_round_goes_over_images_of_enough_subjects_where_each_has_many(tmp_path, write, monkeypatch):
    """Half of the images could be of three subjects, and policies count so."""
    from tests.study.found import conftest

    monkeypatch.setattr(conftest, "SMALL", SLOW)
    _, params = write(patients(tmp_path / "data", 12, 36))
    assert params.models["diffusion"].training.epochs > LESS.share
    passes(tmp_path / "study", params)


def test_sites_of_the_data_that_are_too_small_are_dealt_out_together(write, tmp_path):
    for i in range(5 * 8):
        folders.picture(tmp_path / "data" / ("north", "south")[i % 2] / f"p{i // 8}_{i % 8}.png", i)
    _, params = write(tmp_path / "data")
    assert params.source.args["partition"]["kind"] == "iid"
