"""Every file of fedsynth/uses keeps the contract of its `__init__`, and each use's own metrics are what they say."""

from __future__ import annotations

import inspect
import math
import pkgutil
from importlib import import_module

import pytest
import torch
from torch import Tensor, nn

from fedsynth import supervised, uses
from fedsynth.params import Block, Image
from fedsynth.uses.classification import Classification, auroc, balanced_accuracy
from fedsynth.uses.segmentation import Segmentation
from tests.sets import tiny_params

SIZES = [(16, 16), (8, 8, 10)]  # 10 does not halve twice


def paths() -> list[str]:
    """`module.Class` of every use in the folder."""
    found = []
    for module in pkgutil.iter_modules(uses.__path__, "fedsynth.uses."):
        classes = [c for _, c in inspect.getmembers(import_module(module.name), inspect.isclass) if c.__module__ == module.name]
        found += [f"{module.name}.{c.__name__}" for c in classes if issubclass(c, uses.Use)]
    return found


@pytest.fixture(scope="module", params=SIZES, ids=["2d", "3d"])
def data(request: pytest.FixtureRequest) -> tuple[Image, Tensor, Tensor, Tensor]:
    """60 images with a block that is bright in one channel (class 1), in the other (class 2) or not there (class 0), and its mask."""
    image, generator = tiny_params(image={"size": request.param}).image, torch.Generator().manual_seed(0)
    y = torch.arange(60) % 3
    masks = -torch.ones(60, 1, *image.size)
    x = 0.1 * torch.randn(60, 2, *image.size, generator=generator) - 0.6
    for i, k in enumerate(y.tolist()):
        block = tuple(
            slice(start, start + n // 2) for n in image.size for start in torch.randint(0, n // 2, (1,), generator=generator).tolist()
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
    metrics, n = use.score(use.fit(x[:40], m[:40], y[:40], seed=1), x[40:], m[40:], y[40:])
    untrained, _ = use.score(use.network(1), x[40:], m[40:], y[40:])
    assert metrics[use.headline] > 0.75
    assert metrics[use.headline] > untrained[use.headline] + 0.15
    assert metrics.keys() == n.keys() == set(use.metrics)
    assert all(math.isfinite(v) and 0 <= v <= 1 for v in metrics.values())
    assert all(0 < count <= 20 for count in n.values())


@pytest.mark.parametrize("path", paths())
def test_the_seed_decides_the_network_and_nothing_else_does(path: str, data: tuple[Image, Tensor, Tensor, Tensor]) -> None:
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
def test_no_image_to_train_on_is_an_error_and_none_to_score_is_nan(path: str, data: tuple[Image, Tensor, Tensor, Tensor]) -> None:
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
    metrics, n = Segmentation(1, 1, (8, 8)).score(Answer(found), torch.zeros(4, 1, 8, 8), masks, torch.zeros(4, dtype=torch.long))
    assert metrics == {"dice": pytest.approx((1 + 2 / 3) / 2), "false_positive_rate": 0.5}
    assert n == {"dice": 2, "false_positive_rate": 2}


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
    bright = images > (images.amin() + images.amax()) / 2  # brightness differs from image to image, so most pixels, not all
    assert ((bright == (moved > 0)).float().mean()) > 0.9
