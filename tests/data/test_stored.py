"""Sets that stay on disk read as those in memory do, and what is written one after the other is what numpy writes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedsynth.data import removal, stored
from fedsynth.data.dataset import ImageSet, concatenate
from fedsynth.data.stored import ChangedError, File, Held, OnDisk, Stored, Writer, at_once, joined
from fedsynth.hospital import canaries
from fedsynth.params import Block
from fedsynth.settings import SettingsError, memory
from fedsynth.stages import score
from fedsynth.training.alone import tensors, train_alone
from fedsynth.uses.segmentation import dice_of
from fedsynth.worth import use_networks
from tests.sets import make_set, tiny_params

PARAMS = tiny_params()
KEYS = [3, slice(2, 9), slice(None), np.array([7, 0, 7]), np.arange(30) % 2 == 0, (slice(None), [1]), (4, 0),
        (np.array([5, 2]), slice(0, 2), slice(1, 3))]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    make_set(folder, PARAMS, n=30)
    return folder


@pytest.fixture(scope="module")
def whole(folder) -> ImageSet:
    return ImageSet.load(folder)


@pytest.fixture
def small(monkeypatch):
    """No set has room in memory."""
    monkeypatch.setattr(stored, "memory", lambda: 0)


@pytest.fixture
def kept(folder, small) -> ImageSet:
    found = ImageSet.load(folder)
    assert isinstance(found.images, Stored)
    return found


def test_a_set_is_in_memory_where_there_is_room(folder, whole, monkeypatch):
    assert isinstance(whole.images, np.ndarray)
    monkeypatch.setattr(stored, "memory", lambda: whole.images.nbytes - 1)
    assert isinstance(ImageSet.load(folder).images, Stored)


def test_the_room_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("FEDSYNTH_MEMORY", "20000")
    assert memory() == 20000 * 2**20
    monkeypatch.setenv("FEDSYNTH_MEMORY", "1 GB")
    with pytest.raises(SettingsError, match="FEDSYNTH_MEMORY='1 GB' is not a number of megabytes"):
        memory()


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_it_is_read_as_an_array_is(whole, kept, key):
    np.testing.assert_array_equal(kept.images[key], whole.images[key])


def test_splits_and_channels_stay_on_disk(whole, kept):
    image = PARAMS.image
    for name in ("train", "test"):
        assert isinstance(kept.split(name).images, Stored)
        np.testing.assert_array_equal(np.asarray(kept.split(name).images), whole.split(name).images)
    of = kept.split("train").images.of(image.index(image.masks))
    np.testing.assert_array_equal(np.asarray(of), whole.split("train").channels(image, image.masks))
    assert [kept.has(image, c).tolist() for c in image.channels] == [
        whole.has(image, c).tolist() for c in image.channels
    ]


def test_a_changed_pixel_is_found_on_disk_too(folder, small, tmp_path):
    import shutil

    shutil.copytree(folder, tmp_path / "changed")
    images = np.load(tmp_path / "changed" / "images.npy")
    images[12, 0, 3, 3] += 0.01
    np.save(tmp_path / "changed" / "images.npy", images)
    with pytest.raises(Exception, match="are not those of its manifest"):
        ImageSet.load(tmp_path / "changed")


def test_another_file_at_the_same_path_is_not_read_in_its_place(folder, small, tmp_path):
    """What was verified is what is trained on, also where `ingest` is run again meanwhile."""
    import shutil

    shutil.copytree(folder, tmp_path / "set")
    opened = ImageSet.load(tmp_path / "set")
    train = OnDisk(opened.split("train").images)
    assert len(train[:2]) == 2
    with Writer(tmp_path / "set" / "images.npy", opened.images.shape[1:]) as again:
        for image in opened.images[::-1]:
            again.add(image)
    with pytest.raises(ChangedError, match=r"images\.npy has changed while it was in use"):
        train[:2]


def test_sets_on_disk_are_one_set_on_disk_and_with_one_in_memory_each_stays_where_it_is(whole, kept):
    twice = concatenate([kept.split("test"), kept.split("train")])
    assert isinstance(twice.images, Stored)
    expected = np.concatenate([whole.split("test").images, whole.split("train").images])
    np.testing.assert_array_equal(np.asarray(twice.images), expected)
    mixed = joined([kept.images, whole.images[:7], kept.images])
    assert isinstance(mixed, Stored)
    assert [type(file) for file in mixed.files] == [File, Held]
    both = np.concatenate([whole.images, whole.images[:7], whole.images])
    for key in (slice(None), slice(25, 40), np.array([60, 33, 0])):
        np.testing.assert_array_equal(mixed[key], both[key])
    np.testing.assert_array_equal(np.asarray(mixed.of([2, 0]).where(np.arange(67) > 28)), both[29:, [2, 0]])
    assert isinstance(joined([whole.images, kept.images[:0]]), np.ndarray)
    with pytest.raises(ValueError, match="sets of other channels or sizes"):
        joined([kept.images.of([0]), whole.images])


def test_a_channel_that_is_taken_away_reads_as_missing_and_stays_on_disk(whole, kept):
    image = tiny_params(image={"may_lack": ["t2"]}).image
    some = np.arange(30) % 3 == 0
    both = []
    for of in (whole, kept):
        lacking = concatenate([of.where(some).without(image, ["t2", "lesion"]), of.where(~some)])
        assert isinstance(lacking.images, type(of.images))
        assert [lacking.has(image, c).sum() for c in image.channels] == [30, 20, 20]
        assert lacking.lacking(image) == [1, 2]
        planes = lacking.planes_or_nan(image, ["t1", "t2", "lesion"])
        assert isinstance(planes, OnDisk if of is kept else torch.Tensor)
        both.append((np.asarray(lacking.images), planes[:].numpy(), lacking.channels_or_nan(image, ["lesion", "t2"])))
        again = lacking.where(np.arange(30) > 4).without(image, ["t1"])
        assert [again.has(image, c).sum() for c in image.channels] == [0, 20, 20]
    for one, other in zip(*both, strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.isnan(both[0][1]).any()
    assert [kept.has(image, c).all() for c in image.channels] == [True] * 3, "the set itself is as it was"


def test_canaries_are_put_among_images_that_stay_on_disk(whole, kept, tmp_path):
    params = tiny_params(audit={"canaries": 20})
    one, other = (canaries.among(of, params, tmp_path, "vae") for of in (whole, kept))
    assert isinstance(other.images, Stored)
    assert len(other) > 30
    np.testing.assert_array_equal(one.images, np.asarray(other.images))


def test_a_tensor_on_disk_gives_batches_and_parts(whole, kept):
    on_disk, images = OnDisk(kept.images), torch.from_numpy(whole.images)
    places = torch.tensor([4, 1, 4])
    assert torch.equal(on_disk[places], images[places])
    assert [part.shape for part in on_disk.split(7)] == [part.shape for part in images.split(7)]
    nothing = on_disk.where(torch.zeros(30, dtype=torch.bool))
    assert [part.shape for part in nothing.split(7)] == [part.shape for part in images[:0].split(7)]


def test_a_model_is_trained_as_on_the_set_in_memory(whole, kept):
    block = PARAMS.models["vae"]
    assert isinstance(tensors(kept.split("train"), PARAMS.image)[0], OnDisk)
    one, other = (train_alone(block.family, block.training, PARAMS.image, of.split("train"), 3) for of in (whole, kept))
    for (name, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("use", ["classification.Classification", "segmentation.Segmentation"])
def test_a_use_s_network_is_trained_and_judged_as_on_the_set_in_memory(whole, kept, use):
    uses = {"one": {"class_path": f"fedsynth.uses.{use}", "args": {"steps": 3}}}
    params = tiny_params(score={"uses": uses})
    of = use_networks.uses(params)["one"]
    one, other = (use_networks.fit(of, params, images.split("train"), 1) for images in (whole, kept))
    assert all(np.array_equal(array, other[name]) for name, array in one.items())
    net = use_networks.network(of, one, 1)
    judged = [of.judged(net, *images.split("test").tensors(params.image)) for images in (whole, kept)]
    for name, values in judged[0].items():
        np.testing.assert_array_equal(values, judged[1][name])
    if use.startswith("seg"):
        dice = [dice_of(net, *images.tensors(params.image)[:2]) for images in (whole, kept)]
        np.testing.assert_array_equal(*dice)


def test_a_model_of_images_that_lack_a_channel_is_trained_as_on_the_set_in_memory(whole, kept):
    block = Block(class_path="fedsynth.families.diffusion.Diffusion", args={"channels": [8, 16], "groups": 8})
    image = tiny_params(image={"may_lack": ["t2"]}).image
    training = PARAMS.models["vae"].training
    few = np.arange(30) % 3 == 0
    sets = [concatenate([of.where(few).without(image, ["t2"]), of.where(~few)]) for of in (whole, kept)]
    one, other = (train_alone(block, training, image, of, 3) for of in sets)
    for (name, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("lacking", [[], ["t2"]])
def test_augmented_is_trained_on_real_images_on_disk_and_synthetic_ones_in_memory(whole, kept, tmp_path, lacking):
    uses = {"one": {"class_path": "fedsynth.uses.segmentation.Segmentation", "args": {"steps": 3}}}
    params = tiny_params(score={"uses": uses}, image={"may_lack": lacking})
    made = make_set(tmp_path / "made", params, n=12, seed=5)
    sent = {"synthetic": score.fit_synthetic(params, made)}
    one, other = (
        score.rows_at_site(params, "north", of, made, sent, tmp_path / name, "vae")
        for name, of in (("memory", whole), ("disk", kept))
    )
    assert one == other
    assert {row["name"] for row in one[0]} == {"synthetic", "augmented"}


def test_a_network_is_shown_fewer_images_at_once_where_they_are_large():
    assert [at_once(size) for size in ((28, 28), (128, 128), (256, 256), (64, 64, 64), (2000, 2000))] == [
        64, 64, 16, 4, 1]  # fmt: skip


def test_what_is_written_one_by_one_is_what_numpy_writes(whole, tmp_path):
    with Writer(tmp_path / "new" / "images.npy", whole.images.shape[1:]) as written:
        for image in whole.images:
            written.add(image)
    np.save(tmp_path / "whole.npy", whole.images)
    assert (tmp_path / "new" / "images.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_a_place_may_be_written_before_others_and_again(whole, tmp_path):
    with Writer(tmp_path / "images.npy", whole.images.shape[1:]) as written:
        for place in [3, 0, 1, 2, 29, *range(29), 7]:
            written.put(place, whole.images[0])
        for place in reversed(range(30)):
            written.put(place, whole.images[place])
    np.testing.assert_array_equal(np.load(tmp_path / "images.npy"), whole.images)


def test_what_was_there_before_stays_where_writing_fails(tmp_path):
    np.save(tmp_path / "images.npy", np.ones((2, 1, 4, 4), np.float32))
    with pytest.raises(ValueError, match="among those of"), Writer(tmp_path / "images.npy", (1, 4, 4)) as written:
        written.add(np.zeros((2, 4, 4)))
    assert np.load(tmp_path / "images.npy").shape == (2, 1, 4, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["images.npy"]


def test_what_a_killed_ingest_has_left_is_cleared_away(folder, tmp_path):
    """It holds pixels of patients, of whom one may be withdrawn since."""
    import shutil

    shutil.copytree(folder, tmp_path / "set")
    killed = Writer(tmp_path / "set" / "images.npy", (1, 4, 4))
    killed.__enter__()
    killed.add(np.ones((1, 4, 4)))
    killed.file.close()  # and nothing more is done: the process is gone
    assert killed.part.is_file()
    removal.complete(tmp_path / "set")
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["images.npy", "manifest.csv"]
