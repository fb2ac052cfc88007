"""The radiomic distance: a shift and a spread of features in their own units; PyRadiomics may be missing."""

from __future__ import annotations

import numpy as np
import pytest

from fedsynth.measures import radiomics
from fedsynth.measures.radiomics import NEEDED, Radiomics, distance
from fedsynth.stages import score
from tests.measures.seen import centre, look
from tests.sets import tiny_params

RNG = np.random.default_rng(0)


def test_it_is_the_shift_and_the_spread_in_units_of_the_real_ones() -> None:
    real = RNG.normal(5, 2, (4000, 1, 3))
    assert distance(real, real, real) == 0
    assert distance(real, real + 2 * real.std((0, 1)), real) == pytest.approx(4)
    assert distance(real, 3 * (real - real.mean((0, 1))) + real.mean((0, 1)), real) == pytest.approx(4)
    assert np.isnan(distance(real[:1], real, real))


def test_images_that_lack_a_channel_and_constant_features_do_not_count() -> None:
    real = RNG.normal(size=(50, 2, 3))
    real[:, :, 2] = 7.0
    other = real + 1
    other[:, 1] = np.nan
    assert distance(real, other, real) == pytest.approx(distance(real[:, :1], other[:, :1], real[:, :1]))


def test_where_it_is_not_installed_there_is_no_number_and_a_reason(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(radiomics, "installed", lambda: False)
    params = tiny_params(score={"measures": {"frd": {"class_path": "fedsynth.measures.radiomics.Radiomics"}}})
    seen = look(tmp_path, params)
    sent = score.measured_at_site(params, seen)
    assert sent["frd"]["values"]["frd"]["value"] is None
    found = score.combined(params, centre(seen), {"north": sent}, {})
    assert found["frd"]["why"] == f"could not be computed at north; {NEEDED}"


@pytest.mark.parametrize("size", [[16, 16], [8, 8, 8]], ids=["2d", "3d"])
def test_noise_is_far_and_other_images_drawn_alike_are_near(tmp_path, size) -> None:
    pytest.importorskip("radiomics", reason="PyRadiomics is not installed: pip install 'fedsynth[radiomics]'")
    params = tiny_params(image={"size": size})
    seen = look(tmp_path, params, n=30, synthetic=18)
    near = Radiomics().at_site(seen).values["frd"]
    seen.synthetic.images[:, :2] = (
        seen.synthetic.images[:, :2] + RNG.normal(0, 0.3, seen.synthetic.images[:, :2].shape)
    ).clip(-1, 1)
    far = Radiomics().at_site(seen).values["frd"]
    assert far.value > 3 * near.value
    assert near.value < 3 * near.floor
