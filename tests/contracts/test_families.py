"""What every family must hold to: shapes and ranges, in 2-D and 3-D, with and without given channels; a loss that
reaches its players.
"""

import inspect

import pytest
import torch
from torch import nn

from fedsynth import families
from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.families import Family
from fedsynth.params import Training
from fedsynth.params.family_defaults import training_defaults
from fedsynth.training.schedules import rates
from fedsynth.training.trainer import Trainer
from tests.contracts.kinds import classes

LABELS, GENERATED, BATCH = 3, 2, 4
FAMILIES = classes(families, Family)


@pytest.fixture(params=FAMILIES, ids=lambda c: c.__name__)
def cls(request):
    return request.param


@pytest.fixture(params=[(16, 16), (8, 8, 8)], ids=["2-D", "3-D"])
def size(request):
    return request.param


@pytest.fixture(params=[0, 1], ids=["alone", "given"])
def case(request, cls, size):
    """(family, x, y, given)"""
    torch.manual_seed(0)
    given = torch.rand((BATCH, request.param, *size)) * 2 - 1 if request.param else None
    return (
        make(cls, size, request.param),
        torch.rand((BATCH, GENERATED, *size)) * 2 - 1,
        torch.arange(BATCH) % LABELS,
        given,
    )


def make(cls, size, given=0):
    torch.manual_seed(0)
    small = {"channels": (16, 32), "width": 8, "steps": 4}  # where a family has such an argument: for speed alone
    chosen = {k: v for k, v in small.items() if k in inspect.signature(cls).parameters}
    return cls(generated=GENERATED, given=given, labels=LABELS, size=size, **chosen)


def test_its_defaults_of_training_are_those_that_params_yaml_is_filled_in_with(cls):
    """They are read from the file, without an import. Keys must be those of a training, rates of players."""
    found = training_defaults(f"{cls.__module__}.{cls.__name__}")
    assert found == cls.defaults
    assert {"rounds", "epochs", "local_steps", "batch"}.isdisjoint(found)  # these are the study's
    players = make(cls, (16, 16)).players()
    assert rates(Training(rounds=1, **found), players).keys() == players.keys()


def test_a_sample_has_the_shape_asked_for_and_stays_in_range(case):
    family, x, y, given = case
    drawn = family.sample(y, given, torch.Generator().manual_seed(1))
    assert drawn.shape == x.shape
    assert drawn.dtype == torch.float32
    assert drawn.isfinite().all()
    assert drawn.abs().max() <= 1
    assert not drawn.requires_grad


def test_the_generator_alone_decides_the_sample(case):
    family, _, y, given = case
    first = family.sample(y, given, torch.Generator().manual_seed(1))
    torch.manual_seed(99)
    assert torch.equal(first, family.sample(y, given, torch.Generator().manual_seed(1)))
    assert torch.equal(first, family.sample(y, given, torch.Generator().manual_seed(2))) == family.deterministic


def test_what_a_player_says_of_an_image_does_not_depend_on_the_images_beside_it(case):
    family, x, y, given = case
    with torch.no_grad():
        for name in family.players():
            torch.manual_seed(1)
            if (whole := family.evidence(name, x, y, given)) is None:
                continue
            torch.manual_seed(1)
            part = family.evidence(name, x[2:], y[2:], None if given is None else given[2:])
            assert whole.shape[0] == BATCH
            assert whole.ndim == 2
            assert torch.allclose(whole[2:], part, atol=1e-4)


# Players of which the audit takes numbers that the family offers (docs/privacy.md); of all others the loss
OFFERED = {
    "DDPM": {"unet"},
    "Diffusion": {"unet"},
    "GAN": {"discriminator"},
    "Latent": {"autoencoder", "unet"},
    "VAE": {"autoencoder"},
    "VAEGAN": {"discriminator"},
    "WGANGP": {"discriminator"},
}


def test_the_audit_is_offered_what_is_documented(cls):
    family, y = make(cls, (16, 16)), torch.arange(BATCH) % LABELS
    x = torch.rand((BATCH, GENERATED, 16, 16)) * 2 - 1
    with torch.no_grad():
        found = {name for name in family.players() if family.evidence(name, x, y, None) is not None}
    assert found == OFFERED.get(cls.__name__, set())


