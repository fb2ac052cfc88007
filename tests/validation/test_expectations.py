"""Each way in which a set can be wrong fails the one expectation that is about it, and names its row and file."""

import json
import re
import resource
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

from fedsynth.data import manifest
from fedsynth.stages.ingest import ingest_site
from fedsynth.validation import expectations, look, rules, verdict_page
from fedsynth.validation.hints import HINTS
from fedsynth.validation.verdict import Failure, Verdict
from tests.sets import make_set, rewrite, tiny_params


def validate(folder, params=None, docs=None):
    return expectations.validate(folder, params or tiny_params(), "north", docs)


def only_failure(verdict):
    assert not verdict.passed
    assert [f.expectation for f in verdict.failures] == [verdict.failures[0].expectation]
    return verdict.failures[0]


def about(failure):
    return failure.expectation, failure.rows, failure.files


def named(*places):
    return [f"north-{i:05d}" for i in places], [f"images/scan_{i:05d}.png" for i in places]


def draw_over(folder, place, array):
    """Put another image (C, *S) in a place, with a manifest that is true of it."""
    table, images = manifest.read(folder), np.load(folder / manifest.ARRAY)
    images[place] = array
    manifest.write(folder, table, images)
    true = manifest.row(2, images[place])
    rewrite(folder, place, **{c: true[c] for c in ("sha256", "mask_sha256", "min", "max", "mean", "std", "mask_area")})


@pytest.fixture
def folder(tmp_path):
    make_set(tmp_path / "north", tiny_params(), n=30)
    return tmp_path / "north"


@pytest.mark.parametrize(
    "image", [{"size": [16, 16]}, {"size": [8, 8, 8]}, {"channels": {"us": "image"}, "empty_labels": []}]
)
def test_a_good_set_passes_in_2d_in_3d_and_without_masks(tmp_path, image):
    params = tiny_params(image=image)
    made = make_set(tmp_path, params, n=30)
    verdict = validate(tmp_path, params)
    assert verdict.passed, verdict.message()
    assert not verdict.warnings
    assert verdict.digest == manifest.digest(made.manifest)
    assert verdict.images == 30
    assert verdict.counts["none"] == {"train": 6, "val": 2, "test": 2}
    assert "passed" in verdict.message()


def test_every_expectation_has_a_name_that_may_leave_and_a_hint():
    params = tiny_params(expectations={"max_resolution_loss": 2.0})
    listed = [*rules.of_table(), *rules.of_images(params), *rules.of_cells()]
    assert {rule.name for rule in listed} | {"columns of the manifest"} == set(HINTS)


def test_a_file_that_cannot_be_read(folder):
    rewrite(
        folder,
        7,
        problem="scan_00007.png cannot be read: broken data stream",
        sha256="",
        mask_sha256="",
        min=0,
        max=0,
        std=0,
    )
    failure = only_failure(validate(folder))
    assert about(failure) == ("files can be read", *named(7))
    assert failure.values == ["scan_00007.png cannot be read: broken data stream"]


def test_an_image_without_a_mask_needs_none_if_its_label_says_so(folder):
    rewrite(folder, 0, mask_shape="")
    assert validate(folder).passed


def test_an_unknown_label(folder):
    rewrite(folder, 2, label="meningioma?")
    verdict = validate(folder)
    assert about(only_failure(verdict)) == ("known labels", *named(2))
    assert only_failure(verdict).values == ["meningioma?"]
    assert "meningioma?" not in json.dumps(verdict.outgoing(1))


def test_a_duplicate_names_both_rows(folder):
    images = np.load(folder / manifest.ARRAY)
    draw_over(folder, 5, images[8])
    failure = only_failure(validate(folder))
    assert about(failure) == ("unique hashes", *named(5, 8))
    assert failure.values == [
        "same pixels as north-00008 (images/scan_00008.png)",
        "same pixels as north-00005 (images/scan_00005.png)",
    ]


def test_an_empty_site(tmp_path):
    make_set(tmp_path, tiny_params(), n=0)
    verdict = validate(tmp_path)
    failure = only_failure(verdict)
    assert about(failure) == ("at least one image", [], [])
    assert failure.values == ["0 rows"]
    assert verdict.images == 0


def test_a_subject_in_two_splits_names_all_its_images(folder):
    subject = manifest.read(folder)["subject"]
    assert subject[0] == subject[3]
    rewrite(folder, 3, split="test")
    failure = only_failure(validate(folder))
    assert about(failure) == ("each subject in one split", *named(0, 3))
    assert failure.values == [f"subject {subject[0]} in test, train"] * 2


