"""The frozen extractor is one file, the same everywhere, and sees noise, a grid and a slight blur."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from fedsynth.data.procedural import SHAPES, TEXTURES, shape, texture
from fedsynth.features import ExtractorError, frozen
from fedsynth.features.frozen import Frozen, mixture, slices
from fedsynth.stages import code

ROOT = Path(__file__).parents[2]
SIZES = pytest.mark.parametrize("size", [(32, 32), (5, 7), (12, 10, 8)], ids=["2d", "tiny", "3d"])


def procedural(n: int, size: tuple[int, ...], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    kinds = [(TEXTURES[i % len(TEXTURES)], SHAPES[i % len(SHAPES)]) for i in range(n)]
    made = [0.2 * texture(one, size, rng) + 0.4 * shape(other, size, rng) for one, other in kinds]
    return np.stack(made)[:, None].clip(-1, 1).astype(np.float32)


@pytest.fixture(scope="module")
def opened() -> Frozen:
    return Frozen().open({}, Path())


@SIZES
def test_it_gives_so_many_features_whatever_the_size_and_the_channels(opened: Frozen, size: tuple[int, ...]) -> None:
    for channels in (1, 3):
        found = opened.features(np.repeat(procedural(3, size), channels, axis=1))
        assert found.shape == (3, 8)
        assert found.dtype == np.float64
        assert np.isfinite(found).all()
    assert opened.features(np.zeros((0, 2, *size), np.float32)).shape == (0, 8)


def test_it_is_the_same_in_every_process_and_does_not_mix_channels_up(opened: Frozen) -> None:
    images = procedural(4, (32, 32))
    assert np.array_equal(Frozen().open({}, Path()).features(images), opened.features(images))
    both = np.concatenate([images, images[::-1]], axis=1)
    assert not np.allclose(opened.features(both), opened.features(both[:, ::-1]))
    assert mixture(24, 8)[0, :2] == pytest.approx([-0.133704, -0.336867], abs=1e-5), "these numbers must never change"


def test_its_units_have_the_spread_of_one_on_procedural_images(opened: Frozen) -> None:
    spread = opened.features(procedural(120, (32, 32))).std(0)
    assert ((spread > 0.2) & (spread < 5)).all()


@pytest.mark.parametrize("damage", ["noise", "checkerboard", "blur"])
def test_a_slight_damage_moves_an_image_further_than_another_drawing_of_it(opened: Frozen, damage: str) -> None:
    rng, images = np.random.default_rng(1), procedural(60, (32, 32))
    other = {
        "noise": images + 0.1 * rng.normal(size=images.shape),
        "checkerboard": images + 0.1 * (np.indices((32, 32)).sum(0) % 2 * 2 - 1),
        "blur": gaussian_filter(images, (0, 0, 0.7, 0.7)),
    }[damage].astype(np.float32)
    moved = np.linalg.norm(opened.features(other) - opened.features(images), axis=1)
    faint = opened.features(images + 0.003 * rng.normal(size=images.shape).astype(np.float32))
    assert np.median(moved) > 3 * np.median(np.linalg.norm(faint - opened.features(images), axis=1))


def test_slices_of_a_volume_are_along_each_axis_and_an_image_is_its_own() -> None:
    assert len(slices(np.zeros((2, 1, 9, 9)))) == 1
    assert {of.shape[2:] for of in slices(np.zeros((2, 1, 9, 10, 11)))} == {(10, 11), (9, 11), (9, 10)}


def test_it_ships_with_the_package_and_another_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(frozen.__file__).with_name(frozen.FILE)
    assert path.stat().st_size < 2 * 2**20
    packed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert packed["fedsynth.features"] == ["*.safetensors"]
    assert f"fedsynth/features/{frozen.FILE}" in code.digests(["fedsynth.features.frozen"]), "a stage hangs on it"
    monkeypatch.setattr(frozen, "SHA256", "0" * 64)
    frozen.loaded.cache_clear()
    with pytest.raises(ExtractorError, match="install it anew"):
        Frozen().open({}, Path())
    frozen.loaded.cache_clear()
