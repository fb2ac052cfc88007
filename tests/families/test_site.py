"""An embedding of the site, which never leaves it and without which the centre samples."""

import pytest
import torch

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.algorithms.scaffold import Scaffold
from fedsynth.families.ddpm import DDPM
from fedsynth.families.diffusion import Diffusion
from fedsynth.params import Training
from fedsynth.training.trainer import Trainer
from tests.families.test_diffusion import make as plain

Y = torch.tensor([0, 1, 2, 0])


@pytest.fixture(params=[Diffusion, DDPM], ids=lambda c: c.__name__)
def family(request):
    torch.manual_seed(0)
    made = request.param(generated=1, given=0, labels=3, size=(8, 8), channels=(16, 32), site=3, steps=4)
    for p in made.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.1)  # MONAI begins some layers with zeros, behind which nothing is seen
    return made


def test_what_is_told_depends_on_the_site_only_where_it_is_asked_for(family):
    x, t = torch.randn(4, 1, 8, 8), torch.full((4,), 400.0)
    with torch.no_grad():
        anywhere, here = (family.predict(x, t, Y, None, at) for at in (0.0, 1.0))
        family.unet.get_parameter("site").mul_(-2)
        assert torch.equal(family.predict(x, t, Y, None), anywhere)
        assert not torch.allclose(family.predict(x, t, Y, None, 1.0), here)


def test_the_sampler_leaves_the_site_out(family):
    a = family.sample(Y, generator=torch.Generator().manual_seed(1))
    torch.nn.init.normal_(family.unet.get_parameter("site"))
    assert torch.equal(family.sample(Y, generator=torch.Generator().manual_seed(1)), a)


def test_half_of_the_images_are_told_of_their_site(family):
    torch.manual_seed(0)
    assert 0.4 < float(family.some(torch.zeros(1000, dtype=torch.long)).mean()) < 0.6


@pytest.mark.parametrize("algorithm", [FedAvg, Scaffold])
def test_the_embedding_is_trained_and_never_travels(family, algorithm):
    training = Training(rounds=1, epochs=2, batch=4, lr=0.01, ema=0.9)
    site = Trainer(family, algorithm(), training, torch.rand(12, 1, 8, 8) * 2 - 1, torch.arange(12) % 3, None, 1)
    before = family.unet.get_parameter("site").detach().clone()
    sent = site.algorithm.prepare({n: p.detach().numpy().copy() for n, p in site.algorithm.parameters(family).items()})
    update = site.round(sent, 0)
    assert not [name for name in update.difference if name.endswith("unet.site")]
    assert not torch.equal(family.unet.get_parameter("site"), before)


def test_without_an_embedding_there_is_nothing_personal():
    assert plain().personal == ()
    assert "unet.site" not in dict(plain().named_parameters())
