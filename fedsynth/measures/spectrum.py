"""Distance between radially averaged power spectra: what a generator lacks, or adds, at each spatial frequency."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fedsynth.measures import About, Answer, Measure, MeasureInputs, in_parts
from fedsynth.measures._fine import over_channels, with_nan
from fedsynth.measures._statistics import beside_floor

FAINT = 1e-8  # power of a frequency, as a share of the image's values; what is below is rounding


class Spectrum(Measure):
    """Mean absolute difference, in decibels, between the radially averaged power spectra of real and synthetic images.

    Durall et al. 2020, arXiv:2003.01826, equations 2 and 3. A Hann window keeps the edges of an image from filling the
    high frequencies. The spectrum of a set is the mean of its images' logarithms, so that no bright image outweighs the
    others. Each channel is on its own, over the images that have it.
    """

    about: ClassVar = {
        "spectrum_distance": About(
            "lower",
            "spectrum distance (dB)",
            "Mean absolute difference between the radially averaged power spectra of held-out real and of synthetic"
            " images over all frequencies, in decibels, mean over the image channels: blur lacks the high ones, noise"
            " and upsampling add some.",
        ),
    }
    independent = False

    def at_site(self, seen: MeasureInputs) -> Answer:
        sets = (*seen.real, seen.synthetic)
        held_out, train, synthetic = (in_parts(lambda part: spectra(with_nan(seen, part)), of) for of in sets)
        return Answer(
            beside_floor(
                seen, lambda a, b: {"spectrum_distance": distance(a, b)}, held_out, train, synthetic, "spectrum"
            )
        )


def spectra(images: np.ndarray) -> np.ndarray:
    """(N, I, R) power in decibels of images (N, I, *S), mean over each of R shells of frequencies; NaN stays."""
    size = images.shape[2:]
    places = shells(size)
    window = np.ones(())
    for n in size:
        window = np.multiply.outer(window, np.hanning(n + 2)[1:-1])
    out = np.full((*images.shape[:2], places.max() + 1), np.nan)
    for i, channels in enumerate(images):
        for c, plane in enumerate(channels):
            if np.isfinite(plane).all():
                power = np.abs(np.fft.fftn((plane - plane.mean()) * window)) ** 2 / np.square(window).sum()
                sums = np.bincount(places.ravel(), power.ravel())
                out[i, c] = 10 * np.log10(np.maximum(sums / np.bincount(places.ravel()), FAINT))
    return out[:, :, 1:]  # without the mean, which was taken away


def shells(size: tuple[int, ...]) -> np.ndarray:
    """(*S) the number of the shell of each frequency: one step of the shortest axis wide, corners included.

    A shell without a frequency is joined to the one below it.
    """
    far = np.sqrt(sum(f**2 for f in np.meshgrid(*map(np.fft.fftfreq, size), indexing="ij")))
    return np.unique(np.rint(far * min(size)).astype(int), return_inverse=True)[1].reshape(size)


def distance(reference: np.ndarray, candidate: np.ndarray) -> float:
    """The distance of spectra (N, I, R) and (N', I, R); NaN without images."""

    def of_channel(c: int) -> float:
        known = [of[np.isfinite(of[:, c]).all(-1), c] for of in (reference, candidate)]
        if not all(map(len, known)):
            return float("nan")
        return float(np.abs(known[0].mean(0) - known[1].mean(0)).mean())

    return over_channels(of_channel, reference.shape[1])