@pytest.mark.parametrize("channel", [1, 2], ids=["image", "mask"])
def test_tampered_pixels(folder, channel):
    images = np.load(folder / manifest.ARRAY)
    images[9, channel, 3, 3] *= -1
    np.save(folder / manifest.ARRAY, images)
    assert about(only_failure(validate(folder))) == ("pixels match the manifest", *named(9))


@pytest.mark.parametrize("what", ["gone", "short", "cut off"])
def test_an_array_that_does_not_fit_the_manifest(folder, what):
    path = folder / manifest.ARRAY
    if what == "short":
        np.save(path, np.load(path)[:-1])
    elif what == "cut off":
        path.write_bytes(path.read_bytes()[:-1000])
    else:
        path.unlink()
    failure = only_failure(validate(folder))
    assert failure.expectation == "pixels match the manifest"
    assert failure.count == 1


def test_a_missing_column(folder):
    pd.read_csv(folder / manifest.FILE).drop(columns=["subject", "std"]).to_csv(folder / manifest.FILE, index=False)
    verdict = validate(folder)
    failure = only_failure(verdict)
    assert failure.expectation == "columns of the manifest"
    assert "['subject', 'std']" in failure.values[0]
    assert verdict.digest == ""


def test_a_column_that_is_not_of_the_manifest(folder):
    table = manifest.read(folder).assign(patient_name="Mueller")
    table.to_csv(folder / manifest.FILE, index=False)
    failure = only_failure(validate(folder))
    assert failure.expectation == "columns of the manifest"
    assert "patient_name" in failure.values[0]


@pytest.mark.parametrize("broken", ["gone", "a word in a column of numbers", "empty"])
def test_a_manifest_that_cannot_be_read(folder, broken):
    path = folder / manifest.FILE
    table = manifest.read(folder).astype({"mask_area": str})
    table.loc[3, "mask_area"] = "many"
    if broken == "gone":
        path.unlink()
    elif broken == "empty":
        path.write_text("")
    else:
        table.to_csv(path, index=False)
    assert only_failure(validate(folder)).expectation == "columns of the manifest"


def test_a_blank_image_names_the_channel_though_the_other_is_not(folder):
    for place, channel in ((6, 0), (7, 1)):
        image = np.load(folder / manifest.ARRAY)[place]
        image[channel] = -0.5
        draw_over(folder, place, image)
    failure = only_failure(validate(folder))
    assert about(failure) == ("no blank image", *named(6, 7))
    assert failure.values == ["t1 is constant", "t2 is constant"]


def test_a_channel_that_may_lack_may_be_blank_and_another_may_not(folder):
    image = np.load(folder / manifest.ARRAY)[6]
    image[1] = -1
    draw_over(folder, 6, image)
    assert only_failure(validate(folder)).expectation == "no blank image"
    assert validate(folder, tiny_params(image={"may_lack": ["t2"]})).passed


@pytest.mark.parametrize("value", [1.5, np.nan])
def test_intensities_out_of_range_or_not_finite(folder, value):
    image = np.load(folder / manifest.ARRAY)[6]
    image[0, 2, 2] = value
    draw_over(folder, 6, image)
    failures = {f.expectation: f for f in validate(folder).failures}
    assert about(failures["finite intensities in [-1, 1]"]) == ("finite intensities in [-1, 1]", *named(6))
    assert failures["finite intensities in [-1, 1]"].count == 1  # though several columns say so
    assert set(failures) <= {"finite intensities in [-1, 1]", "no blank image"}  # a channel with NaN has no deviation


def test_too_few_images_of_a_class(folder):
    params = tiny_params(expectations={"min_images": {"train": 6, "test": 3}})
    failure = only_failure(validate(folder, params))
    assert failure.expectation == "enough images of each class and split"
    assert failure.values == [f"{label} in test: 2 images, at least 3 are asked for" for label in params.image.labels]
    assert failure.rows == failure.files == []


def test_a_class_that_is_not_there_at_all(tmp_path):
    params = tiny_params()
    make_set(tmp_path, params, n=30)
    two = tiny_params(image={"labels": [*params.image.labels, "abscess"]})
    assert only_failure(validate(tmp_path, two)).values == [
        f"abscess in {split}: 0 images, at least {n} are asked for"
        for split, n in params.expectations.min_images.items()
    ]


