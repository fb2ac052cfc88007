"""The attacks: what they find where there is something to find, chance where there is nothing, and None where nothing
can be said.
"""

import numpy as np
import pytest
import torch
from torch import nn

from fedsynth.families import Family
from fedsynth.measures import Value
from fedsynth.measures._attack import auc, by_subject, clopper_pearson, epsilon_bound, tpr, within_class
from fedsynth.measures._losses import attacked_players, losses
from fedsynth.measures._references import calibrated, references
from fedsynth.measures.membership import Membership, by_loss
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


def test_the_strongest_attack_is_the_largest_with_the_largest_upper_end():
    made = Membership(references=2)
    ends = {
        "distance": (0.6, 0.5, 0.7),
        "feature": (0.5, 0.3, 0.8),
        "loss": (0.4, 0.3, 0.5),
        "reference": (0.65, 0.6, 0.69),
    }
    values = {f"membership_{kind}_auc": Value(v, {"real": 9}, 0.5, low, high) for kind, (v, low, high) in ends.items()}
    found = made._strongest(values, "auc")
    assert (found.value, found.low, found.high, found.floor) == (0.65, 0.6, 0.8, 0.5)
    without = values | {"membership_loss_auc": Value(None, {"real": 9})}
    assert made._strongest(without, "auc").value is None, "an attack that could not be made may be the strongest"


def test_a_set_of_copies_is_found_by_the_strongest_attack(real):
    _, train = halves(real)
    found = values(site(real, train))
    assert found["auc"].value is None, "without the weights the attack by loss is missing"
    family = Known(torch.from_numpy(train.images))
    found = values(site(real, train, family=family))
    each = [found[f"{kind}_auc"] for kind in ("distance", "feature", "loss")]
    assert found["auc"].value == max(of.value for of in each) > 0.9
    assert found["auc"].high == max(of.high for of in each)


def test_the_floor_is_chance_and_the_texts_say_so(real, fresh):
    found = values(site(real, fresh), fpr=0.05)
    assert (found["distance_auc"].floor, found["distance_tpr"].floor) == (0.5, 0.05)
    about = Membership(fpr=0.05).about
    assert all("the floor is chance" in of.text for name, of in about.items() if name.count("_") > 1)
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
        raw.append(auc(*(-losses(seen, seen.family, s, "jealous", 2)[:, 0] for s in (few, held_out))))
        found.append(auc(*by_loss(seen, few, held_out, 2)["loss"]))
    assert np.mean(raw) < 0.4
    assert np.mean(found) == pytest.approx(0.5, abs=0.05)


def test_noise_is_the_same_for_all_images_and_the_random_state_is_left_alone(real, fresh):
    _, train = halves(real)
    seen = site(real, fresh, family=Known())
    same = train.where(train.manifest["label"] == "none")
    before = torch.get_rng_state()
    assert np.ptp(losses(seen, seen.family, same, "deaf", 3)) == 0
    assert torch.equal(before, torch.get_rng_state())


def test_gradients_are_there_for_losses_that_need_them_and_the_family_is_left_as_it_was(real, fresh):
    family = Known().train()
    with torch.no_grad():
        losses(site(real, fresh, family=family), family, halves(real)[0], "jealous", 1)
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


class Hard(Family):
    """Images are hard by far more than it helps to know them, and everybody finds the same ones hard."""

    def __init__(self, known, off, seed):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.known, self.off, self.seed = known, off, seed

    def players(self):
        return {"net": self}

    def evidence(self, player, x, y, given):
        hard = torch.stack([x.flatten(1).std(1), 5 * x.flatten(1).mean(1)], 1) + self.off * torch.randn(1, 1)
        own = torch.randn(x[0].numel(), generator=torch.Generator().manual_seed(self.seed))  # to this model alone
        known = (x.flatten(1)[:, None] == self.known.flatten(1)).all(-1).any(-1)
        return hard + (1e-4 * (x.flatten(1) @ own) - 0.02 * known)[:, None]

    def loss(self, player, x, y, given):
        raise AssertionError("evidence is there")

    def sample(self, y, given=None, generator=None):
        raise NotImplementedError


