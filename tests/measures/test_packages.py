"""Each measure against a published package that computes the same number.

A test is skipped where its package is not installed; none of them is needed to run fedsynth, and the small ones come
with the extra `dev`. To run all of them, `pip install --no-deps --target peers scikit-image lazy-loader statsmodels
patsy pot torch-fidelity` and set `PYTHONPATH=peers` (torch-fidelity needs torchvision of the same build as torch, too).
MONAI's SSIM, which MS-SSIM and conversion use, has its windows within the image, as pytorch-msssim has; torchmetrics
pads, and differs at the border.
"""

from __future__ import annotations

import ast
import pkgutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedsynth import measures
from fedsynth.measures import MeasureInputs
from fedsynth.measures._attack import by_chance, clopper_pearson
from fedsynth.measures._neighbours import euclidean, relative
from fedsynth.measures._parts import STRIDE, WINDOW, Structure, shrunk, thumbnails
from fedsynth.measures.class_agreement import accuracy
from fedsynth.measures.conversion import nearness
from fedsynth.measures.copies import counted
from fedsynth.measures.fid import fid
from fedsynth.measures.geometry import shape
from fedsynth.measures.intensity import distance, histograms
from fedsynth.measures.kid import kid
from fedsynth.measures.membership import auc, tpr
from fedsynth.measures.ms_ssim import scales, similarity
from fedsynth.measures.prdc import prdc
from fedsynth.measures.radiomics import distance as radiomic
from fedsynth.measures.spectrum import shells, spectra
from fedsynth.measures.texture import PATCH, directions
from fedsynth.measures.texture import counted as projections
from fedsynth.measures.texture import distance as texture
from fedsynth.uses.classification import calibration_error, confidence
from fedsynth.uses.segmentation import overlap
from tests.measures.seen import look
from tests.sets import make_set, tiny_params

ALONE = {  # files of measures with nothing of their own that a package computes, and why
    "canaries": "AUC and TPR are membership's; no package on PyPI has the bound of Steinke et al. 2023, see by_chance",
    "frozen": "FID, KID and PRDC, in another extractor's features",
    "mask_agreement": "Dice is that of fedsynth/uses/segmentation.py",
}


def test_each_measure_is_held_against_a_package_or_says_why_not() -> None:
    tree = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    files = {module.name for module in pkgutil.iter_modules(measures.__path__) if not module.name.startswith("_")}
    compared = {name for name in files if f"fedsynth.measures.{name}" in imported}
    assert files - compared == ALONE.keys()


