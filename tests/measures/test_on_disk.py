"""Measures read sets where they are: on disk part after part, with the numbers of the set in memory to the last bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedsynth import measures
from fedsynth.data import dataset, stored
from fedsynth.data.dataset import ImageSet
from fedsynth.data.stored import Stored
from fedsynth.families.regression import Regression
from fedsynth.features.classifier import Classifier
from fedsynth.measures import Measure, MeasureInputs, _neighbours, _parts, _statistics, copies, membership
from fedsynth.measures._neighbours import Features, Pixels, distances, some
from fedsynth.measures._parts import Structure, shrunk, thumbnails
from fedsynth.measures.copies import Copies
from fedsynth.measures.kid import kid
from fedsynth.measures.membership import Membership
from fedsynth.measures.prdc import prdc
from tests.contracts.kinds import classes
from tests.contracts.test_measures import build
from tests.measures.phantoms import halves, site
from tests.measures.seen import look
from tests.sets import tiny_params

CASES: dict[str, dict[str, Any]] = {
    "2d": {"size": (16, 16)},
    "3d": {"size": (8, 8, 8)},
    "given": {"size": (16, 16), "given": ["t1"], "aside": ["lesion"]},
    "lacking": {"size": (16, 16), "may_lack": ["t2"]},
}
KINDS = classes(measures, Measure)
SETS = ["held_out", "train", "synthetic"]


@pytest.fixture(scope="module", params=CASES.values(), ids=list(CASES))
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[MeasureInputs, ...]:
    """The same sets in memory and on disk, in more than one part; of volumes the synthetic one is in memory in both, as
    in a score job.
    """
    folder, params = tmp_path_factory.mktemp("sets"), tiny_params(image=request.param)
    torch.manual_seed(0)
    family = (
        Regression(1, 1, 3, (16, 16), channels=(8, 16))
        if params.image.given
        else params.models["vae"].family.build(**params.image.context())
    ).eval()
    seen = look(folder, params, n=120, synthetic=66, flip=(1,), family=family)
    if params.image.may_lack:
        seen.train.images[::3, 1], seen.held_out.images[::4, 1], seen.held_out.images[::5, 2] = -1, -1, 0
    seen.extractor = Classifier().open(seen.networks, folder)
    names = SETS[: 3 if len(params.image.size) == 2 else 2]
    sets: dict[str, Any] = {name: kept(getattr(seen, name), folder / name) for name in names}
    assert len(seen.train) == 72
    return seen, replace(seen, **sets)


def kept(images: ImageSet, folder: Path) -> ImageSet:
    """The same set on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "images.npy", images.images)
    return ImageSet(images.manifest, Stored.open(folder / "images.npy", np.arange(len(images))))


