"""`fedsynth.generate`: a set in each format with its papers, complete or not at all, and never in memory as a whole."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections import Counter

import numpy as np
import pandas as pd
import pytest

import fedsynth
from fedsynth.data import manifest
from fedsynth.data.dataset import ImageSet, synthetic
from fedsynth.errors import UserError
from fedsynth.generation import folder, formats, writing
from fedsynth.generation import order as orders
from fedsynth.generation.source import released
from fedsynth.sources import Source
from fedsynth.validation import expectations
from tests.sets import make_set, tiny_params
from tests.trained import trained

PARAMS = tiny_params()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    root = tmp_path_factory.mktemp("model")
    trained(root, PARAMS)
    return root / "models" / "vae"


@pytest.fixture
def unchecked(monkeypatch):
    """No Great Expectations, whose import takes seconds: the verdict is that of a good set."""
    from fedsynth.validation.verdict import Verdict

    passed = Verdict("vae", True, "", 0, [], [], {}, ["unique hashes"])
    monkeypatch.setattr(expectations, "validate", lambda *_: passed)


def contents(path):
    return {
        of.relative_to(path).as_posix(): hashlib.sha256(of.read_bytes()).hexdigest()
        for of in path.rglob("*")
        if of.is_file()
    }


def test_every_exporter_is_a_format():
    assert formats.names() == ["decathlon", "dicom", "nifti", "npz", "png", "webdataset"]
    assert formats.block_of("DICOM").class_path == "fedsynth.exporters.dicom.DICOM"
    with pytest.raises(
        UserError, match=r"there is no format 'dicon'; there are decathlon, dicom, .*; did you mean 'dic"
    ):
        formats.exporter("dicon")


@pytest.mark.parametrize("name", formats.names())
def test_a_set_in_each_format_is_complete_and_the_same_for_the_same_seed(model, tmp_path, unchecked, name):
    done = fedsynth.generate(model, 7, tmp_path / "out", format=name, seed=3)
    fedsynth.generate(model, 7, tmp_path / "again", format=name, seed=3)
    assert contents(tmp_path / "out") == contents(tmp_path / "again")
    assert done["images"] == 7
    table = pd.read_csv(tmp_path / "out" / "manifest.csv")
    assert table["image_id"].nunique() == 7
    assert set(table["origin"]) == {"synthetic"}
    assert set(table["seed"]) == {3}
    assert {path.name for path in tmp_path.iterdir()} == {"out", "again"}, "nothing is left beside them"
    assert {"DATASHEET.md", "MODEL_CARD.md"} <= set(contents(tmp_path / "out"))
    if name != "webdataset":  # whose files lie in a tar file
        made = drawn(model, 7, 3)
        back = read(tmp_path / "out", name)
        assert np.abs(np.sort(made[:, 0].ravel()) - np.sort(back.ravel())).max() < 0.01


def drawn(model, images, seed):
    return next(iter(fedsynth.load(model).generate(images, seed=seed))).images


def read(out, name):
    """The first channel of all images of a set, as its source reads them."""
    source: Source = (
        formats.exporter(name)
        .source(PARAMS.image, out)
        .build(image=PARAMS.image.model_copy(update={"scale": {}}), seed=1)
    )
    found = [next(iter(record.channels.values())) for site in source.sites() for record in source.records(site)]
    planes = np.array([np.asarray(array, np.float32).squeeze() for array in found])
    if planes.min() < 0:
        return planes
    return planes / (4095 if name == "dicom" else 255) * 2 - 1


def test_volumes_have_their_formats_and_are_refused_by_others_before_any_is_drawn(tmp_path, unchecked, monkeypatch):
    params = tiny_params(image={"size": [8, 8, 8]})
    trained(tmp_path, params)
    model = tmp_path / "models" / "vae"
    fedsynth.generate(model, 3, tmp_path / "out", format="nifti")
    assert len(list((tmp_path / "out" / "images").iterdir())) == 6
    monkeypatch.setattr(writing, "_drawn", lambda *_: pytest.fail("drawn"))
    with pytest.raises(UserError, match="PNG holds slices"):
        fedsynth.generate(model, 3, tmp_path / "png")
    assert not (tmp_path / "png").exists()


def test_a_set_of_given_channels_is_written_with_them_and_tells_no_path(tmp_path, unchecked):
    params = tiny_params(image={"channels": {"t1": "image", "lesion": "mask"}, "given": ["lesion"]})
    trained(tmp_path, params)
    given = make_set(tmp_path / "masks", params, "public", n=6)
    done = fedsynth.generate(
        tmp_path / "models" / "vae", 9, tmp_path / "out", "infiltrating", "npz", given=tmp_path / "masks"
    )
    assert done["labels"] == {"none": 0, "infiltrating": 9, "extra_axial": 0}
    known = given.where(given.manifest["label"] == "infiltrating").images[:, 1] > 0
    found = np.load(tmp_path / "out" / "images.npz")["train_masks"]
    assert {mask.tobytes() for mask in found} == {mask.astype(np.uint8).tobytes() for mask in known}
    sheet = (tmp_path / "out" / "DATASHEET.md").read_text()
    assert "were taken (masks) holds none" in sheet
    assert str(tmp_path) not in sheet


def test_the_datasheet_says_how_many_by_which_version_with_which_seed_and_what_was_checked(model, tmp_path):
    done = fedsynth.generate(model, 8, tmp_path / "out", ["infiltrating", "none"], seed=5)
    sheet, card = ((tmp_path / "out" / name).read_text() for name in ("DATASHEET.md", "MODEL_CARD.md"))
    for text in (
        "8 synthetic images, drawn from",
        f"`vae/{done['weights_sha256'][:12]}`",
        "drawn with seed 5",
        "(infiltrating 1.0, none 1.0)",
        "| none | 4 |",
        "| extra_axial | 0 |",
        "unique hashes",
        "masks match their label",
        "the weights against the SHA-256 in model.json",
        f"{done['mends']['masks emptied']} masks were emptied",
        "This set itself was not judged",
        "This folder, as PNG",
    ):
        assert text in sheet
    assert "enough images of each class" not in sheet, "nobody asked how many are enough"
    assert card.splitlines()[0] == "# Model card: vae"
    assert "**Not judged.**" in card
    assert "unique hashes" in done["checked"]
    assert done["version"] is None


def test_what_is_mended_is_counted(model):
    found, mends = released(model), Counter()
    wanted = orders.order(found, 30, None, 0, None)
    list(orders.parts(found, wanted, mends))
    assert mends["masks emptied"] > 0, "an untrained model draws masks everywhere"
    assert mends["masks emptied"] <= 10, "of those without a lesion alone"


def test_a_set_that_fails_the_expectations_is_named_and_leaves_nothing(model, tmp_path, monkeypatch):
    def constant(family, params, name, places, known, mends):
        return np.full((len(places), 3, 16, 16), 1, np.float32)

    monkeypatch.setattr("fedsynth.stages.sample.draw_images", constant)
    with pytest.raises(UserError, match="fail what real data must pass") as error:
        fedsynth.generate(model, 4, tmp_path / "new" / "out", "infiltrating")
    assert "no blank image (4)" in str(error.value)
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("stopped", [KeyboardInterrupt, MemoryError])
def test_a_run_that_is_stopped_leaves_nothing_that_looks_finished(model, tmp_path, there, stopped):
    out, seen = tmp_path / "out", []
    if there:
        out.mkdir()

    def stop(what, done, of):
        seen.extend(tmp_path.rglob("images.npy*"))
        if done:
            raise stopped

    with pytest.raises(stopped):
        fedsynth.generate(model, 4, out, tell=stop)
    assert all(".part" in str(path) for path in seen)
    assert seen
    assert not any(tmp_path.rglob("*.*"))
    assert out.exists() == there


def test_a_folder_that_is_there_and_empty_is_filled(model, tmp_path, unchecked):
    (tmp_path / "out").mkdir()
    fedsynth.generate(model, 3, tmp_path / "out")
    assert not list(tmp_path.rglob("*.part"))
    assert (tmp_path / "out" / "manifest.csv").is_file()


def test_nothing_is_overwritten(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "released", lambda *_: pytest.fail("the model is not even loaded"))
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(UserError, match=r"is not empty \(note\.txt\), and nothing is overwritten"):
        fedsynth.generate("champion", 3, tmp_path)
    with pytest.raises(UserError, match=r"note\.txt is a file"):
        fedsynth.generate("champion", 3, tmp_path / "note.txt")
    with pytest.raises(UserError, match="there is no format"):
        fedsynth.generate("champion", 3, tmp_path / "new", format="gif")
    assert (tmp_path / "note.txt").read_text() == "mine"


def test_a_disk_without_room_is_said_before_anything_is_drawn(tmp_path):
    with pytest.raises(UserError, match=r"1000000\.0 GB are needed"), folder.unfinished(tmp_path / "out", 10**15):
        pytest.fail("yielded")
    assert list(tmp_path.iterdir()) == []


N = 24  # images of 256 x 256 pixels: what an exporter needs for itself is small beside one
BIG = tiny_params(image={"size": [256, 256]})


def peak_of(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """A set of N images as it lies on the disk, mapped."""
    root = tmp_path_factory.mktemp("big")
    images = np.random.default_rng(0).uniform(-1, 1, (N, 3, *BIG.image.size)).astype(np.float32)
    images[:, 2] = np.where(images[:, 2] > 0, 1, -1)
    made = synthetic(BIG, images, np.arange(N) % 2 + 1, "vae", "abc")
    manifest.write(root, made.manifest, images)
    return root, ImageSet(made.manifest, np.load(root / manifest.ARRAY, mmap_mode="r"))


def test_drawing_holds_a_part_in_memory_and_not_the_set(tmp_path, monkeypatch):
    params = tiny_params(image={"size": [64, 64]})
    trained(tmp_path, params)
    monkeypatch.setattr(orders, "MOST", 4)
    found = released(tmp_path / "models" / "vae")
    wanted = orders.order(found, 100, "infiltrating", 0, None)
    sets = []
    peak = peak_of(lambda: sets.append(writing._drawn(found, wanted, tmp_path / "set", lambda *_: None)[0]))
    assert peak < sets[0].images.nbytes / 2, f"{peak / 1e6:.1f} MB of {sets[0].images.nbytes / 1e6:.1f} MB"


@pytest.mark.parametrize("name", formats.names())
def test_an_exporter_holds_few_images_in_memory_and_not_the_set(big, tmp_path, name):
    some = ImageSet(big[1].manifest[:12], big[1].images[:12])
    exporter = formats.exporter(name)
    writing._try(exporter, orders.Order(BIG, np.zeros(1, int)), tmp_path / "empty")
    exporter.write(ImageSet(some.manifest[:1], some.images[:1]), BIG.image, tmp_path / "one")  # imports its packages
    peak = peak_of(lambda: exporter.write(some, BIG.image, tmp_path / "some"))
    assert peak < some.images.nbytes / 2, f"{peak / 1e6:.1f} MB of {some.images.nbytes / 1e6:.1f} MB"


def test_the_check_of_a_set_reads_one_image_after_the_other(big, monkeypatch):
    root, images = big
    frames = {}
    monkeypatch.setattr(expectations.Report, "run", lambda self, part, frame, listed: frames.update({part: frame}))
    report = expectations.Report(BIG)
    rows = report.read(root)
    peak = peak_of(lambda: report.images(root, rows))
    assert (frames["images"]["stored_sha256"] == images.manifest["sha256"]).all()
    assert peak < images.images.nbytes / 2, f"{peak / 1e6:.1f} MB of {images.images.nbytes / 1e6:.1f} MB"
