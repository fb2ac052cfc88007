"""The attacks: what they find where there is something to find, chance where there is nothing, and None where nothing
can be said.
"""

import numpy as np
import pytest
import torch
from torch import nn

from fedsynth.families import Family
from fedsynth.measures.membership import Membership, attacked_players, auc, by_loss, losses, tpr, within_class
from tests.measures.phantoms import changed, halves, phantoms, site
from tests.toys import Toy


class Known(Family):
    """Two players: `deaf` does not look at the image; `jealous` has a loss that is lower for the images that it knows.
    Both are noisy.
    """

    def __init__(self, known=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.known, self.grad = known, []

    def players(self):
        return {"deaf": self, "jealous": self}

    def loss(self, player, x, y, given):
        self.grad.append(torch.is_grad_enabled())
        noise = torch.randn(len(x)).mean()
        if player == "deaf":
            return self.weight * (noise + y.float().mean())
        nearest = torch.cdist(x[:1].flatten(1), self.known.flatten(1)).min() if self.known is not None else x.std()
        return self.weight * (nearest + 100 * y.float().mean() + noise)

    def sample(self, y, given=None, generator=None):
        raise NotImplementedError


def values(seen, **arguments):
    return {name.removeprefix("membership_"): v for name, v in Membership(**arguments).at_site(seen).values.items()}


def test_auc_and_tpr_of_separate_equal_and_reversed_scores():
    low, high = np.arange(10.0), np.arange(10.0, 20.0)
    assert (auc(high, low), auc(low, low), auc(low, high)) == (1, 0.5, 0)
    assert (tpr(high, low, 0.01), tpr(low, low, 0.01), tpr(low, high, 0.01)) == (1, 0, 0)


def test_the_floor_is_chance_and_the_texts_say_so(real, fresh):
    found = values(site(real, fresh), fpr=0.05)
    assert (found["distance_auc"].floor, found["distance_tpr"].floor) == (0.5, 0.05)
    about = Membership(fpr=0.05).about
    assert all("the floor is chance" in of.text for of in about.values())
    assert "at most 5 % of" in about["membership_loss_tpr"].text


def test_tpr_allows_so_many_false_positives_and_no_more():
    non_members = np.arange(200.0)
    assert tpr(np.array([197.5]), non_members, 0.01) == 1  # 198 and 199 are above it, 2 of 200
    assert tpr(np.array([196.5]), non_members, 0.01) == 0
    assert tpr(np.array([98.5]), np.arange(100.0), 0.001) == 0  # with few non-members none may be above


def test_a_set_of_the_training_images_gives_all_of_them_away(real):
    _, train = halves(real)
    noisy = train.images + np.random.default_rng(0).normal(0, 0.1, train.images.shape)
    found = values(site(real, changed(train, noisy)))
    assert found["distance_auc"].value > 0.99
    assert found["distance_auc"].low > 0.95
    assert found["distance_tpr"].value > 0.9


def test_mirrored_training_images_give_them_away_too(real):
    _, train = halves(real)
    mirrored = changed(train, np.flip(train.images, -1))
    assert values(site(real, mirrored, flip=(1,)))["distance_auc"].value > 0.99
    assert values(site(real, mirrored))["distance_auc"].value < 0.8


def test_a_set_that_nobody_trained_on_these_images_gives_nothing_away(real, fresh):
    found = values(site(real, fresh))["distance_auc"]
    assert found.low < 0.5 < found.high
    assert found.low < found.value < found.high
    assert found.value == pytest.approx(0.5, abs=0.1)


def test_a_loss_that_is_lower_for_known_images_is_found_in_the_player_that_has_it(real, fresh):
    held_out, train = halves(real)
    family = Known(torch.from_numpy(train.images))
    found = values(site(real, fresh, family=family), draws=4)
    assert found["loss_auc"].value == found["loss_tpr"].value == 1
    assert found["loss_auc"].n["members"], found["loss_auc"].n["non_members"] == (len(train), len(held_out))


def test_a_player_that_was_not_given_out_is_not_asked():
    family = Toy()
    assert attacked_players(family) == ["first", "second"]
    family.released = frozenset({"first.weight", "first.bias"})
    assert attacked_players(family) == ["first"]


def test_a_loss_that_knows_no_image_is_chance_however_much_it_depends_on_the_class(tmp_path, fresh):
    raw, found = [], []
    for seed in range(1, 7):  # one set alone may be off by chance
        real = phantoms(tmp_path / str(seed), 180, seed=seed)
        held_out, train = halves(real)
        ill = train.manifest["label"] != "none"
        few = train.where(ill | (np.cumsum(~ill) <= 5))  # so that the class alone would tell much
        seen = site(real, fresh, family=Known(), train=few)
        raw.append(auc(*(-losses(seen, s, "jealous", 2) for s in (few, held_out))))
        found.append(auc(*by_loss(seen, few, held_out, 2)))
    assert np.mean(raw) < 0.4
    assert np.mean(found) == pytest.approx(0.5, abs=0.05)


def test_noise_is_the_same_for_all_images_and_the_random_state_is_left_alone(real, fresh):
    _, train = halves(real)
    seen = site(real, fresh, family=Known())
    same = train.where(train.manifest["label"] == "none")
    before = torch.get_rng_state()
    assert np.ptp(losses(seen, same, "deaf", 3)) == 0
    assert torch.equal(before, torch.get_rng_state())


def test_gradients_are_there_for_losses_that_need_them_and_the_family_is_left_as_it_was(real, fresh):
    family = Known().train()
    with torch.no_grad():
        losses(site(real, fresh, family=family), halves(real)[0], "jealous", 1)
    assert all(family.grad)
    assert family.training
    assert family.weight.requires_grad


def test_scores_are_compared_within_a_class():
    members, non_members = within_class(
        np.array([1.0, 11, 12]), np.array([0.0, 10, 5]), np.array([0, 1, 1]), np.array([0, 1, 2])
    )
    assert members.tolist() == [0.5, 0.25, 1.25]
    assert non_members.tolist() == [-0.5, -0.75, 0]


def test_the_interval_is_over_patients_whose_images_are_no_independent_ones(real, fresh):
    held_out, train = halves(real)
    alone = [s.manifest.assign(subject=s.manifest["image_id"]) for s in (held_out, train)]
    many = [
        s.manifest.assign(subject=[f"{name}-{i // 9}" for i in range(len(s))])
        for name, s in (("a", held_out), ("b", train))
    ]
    widths = []
    for manifests in (alone, many):
        # neighbours are alike
        sets = [type(s)(m, np.sort(s.images, axis=0)) for m, s in zip(manifests, (held_out, train), strict=True)]
        found = values(site(real, fresh, held_out=sets[0], train=sets[1], family=Known()), draws=1)["loss_auc"]
        widths.append(found.high - found.low)
    assert widths[1] > widths[0]


def test_of_many_images_some_are_drawn_and_counted(real, fresh):
    found = values(site(real, fresh, family=Known()), draws=1, most=20)
    assert (found["loss_auc"].n["members"], found["loss_auc"].n["non_members"]) == (20, 20)
    assert found["distance_auc"].n["members"] > 20


def test_without_weights_or_with_a_diverged_model_the_loss_says_nothing(real, fresh):
    diverged = Known(torch.full((1, *real.images.shape[1:]), float("nan")))
    for family in (None, diverged):
        found = values(site(real, fresh, family=family), draws=1)
        assert found["loss_auc"].value is found["loss_tpr"].value is None
        assert found["distance_auc"].value is not None