@pytest.mark.parametrize("kind", KINDS)
def test_a_measure_gives_the_same_numbers_of_a_set_on_disk_and_never_reads_it_whole(
    kind: type[Measure], both: tuple[MeasureInputs, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory = build(kind, both[0]).at_site(both[0])
    most = 64 * both[1].train.images.nbytes // len(both[1].train)  # of 72 images
    read = Stored._read

    def watched(self: Stored, places: np.ndarray) -> np.ndarray:
        found = read(self, places)
        assert found.nbytes <= most, f"{len(places)} images at once"
        return found

    monkeypatch.setattr(Stored, "_read", watched)
    for module, name in ((_neighbours, "QUERY"), (_neighbours, "BLOCK"), (copies, "QUERY"), (membership, "QUERY")):
        monkeypatch.setattr(module, name, most)
    on_disk = build(kind, both[1]).at_site(both[1])
    assert in_memory.values == on_disk.values
    assert in_memory.moments.keys() == on_disk.moments.keys()
    for which, of in in_memory.moments.items():
        assert np.array_equal(of.covariance, on_disk.moments[which].covariance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("left", [0, 1, 6])
def test_a_handful_of_images_on_disk_gives_what_it_gives_in_memory(
    kind: type[Measure], left: int, both: tuple[MeasureInputs, ...]
) -> None:
    few = [
        replace(seen, **{name: getattr(seen, name).where(np.arange(len(getattr(seen, name))) < left) for name in SETS})
        for seen in both
    ]
    in_memory, on_disk = (build(kind, seen).at_site(seen).values for seen in few)
    assert in_memory == on_disk


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every set is as one that is too large for all pairs, and comes in many blocks."""
    monkeypatch.setattr(_neighbours, "EXACT", 0)
    monkeypatch.setattr(_parts, "ALL", 16)
    monkeypatch.setattr(_parts, "FLAT", 24)
    monkeypatch.setattr(_neighbours, "BLOCK", 7 * 2 * 16 * 16 * 4)
    for module in (_neighbours, copies, membership):
        monkeypatch.setattr(module, "QUERY", 11 * 3 * 16 * 16 * 4)
    monkeypatch.setattr(copies, "PART", 3)


@pytest.mark.parametrize("flip", [(), (1,)])
def test_the_audit_of_a_large_set_gives_the_numbers_of_all_distances(
    real: ImageSet, fresh: ImageSet, flip: tuple[int, ...], request: pytest.FixtureRequest
) -> None:
    """Which distances are needed is found by matrix products; the distances themselves are by differences."""
    seen = site(real, fresh.where(np.arange(len(fresh)) < 40), flip=flip)
    audits = Copies(neighbours=10), Membership(draws=1)
    exact = [audit.at_site(seen).values for audit in audits]
    request.getfixturevalue("large")
    found = [audit.at_site(seen).values for audit in audits]
    for one, other in zip(exact, found, strict=True):
        for name, value in one.items():
            rough = "patch" in name or "power" in name  # patches come in other blocks of a matrix product
            assert other[name].n == value.n
            for of in ("value", "floor", "low", "high"):
                expected = getattr(value, of)
                assert getattr(other[name], of) == (
                    pytest.approx(expected, rel=1e-6) if rough and expected else expected
                )


def test_copies_in_a_large_set_are_at_no_distance(real: ImageSet, large: None) -> None:
    _, train = halves(real)
    seen = site(real, train)
    pixels, features = Pixels(seen, train), Features(seen, train, seen.features("train"))
    whose = train.patients()
    for points in (pixels, features):
        for rows, (of,) in points.blocks(2**20, mirrored=False):
            table = distances(of, points, whose, 3)
            assert (np.diag(table[:, rows]) == 0).all()
            assert np.isinf(table).any(), "others are not asked for"
    small = thumbnails([train.images[:, :2]], ())
    assert (np.diag(Structure(small).distances(shrunk(train.images[:, :2]), whose, 3)) == 0).all()
    found = Copies(neighbours=10).at_site(seen).values
    assert all(found[f"copies_{space}"].value == len(train) for space in ("pixel", "feature", "ssim", "patch"))


@pytest.mark.parametrize("many", [1, 3], ids=["one image", "three images of each"])
def test_the_nearest_are_by_differences_and_no_nearer_one_is_missed(many: int, large: None) -> None:
    rng = np.random.default_rng(0)
    whose = np.repeat(np.arange(120 // many), many)
    params = tiny_params()
    seen = MeasureInputs(params.image, None, None, flip=(1,))  # type: ignore[arg-type]
    images = rng.uniform(-1, 1, (120, 3, 16, 16)).astype(np.float32)
    to = Pixels(seen, ImageSet(range(120), images))  # type: ignore[arg-type]
    of = rng.uniform(-1, 1, (9, 2 * 16 * 16)).astype(np.float32)
    turned = [images[:, :2].reshape(120, -1), images[:, :2, :, ::-1].reshape(120, -1)]
    whole = np.min([_neighbours.euclidean(of, b) for b in turned], axis=0)
    skip = rng.random((9, 120)) < 0.1
    table = distances(of, to, whose, 5, skip)
    assert np.array_equal(table[np.isfinite(table)], whole[np.isfinite(table)])
    nearest = _neighbours.by_subject(np.where(skip, np.inf, whole), whose)
    assert np.array_equal(_neighbours.smallest(_neighbours.by_subject(table, whose), 5),
                          _neighbours.smallest(nearest, 5))  # fmt: skip
    assert np.isinf(table[skip]).all()


@pytest.mark.parametrize("apart", [2e-5, 1e-4])
def test_a_copy_is_found_among_nearly_empty_images_beside_full_ones(apart: float, large: None) -> None:
    """Their distances to each other are smaller than what rounding adds to the products they are looked for by."""
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (400, 3, 16, 16)).astype(np.float32)
    images[::2] = -1 + np.abs(rng.normal(0, apart, (200, 3, 16, 16)))
    to = Pixels(MeasureInputs(tiny_params().image, None, None), ImageSet(range(400), images))  # type: ignore[arg-type]
    of = images[:80:2, :2].reshape(40, -1)
    table = distances(of, to, np.arange(400), 5)
    whole = _neighbours.euclidean(of, images[:, :2].reshape(400, -1))
    assert (table.argmin(1) == 2 * np.arange(40)).all()
    assert np.array_equal(_neighbours.smallest(table, 5), _neighbours.smallest(whole, 5))


def test_ssim_of_a_large_set_is_that_of_all_pairs_in_volumes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (60, 1, 12, 10, 9)).astype(np.float32)
    small, whose = thumbnails([images[:25], images[25:]], (0,)), np.arange(60) // 2
    whole = Structure(small).distances(shrunk(images[:9, :, ::-1]), whose, 4)
    monkeypatch.setattr(_parts, "ALL", 16)
    nearest = Structure(small).distances(shrunk(images[:9, :, ::-1]), whose, 4)
    known = np.isfinite(nearest)
    assert 0 < known.sum() < known.size
    assert np.array_equal(nearest[known], whole[known])
    assert (nearest[np.arange(9), np.arange(9)] == 0).all()
    rough = Structure(small)._rough(shrunk(images[:9, :, ::-1]))
    np.testing.assert_allclose(np.minimum(rough, 1), whole, atol=1e-5)


def test_of_a_huge_site_the_audit_looks_at_some_held_out_images_and_at_all_training_and_synthetic_ones(
    real: ImageSet, fresh: ImageSet
) -> None:
    held_out, train = halves(real)
    seen = site(real, train)
    found = Copies(most=20).at_site(seen).values
    n = {"real": 20, "synthetic": len(train), "train": len(train)}
    assert found["copies_pixel"].n == found["nearest_ratio_ssim"].n == n
    assert found["copy_power"].n == n | {"train": 20}
    assert all(found[f"copies_{space}"].value == len(train) for space in ("pixel", "ssim", "patch"))
    assert Copies(most=20).at_site(seen).values == found, "the same ones each time"
    assert Copies(most=len(train)).at_site(seen).values == Copies().at_site(seen).values
    near = Membership(most_near=30, draws=1).at_site(site(real, fresh)).values
    assert near["membership_distance_auc"].n["members"] == near["membership_feature_auc"].n["non_members"] == 30
    assert some(held_out, len(held_out), seen, "all").all()


@pytest.mark.parametrize("made", [Copies, Membership])
def test_fewer_images_than_patients_that_are_needed_are_refused(made: type[Measure]) -> None:
    key = {Copies: "most", Membership: "most_near"}[made]
    with pytest.raises(ValueError, match=key):
        made(**{key: 4})


def test_tables_of_all_pairs_come_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """KID's sums are in another order, which changes them by rounding; PRDC counts."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(90, 5)), rng.normal(0.3, 1, (70, 5))
    whole = kid(a, b), prdc(a, b, 3)
    monkeypatch.setattr(_statistics, "BLOCK", 16)
    assert kid(a, b) == pytest.approx(whole[0], rel=1e-11)
    assert prdc(a, b, 3) == whole[1]


def test_parts_are_the_same_in_memory_and_on_disk_and_one_of_no_image(both: tuple[MeasureInputs, ...]) -> None:
    in_memory, on_disk = (seen.train for seen in both)
    for n, most in ((7, 2**30), (64, 10_000), (10, 1)):
        parts = list(zip(in_memory.parts(n, most), on_disk.parts(n, most), strict=True))
        assert all(np.array_equal(a.images, b.images) and a.manifest.equals(b.manifest) for a, b in parts)
        assert sum(len(a) for a, _ in parts) == len(in_memory)
        assert all(isinstance(b.images, np.ndarray) for _, b in parts)
    none = [part for of in (in_memory, on_disk) for part in of.where(np.zeros(len(of), bool)).parts()]
    assert [part.images.shape for part in none] == [(0, *in_memory.images.shape[1:])] * 2
    assert dataset.MOST > stored.BYTES