def test_a_class_that_a_site_need_not_have(tmp_path):
    """A class with no image at all is allowed then; one with a few is still too small."""
    params = tiny_params(expectations={"every_class": False})
    make_set(tmp_path, params, n=30)
    more = tiny_params(image={"labels": [*params.image.labels, "abscess"]}, expectations={"every_class": False})
    assert validate(tmp_path, more).failures == []
    rewrite(tmp_path, 0, label="abscess")
    found = {f.expectation: f.values for f in validate(tmp_path, more).failures}
    assert any(
        value.startswith("abscess in test: 0 images") for value in found["enough images of each class and split"]
    )


def test_a_mask_that_does_not_match_its_label(folder):
    for place, mask in ((0, 1.0), (1, -1.0)):
        image = np.load(folder / manifest.ARRAY)[place]
        image[2] = mask
        draw_over(folder, place, image)
    failure = only_failure(validate(folder))
    assert failure.expectation == "masks match their label"
    assert set(zip(failure.rows, failure.values, strict=True)) == {
        ("north-00000", "none with 256 mask pixels"),
        ("north-00001", "infiltrating with 0 mask pixels"),
    }
    # where no label is said to have none, there is no such rule
    assert validate(folder, tiny_params(image={"empty_labels": []})).passed


def test_a_mask_of_other_values(folder):
    image = np.load(folder / manifest.ARRAY)[1]
    image[2, 0, 0] = 0.5
    draw_over(folder, 1, image)
    assert about(only_failure(validate(folder))) == ("masks are -1 or 1", *named(1))


def test_cells_that_are_not_as_configured(folder):
    """Four subjects with a fault each, in all their images, so that they stay in one split."""
    subject = manifest.read(folder)["subject"]
    faults = {0: ("split", "holdout"), 1: ("origin", "imagined"), 2: ("modality", "t1+flair"), 12: ("shape", "32x32")}
    for first, (column, value) in faults.items():
        for place in subject.index[subject == subject[first]]:
            rewrite(folder, int(place), **{column: value})
    found = {f.expectation: (f.rows, set(f.values)) for f in validate(folder).failures}
    assert found == {
        "known splits": (named(0, 3)[0], {"holdout"}),
        "known origin": (named(1, 4)[0], {"imagined"}),
        "modality as configured": (named(2, 5)[0], {"t1+flair"}),
        "shape as configured": (named(12, 15)[0], {"32x32"}),
    }


def test_images_of_another_size_than_params_say(folder):
    verdict = validate(folder, tiny_params(image={"size": [32, 32]}))
    assert only_failure(verdict).expectation == "shape as configured"
    assert only_failure(verdict).count == 31  # the array and each row


def test_an_image_id_that_is_there_twice(folder):
    rewrite(folder, 13, image_id="north-00012")
    failure = only_failure(validate(folder))
    assert (failure.expectation, failure.rows, failure.files) == (
        "unique image ids",
        ["north-00012"] * 2,
        named(12, 13)[1],
    )


def test_what_was_doubtful_on_reading_is_a_warning_with_its_words(folder):
    rewrite(folder, 4, warning="m4.jpg has 80 values; marked is what lies above 127.5")
    verdict = validate(folder)
    assert verdict.passed
    (warning,) = verdict.warnings
    assert about(warning) == ("nothing doubtful on reading", *named(4))
    assert warning.values == ["m4.jpg has 80 values; marked is what lies above 127.5"]
    assert "fedsynth look" in warning.hint
    assert "m4.jpg" not in json.dumps(verdict.outgoing(1))


def forget_mask(folder, place):
    """Make the mask of an image unknown: 0 throughout, and named in `lacks`."""
    image = np.load(folder / manifest.ARRAY)[place]
    image[2] = 0
    draw_over(folder, place, image)
    rewrite(folder, place, lacks="lesion", mask_shape="")


def test_an_unknown_mask_is_no_empty_one_and_only_a_warning(folder):
    """Row 1 is of a class with lesions: an empty mask there would fail."""
    forget_mask(folder, 1)
    verdict = validate(folder)
    assert verdict.passed, verdict.message()
    (warning,) = verdict.warnings
    assert about(warning) == ("masks are known", *named(1))
    assert "unmarked: healthy" in warning.hint


