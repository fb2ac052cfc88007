"""Undersampling: how many lines, which ones, and that what was measured comes back."""

import pytest
import torch

from fedsynth.operators.kspace import HEADROOM, Undersample


def images(n=32):
    return torch.rand((3, n, n), generator=torch.Generator().manual_seed(0)) * 2 - 1


def spectrum(x):
    return torch.fft.rfft(x.double(), dim=-2)


@pytest.mark.parametrize(("factor", "lines"), [(4, 7), (8, 3)])
def test_no_more_lines_are_measured_than_the_factor_leaves(factor, lines):
    measured = Undersample(factor).measured(32)
    assert 1 + 2 * int(measured[1:].sum()) == lines <= 32 / factor


def test_the_centre_is_always_measured_and_the_rest_by_the_pattern():
    one, other = (Undersample(4, centre=0.2, pattern=p).measured(64) for p in (0, 1))
    assert one[:6].all()
    assert other[:6].all()
    assert not torch.equal(one, other)
    assert one.sum() == other.sum()


def test_what_is_given_holds_the_measured_lines_and_nothing_else():
    operator, x = Undersample(4), images()
    given, measured = operator.degrade(x, torch.Generator()), operator.measured(32)
    torch.testing.assert_close(spectrum(HEADROOM * given)[:, measured], spectrum(x)[:, measured], atol=1e-4, rtol=0)
    assert spectrum(given)[:, ~measured].abs().max() < 1e-4


def test_after_consistency_measured_lines_are_the_true_ones_and_the_others_the_models():
    operator, x, guess = Undersample(4), images(), -images().flip(0)
    made, measured = operator.consistent(guess, operator.degrade(x, torch.Generator())), operator.measured(32)
    torch.testing.assert_close(spectrum(made)[:, measured], spectrum(x)[:, measured], atol=1e-4, rtol=0)
    torch.testing.assert_close(spectrum(made)[:, ~measured], spectrum(guess)[:, ~measured], atol=1e-4, rtol=0)


def test_with_all_lines_measured_every_guess_becomes_the_image():
    operator, x = Undersample(factor=1), images()
    given = operator.degrade(x, torch.Generator())
    torch.testing.assert_close(operator.estimate(given), x, atol=1e-5, rtol=0)
    torch.testing.assert_close(operator.consistent(torch.zeros_like(x), given), x, atol=1e-5, rtol=0)


def test_the_axis_that_is_not_undersampled_keeps_its_detail():
    stripes = torch.ones(1, 32, 32)
    stripes[:, :, ::2] = -1  # change along the last axis only: the zeroth line along the other holds them
    given = Undersample(8).degrade(stripes, torch.Generator())
    torch.testing.assert_close(HEADROOM * given, stripes, atol=1e-5, rtol=0)


def test_fewer_lines_leave_less_of_the_image():
    x = images(64).cumsum(-2) / 8  # smooth: most of it is in low frequencies, as in an anatomy
    x = (x / x.abs().amax()).float()
    errors = [
        float((Undersample(f).estimate(Undersample(f).degrade(x, torch.Generator())) - x).square().mean())
        for f in (1, 2, 4, 8)
    ]
    assert errors == sorted(errors)
    assert errors[0] < 1e-8 < errors[1]


def test_a_factor_below_one_is_refused():
    with pytest.raises(ValueError, match=r"0\.5"):
        Undersample(0.5)
