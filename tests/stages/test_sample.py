"""A synthetic set: balanced, clean, and the same for the same seed."""

from __future__ import annotations

import tracemalloc
from collections import Counter

import numpy as np
import pytest
import torch

from fedsynth.data import manifest, outputs, stored
from fedsynth.data.dataset import ImageSet
from fedsynth.data.stored import Stored
from fedsynth.families import Family
from fedsynth.stages import sample
from tests.sets import make_set, tiny_params
from tests.trained import trained


class Painter(Family):
    """Images whose mask is set for the labels in `lesion`, at the `when`-th time that it is asked and later."""

    def __init__(self, channels: int, size: tuple[int, ...], lesion: set[int], when: int = 0):
        super().__init__()
        self.channels, self.size, self.lesion, self.when, self.asked = channels, size, lesion, when, 0

    def players(self):
        return {}

    def loss(self, player, x, y, given):
        raise NotImplementedError

    def sample(self, y, given=None, generator=None):
        x = torch.rand((len(y), self.channels, *self.size), generator=generator) * 2 - 1
        shown = self.asked >= self.when
        self.asked += 1
        for i, label in enumerate(y.tolist()):
            x[i, -1] = -0.5
            x[i, -1, 2:4, 2:4] = 0.7 if label in self.lesion and shown else -0.7
        return x


def drawn(params, **painter):
    family = Painter(len(params.image.channels), tuple(params.image.size), **painter)
    return sample.draw(family, params, "toy", "abc")


def test_every_class_has_its_share_and_any_part_of_the_set_is_balanced_too():
    params = tiny_params()
    params.sample.images = 31
    places = sample.labels(params)
    for n in (3, 10, 31):
        counts = np.bincount(places[:n], minlength=len(params.image.labels))
        assert counts.max() - counts.min() <= 1


def test_shares_are_those_that_balance_asks_for():
    params = tiny_params()
    names = params.image.labels
    params.sample.images, params.sample.balance = 40, {names[0]: 3.0, names[1]: 1.0}
    assert np.bincount(sample.labels(params), minlength=len(names)).tolist()[:2] == [30, 10]


def test_a_share_of_an_unknown_class_is_an_error_that_names_it():
    params = tiny_params()
    params.sample.balance = {"nobody": 1.0}
    with pytest.raises(sample.SampleError, match="nobody"):
        sample.labels(params)


def test_masks_are_cut_and_those_of_classes_without_lesion_are_empty():
    params = tiny_params()
    everything = set(range(len(params.image.labels)))
    images = drawn(params, lesion=everything)
    masks = images.channels(params.image, params.image.masks)
    assert set(np.unique(masks)) <= {-1.0, 1.0}
    empty = images.manifest["label"].isin(params.image.empty_labels).to_numpy()
    area = (masks > 0).sum(axis=tuple(range(1, masks.ndim)))
    assert (area[empty] == 0).all()
    assert (area[~empty] == 4).all()
    assert (images.manifest["mask_area"] == area).all()


def test_an_image_whose_lesion_is_missing_is_drawn_again():
    params = tiny_params()
    everything = set(range(len(params.image.labels)))
    images = drawn(params, lesion=everything, when=2)
    lesion = ~images.manifest["label"].isin(params.image.empty_labels)
    assert (images.manifest.loc[lesion, "mask_area"] > 0).all()


def test_a_model_that_never_draws_a_lesion_is_named_with_the_class():
    params = tiny_params()
    with_lesion = [n for n in params.image.labels if n not in params.image.empty_labels]
    with pytest.raises(sample.SampleError, match=f"toy draws no lesion mask for .*{with_lesion[0]}"):
        drawn(params, lesion=set())


def test_the_same_seed_draws_the_same_set_and_another_seed_another():
    params, other = tiny_params(), tiny_params(seed=9)
    everything = set(range(len(params.image.labels)))
    first, again, third = (drawn(p, lesion=everything) for p in (params, params, other))
    np.testing.assert_array_equal(first.images, again.images)
    assert first.manifest.equals(again.manifest)
    assert not np.array_equal(first.images, third.images)


class Keeps(Family):
    """Gives back what it was given, and remembers the labels."""

    def players(self):
        return {}

    def loss(self, player, x, y, given):
        raise NotImplementedError

    def sample(self, y, given=None, generator=None):
        return given[:, :1] * 0.5


def phantoms(site="public", images=12):
    return {"class_path": "fedsynth.sources.phantom.Phantom", "args": {"sites": {site: {"images": images}}}}


MASK_TO_IMAGE = {"channels": {"t1": "image", "lesion": "mask"}, "given": ["lesion"]}


def given(params, tmp_path, hospitals=("north",)):
    return sample.given_set(params, hospitals, tmp_path)


