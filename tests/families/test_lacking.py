"""Images that lack a channel: the loss leaves it out, whatever stands there."""

import pytest
import torch

from fedsynth.errors import UserError
from fedsynth.families import leave_out
from fedsynth.families.ddpm import DDPM
from fedsynth.families.diffusion import Diffusion
from fedsynth.families.gan import GAN
from fedsynth.families.regression import Regression
from fedsynth.families.vae import VAE
from fedsynth.families.vq_vae import VQVAE
from fedsynth.families.wgan import WGANGP
from fedsynth.networks.blocks import blank, fill, mse

SMALL = {
    Diffusion: {"channels": (16, 32)},
    DDPM: {"channels": (16, 32)},
    GAN: {"width": 8, "r1_every": 1},
    VAE: {"channels": (8, 16)},
    Regression: {"channels": (8, 16)},
    WGANGP: {"width": 8},
}
NAN = float("nan")


@pytest.fixture(params=SMALL, ids=lambda c: c.__name__)
def cls(request):
    return request.param


def make(cls, **changes):
    torch.manual_seed(0)
    return cls(generated=2, given=0, labels=3, size=(8, 8), **SMALL[cls], **changes)


def losses(family, x):
    y, found = torch.arange(len(x)) % 3, {}
    for player in family.players():
        torch.manual_seed(1)
        found[player] = family.loss(player, x, y, None)
    return found


def test_with_all_channels_there_the_loss_is_the_plain_one(cls):
    x = torch.rand(6, 2, 8, 8) * 2 - 1
    plain, able = losses(make(cls), x), losses(make(cls, may_lack=(1,)), x)
    for player in plain:
        assert torch.allclose(plain[player], able[player], rtol=1e-5)


def test_a_lacking_channel_gives_a_finite_loss_and_finite_gradients(cls):
    x = torch.rand(6, 2, 8, 8) * 2 - 1
    x[:3, 1] = NAN
    family = make(cls, may_lack=(1,))
    for player, loss in losses(family, x).items():
        assert loss.isfinite()
        gradients = torch.autograd.grad(loss, list(family.players()[player].parameters()), allow_unused=True)
        assert all(g is None or g.isfinite().all() for g in gradients)


def test_a_site_that_lacks_a_channel_does_not_pull_it_anywhere():
    """The last layer of a VAE's decoder has weights for each channel: those of a channel that is never there have no
    gradient.
    """
    family = make(VAE, may_lack=(1,), patch=1)
    x = torch.rand(6, 2, 8, 8) * 2 - 1
    x[:, 1] = NAN
    (loss,) = losses(family, x).values()
    last = next(p for n, p in family.named_parameters() if n.endswith("decoder.out.conv.weight"))
    (gradient,) = torch.autograd.grad(loss, [last])
    assert gradient[0].abs().sum() > 0
    assert gradient[1].abs().sum() == 0


def test_the_error_is_the_mean_over_what_is_known():
    a, x = torch.zeros(2, 2, 4, 4), torch.ones(2, 2, 4, 4)
    x[0, 1] = NAN
    filled, known = fill(x, (1,))
    assert mse(a, filled, known) == 1
    assert mse(a + 3, filled, known) == 4
    assert (filled[0, 1] == -1).all()
    assert (blank(x.nan_to_num(7), known)[0, 1] == -1).all()


def test_where_nothing_may_lack_nothing_changes():
    x = torch.rand(2, 2, 4, 4)
    same, known = fill(x, ())
    assert same is x
    assert known is None


def test_a_site_with_unknown_masks_leaves_them_out_of_the_loss_of_a_family_that_was_built_without(cls):
    x = torch.rand(6, 2, 8, 8) * 2 - 1
    x[:3, 1] = NAN
    family = make(cls)
    assert not all(loss.isfinite() for loss in losses(family, x).values())
    for loss in losses(leave_out(family, [1]), x).values():
        assert loss.isfinite()
    assert leave_out(make(cls, may_lack=(0,)), [1]).may_lack == (0, 1)


def test_a_family_that_cannot_leave_a_channel_out_says_so_and_is_untouched_where_all_masks_are_known():
    family = VQVAE(generated=2, given=0, labels=3, size=(8, 8))
    assert leave_out(family, []) is family
    with pytest.raises(UserError, match=r"VQVAE cannot leave unknown masks out of its loss.*unmarked: healthy"):
        leave_out(family, [1])