def test_a_mask_of_zeros_that_is_not_said_to_be_unknown_fails(folder):
    forget_mask(folder, 1)
    rewrite(folder, 1, lacks="")
    assert about(only_failure(validate(folder))) == ("masks match their label", *named(1))


def test_an_unknown_mask_asks_for_no_lesion_where_an_empty_one_does(folder):
    image = np.load(folder / manifest.ARRAY)[1]
    image[2] = -1
    draw_over(folder, 1, image)
    assert about(only_failure(validate(folder))) == ("masks match their label", *named(1))


def test_images_whose_modalities_lack_are_not_taken_for_unmarked(folder):
    rewrite(folder, 1, lacks="t2")
    assert not [
        w for w in validate(folder, tiny_params(image={"may_lack": ["t2"]})).warnings if "masks" in w.expectation
    ]


def test_warnings_do_not_fail_a_site(folder):
    rewrite(folder, 4, spacing_mm="3x1")
    rewrite(folder, 5, source_shape="64x64", mask_shape="64x64")
    rewrite(folder, 6, mean=0.9)
    verdict = validate(folder, tiny_params(expectations={"max_resolution_loss": 2.0}))
    assert verdict.passed
    found = {w.expectation: (w.rows, w.values) for w in verdict.warnings}
    assert found == {
        "similar spacing": (["north-00004"], ["3x1"]),
        "resolution kept": (["north-00005"], ["64x64 to 16x16"]),
        "usual mean intensity": (["north-00006"], ["0.9"]),
    }
    assert "1 image" not in verdict.message()
    assert verdict.message().count("warning: ") == 3


def test_spacing_that_only_some_images_tell_is_a_warning(folder):
    rewrite(folder, 4, spacing_mm="")
    assert [w.rows for w in validate(folder).warnings] == [["north-00004"]]


def test_a_synthetic_set_needs_training_images_only_and_only_of_the_classes_asked_for(tmp_path):
    params = tiny_params()
    make_set(tmp_path, params, n=12, origin="synthetic", split="train", model="vae/1", seed=1)
    assert validate(tmp_path, params).passed
    more = tiny_params(image={"labels": [*params.image.labels, "abscess"]})
    assert only_failure(validate(tmp_path, more)).values == ["abscess in train: 0 images, at least 2 are asked for"]
    asked = tiny_params(
        image={"labels": [*params.image.labels, "abscess"]}, sample={"balance": dict.fromkeys(params.image.labels, 1.0)}
    )
    assert validate(tmp_path, asked).passed


def test_a_real_set_without_test_images_does_not_pass_for_synthetic(tmp_path):
    make_set(tmp_path, tiny_params(), n=12, split="train")
    assert only_failure(validate(tmp_path)).expectation == "enough images of each class and split"


def test_several_faults_are_all_named_and_a_row_with_a_problem_only_once(folder):
    rewrite(folder, 1, problem="scan_00001.png is not there", label="?", shape="", max=2.0)
    rewrite(folder, 2, label="?")
    rewrite(folder, 3, max=1.5)
    assert [(f.expectation, f.count) for f in validate(folder).failures] == [
        ("files can be read", 1),
        ("known labels", 1),
        ("finite intensities in [-1, 1]", 1),
    ]


def test_a_site_where_no_file_can_be_read(tmp_path):
    make_set(tmp_path, tiny_params(), n=6, problem="not there")
    failures = {f.expectation: f.count for f in validate(tmp_path).failures}
    assert failures == {"files can be read": 6, "enough images of each class and split": 6}