def test_given_images_come_with_their_label_from_a_source_at_the_centre(tmp_path):
    params = tiny_params(image=MASK_TO_IMAGE, sample={"given": phantoms(), "images": 20})
    known = given(params, tmp_path)
    images = sample.draw(Keeps(), params, "toy", "abc", known)
    area = (images.channels(params.image, ["lesion"]) > 0).sum((1, 2, 3))
    assert ((area == 0) == (images.manifest["label"] == "none").to_numpy()).all()
    assert {a.tobytes() for a in images.images[:, 1]} == {a.tobytes() for a in known.images[:, 1]}
    np.testing.assert_array_equal(images.images[:, 0], 0.5 * images.images[:, 1])


def test_what_is_aside_is_that_of_the_given_image(tmp_path):
    params = tiny_params(image={"given": ["t1"], "aside": ["lesion"]}, sample={"given": phantoms(), "images": 12})
    known = given(params, tmp_path)
    images = sample.draw(Keeps(), params, "toy", "abc", known)
    pairs = {(a[0].tobytes(), a[2].tobytes()) for a in known.images}
    assert {(a[0].tobytes(), a[2].tobytes()) for a in images.images} <= pairs
    np.testing.assert_array_equal(images.images[:, 1], 0.5 * images.images[:, 0])


