"""The spectrum distance is in decibels of a frequency's power, and knows where in the spectrum a set differs."""

from __future__ import annotations

import numpy as np
import pytest

from fedsynth.measures.spectrum import distance, shells, spectra

RNG = np.random.default_rng(0)
SIZES = pytest.mark.parametrize("size", [(16, 16), (12, 20), (8, 8, 8)], ids=["2d", "oblong", "3d"])


@SIZES
def test_twice_the_contrast_is_six_decibels_at_every_frequency(size: tuple[int, ...]) -> None:
    images = RNG.normal(0, 0.2, (8, 2, *size))
    one, twice = spectra(images), spectra(2 * images)
    assert distance(one, one) == 0
    assert distance(one, twice) == pytest.approx(20 * np.log10(2))
    assert np.allclose(spectra(images + 0.3), one), "brightness has no frequency"


@SIZES
def test_white_noise_is_flat_and_has_its_variance_everywhere(size: tuple[int, ...]) -> None:
    found = spectra(RNG.normal(0, 0.1, (400, 1, *size)))
    power = np.log10(np.mean(10 ** (found / 10), axis=0))[0]
    assert np.allclose(power[1:], -2, atol=0.1)


def test_a_wave_is_in_the_shell_of_its_frequency_and_a_checkerboard_in_the_last() -> None:
    x = np.arange(32)
    wave = np.broadcast_to(np.sin(2 * np.pi * 8 / 32 * x), (1, 1, 32, 32))
    checks = np.broadcast_to(np.indices((32, 32)).sum(0) % 2 * 2.0 - 1, (1, 1, 32, 32))
    assert spectra(wave)[0, 0].argmax() == 7, "the shell of the mean is not there"
    assert spectra(checks)[0, 0].argmax() == spectra(checks).shape[-1] - 1


@SIZES
def test_every_frequency_is_in_one_shell_and_no_shell_is_empty(size: tuple[int, ...]) -> None:
    found = shells(size)
    assert found.shape == size
    assert (np.bincount(found.ravel()) > 0).all()


def test_images_that_lack_a_channel_do_not_count_for_it() -> None:
    images = RNG.normal(0, 0.2, (10, 2, 16, 16))
    lacking = images.copy()
    lacking[5:, 1] = np.nan
    second = distance(spectra(images[:, 1:]), spectra(images[:5, 1:]))
    assert distance(spectra(images), spectra(lacking)) == pytest.approx(second / 2)
    lacking[:, 1] = np.nan
    assert distance(spectra(images), spectra(lacking)) == 0, "of the first channel alone"
    assert np.isnan(distance(spectra(images[:0]), spectra(images)))
