"""DP-SGD: what its guarantee rests on, and that it still learns."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from opacus.accountants.utils import get_noise_multiplier

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.algorithms.fedprox import FedProx
from fedsynth.algorithms.scaffold import Scaffold
from fedsynth.families.diffusion import Diffusion
from fedsynth.families.gan import GAN
from fedsynth.families.vae import VAE
from fedsynth.privacy import PrivacyError, dpsgd
from fedsynth.privacy.noise import Spending, fitting
from fedsynth.training.trainer import Trainer
from tests import toys

DPSGD = partial(dpsgd.DPSGD, unit="image")  # test_subjects.py has the other unit
SMALL = {"generated": 2, "labels": 3, "size": (16, 16), "channels": (8, 16)}
MAKE = {
    "vae": lambda given=0: VAE(**SMALL, given=given, latent=4),
    "diffusion": lambda given=0: Diffusion(**SMALL, given=given, groups=8),
    "gan": lambda given=0: GAN(**SMALL, given=given, latent=4, width=8),
}


def images(n, given=0, size=16):
    generator = torch.Generator().manual_seed(3)
    x = torch.rand((n, 2 + given, size, size), generator=generator) * 2 - 1
    return x[:, :2], torch.arange(n) % 3, x[:, 2:] if given else None


def initial(family):
    return {n: p.detach().numpy().copy() for n, p in family.named_parameters()}


def protected(family, n=100, rounds=1, steps=10, mechanism=None, **changes):
    mechanism = mechanism or DPSGD(8)
    optimizers = {name: torch.optim.SGD(p.parameters(), lr=0.1) for name, p in family.players().items()}
    mechanism.protect(family, optimizers, toys.training(rounds=rounds, **changes), n, steps)
    return mechanism


def silent(mechanism):
    """No noise, whatever the budget: to see what it is added to."""
    mechanism.begin(0)
    for optimizer in mechanism.noisy.values():
        optimizer.noise_multiplier = 0.0
    return mechanism


def trainer(privacy, algorithm=None, n=40, seed=1, state=None, **changes):
    return Trainer(
        toys.Toy(), algorithm or FedAvg(), toys.training(**changes), *toys.images(0, n), None, seed, state, privacy
    )


def run(t, rounds, start=0, current=None):
    current, updates = current or t.algorithm.prepare(initial(t.family)), []
    for number in range(start, rounds):
        updates.append(t.round(current, number))
        current = {n: a + updates[-1].difference[n] for n, a in current.items()}
    return updates, current


def constant(value):
    def drawn(*size, device=None, **_):
        return torch.full(size[0] if size and isinstance(size[0], tuple) else size, value, device=device)

    return drawn


@pytest.fixture
def no_chance(monkeypatch):
    """The same random numbers for an image alone and in a batch."""
    monkeypatch.setattr(torch, "randn_like", lambda x: torch.full_like(x, 0.3))
    monkeypatch.setattr(torch, "randn", constant(0.2))
    monkeypatch.setattr(torch, "rand", constant(0.2))
    monkeypatch.setattr(
        torch, "randint", lambda low, high, size, device=None: torch.ones(size, dtype=torch.long, device=device)
    )
    monkeypatch.setattr(Diffusion, "schedule", lambda self: Halfway())


class Halfway:
    def sample_timesteps(self, x):
        return torch.full((len(x),), 500.0)

    def add_noise(self, x, noise, t):
        return (x + noise) / 2


@pytest.mark.usefixtures("no_chance")
@pytest.mark.parametrize(
    ("name", "player", "given", "slow"),
    [("vae", "autoencoder", 0, False), ("vae", "autoencoder", 1, False),
     ("diffusion", "unet", 0, False), ("diffusion", "unet", 1, False),
     ("gan", "discriminator", 0, True), ("gan", "discriminator", 1, True), ("gan", "generator", 1, True)],
)  # fmt: skip
def test_the_gradient_of_each_image_is_that_of_a_batch_of_it_alone(name, player, given, slow):
    torch.manual_seed(0)
    family = MAKE[name](given)
    x, y, also = images(5, given)
    mechanism = protected(family)
    found = mechanism.samples(player, x, y, also)
    assert (player in mechanism.slow) is slow  # else torch.func took all images at once
    parameters = list(family.players()[player].parameters())
    assert set(found) == set(parameters)
    for i in range(5):
        loss = family.loss(player, x[i : i + 1], y[i : i + 1], also[i : i + 1] if given else None)
        alone = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        for p, expected in zip(parameters, alone, strict=True):
            assert torch.allclose(found[p][i], expected, rtol=1e-3, atol=1e-5)
    whole = torch.autograd.grad(family.loss(player, x, y, also), parameters, allow_unused=True, materialize_grads=True)
    for p, expected in zip(parameters, whole, strict=True):
        assert torch.allclose(found[p].mean(0), expected, rtol=1e-3, atol=1e-5)


def test_one_image_more_changes_the_sum_by_no_more_than_the_clip():
    mechanism = silent(protected(toys.Toy(), mechanism=DPSGD(8, max_grad_norm=0.5, at_once=3)))
    x, y = toys.images(0, 8)
    x[7] *= 1000  # an image that would turn every gradient its way
    sums = []
    for n in (7, 8):
        torch.manual_seed(5)
        mechanism.gradient("first", x[:n], y[:n], None)
        sums.append(
            torch.cat([p.grad.flatten() for p in mechanism.family.first.parameters()]) * mechanism.rate * mechanism.n
        )
    torch.manual_seed(5)
    raw = mechanism.samples("first", x, y, None)
    assert torch.cat([g[7].flatten() for g in raw.values()]).norm() > 100
    assert 0.4 < (sums[1] - sums[0]).norm() <= 0.5 + 1e-5


def test_a_gradient_that_is_no_number_leaves_no_mark():
    mechanism = silent(protected(toys.Toy()))
    x, y = toys.images(0, 4)
    x[2] = math.nan
    mechanism.gradient("first", x, y, None)
    assert all(p.grad.isfinite().all() for p in mechanism.family.first.parameters())


@pytest.mark.parametrize("n", [0, 5])
def test_the_noise_has_the_deviation_that_the_accountant_counts_with(n):
    """Two private players on one batch: each gets the square root of 2 more, so that both together are what was
    counted.
    """
    family = toys.Toy()
    mechanism = protected(family, mechanism=DPSGD(1, max_grad_norm=1e-3))
    mechanism.begin(0)
    x, y = toys.images(0, 8)
    drawn = []
    for _ in range(300):
        torch.manual_seed(5)
        mechanism.gradient("first", x[:n], y[:n], None)
        drawn.append(
            torch.cat([p.grad.flatten() for p in family.first.parameters()]) * mechanism.rate * mechanism.n / 1e-3
        )
    drawn = torch.stack(drawn)  # (300, number of parameters)
    assert float(drawn.var(0).mean().sqrt()) == pytest.approx(mechanism.noise * math.sqrt(2), rel=0.05)
    # each image adds 1 at most
    assert float(drawn.mean(0).norm()) <= n + 5 * mechanism.noise * math.sqrt(2 * drawn.shape[1] / 300)


@pytest.mark.parametrize("algorithm", [FedAvg(), FedProx(mu=0.7), Scaffold()], ids=lambda a: type(a).__name__)
def test_without_noise_and_clip_it_is_plain_training_on_the_same_batches(monkeypatch, algorithm):
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    privacy = DPSGD(8, max_grad_norm=1e6)
    t = trainer(privacy, algorithm, rounds=1)
    begin = privacy.begin

    def unnoisy(number):
        begin(number)
        for optimizer in privacy.noisy.values():
            optimizer.noise_multiplier = 0.0

    chosen = []
    batches = privacy.batches

    def watched(steps):
        for places in batches(steps):
            chosen.append(places)
            yield places

    monkeypatch.setattr(privacy, "begin", unnoisy)
    monkeypatch.setattr(privacy, "batches", watched)
    sent = t.algorithm.prepare(initial(t.family))
    found = t.round(sent, 0).difference

    plain = trainer(
        None, type(algorithm)(**({"mu": 0.7} if isinstance(algorithm, FedProx) else {})), rounds=1, clip=None
    )
    loss = plain.family.loss
    monkeypatch.setattr("fedsynth.training.trainer.batches", lambda *_: iter(chosen))

    def scaled(player, x, y, given):
        """A mean over the batch that was expected, as in DP-SGD, not over the one that came; an empty batch has no
        loss.
        """
        return loss(player, x, y, given) * len(x) / 4 if len(x) else loss(player, *toys.images(0, 1), given) * 0

    monkeypatch.setattr(plain.family, "loss", scaled)
    expected = plain.round(sent, 0).difference
    assert len({len(places) for places in chosen}) > 1
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=2e-4)


def test_each_image_is_in_a_batch_by_itself_with_the_rate_of_the_plan():
    mechanism = protected(toys.Toy(), n=50, batch=5)
    mechanism.begin(0)
    drawn = list(mechanism.batches(2000))
    counts = np.bincount(torch.cat(drawn).numpy(), minlength=50)
    assert abs(counts / 2000 - 0.1).max() < 0.035  # 5 standard deviations
    sizes = np.array([len(places) for places in drawn])
    assert sizes.var() == pytest.approx(50 * 0.1 * 0.9, rel=0.2)  # binomial, and not always 5
    assert sizes.min() == 0


def test_what_is_spent_grows_with_the_rounds_and_ends_just_below_what_was_asked_for():
    updates, _ = run(trainer(DPSGD(3), rounds=4, ema=0.9), 4)
    spent = [u.epsilon for u in updates]
    assert spent == sorted(set(spent))
    assert 2.9 < spent[-1] <= 3


def test_a_smaller_epsilon_a_smaller_delta_and_a_longer_training_need_more_noise():
    def noise(epsilon, delta=1e-5, rounds=4):
        mechanism = protected(toys.Toy(), rounds=rounds, mechanism=DPSGD(epsilon, delta))
        mechanism.begin(0)
        return mechanism.noise

    assert noise(1) > 1.5 * noise(3) > 1.5 * noise(9)
    assert noise(3, 1e-7) > noise(3)
    assert noise(3, rounds=40) > noise(3)


@pytest.mark.parametrize(("rate", "steps", "epsilon"), [(0.07, 2000, 8), (0.3, 500, 2), (1.0, 20, 1)])
def test_the_noise_is_the_one_that_opacus_would_take(rate, steps, epsilon):
    theirs = get_noise_multiplier(
        target_epsilon=epsilon,
        target_delta=1e-5,
        sample_rate=rate,
        steps=steps,
        accountant="rdp",
        epsilon_tolerance=1e-3,
    )
    assert fitting(Spending(), rate, steps, epsilon, 1e-5) == pytest.approx(theirs, rel=5e-3)


@pytest.mark.parametrize("accountant", ["rdp", "prv"])
def test_a_restarted_site_has_spent_what_it_had_spent(tmp_path, accountant):
    def started(state=None):
        return trainer(DPSGD(3, accountant=accountant), rounds=4, state=state)

    whole, _ = run(started(), 4)
    first, half = run(started(tmp_path / "state.pt"), 2)
    second, _ = run(started(tmp_path / "state.pt"), 4, start=2, current=half)
    assert [u.epsilon for u in first + second] == [u.epsilon for u in whole]
    assert 2.9 < second[-1].epsilon <= 3


def test_a_round_done_twice_is_counted_twice_and_the_rest_gets_more_noise():
    t = trainer(privacy := DPSGD(3), rounds=4)
    (first,), current = run(t, 1)
    planned = privacy.noise
    again = t.round(current, 0)
    rest, current = run(t, 4, start=1, current=current)
    assert again.epsilon > first.epsilon
    assert privacy.noise > planned
    assert rest[-1].epsilon <= 3
    last = [t.round(current, 3).epsilon for _ in range(2)]
    assert max(last) <= 3
    privacy.epsilon = last[-1]  # so that no noise is enough
    with pytest.raises(PrivacyError, match="spent"):
        t.round(current, 3)


def test_a_site_that_has_lost_its_state_counts_the_rounds_that_it_may_have_done(tmp_path):
    whole, _ = run(trainer(DPSGD(3), rounds=4), 4)
    late, _ = run(trainer(DPSGD(3), rounds=4, state=tmp_path / "none.pt"), 4, start=2)
    assert [u.epsilon for u in late] == [u.epsilon for u in whole[2:]]


def test_the_seed_tells_nobody_the_noise():
    (a,), (b,) = (run(trainer(DPSGD(3), seed=1), 1)[0] for _ in range(2))
    assert all((a.difference[n] != b.difference[n]).any() for n in a.difference)


def test_no_loss_leaves_that_a_real_image_was_in():
    (update,), _ = run(trainer(DPSGD(3)), 1)
    assert update.losses == {}


def test_the_generator_of_a_gan_sees_no_real_image_and_no_real_label(monkeypatch):
    family, (x, y, _) = MAKE["gan"](), images(60)
    t = Trainer(family, FedAvg(), toys.training(rounds=1, batch=20), x, torch.zeros_like(y), None, 1, privacy=DPSGD(8))
    assert set(t.privacy.noisy) == {"discriminator"}
    seen, loss = [], family.loss

    def watched(player, x, y, given):
        if player == "generator":
            seen.append((x, y))
        return loss(player, x, y, given)

    monkeypatch.setattr(family, "loss", watched)
    update = t.round(initial(family), 0)
    assert set(update.losses) == {"generator"}
    assert len(seen) == update.steps
    assert all((x == 0).all() and len(x) == len(y) == 20 for x, y in seen)
    # where all real labels are 0; of 60 drawn labels one of three classes is absent once in ten billion times
    assert len(torch.cat([y for _, y in seen]).unique()) == 3


def test_with_given_channels_which_are_real_the_generator_is_private_too():
    assert set(protected(MAKE["gan"](1)).noisy) == {"generator", "discriminator"}


@pytest.mark.parametrize("name", ["vae", "diffusion"])
def test_a_large_epsilon_lets_a_family_learn(name):
    torch.manual_seed(0)
    family = MAKE[name]()
    n = 60
    y = torch.arange(n) % 3
    x = (y.float().reshape(n, 1, 1, 1) - 1).mul(0.8).expand(n, 2, 16, 16).contiguous()  # an image that is its label

    def loss():
        torch.manual_seed(9)
        with torch.no_grad():
            return float(torch.stack([family.loss(player, x, y, None) for player in family.players()]).sum())

    before = loss()
    t = Trainer(
        family, FedAvg(), toys.training(rounds=1, epochs=12, batch=12, lr=2e-2), x, y, None, 1, privacy=DPSGD(1000)
    )
    t.round(initial(family), 0)
    assert loss() < 0.8 * before


@pytest.mark.parametrize(
    "budget",
    [{}, {"epsilon": None}, *({"epsilon": e} for e in (0, -1, math.inf, math.nan, True, "8")),
     *({"epsilon": 8, "delta": d} for d in (0, 1, -1e-5, 1.5, math.nan, None)),
     *({"epsilon": 8, "max_grad_norm": c} for c in (0, math.inf)),
     {"epsilon": 8, "at_once": 0}, {"epsilon": 8, "accountant": "gdp"},
     {"epsilon": 8, "unit": "patient"}, {"epsilon": 8, "unit": "subject", "images_per_subject": 0},
     {"epsilon": 8, "images_per_subject": 2}],
)  # fmt: skip
def test_a_budget_that_makes_no_sense_is_refused(budget):
    with pytest.raises(PrivacyError, match=r"epsilon|delta|max_grad_norm|at_once|accountant|unit|images_per_subject"):
        DPSGD(**budget)


def test_a_delta_that_would_let_one_image_out_is_refused():
    with pytest.raises(PrivacyError, match="100 images"):
        protected(toys.Toy(), mechanism=DPSGD(8, delta=0.01))


def test_an_epsilon_too_small_for_any_noise_is_refused():
    with pytest.raises(PrivacyError, match="too small"):
        fitting(Spending(), 1.0, 10**6, 1e-9, 1e-5)