@pytest.mark.parametrize(("deterministic", "drawn"), [(True, 6), (False, 30)])
def test_a_model_without_chance_makes_no_image_twice(tmp_path, monkeypatch, capsys, deterministic, drawn):
    """Of two images of each of the three classes."""
    params = tiny_params(
        image={"given": ["t1"], "aside": ["lesion"]}, sample={"given": phantoms(images=40), "images": 30}
    )
    known = given(params, tmp_path)
    few = known.where(known.manifest.groupby("label").cumcount() < 2)
    monkeypatch.setattr(Keeps, "deterministic", deterministic)
    images = sample.draw(Keeps(), params, "toy", "abc", few)
    assert images.manifest["label"].value_counts().tolist() == [drawn // 3] * 3
    assert len(set(images.manifest["sha256"])) == 6
    assert ("6 of 30" in capsys.readouterr().out) is deterministic


def test_a_hospitals_images_are_never_given(tmp_path):
    params = tiny_params(image=MASK_TO_IMAGE, sample={"given": phantoms("north")})
    with pytest.raises(sample.SampleError, match="'north', a hospital"):
        given(params, tmp_path)


def test_a_folder_of_a_hospital_is_never_given_nor_one_of_other_channels(tmp_path):
    params = tiny_params(image=MASK_TO_IMAGE, sample={"given": str(tmp_path / "north")})
    make_set(tmp_path / "north", params, "north", n=12)
    with pytest.raises(sample.SampleError, match="a hospital of this run: they stay there"):
        given(params, tmp_path)
    make_set(tmp_path / "north", params, "public", n=12, modality="t2")
    with pytest.raises(sample.SampleError, match="image channels t2"):
        given(params, tmp_path)


def test_a_folder_of_another_models_images_may_be_given(tmp_path):
    params = tiny_params(image=MASK_TO_IMAGE, sample={"given": str(tmp_path / "other")})
    other = make_set(tmp_path / "other", params, "other", n=12)
    assert len(given(params, tmp_path)) == len(other)


def test_given_images_that_do_not_fit_or_lack_a_class_are_named(tmp_path):
    params = tiny_params(image=MASK_TO_IMAGE, sample={"given": str(tmp_path / "other")})
    make_set(tmp_path / "other", tiny_params(), "other", n=12)
    with pytest.raises(sample.SampleError, match=r"\(3, 16, 16\); \(2, 16, 16\) is needed"):
        given(params, tmp_path)
    make_set(tmp_path / "other", params, "other", n=12, label="none")
    with pytest.raises(sample.SampleError, match="is infiltrating"):
        sample.draw(Keeps(), params, "toy", "abc", given(params, tmp_path))
    params.sample.given = None
    with pytest.raises(sample.SampleError, match=r"sample\.given"):
        given(params, tmp_path)


def test_the_stage_draws_a_set_from_given_images_that_passes_what_real_data_must(tmp_path):
    low = {"t1_low": {"of": "t1", "operator": {"class_path": "fedsynth.operators.kspace.Undersample"}}}
    image = {
        "channels": {"t1_low": "image", "t1": "image", "lesion": "mask"},
        "given": ["t1_low"],
        "aside": ["lesion"],
        "derived": low,
    }
    model = {
        "family": {"class_path": "fedsynth.families.regression.Regression", "args": {"channels": [8, 16]}},
        "training": {"rounds": 1},
    }
    params = tiny_params(image=image, models={"unet": model}, sample={"given": phantoms(images=30), "images": 12})
    trained(tmp_path, params, "unet")
    images = sample.sample(params, tmp_path, "unet")
    written = ImageSet.load(tmp_path / "data" / "synthetic" / "unet")
    np.testing.assert_array_equal(written.images, images.images)
    assert set(images.manifest["label"]) == set(params.image.labels)
    assert set(np.unique(images.channels(params.image, ["lesion"]))) == {-1.0, 1.0}
    assert (images.manifest.loc[images.manifest["label"] != "none", "mask_area"] > 0).all()


def test_what_is_mended_is_counted_in_a_file_beside_the_set(tmp_path, monkeypatch):
    params = tiny_params()
    painter = Painter(len(params.image.channels), tuple(params.image.size), set(range(len(params.image.labels))), 1)
    monkeypatch.setattr("fedsynth.training.weights.build_family", lambda *_: painter)
    monkeypatch.setattr("fedsynth.training.weights.load", lambda *_: {})
    outputs.write(tmp_path / "models/vae/model.json", {"sites": {"north": 1}, "weights_sha256": "0" * 64})
    made = sample.sample(params, tmp_path, "vae")
    healthy = int(made.manifest["label"].isin(params.image.empty_labels).sum())
    found = outputs.read(tmp_path / "data/synthetic/vae/mends.json", "sample@vae")
    again = found["drawn_again"]
    assert found == {"without": healthy, "with": len(made) - healthy, "masks_emptied": 0, "drawn_again": again}
    assert again == len(made) - healthy, "the first draw of each showed no lesion"


@pytest.mark.parametrize("size", [[16, 16], [8, 8, 8]])
@pytest.mark.parametrize("megabytes", [0, 1024])
def test_a_set_is_written_as_it_would_be_drawn_into_memory(tmp_path, monkeypatch, size, megabytes):
    params = tiny_params(image={"size": size}, sample={"images": 25, "batch": 4})
    monkeypatch.setattr(stored, "memory", lambda: megabytes * 2**20)
    painter, mends = {"lesion": {0, 1, 2}, "when": 3}, [Counter(), Counter()]
    one = sample.draw(Painter(3, tuple(size), **painter), params, "toy", "abc", mends=mends[0])
    other = sample.write(tmp_path / "a set", Painter(3, tuple(size), **painter), params, "toy", "abc", mends=mends[1])
    assert isinstance(other.images, np.ndarray if megabytes else Stored)
    assert mends[0] == mends[1]
    assert mends[0]["drawn again"] > 0
    manifest.write(tmp_path / "whole", one.manifest, one.images)
    for file in (manifest.FILE, manifest.ARRAY):
        assert (tmp_path / "a set" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert len(ImageSet.load(tmp_path / "a set")) == 25, "every pixel is the manifest's, also of what was drawn again"


def test_a_batch_of_a_set_is_in_memory_and_not_the_set(tmp_path, monkeypatch):
    params = tiny_params(image={"size": [64, 64]}, sample={"images": 200, "batch": 4})
    monkeypatch.setattr(stored, "memory", lambda: 0)
    family = Painter(3, (64, 64), lesion={0, 1, 2}, when=60)
    tracemalloc.start()
    try:
        made = sample.write(tmp_path, family, params, "toy", "abc")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < made.images.nbytes / 3, f"{peak / 1e6:.1f} MB of {made.images.nbytes / 1e6:.1f} MB"


def test_given_images_on_disk_are_taken_as_those_in_memory_are(tmp_path, monkeypatch):
    params = tiny_params(image=MASK_TO_IMAGE, sample={"given": phantoms(), "images": 20, "batch": 3})
    one = sample.draw(Keeps(), params, "toy", "abc", given(params, tmp_path))
    monkeypatch.setattr(stored, "memory", lambda: 0)
    known = given(params, tmp_path)
    assert isinstance(known.images, Stored)
    other = sample.write(tmp_path / "set", Keeps(), params, "toy", "abc", known)
    np.testing.assert_array_equal(other.images[:], one.images)


def test_a_model_that_draws_no_lesion_leaves_no_set(tmp_path):
    params = tiny_params()
    with pytest.raises(sample.SampleError, match="draws no lesion mask"):
        sample.write(tmp_path, Painter(3, (16, 16), set()), params, "toy", "abc")
    assert list(tmp_path.iterdir()) == []


def test_a_training_s_own_seed_draws_other_images_and_stands_in_the_manifest():
    block = tiny_params().models["vae"].model_dump(mode="json")
    params = tiny_params(models={"toy": block, "toy_2": block | {"seed": 7}})
    one, other = (drawn(params.seeded(of.seed), lesion=set(range(3))) for of in params.models.values())
    assert set(other.manifest["seed"]) == {7} != set(one.manifest["seed"])
    assert not np.array_equal(one.images, other.images)
