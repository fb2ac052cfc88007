"""Folders that are not as one would wish: too little, damaged, mixed."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from fedsynth.params import Image
from fedsynth.study.found import Machine, look, plan, sites, written
from fedsynth.study.found.layout import FoundError
from tests.study.found import folders
from tests.study.found.conftest import SMALL
from tests.tables import make_table, write_table


def test_nothing_there_says_what_was_looked_for_and_what_was_seen(tmp_path):
    with pytest.raises(FoundError, match="is not there"):
        look(tmp_path / "lost")
    with pytest.raises(FoundError, match=r"Looked for: dataset.json .*BIDS.*DICOM.*Seen: nothing"):
        look(tmp_path)
    (tmp_path / "a.docx").write_text("x")
    (tmp_path / "b.docx").write_text("x")
    (tmp_path / "more").mkdir()
    with pytest.raises(FoundError, match=r"Seen: 2 files \.docx, 1 folder"):
        look(tmp_path)


@pytest.mark.parametrize("n", [1, 3, 7])
def test_too_few_images_are_counted(tmp_path, n):
    found = look(folders.flat(tmp_path, n))
    assert f"{n} image" in found.text()
    with pytest.raises(FoundError, match=rf"has {n} images? of {n} subjects?.*needs 8 images of 4 subjects"):
        written(found, "trial", SMALL)


def test_one_class_is_no_classification(write, tmp_path):
    shutil.rmtree(folders.by_class(tmp_path / "data", 32) / "malignant")
    _, params = write(tmp_path / "data")
    assert list(params.score.uses) == ["denoising"]
    assert params.image.labels == ["unlabelled"]


def test_a_class_with_too_few_images_is_left_out(write, tmp_path):
    folders.by_class(tmp_path / "data", 40)
    for i in range(3):
        folders.picture(tmp_path / "data" / "rare" / f"{i}.png", 100 + i)
    _, params = write(tmp_path / "data")
    assert params.image.labels == ["benign", "malignant"]
    assert params.source.args["labels"] == {"rare": None}
    assert "too few images of rare: left out" in (tmp_path / "study" / "params.yaml").read_text()


def test_files_with_problems_are_named_and_left_out(write, tmp_path):
    folder = folders.by_class(tmp_path / "data", 40)
    (folder / "benign" / "000.png").write_bytes(b"\x89PNG broken")
    shutil.copy(folder / "benign" / "002.png", folder / "benign" / "copy.png")
    folders.saved(folder / "malignant" / "black.png", np.zeros((40, 52), np.uint8))
    found, _ = write(folder)
    said = found.text()
    assert "benign/000.png cannot be read" in said or "000.png cannot be read" in said
    assert "benign/copy.png has the pixels of benign/002.png" in said
    assert "malignant/black.png is blank" in said
    assert len(found.good) == 39
    manifest = (tmp_path / "study" / "manifest.csv").read_text()
    assert not any(bad in manifest for bad in ("000.png", "copy.png", "black.png"))


def test_a_table_of_its_own_gets_exclude(write, tmp_path):
    make_table(tmp_path / "data")
    (tmp_path / "data" / "images" / "000-0.png").write_bytes(b"broken")
    _, params = write(tmp_path / "data")
    assert params.source.args["exclude"] == {"image": ["images/000-0.png"]}


def test_masks_that_do_not_fit_their_image_are_problems(tmp_path):
    folder = folders.by_class(tmp_path, 24, masks=True)
    folders.mask(folder / "benign" / "000_mask.png", size=(30, 30))
    found = look(folder)
    assert any("benign/000.png" in said and "another grid" in said for said in found.problems)
    assert len(found.good) == 23


def test_missing_masks_are_those_of_a_class_without_any(write, tmp_path):
    folder = folders.by_class(tmp_path / "data", 40, masks=True)
    for i in range(12):
        folders.picture(folder / "normal" / f"{i}.png", 200 + i)
    found, params = write(folder)
    assert "40 with something marked, 12 missing" in found.text()
    assert params.image.empty_labels == ["normal"]
    assert list(params.score.uses) == ["classification", "segmentation"]


def test_a_mask_that_no_smaller_image_can_show_is_left_out(write, tmp_path):
    folder = folders.by_class(tmp_path / "data", 60, masks=True, size=(300, 300))
    for i in range(12):
        folders.picture(folder / "normal" / f"{i}.png", 200 + i, (300, 300))
    folders.mask(folder / "benign" / "000_mask.png", size=(300, 300), side=1)
    _, params = write(folder)
    assert params.image.empty_labels == ["normal"]
    assert params.source.args["exclude"] == {"image": ["benign/000.png"]}


def test_few_masks_are_none(write, tmp_path):
    folder = folders.by_class(tmp_path / "data", 40)
    folders.mask(folder / "benign" / "000_mask.png")
    _, params = write(folder)
    assert params.image.masks == []
    assert "1 mask" in (tmp_path / "study" / "params.yaml").read_text()


def test_gray_among_colour_is_read_as_either(write, tmp_path):
    folder = folders.by_class(tmp_path / "data", 40, colour=True)
    folders.picture(folder / "benign" / "gray.png", 99)
    _, params = write(folder)
    assert params.image.images == ["red", "green", "blue"]
    assert params.image.conversions["red"].image == "copy"


def test_much_gray_makes_all_gray(write, tmp_path):
    folder = folders.by_class(tmp_path / "data", 40)
    for i in range(6):
        folders.picture(folder / "benign" / f"c{i}.png", 99 + i, colour=True)
    found, params = write(folder)
    assert params.image.images == ["gray"]
    assert params.image.conversions["gray"].image == "luminance"
    assert "40 of 46 pictures are gray" in found.text()


def test_gray_pictures_saved_in_colour_are_gray(tmp_path):
    for i in range(12):
        gray = np.random.default_rng(i).integers(0, 255, (30, 30), np.uint8)
        folders.saved(tmp_path / f"{i}.png", np.stack([gray] * 3, -1))
    assert list(look(tmp_path).layout.channels) == ["gray"]


def test_sizes_may_differ_and_their_form_is_kept(write, tmp_path):
    for i in range(30):
        folders.picture(tmp_path / "data" / f"{i}.png", i, (60 + i, 180 + i))
    found, params = write(tmp_path / "data")
    assert "60 to 89 x 180 to 209 pixels" in found.text()
    high, wide = params.image.size
    assert wide >= 2 * high
    assert high * wide <= 1.2 * SMALL.voxels(2)


def test_small_images_are_not_enlarged_and_larger_machines_take_more(tmp_path):
    from fedsynth.study.found.size import size

    small, large = look(folders.flat(tmp_path / "a")), tmp_path / "b"
    for i in range(12):
        folders.picture(large / f"{i}.png", i, (400, 400))
    assert size(small, Machine(64, 256))[0] == [40, 48]
    sizes = [size(look(large), machine)[0] for machine in (SMALL, Machine(8, 32), Machine(8, 32, gpu_gb=24))]
    assert sizes == [[48, 48], [64, 64], [128, 128]]


def test_a_large_set_is_looked_at_in_part_and_taken_in_part(write, tmp_path, monkeypatch):
    monkeypatch.setattr(sites, "MOST", 150)  # as 1500 of a larger set
    table = make_table(tmp_path / "data", subjects=150, images=2, size=(16, 16))
    write_table(tmp_path / "data", table.drop(columns="site"))
    found = look(tmp_path / "data", most=40)
    assert "300 images of 150 subjects" in found.text()
    assert "the first 40 were read" in found.text()
    _, params = write(tmp_path / "data")
    assert params.source.args["at_most"] == 17  # of three classes at three sites


def test_sites_of_a_table_that_are_too_small_are_left_out(write, tmp_path):
    table = make_table(tmp_path / "data", subjects=48)
    table.loc[0, "site"] = "tiny"
    write_table(tmp_path / "data", table)
    _, params = write(tmp_path / "data")
    assert params.source.args["partition"] == {"kind": "site", "sites": ["p", "q"]}


def test_the_same_folder_gives_the_same_text(tmp_path):
    folder = folders.by_class(tmp_path, 24)
    assert written(look(folder), "trial", SMALL) == written(look(folder), "trial", SMALL)


def test_the_name_of_a_study_is_written_where_params_know_the_key(write, tmp_path):
    from fedsynth.params import Params

    write(folders.by_class(tmp_path / "data", 24))
    lines = (tmp_path / "study" / "params.yaml").read_text().split("\n")
    assert ("study: trial" in lines) == ("study" in Params.model_fields)


def test_many_classes_get_the_steps_that_they_need_and_a_gate_above_guessing(write, tmp_path):
    for i in range(6 * 24):
        folders.picture(tmp_path / "data" / f"kind-{i % 6}" / f"{i}.png", i)
    _, params = write(tmp_path / "data")
    assert params.score.uses["classification"].args == {"steps": 330, "lr": 0.003}
    assert "classification/balanced_accuracy >= 0.25" in params.gates.require
    assert "# guessing gives 0.17" in (tmp_path / "study" / "params.yaml").read_text()


def test_networks_of_volumes_get_small_batches_so_that_they_take_enough_steps():
    """Of 60 steps of 16 the segmentation of the hippocampus learned nothing, of 200 steps of 4 a Dice of 0.8."""
    image = Image.model_validate({"size": [16, 24, 16], "channels": {"t1": "image", "mask": "mask"}, "labels": ["a"]})
    assert plan._budget("segmentation", 4.0, image) == {"steps": 240, "batch": 4}
    assert plan._budget("classification", 1000.0, image) == {"steps": 400, "batch": 8}
