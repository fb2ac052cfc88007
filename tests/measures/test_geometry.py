"""Area, place and number of masks, each by its own distance, over the images whose class has a mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedsynth.data.dataset import ImageSet
from fedsynth.measures import MeasureInputs
from fedsynth.measures.geometry import Geometry, distances, shape, shapes, with_mask
from tests.measures.seen import look
from tests.sets import tiny_params

NAMES = {"mask_area_distance", "mask_position_distance", "mask_count_distance"}


@pytest.fixture
def seen(tmp_path: Path) -> MeasureInputs:
    return look(tmp_path, tiny_params(), 90, 90)


def moved(seen: MeasureInputs, change: str) -> dict[str, float]:
    """The distances where all synthetic masks are changed, beside what they were."""
    images = seen.synthetic.images.copy()
    masks = images[:, 2]
    if change == "shift":
        masks[:] = np.roll(masks, 4, axis=1)
    elif change == "speck":
        masks[:, 0, 0] = 1
    elif change == "none":
        masks[:] = -1
    made = ImageSet(seen.synthetic.manifest, images)
    answer = Geometry().at_site(MeasureInputs(seen.image, made, seen.extractor, {}, seen.held_out, seen.train, seed=1))
    return {name: v.value for name, v in answer.values.items()}  # type: ignore[misc]


def test_a_mask_has_an_area_a_number_of_parts_and_a_centre() -> None:
    mask = np.zeros((4, 8), bool)
    mask[0:2, 0:2] = True
    assert shape(mask) == [4 / 32, 1, 0.25, 0.125]
    mask[2, 2] = True  # touches at a corner
    assert shape(mask)[1] == 1
    mask[3, 7] = True
    assert shape(mask)[1] == 2
    area, parts, *centre = shape(np.zeros((4, 4, 4), bool))
    assert (area, parts) == (0, 0)
    assert np.isnan(centre).all()
    assert shape(np.ones((2, 4, 6), bool)) == [1, 1, 0.5, 0.5, 0.5]


def test_only_images_of_a_class_with_a_mask_count(seen: MeasureInputs) -> None:
    table = shapes(seen, with_mask(seen, seen.synthetic))
    assert table.shape == (60, 1, 4)
    assert (table[:, :, 0] > 0).all()
    answer = Geometry().at_site(seen)
    held_out = seen.held_out.manifest  # type: ignore[union-attr]
    assert {v.n["real"] for v in answer.values.values()} == {int((held_out["label"] != "none").sum())}


def test_each_distance_answers_to_its_own_change_alone(seen: MeasureInputs) -> None:
    before, shifted, speck = (moved(seen, change) for change in ("", "shift", "speck"))
    assert shifted["mask_position_distance"] > before["mask_position_distance"] + 0.05
    assert shifted["mask_area_distance"] == pytest.approx(before["mask_area_distance"])
    assert speck["mask_count_distance"] == pytest.approx(1, abs=0.1)
    assert before["mask_count_distance"] == 0
    assert abs(speck["mask_area_distance"] - before["mask_area_distance"]) <= 1 / 256 + 1e-9


def test_synthetic_masks_that_are_all_empty_are_far_in_area_and_have_no_place(seen: MeasureInputs) -> None:
    found = moved(seen, "none")
    real = shapes(seen, with_mask(seen, seen.held_out))[:, 0, 0].mean()  # type: ignore[arg-type]
    assert found["mask_area_distance"] == pytest.approx(real)
    assert found["mask_count_distance"] == 1
    assert found["mask_position_distance"] is None


def test_distances_are_means_over_mask_channels_and_a_shift_is_its_size() -> None:
    rng = np.random.default_rng(0)
    table = rng.uniform(0, 0.5, (30, 2, 4))
    other = table.copy()
    other[:, 0, 0] += 0.25
    other[:, 1, 2] += 0.2
    assert distances(table, table) == dict.fromkeys(NAMES, 0)
    found = distances(table, other)
    assert found["mask_area_distance"] == pytest.approx(0.125)
    assert found["mask_position_distance"] == pytest.approx(0.05)  # one of two axes of one of two channels
    assert found["mask_count_distance"] == 0


def test_without_a_real_mask_or_a_mask_channel_there_is_none(tmp_path: Path) -> None:
    bare = look(tmp_path / "bare", tiny_params(image={"channels": {"t1": "image"}, "empty_labels": []}))
    healthy = look(tmp_path / "healthy", tiny_params())
    healthy.held_out.images[:, 2] = -1  # type: ignore[union-attr]
    for seen in (bare, healthy):
        answer = Geometry().at_site(seen)
        assert answer.values.keys() == NAMES
        assert all(v.value is None and v.floor is None for v in answer.values.values())
