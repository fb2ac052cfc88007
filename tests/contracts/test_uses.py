"""Every file of fedsynth/uses keeps the contract of its `__init__`, and each use's own metrics are what they say."""

from __future__ import annotations

import copy
import inspect
import math
import pkgutil
from importlib import import_module

import pytest
import torch
from torch import Tensor, nn

from fedsynth import uses
from fedsynth.params import Block, Image
from fedsynth.training import supervised
from fedsynth.uses.classification import Classification, auroc, balanced_accuracy, calibration_error, confidence
from fedsynth.uses.segmentation import Segmentation, distance
from tests.sets import tiny_params

# of the headline after a short training; a denoiser cannot find the noise that is the data's own, an eighth of all
EASY = {"fedsynth.uses.denoising.Denoising": 0.45}
SIZES = [(16, 16), (8, 8, 10)]  # 10 does not halve twice


def paths() -> list[str]:
    """`module.Class` of every use in the folder."""
    found = []
    for module in pkgutil.iter_modules(uses.__path__, "fedsynth.uses."):
        classes = [
            c for _, c in inspect.getmembers(import_module(module.name), inspect.isclass) if c.__module__ == module.name
        ]
        found += [f"{module.name}.{c.__name__}" for c in classes if issubclass(c, uses.Use)]
    return found