def hard(images, seed=0, off=1.0):
    return Hard(torch.from_numpy(images.images), off, seed)


def test_reference_models_find_members_whom_the_loss_alone_does_not_find(real, fresh):
    _, train = halves(real)
    found = values(site(real, fresh, family=hard(train), retrain=hard), references=2, draws=2)
    assert found["loss_auc"].value < 0.7
    assert found["reference_auc"].value == found["reference_tpr"].value == found["reference_tpr_tenth"].value == 1
    assert found["epsilon"].value > 2


def test_reference_models_find_nobody_in_a_model_that_saw_neither(real, fresh):
    found = values(site(real, fresh, family=hard(fresh), retrain=hard), references=2, draws=1)
    assert found["reference_auc"].low < 0.5 < found["reference_auc"].high
    assert found["epsilon"].value == 0


def test_each_image_is_judged_by_half_of_the_models_and_by_none_that_has_seen_its_patient(real, fresh):
    held_out, train = halves(real)
    trained = []
    seen = site(real, fresh, retrain=lambda images, seed: trained.append((set(images.patients()), seed)))
    judged = [set(names) for _, names in references(seen, 4)]
    assert all(not names & of for names, (of, _) in zip(judged, trained, strict=True))
    for images in (held_out, train):
        assert all(sum(who in names for names in judged) == 2 for who in images.patients())
    assert len({seed for _, seed in trained}) == 4
    assert abs(len(trained[0][0]) - len(trained[1][0])) <= 1
    assert set.union(*(of for of, _ in trained)) == set(held_out.patients())


def test_what_is_foretold_does_not_depend_on_the_scale_of_the_reference_models_losses():
    rng = np.random.default_rng(0)
    difficulty, member = rng.normal(size=(200, 2)), np.arange(200) < 100
    target = difficulty - 0.3 * member[:, None] + 0.1 * rng.normal(size=(200, 2))
    score = calibrated(target, 3 * difficulty + 7)
    assert auc(score[:100], score[100:]) > 0.98
    assert auc(-target.mean(1)[:100], -target.mean(1)[100:]) < 0.75


def test_patients_with_several_images_count_once():
    assert by_subject(np.array([1.0, 3, 10]), np.array(["a", "a", "b"])).tolist() == [2, 10]


def test_the_interval_of_a_share_is_the_exact_one():
    assert clopper_pearson(0, 100, 0.025) == pytest.approx((0, 0.0362167), abs=1e-6)
    assert clopper_pearson(10, 100, 0.025) == pytest.approx((0.0490047, 0.1762226), abs=1e-6)


def test_the_bound_on_epsilon_is_below_the_true_one_and_near_it_for_many():
    rng, above = np.random.default_rng(0), []
    for _ in range(200):  # Laplace's mechanism with epsilon 1
        above.append(epsilon_bound(rng.laplace(1, 1, 300), rng.laplace(0, 1, 300), 1e-5) > 1)
    assert np.mean(above) <= 0.05
    assert epsilon_bound(rng.laplace(1, 1, 100_000), rng.laplace(0, 1, 100_000), 1e-5) > 0.9
    low = np.arange(100.0)
    assert epsilon_bound(low, low, 1e-5) == 0
    assert epsilon_bound(low + 100, low, 1e-5) == pytest.approx(2.7, abs=0.2)  # no attack shows more of so few


def test_sites_bounds_are_not_averaged(real, fresh):
    measure, answers = Membership(references=2, draws=1), {}
    for name, family in (("one", hard(halves(real)[1])), ("other", hard(fresh))):
        seen = site(real, fresh, family=family, retrain=hard)
        answers[name] = measure.at_site(seen)
    found = measure.combine(answers, seen)["membership_epsilon"]
    assert found.value == answers["one"].values["membership_epsilon"].value > 0


def test_an_odd_number_of_reference_models_is_refused():
    with pytest.raises(ValueError, match="even"):
        Membership(references=1)
