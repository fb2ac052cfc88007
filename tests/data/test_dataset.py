"""Sets of images: what was written is what is read, and a changed pixel is seen."""

import numpy as np
import pytest
import torch

from fedsynth.data import manifest
from fedsynth.data.dataset import ImageSet, batches, concatenate
from tests.sets import make_set, rewrite, tiny_params


@pytest.mark.parametrize("size", [[16, 16], [8, 8, 8]])
def test_a_set_comes_back_as_it_was_written(tmp_path, size):
    written = make_set(tmp_path, tiny_params(image={"size": size}), n=12)
    read = ImageSet.load(tmp_path)
    assert read.images.shape == (12, 3, *size)
    assert np.array_equal(read.images, written.images)


def test_one_changed_pixel_is_seen_and_its_row_named(tmp_path):
    images = make_set(tmp_path, tiny_params(), n=6)
    for channel in (0, 2):  # an image and a mask
        changed = images.images.copy()
        changed[4, channel, 0, 0] += 0.5
        manifest.write(tmp_path, images.manifest, changed)
        with pytest.raises(manifest.SetError, match=images.manifest["image_id"][4]):
            ImageSet.load(tmp_path)


def test_rows_lost_from_the_array_are_seen(tmp_path):
    images = make_set(tmp_path, tiny_params(), n=6)
    manifest.write(tmp_path, images.manifest, images.images[:5])
    with pytest.raises(manifest.SetError, match=r"6 rows .* 5 images"):
        ImageSet.load(tmp_path)


def test_an_empty_set_loads(tmp_path):
    manifest.write(tmp_path, manifest.frame([]), np.zeros((0, 3, 16, 16)))
    empty = ImageSet.load(tmp_path)
    assert len(empty) == 0
    assert empty.images.shape == (0, 3, 16, 16)


def test_splits_part_the_set(tmp_path):
    images = make_set(tmp_path, tiny_params(), n=60)
    parts = [images.split(name) for name in manifest.SPLITS]
    assert sum(map(len, parts)) == 60
    together = concatenate(parts)
    assert set(together.manifest["image_id"]) == set(images.manifest["image_id"])
    order = together.manifest["index"].to_numpy()
    assert np.array_equal(together.images, images.images[order])


def test_subjects_are_numbers_that_images_of_one_person_share(tmp_path):
    images = make_set(tmp_path, tiny_params(), n=6, subject=["p", "q", "p", "r", "q", "p"])
    assert images.subjects().tolist() == [0, 1, 0, 2, 1, 0]


def test_labels_are_places_in_params_and_unknown_ones_are_named(tmp_path):
    params = tiny_params()
    images = make_set(tmp_path, params, n=6)
    assert [params.image.labels[i] for i in images.labels(params.image)] == images.manifest["label"].tolist()
    rewrite(tmp_path, 0, label="lesoin")
    with pytest.raises(manifest.SetError, match="lesoin"):
        ImageSet.load(tmp_path).labels(params.image)


def test_channels_are_found_by_name_in_the_order_asked_for(tmp_path):
    params = tiny_params()
    images = make_set(tmp_path, params, n=6)
    assert np.array_equal(images.channels(params.image, ["lesion", "t1"]), images.images[:, [2, 0]])


@pytest.mark.parametrize(("n", "batch"), [(10, 4), (3, 8), (8, 8)])
def test_every_image_is_seen_once_in_an_epoch(n, batch):
    size = min(n, batch)
    places = torch.cat(list(batches(n, batch, 3 * n, torch.Generator().manual_seed(0))))
    assert len(places) == 3 * n * size
    assert places.bincount(minlength=n).max() - places.bincount(minlength=n).min() <= 1


def test_batches_repeat_with_the_generator():
    first, second = ([b.tolist() for b in batches(9, 4, 5, torch.Generator().manual_seed(3))] for _ in range(2))
    assert first == second


def test_a_channel_that_an_image_lacks_is_nan_where_only_known_values_are_asked_for(tmp_path):
    params = tiny_params(image={"may_lack": ["t2"]})
    real = make_set(tmp_path, params, n=12)
    real.images[3, params.image.index(["t2"])] = -1
    known = real.channels_or_nan(params.image, ["t1", "t2"])
    assert np.isnan(known[3, 1]).all()
    assert np.isfinite(known[3, 0]).all()
    assert np.isfinite(np.delete(known, 3, 0)).all()
    assert np.isfinite(real.channels_or_nan(tiny_params().image, ["t1", "t2"])).all()