def test_the_loss_reaches_every_parameter_of_its_player(case):
    family, x, y, given = case
    warm(family, x, y, given)
    for name, player in family.players().items():
        loss = sum(family.loss(name, x, y, given) for _ in range(4))  # a family may leave a term out of some steps
        assert loss.ndim == 0
        assert loss.isfinite()
        slopes = torch.autograd.grad(loss, list(player.parameters()), allow_unused=True)
        assert all(s is not None for s in slopes)
        assert any(s.abs().max() > 0 for s in slopes)


def test_a_sample_depends_on_the_label_and_on_what_is_given(case):
    family, x, y, given = case
    warm(family, x, y, given)
    drawn = family.sample(y, given, torch.Generator().manual_seed(1))
    assert not torch.equal(drawn, family.sample((y + 1) % LABELS, given, torch.Generator().manual_seed(1)))
    if given is not None:
        assert not torch.equal(drawn, family.sample(y, -given, torch.Generator().manual_seed(1)))


def warm(family, x, y, given):
    """Two steps: a network may begin with weights of zero, behind which nothing is seen."""
    for name, player in [*family.players().items()] * 2:
        optimizer = torch.optim.SGD(player.parameters(), lr=0.1)
        family.loss(name, x, y, given).backward(inputs=list(player.parameters()))
        optimizer.step()


def test_players_share_no_parameter_and_together_hold_all(cls, size):
    family = make(cls, size)
    held = [p for player in family.players().values() for p in player.parameters()]
    assert len(held) == len(set(held))
    assert set(held) == set(family.parameters())


def test_no_normalisation_keeps_running_statistics(cls, size):
    for module in make(cls, size, given=1).modules():
        assert not isinstance(module, nn.modules.batchnorm._BatchNorm)
        assert not getattr(module, "track_running_stats", False)


def test_constructor_arguments_become_attributes(cls, size):
    family = cls(generated=GENERATED, given=0, labels=LABELS, size=size)
    for name, parameter in inspect.signature(cls).parameters.items():
        assert hasattr(family, name)
        if parameter.default is not inspect.Parameter.empty:
            assert getattr(family, name) == parameter.default


def test_given_channels_that_the_model_was_not_made_for_are_an_error(cls):
    x, y = torch.zeros(2, GENERATED, 16, 16), torch.tensor([0, 1])
    family = make(cls, (16, 16))
    for name in family.players():
        with pytest.raises(ValueError, match="given"):
            family.loss(name, x, y, torch.zeros(2, 1, 16, 16))


def test_a_size_that_cannot_be_halved_is_an_error_that_says_of_what_it_must_be_a_multiple(cls):
    with pytest.raises(ValueError, match=r"multiple of \d+"):
        make(cls, (17, 17))


def test_training_lowers_the_loss(cls):
    family = make(cls, (16, 16))
    if len(family.players()) > 1:
        pytest.skip("players work against each other: neither loss need fall")
    x = torch.linspace(-1, 1, 16).expand(8, GENERATED, 16, 16).clone()
    y = torch.arange(8) % LABELS
    x[y == 1] *= -1
    training = Training(rounds=4, epochs=10, batch=4, lr=3e-3, ema=0.9)
    trainer = Trainer(family, FedAvg(), training, x, y, None, seed=1)
    current = {n: p.detach().numpy().copy() for n, p in family.named_parameters()}
    losses = []
    for number in range(training.rounds):
        update = trainer.round(current, number)
        current = {n: a + update.difference[n] for n, a in current.items()}
        losses += update.losses.values()
    assert losses[-1] < 0.8 * losses[0]


def test_an_error_is_a_scalar_that_is_not_negative_or_there_is_none(case):
    family, x, y, given = case
    if not family.has_error:
        with pytest.raises(NotImplementedError):
            family.error(x, y, given)
        return
    with torch.no_grad():
        error = family.error(x, y, given)
    assert error.shape == ()
    assert error.isfinite()
    assert error > 0