def test_files_on_disk_come_to_the_same_verdict_by_way_of_ingest(tmp_path):
    """A corrupted PNG, a mask of another size and NaN in the body among good ones, through the source and ingest."""
    rng, lines = np.random.default_rng(1), ["image,mask,label,site,subject,modality"]
    for i in range(24):
        label, mask = ("none", "lesion")[i % 2], np.zeros((20, 20), np.uint8)
        mask[5:9, 5:9] = 255 * (i % 2)
        pixels = rng.integers(0, 255, (20, 20)).astype(np.uint8)
        Pillow.fromarray(pixels).save(tmp_path / f"i{i}.png")
        Pillow.fromarray(mask if i != 3 else mask[:10, :10]).save(tmp_path / f"m{i}.png")
        lines.append(f"i{i}.{'npy' if i in (7, 9) else 'png'},m{i}.png,{label},north,s{i},us")
    (tmp_path / "i5.png").write_bytes((tmp_path / "i5.png").read_bytes()[:100])
    broken, beyond = rng.random((2, 20, 20))
    broken[4, 4:8] = np.nan
    beyond[:4] = np.nan  # outside of the body: it touches the border
    np.save(tmp_path / "i7.npy", broken)
    np.save(tmp_path / "i9.npy", beyond)
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    params = tiny_params(
        source={"class_path": "fedsynth.sources.table.Table", "args": {"folder": str(tmp_path)}},
        image={"channels": {"us": "image", "mask": "mask"}, "labels": ["none", "lesion"]},
        expectations={"min_images": {"train": 1}},
    )
    ingest_site(params, params.source.build(image=params.image, seed=1), "north", tmp_path / "sets")
    verdict = validate(tmp_path / "sets" / "north", params)
    found = {name: f.expectation for f in verdict.failures for name in f.files}
    assert found == dict.fromkeys(("i3.png", "i5.png", "i7.npy"), "files can be read"), verdict.message()
    said = dict(zip(verdict.failures[0].files, verdict.failures[0].values, strict=True))
    assert "lies on another grid" in said["i3.png"]
    assert "4 values in the body that are no numbers" in said["i7.npy"]


def test_the_message_names_site_expectation_rows_files_values_and_what_to_do():
    failure = Failure(
        "known labels", "critical", 12, *([f"{c}{i}" for i in range(12)] for c in "rfv"), hint="correct the label"
    )
    text = Verdict("east", False, "", 40, [failure], [], {}, ["known labels"]).message()
    assert text.splitlines() == [
        "east: validation failed 1 of 1 expectations, 40 images, 0 warnings",
        "  failed: known labels (12)",
        *(f"    r{i}  f{i}  v{i}" for i in range(10)),
        "    and 2 more",
        "    -> correct the label",
    ]


def test_the_report_links_the_page_with_the_images_once_it_is_there(folder, tmp_path):
    for there in (False, True):
        validate(folder, docs=tmp_path / "site" / "validation")
        page = (tmp_path / "site" / "validation" / "index.html").read_text()
        assert ('href="../look/index.html"' in page) is there
        assert ("<code>fedsynth look</code>" in page) is not there
        look.write(folder, tiny_params(), tmp_path / "site" / "look")


def test_the_report_stays_readable_offline_and_tells_what_the_verdict_does(folder, tmp_path):
    rewrite(folder, 2, label="<script>alert(1)</script>")
    verdict = validate(folder, docs=tmp_path / "docs")
    page = (tmp_path / "docs" / "index.html").read_text()
    assert not re.search(r"https?://|<script|<link|@import|src=", page)
    assert "&lt;script&gt;alert(1)" in page
    assert all(
        text in page
        for text in ("north-00002", "images/scan_00002.png", verdict.digest, "validation failed", *verdict.checked)
    )
    assert json.loads((tmp_path / "docs" / "verdict.json").read_text()) == verdict.to_dict()
    assert (tmp_path / "docs" / "message.txt").read_text() == verdict.message() + "\n"
    raw = json.loads((tmp_path / "docs" / "gx_result.json").read_text())
    assert [part["success"] for part in (raw["table"], raw["images"], raw["cells"])] == [True, False, True]


def test_a_page_of_many_rows_is_cut_and_says_so():
    many = Failure("known labels", "critical", 70, *([f"{c}{i}" for i in range(70)] for c in "rfv"), hint="")
    page = verdict_page.render(Verdict("east", False, "", 70, [many], [], {}, ["known labels"]))
    assert "v49<" in page
    assert "v50<" not in page
    assert "and 20 more" in page


def test_what_leaves_of_a_failed_site_names_no_row_file_subject_or_value(folder):
    rewrite(folder, 2, label="canary-value", file="canary-file.png", image_id="canary-row")
    rewrite(folder, 3, subject="canary-subject", split="test", problem="canary-problem")
    verdict = validate(folder)
    assert "canary-file.png" in verdict.message()
    assert "canary" not in json.dumps(verdict.outgoing(1))


def test_a_validation_takes_less_than_six_seconds_of_processor_time(folder, monkeypatch):
    """The best of two: a busy machine only adds time."""
    (folder / "params.yaml").write_text(tiny_params().model_dump_json(exclude_defaults=True))
    command = [sys.executable, "-m", "fedsynth", "validate", str(folder), "--docs", str(folder / "docs")]
    monkeypatch.setenv("FEDSYNTH_ROOT", str(folder))
    taken = []
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(taken) < 6
