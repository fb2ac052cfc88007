"""Phantoms: what params.yaml asks for, the same every time, in any size, with lesions that can be seen."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from fedsynth.data.anatomy import draw
from fedsynth.params import Image, ParamsError
from fedsynth.sources.phantom import KINDS, Phantom, Site, scan, shares

IMAGE = {"size": [32, 32], "channels": {"t1": "image", "t2": "image", "lesion": "mask"}, "labels": list(KINDS)}
QUIET = {"noise": 0.0, "bias": 0.0}


def records(site="north", seed=1, image=None, **spec):
    phantom = Phantom(Image(**IMAGE | (image or {})), seed, {"south": {"images": 7}, site: {"images": 30} | spec})
    return list(phantom.records(site))


def same(first, second):
    return all(
        np.array_equal(a.channels[c], b.channels[c]) for a, b in zip(first, second, strict=True) for c in a.channels
    )


def test_the_same_seed_gives_the_same_bytes():
    assert same(records(), records())


def test_seed_and_site_change_the_images():
    assert not same(records(), records(seed=2))
    assert not same(records(), records(site="east"))


def test_a_site_does_not_depend_on_the_others():
    alone = list(Phantom(Image(**IMAGE), 1, {"north": {"images": 30}}).records("north"))
    assert same(records(), alone)


def test_classes_have_exactly_their_shares():
    counts = Counter(r.label for r in records(mix=[0.5, 0.4, 0.1]))
    assert counts == {"none": 15, "infiltrating": 12, "extra_axial": 3}


def test_a_hospital_with_few_patients_trains_on_some_images_of_each_class_and_tests_on_all_others():
    found = records(images=60, train=5)
    assert all(5 <= n <= 7 for n in Counter(r.label for r in found if r.split == "train").values())
    assert {r.split for r in found} == {"train", "test"}
    trained = {r.subject for r in found if r.split == "train"}
    assert 6 <= len(trained) <= 9
    assert not trained & {r.subject for r in found if r.split == "test"}
    assert same(found, records(images=60))
    assert {r.split for r in records(images=60)} == {""}


def test_a_hospital_that_has_not_seen_a_class_yet_tests_on_it():
    found = records(images=90, train=[20, 0, 10])
    counts = Counter((r.label, r.split) for r in found)
    assert counts["infiltrating", "train"] == 0
    assert counts["infiltrating", "test"] == 30
    assert 20 <= counts["none", "train"] <= 22
    with pytest.raises(ParamsError, match="one for each of the labels"):
        records(images=90, train=[20, 0])


def test_what_is_listed_before_an_image_is_drawn_is_what_is_drawn():
    for more in ({}, {"train": 5}, {"train": [20, 0, 10]}):
        source = Phantom(Image(**IMAGE), 1, {"north": {"images": 40, **more}, "east": {"images": 3}})
        listed = [tuple(row) for row in source.listed().itertuples(index=False)]
        assert listed == [(s, r.subject, r.label, r.split) for s in source.sites() for r in source.records(s)]


@pytest.mark.parametrize(
    ("total", "weights"), [(10, [1, 1, 1]), (0, [1, 2]), (7, [0, 1]), (100, [0.333, 0.333, 0.334])]
)
def test_shares_add_up_and_are_within_one_of_the_exact(total, weights):
    counts = shares(total, weights)
    assert sum(counts) == total
    assert all(abs(c - total * w / sum(weights)) < 1 for c, w in zip(counts, weights, strict=True))


def test_a_subject_has_one_to_three_images_of_one_label_that_differ():
    found = records(images=120, **QUIET)
    by_subject: dict[str, list] = {}
    for record in found:
        by_subject.setdefault(record.subject, []).append(record)
    assert {len(group) for group in by_subject.values()} == {1, 2, 3}
    for group in by_subject.values():
        assert len({r.label for r in group}) == 1
        assert len({r.channels["t1"].tobytes() for r in group}) == len(group)


def test_images_of_one_subject_are_more_alike_than_of_two():
    found = records(images=120, mix=[1, 0, 0], **QUIET)
    within, between = [], []
    for a, b in pairwise(found):
        distance = np.abs(a.channels["t1"] - b.channels["t1"]).mean()
        (within if a.subject == b.subject else between).append(distance)
    assert np.mean(within) < 0.75 * np.mean(between)


def test_lesions_are_there_as_the_label_says_and_of_a_fair_size():
    areas = {
        k: [r.channels["lesion"].mean() for r in records(images=60, mix=[float(k == kind) for kind in KINDS])]
        for k in KINDS
    }
    assert max(areas["none"]) == 0
    for kind in KINDS[1:]:
        assert min(areas[kind]) > 0.025
        assert max(areas[kind]) < 0.15
        assert np.std(areas[kind]) > 0.008


def test_infiltrating_is_dark_on_t1_and_bright_on_t2_and_extra_axial_is_bright_on_t1():
    def contrast(kind, channel):
        found = records(images=20, mix=[float(k == kind) for k in KINDS], **QUIET)
        lesion = [r.channels[channel][r.channels["lesion"] > 0].mean() for r in found]
        around = [
            np.median(r.channels[channel][(r.channels["lesion"] == 0) & (r.channels[channel] > 200)]) for r in found
        ]
        return np.array(lesion) - np.array(around)  # of full scale 1000

    assert (contrast("infiltrating", "t1") < -100).all()
    assert (contrast("infiltrating", "t2") > 100).all()
    assert (contrast("extra_axial", "t1") > 200).all()


def test_extra_axial_touches_the_surface_and_infiltrating_lies_deeper():
    def distance(kind):  # of the lesion's outermost pixel from the middle, as a share of the half width
        found = records(images=20, mix=[float(k == kind) for k in KINDS])
        return np.mean([np.abs(np.argwhere(r.channels["lesion"] > 0) - 15.5).max() / 16 for r in found])

    assert distance("extra_axial") > distance("infiltrating") + 0.05


def test_twice_the_resolution_shows_the_same_head():
    for kind in KINDS:
        small, large = (draw(kind, (n, n), np.random.default_rng(5), np.random.default_rng(6))[0] for n in (32, 64))
        reduced = large.reshape(2, 32, 2, 32, 2).mean((2, 4))
        assert np.corrcoef(small.ravel(), reduced.ravel())[0, 1] > 0.97


@pytest.mark.parametrize("size", [[16, 24], [8, 16, 12]])
def test_slices_and_volumes_come_from_the_same_code(size):
    found = records(image={"size": size}, images=6)
    assert all(r.channels[c].shape == tuple(size) for r in found for c in r.channels)
    assert all(len(r.spacing_mm) == len(size) for r in found)
    assert any(r.channels["lesion"].any() for r in found)


def test_without_faults_the_scanner_returns_the_tissue():
    tissue, _ = draw("none", (32, 32), np.random.default_rng(1), np.random.default_rng(2))
    image = scan(tissue, Site(images=1, noise=0, bias=0, gamma=1, gain=2), np.random.default_rng(3))
    np.testing.assert_allclose(image, 2000 * tissue, rtol=1e-5, atol=1e-3)


def test_noise_is_rician():
    air = scan(np.zeros((2, 200, 200)), Site(images=1, noise=0.05, bias=0), np.random.default_rng(3)) / 1000
    bright = scan(np.full((2, 200, 200), 0.8), Site(images=1, noise=0.05, bias=0), np.random.default_rng(3)) / 1000
    assert air.mean() == pytest.approx(0.05 * np.sqrt(np.pi / 2), rel=0.02)  # Rayleigh where there is no signal
    assert bright.mean() == pytest.approx(np.sqrt(0.8**2 + 0.05**2), rel=0.01)
    assert bright.std() == pytest.approx(0.05, rel=0.03)


def test_values_are_finite_and_not_negative():
    for record in records(noise=0.1, bias=0.5, gamma=1.5):
        for plane in record.channels.values():
            assert np.isfinite(plane).all()
            assert plane.min() >= 0


def test_only_the_channels_asked_for_are_yielded():
    (record, *_) = records(image={"channels": {"t2": "image"}})
    assert list(record.channels) == ["t2"]
    assert record.mask_shape is None


def test_a_site_without_images_is_empty():
    assert records(images=0) == []


@pytest.mark.parametrize(
    ("image", "spec", "named"),
    [
        ({}, {"nois": 0.1}, "north.nois"),
        ({}, {"mix": [0.5, 0.5]}, "north.mix"),
        ({}, {"mix": [0, 0, 0]}, "north.mix"),
        ({}, {"images": -1}, "north.images"),
        ({"channels": {"flair": "image"}}, {}, "flair"),
        ({"labels": ["none", "stroke"]}, {}, "stroke"),
    ],
)
def test_what_cannot_be_is_named(image, spec, named):
    with pytest.raises(ParamsError, match=named):
        records(image=image, **spec)


def test_a_site_may_lack_a_channel_that_image_may_lack_names():
    found = records(image={"may_lack": ["t2"]}, lacks=["t2"])
    assert set(found[0].channels) == {"t1", "lesion"}
    whole = records()
    assert all(np.array_equal(a.channels["t1"], b.channels["t1"]) for a, b in zip(found, whole, strict=True))
    with pytest.raises(ParamsError, match=r"sites\.north\.lacks: 't2': image\.may_lack does not name it"):
        records(lacks=["t2"])