@pytest.fixture(scope="module", params=SIZES, ids=["2d", "3d"])
def data(request: pytest.FixtureRequest) -> tuple[Image, Tensor, Tensor, Tensor]:
    """60 images with a block that is bright in one channel (class 1), in the other (class 2) or not there (class 0),
    and its mask.
    """
    image, generator = tiny_params(image={"size": request.param}).image, torch.Generator().manual_seed(0)
    y = torch.arange(60) % 3
    masks = -torch.ones(60, 1, *image.size)
    x = 0.1 * torch.randn(60, 2, *image.size, generator=generator) - 0.6
    for i, k in enumerate(y.tolist()):
        block = tuple(
            slice(start, start + n // 2)
            for n in image.size
            for start in torch.randint(0, n // 2, (1,), generator=generator).tolist()
        )
        if k:
            masks[(i, 0, *block)] = 1.0
            x[(i, k - 1, *block)] += 1.0
    return image, x, masks, y


def build(path: str, image: Image, steps: int = 2) -> uses.Use:
    return Block(class_path=path, args={"steps": steps}).build(**image.context())


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_the_folder_holds_both_uses() -> None:
    assert {p.rpartition(".")[2] for p in paths()} >= {"Classification", "Segmentation"}


@pytest.mark.parametrize("path", paths())
def test_it_learns_what_is_easy(path: str, data: tuple[Image, Tensor, Tensor, Tensor]) -> None:
    image, x, m, y = data
    use = build(path, image, steps=60)
    judged = use.judge(use.fit(x[:40], m[:40], y[:40], seed=1), x[40:], m[40:], y[40:])
    metrics, n = use.summarise(judged)
    untrained, _ = use.score(use.network(1), x[40:], m[40:], y[40:])
    assert metrics[use.headline] == use.value(judged) > EASY.get(path, 0.75)
    assert metrics[use.headline] > untrained[use.headline] + 0.15
    assert metrics.keys() == n.keys() == set(use.metrics)
    assert use.lower <= set(use.metrics)
    assert all(math.isfinite(v) and use.within(k)[0] <= v <= use.within(k)[1] for k, v in metrics.items())
    assert all(0 < count <= 20 for count in n.values())


@pytest.mark.parametrize("path", paths())
def test_a_training_in_pieces_is_the_training_in_one_go_and_outlives_its_process(
    path: str, data: tuple[Image, Tensor, Tensor, Tensor]
) -> None:
    image, x, m, y = data
    use = build(path, image, steps=6)
    whole, first = use.fit(x, m, y, seed=1), use.training(use.network(1), x, m, y, seed=1)
    first.steps(2)
    state, weights = copy.deepcopy(first.state()), copy.deepcopy(first.net.state_dict())
    first.steps(4)
    assert same(whole, first.net)
    # another process: the weights come from the server, the rest from its file
    again = use.training(use.network(7), x, m, y, seed=1)
    again.net.load_state_dict(weights)
    again.load_state(state)
    again.steps(4)
    assert same(whole, again.net)


@pytest.mark.parametrize("path", paths())
def test_what_each_image_adds_can_be_drawn_anew(path: str, data: tuple[Image, Tensor, Tensor, Tensor]) -> None:
    image, x, m, y = data
    use = build(path, image)
    net, places = use.network(1), torch.tensor([3, 4, 5, 3, 8, 1])
    table = use.judge(net, x, m, y)
    assert {len(values) for values in table.values()} == {len(x)}
    assert (table["y"] == y.numpy()).all(), "a bootstrap draws class by class"
    drawn = use.summarise({name: values[places.numpy()] for name, values in table.items()})
    direct = use.score(net, x[places], m[places], y[places])
    assert drawn[1] == direct[1]
    assert drawn[0] == pytest.approx(direct[0], nan_ok=True)


@pytest.mark.parametrize("path", paths())
def test_the_seed_decides_the_network_and_nothing_else_does(
    path: str, data: tuple[Image, Tensor, Tensor, Tensor]
) -> None:
    image, x, m, y = data
    use = build(path, image)
    first = use.fit(x, m, y, seed=3)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert same(first, use.fit(x, m, y, seed=3))
    assert torch.equal(before, torch.get_rng_state()), "fit drew from the random numbers of others"
    assert not same(first, use.fit(x, m, y, seed=4))
    assert same(use.network(3), use.network(3))


@pytest.mark.parametrize("path", paths())
def test_few_images_of_one_class_are_enough(path: str, data: tuple[Image, Tensor, Tensor, Tensor]) -> None:
    image, x, m, y = data
    use, one = build(path, image), y == 2
    for k in (1, 5):
        metrics, _ = use.score(use.fit(x[one][:k], m[one][:k], y[one][:k], seed=1), x, m, y)
        assert math.isfinite(metrics[use.headline])


@pytest.mark.parametrize("path", paths())
def test_no_image_to_train_on_is_an_error_and_none_to_score_is_nan(
    path: str, data: tuple[Image, Tensor, Tensor, Tensor]
) -> None:
    image, x, m, y = data
    use = build(path, image)
    with pytest.raises(ValueError, match="no image to train on"):
        use.fit(x[:0], m[:0], y[:0], seed=1)
    metrics, n = use.score(use.network(1), x[:0], m[:0], y[:0])
    assert all(math.isnan(v) for v in metrics.values())
    assert set(n.values()) == {0}


@pytest.mark.parametrize("path", paths())
def test_an_image_of_weight_zero_is_never_seen(path: str, data: tuple[Image, Tensor, Tensor, Tensor]) -> None:
    image, x, m, y = data
    use = build(path, image)
    poisoned = x.clone()
    poisoned[30:] = torch.nan
    net = use.fit(poisoned, m, y, seed=1, weights=(torch.arange(60) < 30).float())
    assert all(torch.isfinite(v).all() for v in net.state_dict().values())


@pytest.mark.parametrize("path", paths())
def test_no_layer_keeps_running_statistics(path: str, data: tuple[Image, Tensor, Tensor, Tensor]) -> None:
    assert not list(build(path, data[0]).network(1).buffers())


def test_the_seed_of_a_classifier_decides_little(data: tuple[Image, Tensor, Tensor, Tensor]) -> None:
    """What a set is worth would else be a matter of chance: docs/decisions/0020."""
    image, x, m, y = data
    use = build("fedsynth.uses.classification.Classification", image, steps=30)
    reached = [use.score(use.fit(x[:40], m[:40], y[:40], seed), x[40:], m[40:], y[40:])[0] for seed in range(1, 9)]
    assert min(found[use.headline] for found in reached) > 0.85


def test_balanced_accuracy_and_auroc_of_known_answers() -> None:
    y = torch.tensor([0, 0, 0, 1, 2])
    right = nn.functional.one_hot(y, 3).float()
    assert (balanced_accuracy(right, y), auroc(right, y)) == (1.0, 1.0)
    constant = torch.tensor([[1.0, 0.0, 0.0]]).expand(5, 3)
    assert (balanced_accuracy(constant, y), auroc(constant, y)) == (pytest.approx(1 / 3), 0.5)


def test_metrics_that_need_a_class_are_nan_without_it() -> None:
    y = torch.tensor([0, 1, 1])
    logits = nn.functional.one_hot(y, 3).float()
    assert balanced_accuracy(logits, y) == 1.0, "recall over the classes that are there"
    assert math.isnan(auroc(logits, y)), "class 2 has no image"
    assert math.isnan(balanced_accuracy(logits[1:], y[1:])), "one class alone"


class Answer(nn.Module):
    """A network that says what it was given, whatever the image."""

    def __init__(self, logits: Tensor):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits[: len(x)]


def test_dice_leaves_out_empty_masks_and_counts_what_was_found_in_them() -> None:
    masks = -torch.ones(4, 1, 8, 8)
    masks[:2, :, :4] = 1  # two images with a lesion of 32 pixels, two without
    found = masks.clone()
    found[1, :, 2:4] = -1  # half of it: Dice 2·16 / (16 + 32)
    found[3, 0, 0, 0] = 1  # one false pixel
    use = Segmentation(1, 1, (8, 8), label_names=("none", "mass"), empty_labels=("none",))
    metrics, n = use.score(Answer(found), torch.zeros(4, 1, 8, 8), masks, torch.tensor([1, 1, 0, 0]))
    half = pytest.approx((1 + 2 / 3) / 2)
    assert metrics == {"dice": half, "hd95": pytest.approx((0 + 2) / 2), "false_positive_rate": 0.5, "dice.mass": half}
    assert n == {"dice": 2, "hd95": 2, "false_positive_rate": 2, "dice.mass": 2}


def test_a_lesion_that_was_not_found_is_as_far_away_as_can_be() -> None:
    masks = -torch.ones(2, 1, 6, 8)
    masks[:, :, 2:4, 2:4] = 1
    found = masks.clone()
    found[1] = -1
    far = distance(found > 0, masks > 0)
    assert far.tolist() == [0.0, 10.0]  # the diagonal of 6 by 8
    assert math.isnan(distance(masks[:1] > 0, masks[:1] > 2).item()), "no lesion, no distance"


def test_a_shift_by_three_pixels_is_three_pixels_off() -> None:
    masks = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    masks[:, :, 4:8, 4:8] = True
    assert distance(masks.roll(3, -1), masks).item() == pytest.approx(3.0)


def test_calibration_error_of_known_answers() -> None:
    y = torch.tensor([0, 0, 1, 1])
    sure = (50 * nn.functional.one_hot(y, 2).float()).numpy()

    def error(truth: Tensor) -> float:
        return calibration_error(*confidence({"logits": sure, "y": truth.numpy()}))

    assert error(y) == pytest.approx(0.0, abs=1e-6)
    assert error(1 - y) == pytest.approx(1.0, abs=1e-6), "sure and always wrong"
    assert error(torch.tensor([0, 0, 1, 0])) == pytest.approx(0.25, abs=1e-6), "sure, and wrong in a quarter"
    assert math.isnan(calibration_error(*confidence({"logits": sure * [[math.nan]], "y": y.numpy()})))
    assert math.isnan(calibration_error(*confidence({"logits": sure[:0], "y": y[:0].numpy()}))), "no image"


def test_sensitivity_and_specificity_are_of_each_class_against_the_rest() -> None:
    y = torch.tensor([0, 0, 0, 0, 1, 1, 2])
    said = torch.tensor([0, 0, 0, 1, 1, 0, 2])
    use = Classification(1, 3, (8, 8), label_names=("a", "b", "c"))
    metrics, n = use.summarise({"logits": nn.functional.one_hot(said, 3).float().numpy(), "y": y.numpy()})
    assert (metrics["sensitivity.a"], metrics["specificity.a"]) == (pytest.approx(3 / 4), pytest.approx(2 / 3))
    assert (metrics["sensitivity.c"], metrics["specificity.b"]) == (1.0, pytest.approx(4 / 5))
    assert metrics["sensitivity"] == pytest.approx(metrics["balanced_accuracy"])
    assert (n["sensitivity.b"], n["specificity.b"]) == (2, 5)


def test_overlapping_mask_channels_are_learned_side_by_side() -> None:
    generator = torch.Generator().manual_seed(1)
    masks = -torch.ones(24, 2, 16, 16)
    for i, corner in enumerate(torch.randint(1, 7, (24,), generator=generator).tolist()):
        masks[i, 0, corner : corner + 8, 2:14] = 1
        masks[i, 1, corner : corner + 4, 2:14] = 1  # inside the first
    images = (masks.sum(1, keepdim=True) / 2) + 0.1 * torch.randn(24, 1, 16, 16, generator=generator)
    use, y = Segmentation(1, 2, (16, 16), steps=120), torch.zeros(24, dtype=torch.long)
    assert use.score(use.fit(images, masks, y, seed=1), images, masks, y)[0]["dice"] > 0.8


def test_segmentation_without_a_mask_channel_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"score\.uses"):
        Segmentation(images=1, masks=0, size=(8, 8))


@pytest.mark.parametrize("path", paths())
def test_its_network_has_features_for_measures(path: str, data: tuple[Image, Tensor, Tensor, Tensor]) -> None:
    image, x, _, _ = data
    found = build(path, image).network(1).embed(x[:3])
    assert found.shape == (3, found.shape[1])
    assert found.std(0).max() > 0, "the same for every image"


def test_classification_sees_no_difference_of_gain_and_offset() -> None:
    net = Classification(2, 3, (16, 16)).network(1)
    x = torch.randn(4, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(net(3 * x - 1), net(x), atol=1e-4, rtol=1e-3)


def test_each_class_is_drawn_as_often_and_weights_count_within_it() -> None:
    share = supervised.shares(torch.tensor([0, 0, 0, 2]), torch.tensor([1.0, 1.0, 2.0, 5.0]))
    torch.testing.assert_close(share, torch.tensor([0.125, 0.125, 0.25, 0.5], dtype=torch.float64))
    with pytest.raises(ValueError, match="not all 0"):
        supervised.shares(torch.tensor([0, 1]), torch.zeros(2))


@pytest.mark.parametrize("size", SIZES, ids=["2d", "3d"])
def test_augmentation_moves_masks_with_their_images(size: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    masks = -torch.ones(32, 1, *size)
    masks[(slice(None), slice(None), *[slice(n // 4, n // 2) for n in size])] = 1
    images, moved = supervised.augment(masks.clone(), masks, generator)
    assert set(moved.unique().tolist()) == {-1.0, 1.0}
    assert not torch.equal(moved, masks)
    # brightness differs from image to image, so most pixels, not all
    bright = images > (images.amin() + images.amax()) / 2
    assert ((bright == (moved > 0)).float().mean()) > 0.9


def test_an_image_whose_mask_is_unknown_counts_for_nothing_in_segmentation(data):
    image, x, masks, y = data
    use = build("fedsynth.uses.segmentation.Segmentation", image, steps=4)
    unknown = masks.clone()
    unknown[::3] = 0  # class 0, all of it
    unknown[1] = 0
    keep = torch.ones(60, dtype=torch.bool)
    keep[::3], keep[1] = False, False
    with_them, without = use.fit(x, unknown, y, seed=1), use.fit(x[keep], masks[keep], y[keep], seed=1)
    assert all(torch.equal(a, b) for a, b in zip(with_them.parameters(), without.parameters(), strict=True))
    found, n = use.score(without, x, unknown, y)
    expected, _ = use.score(without, x[keep], masks[keep], y[keep])
    assert found["dice"] == expected["dice"]
    assert n["dice"] == 39
    assert n["false_positive_rate"] == 0
    assert math.isnan(found["false_positive_rate"])
