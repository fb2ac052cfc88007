"""Averages."""

import numpy as np
import pytest

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.errors import UserError
from fedsynth.families.diffusion import Diffusion
from fedsynth.families.gan import GAN
from fedsynth.params.patterns import travels


def test_the_change_is_the_mean_of_the_differences_weighted_by_the_number_of_images():
    updates = [("b", 1.0, {"w": np.float32([0, 4])}), ("a", 3.0, {"w": np.float32([4, 0])})]
    np.testing.assert_array_equal(FedAvg().aggregate(updates)["w"], np.float32([3, 1]))


def test_a_single_site_gets_back_what_it_sent():
    d = np.random.default_rng(0).normal(size=50).astype(np.float32)
    np.testing.assert_array_equal(FedAvg().aggregate([("a", 7.0, {"w": d})])["w"], d)


def test_the_types_of_the_arrays_stay():
    assert (
        FedAvg().aggregate([("a", 1.0, {"w": np.float32([1])}), ("b", 2.0, {"w": np.float32([2])})])["w"].dtype
        == np.float32
    )


def test_equal_weights_take_the_plain_mean_whatever_the_sites_send():
    updates = [("b", 1.0, {"w": np.float32([0, 4])}), ("a", 3.0, {"w": np.float32([4, 0])})]
    np.testing.assert_array_equal(FedAvg(weighting="equal").aggregate(updates)["w"], np.float32([2, 2]))


def test_an_unknown_weighting_is_refused():
    with pytest.raises(ValueError, match="images, equal"):
        FedAvg(weighting="loss")


def test_the_last_pattern_that_fits_decides():
    assert travels("unet.up.norm.weight", ["*"])
    assert not travels("unet.up.norm.weight", ["*", "!*norm*"])
    assert travels("unet.up.norm.weight", ["*", "!*norm*", "unet.up.*"])
    assert not travels("unet.down.weight", ["unet.up.*"])
    assert not travels("unet.down.weight", ["!*norm*"])  # nothing names it


def test_a_part_of_a_u_net_can_stay_at_the_site():
    """As in FedDiffuse, of which some parts do not travel in each round (de Goede et al. 2024, arXiv:2406.12575)."""
    family = Diffusion(generated=1, given=0, labels=2, size=(8, 8), channels=(16, 32))
    down = [n for n, _ in family.named_parameters() if n.startswith("unet.down_blocks.")]
    sent = FedAvg(shared=["*", "!unet.down_blocks.*"]).parameters(family)
    assert down
    assert set(sent) == {n for n, _ in family.named_parameters()} - set(down)


def test_sites_may_count_by_their_score_and_one_without_a_score_as_the_mean_of_the_others():
    algorithm = FedAvg(weighting="validation")
    algorithm.before_aggregate(lambda: None, {}, {"a": 30.0, "b": 10.0, "c": None})
    assert [algorithm.weight(site, 100.0) for site in "abc"] == [30.0, 10.0, 20.0]
    updates = [("a", 1.0, {"w": np.float32([4])}), ("b", 9.0, {"w": np.float32([0])})]
    np.testing.assert_array_equal(algorithm.aggregate(updates)["w"], np.float32([3]))


def test_without_any_score_sites_count_the_same():
    assert FedAvg(weighting="validation").weight("a", 100.0) == 1.0


def test_a_score_needs_a_family_that_can_be_off_and_no_mechanism_of_privacy():
    family = Diffusion(generated=1, given=0, labels=2, size=(8, 8), channels=(16, 32))
    FedAvg(weighting="validation").check(family, 3, False)
    with pytest.raises(UserError, match="weighting: validation sends"):
        FedAvg(weighting="validation").check(family, 3, True)
    with pytest.raises(UserError, match="GAN cannot"):
        FedAvg(weighting="validation").check(GAN(generated=1, given=0, labels=2, size=(8, 8)), 3, False)