def package(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is not installed", exc_type=ImportError)


def clouds(n: int = 60, other: int = 60, features: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    turn = rng.normal(size=(features, features))
    return rng.normal(size=(n, features)) @ turn + 2, rng.normal(size=(other, features)) @ turn * 0.9 + 2.5


def images(n: int = 12, size: tuple[int, ...] = (64, 64), channels: int = 2) -> np.ndarray:
    """In [-1, 1]: smooth fields with noise."""
    rng = np.random.default_rng(1)
    coarse = torch.from_numpy(rng.uniform(-1, 1, (n, channels, *[4] * len(size)))).float()
    mode = "bilinear" if len(size) == 2 else "trilinear"
    fine = torch.nn.functional.interpolate(coarse, size, mode=mode).numpy()
    return np.clip(fine + rng.normal(0, 0.1, fine.shape), -1, 1).astype(np.float32)


def test_fid_is_scipys_matrix_root() -> None:
    linalg = package("scipy.linalg")
    a, b = clouds(60, 80)
    covariances = [np.cov(x, rowvar=False) for x in (a, b)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert fid(a, b) == pytest.approx(float(expected), rel=1e-8)


def test_fid_is_torch_fidelitys() -> None:
    metric = package("torch_fidelity.metric_fid")
    a, b = (torch.from_numpy(x) for x in clouds(60, 80))
    found = metric.fid_statistics_to_metric(*map(metric.fid_features_to_statistics, (a, b)), verbose=False)
    assert fid(a.numpy(), b.numpy()) == pytest.approx(float(next(iter(found.values()))), rel=1e-6)


def test_kid_is_torch_fidelitys() -> None:
    metric = package("torch_fidelity.metric_kid")
    a, b = clouds()
    kernels = [metric.kernel_poly(x, y, kid_kernel_poly_degree=3, kid_kernel_poly_gamma=None, kid_kernel_poly_coef0=1)
               for x, y in ((a, a), (a, b), (b, b))]  # fmt: skip
    assert kid(a, b) == pytest.approx(float(metric.mmd2(*kernels, mmd_est="unbiased")), rel=1e-9)


def test_kid_of_unequal_sets_is_that_of_scikit_learns_kernel() -> None:
    pairwise = package("sklearn.metrics.pairwise")
    a, b = clouds(40, 70)
    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in map(pairwise.polynomial_kernel, (a, b))]
    expected = sum(within) - 2 * pairwise.polynomial_kernel(a, b).mean()
    assert kid(a, b) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_prdc_is_its_authors(k: int) -> None:
    authors, (a, b) = package("prdc"), clouds(50, 70)
    expected = authors.compute_prdc(real_features=a, fake_features=b, nearest_k=k)
    assert prdc(a, b, k) == pytest.approx({name: float(value) for name, value in expected.items()}, rel=1e-9)


def alike(size: tuple[int, ...], n: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Images of one channel and others that resemble them: where none is unlike, packages clip nothing to 0."""
    one, other = images(n, size, 1), images(2 * n, size, 1)[n:]
    return one, (0.6 * one + 0.4 * other).astype(np.float32)


def test_ms_ssim_is_torchmetrics() -> None:
    functional, (x, y) = package("torchmetrics.functional.image"), alike((64, 64))
    kernel, weights = scales((64, 64))
    found = functional.multiscale_structural_similarity_index_measure(
        *((torch.from_numpy(of) + 1) / 2 for of in (x, y)), gaussian_kernel=True, sigma=1.5, kernel_size=kernel,
        betas=weights, data_range=1.0, normalize="relu", reduction="none")  # fmt: skip
    np.testing.assert_allclose(similarity(x, y), found.numpy(), atol=0.02)


def test_ms_ssim_is_that_of_pytorch_msssim() -> None:
    peer, (x, y) = package("pytorch_msssim"), alike((128, 128))
    kernel, weights = scales((128, 128))
    a, b = ((torch.from_numpy(of) + 1) / 2 for of in (x, y))
    expected = peer.ms_ssim(a, b, 1.0, size_average=False, win_size=kernel, win_sigma=1.5, weights=list(weights))
    np.testing.assert_allclose(similarity(x, y), expected.numpy(), atol=1e-4)


def test_ssim_of_copies_is_scikit_images() -> None:
    metrics, (x, y) = package("skimage.metrics"), alike((32, 32))
    whole = [metrics.structural_similarity((a[0] + 1) / 2, (b[0] + 1) / 2, data_range=1.0, win_size=WINDOW,
                                           use_sample_covariance=False, full=True)[1]
             for a, b in zip(x, y, strict=True)]  # fmt: skip
    ours = slice(WINDOW // 2, -(WINDOW // 2), STRIDE)  # the windows that lie within the image, every third of them
    unlike = Structure(thumbnails([y], ())).distances(shrunk(x), np.arange(len(y)), len(y))
    np.testing.assert_allclose(np.diag(1 - unlike), [of[ours, ours].mean() for of in whole], atol=1e-5)


@pytest.mark.parametrize("size", [(16, 16), (12, 20), (8, 10, 12)], ids=["2d", "oblong", "3d"])
def test_a_spectrum_is_powerboxs_of_the_windowed_image(size: tuple[int, ...]) -> None:
    powerbox, x = package("powerbox"), images(2, size, 1)[:, 0].astype(np.float64)
    window = np.ones(())
    for n in size:
        window = np.multiply.outer(window, np.hanning(n + 2)[1:-1])
    edges = np.arange(shells(size).max() + 2) - 0.5  # in cycles along the shortest side
    for plane, found in zip(x, spectra(x[:, None])[:, 0], strict=True):
        seen = (plane - plane.mean()) * window / np.sqrt(np.square(window).mean())
        box = [n / min(size) for n in size]  # in shortest sides, so that a frequency of 1 is a cycle along that side
        power = powerbox.get_power(seen, box, bins=edges, a=0, b=2 * np.pi).power
        values = power / np.prod(box) * seen.size
        np.testing.assert_allclose(found, 10 * np.log10(values[1:]), atol=1e-6)


def test_texture_is_the_sliced_wasserstein_distance_of_pot() -> None:
    ot, (x, y) = package("ot"), (images(6, (20, 20), 1), images(5, (20, 20), 1) + 0.1 * images(9, (20, 20), 1)[4:])
    weights = directions(np.random.default_rng(1), PATCH, 2)
    cut = [np.lib.stride_tricks.sliding_window_view(of[:, 0], (PATCH, PATCH), (1, 2)).reshape(-1, PATCH**2)
           for of in (x, y)]  # fmt: skip
    flat = weights.reshape(len(weights), -1).T
    unit = np.sqrt(np.square(cut[0] @ flat).mean())
    expected = ot.sliced_wasserstein_distance(cut[0] / unit, cut[1] / unit, projections=flat, p=1)
    one, other = (of[:, None] for of in projections(np.random.default_rng(1), x, y))
    assert texture(one, other) == pytest.approx(float(expected), rel=0.02)  # values are counted in bins


def test_the_radiomic_distance_is_the_mean_fid_of_the_features_alone() -> None:
    metric, (a, b) = package("torch_fidelity.metric_fid"), clouds(60, 80)
    moments = [[{"mu": of[:, [i]].mean(0), "sigma": of[:, [i]].var(0)[None]} for of in (a / a.std(0), b / a.std(0))]
               for i in range(a.shape[1])]  # fmt: skip
    found = [next(iter(metric.fid_statistics_to_metric(*pair, verbose=False).values())) for pair in moments]
    assert radiomic(a[:, None], b[:, None], a[:, None]) == pytest.approx(float(np.mean(found)), rel=1e-6)


def test_intensity_is_scipys_distance_of_all_pixels() -> None:
    stats, x = package("scipy.stats"), images()
    expected = np.mean([stats.wasserstein_distance(x[:5, c].ravel(), x[5:, c].ravel()) for c in range(2)])
    assert distance(histograms(x[:5]), histograms(x[5:])) == pytest.approx(float(expected), abs=2e-3)


@pytest.mark.parametrize("size", [(24, 24), (10, 12, 8)])
def test_area_parts_and_centre_of_a_mask_are_scikit_images(size: tuple[int, ...]) -> None:
    measure, rng = package("skimage.measure"), np.random.default_rng(0)
    mask = rng.random(size) > 0.9
    area, parts, *centre = shape(mask)
    (whole,) = measure.regionprops(mask.astype(int))
    assert area == pytest.approx(whole.area / mask.size)
    assert parts == measure.label(mask, connectivity=mask.ndim, return_num=True)[1]
    np.testing.assert_allclose(centre, (np.array(whole.centroid) + 0.5) / size)


def test_balanced_accuracy_is_scikit_learns() -> None:
    metrics, rng = package("sklearn.metrics"), np.random.default_rng(0)
    logits, y = rng.normal(size=(80, 3)), rng.choice(3, 80, p=[0.6, 0.3, 0.1])
    found = accuracy(np.column_stack([logits, y]))
    assert found == pytest.approx(metrics.balanced_accuracy_score(y, logits.argmax(1)))


def test_dice_is_the_f1_score_of_the_pixels() -> None:
    metrics, rng = package("sklearn.metrics"), np.random.default_rng(0)
    found, true = rng.random((2, 6, 1, 16, 16)) > 0.7
    expected = [metrics.f1_score(b.ravel(), a.ravel()) for a, b in zip(found, true, strict=True)]
    np.testing.assert_allclose(overlap(torch.from_numpy(found), torch.from_numpy(true)).numpy(), expected, rtol=1e-6)


def test_auc_and_tpr_of_an_attack_are_those_of_the_roc_curve() -> None:
    metrics, rng = package("sklearn.metrics"), np.random.default_rng(0)
    members, others = np.round(rng.normal(0.5, 1, 90), 1), np.round(rng.normal(0, 1, 70), 1)  # with ties
    truth, scores = np.repeat([1, 0], [90, 70]), np.concatenate([members, others])
    assert auc(members, others) == pytest.approx(metrics.roc_auc_score(truth, scores))
    false, found, _ = metrics.roc_curve(truth, scores, drop_intermediate=False)
    for fpr in (0.01, 0.1, 0.3):
        assert tpr(members, others, fpr) == pytest.approx(found[false <= fpr].max())


@pytest.mark.parametrize("right", [0, 1, 17, 40])
def test_the_rates_of_an_attack_have_the_exact_interval_of_statsmodels(right: int) -> None:
    proportion = package("statsmodels.stats.proportion")
    expected = proportion.proportion_confint(right, 40, alpha=0.05, method="beta")
    assert clopper_pearson(right, 40, 0.025) == pytest.approx(expected)


def test_the_bound_by_canaries_is_scipys_binomial_test_where_epsilon_is_0() -> None:
    test = package("scipy.stats").binomtest(33, 48, 0.5, alternative="greater")
    assert by_chance(96, 48, 33, 0.0, 0.0) == pytest.approx(test.pvalue)


def test_the_calibration_error_is_torchmetrics() -> None:
    functional, rng = package("torchmetrics.functional.classification"), np.random.default_rng(0)
    logits = 2 * rng.normal(size=(200, 3))
    y = np.where(rng.random(200) < 0.7, logits.argmax(1), rng.choice(3, 200))  # right too often where it is unsure
    shares = torch.from_numpy(logits).softmax(1)
    expected = functional.multiclass_calibration_error(shares, torch.from_numpy(y), num_classes=3, n_bins=10, norm="l1")
    assert calibration_error(*confidence({"logits": logits, "y": y})) == pytest.approx(float(expected), abs=1e-6)


def test_neighbours_and_their_relative_distance_are_scikit_learns() -> None:
    neighbors, (a, b) = package("sklearn.neighbors"), clouds(20, 60)
    near, _ = neighbors.NearestNeighbors(n_neighbors=10).fit(b).kneighbors(a)
    np.testing.assert_allclose(relative(euclidean(a, b), 10), near[:, 0] / near.mean(1), rtol=1e-6)


@pytest.mark.parametrize("copies", [0, 1, 4, 30])
def test_the_interval_of_a_number_of_copies_is_the_exact_one_of_a_poisson_mean(copies: int) -> None:
    rates = package("statsmodels.stats.rates")
    low, high = rates.confint_poisson(copies, 1, method="exact-c")
    found = counted(float(copies), {"synthetic": 1000}, None)
    assert (found.low, found.high) == pytest.approx((float(np.nan_to_num(low)), float(high)))


@pytest.fixture
def seen(tmp_path: Path) -> MeasureInputs:
    return look(tmp_path, tiny_params(image={"size": [32, 32]}), 12, 12)


def pairs(seen: MeasureInputs, tmp_path: Path) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """Two sets, and their generated image channels in [0, 1]."""
    params = tiny_params(image={"size": [32, 32]})
    one, other = (make_set(tmp_path / name, params, name, 12, seed=3) for name in ("one", "two"))
    x, y = ((of.channels(seen.image, ["t1", "t2"]) + 1) / 2 for of in (one, other))
    return one, other, x, y


def test_psnr_and_absolute_error_of_a_conversion_are_scikit_images(seen: MeasureInputs, tmp_path: Path) -> None:
    metrics, (one, other, x, y) = package("skimage.metrics"), pairs(seen, tmp_path)
    found = nearness(seen, one, other)
    expected = [metrics.peak_signal_noise_ratio(a, b, data_range=1.0) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(found["psnr"], expected, rtol=1e-5)
    np.testing.assert_allclose(found["mae"], np.abs(x - y).mean((1, 2, 3)), rtol=1e-5)


def test_ssim_of_a_conversion_is_that_of_pytorch_msssim(seen: MeasureInputs, tmp_path: Path) -> None:
    peer, (one, other, x, y) = package("pytorch_msssim"), pairs(seen, tmp_path)
    expected = peer.ssim(*(torch.from_numpy(of) for of in (x, y)), data_range=1.0, size_average=False, win_size=11)
    np.testing.assert_allclose(nearness(seen, one, other)["ssim"], expected.numpy(), atol=1e-4)
