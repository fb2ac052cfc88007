"""A patient withdraws: what goes, what stays, what is said, and what a second call makes of an interrupted one."""

from __future__ import annotations

import re
import shutil
import stat
import threading
from pathlib import Path

import numpy as np
import pytest

from fedsynth.data import manifest
from fedsynth.data.dataset import ImageSet
from fedsynth.hospital import audit, failures, forget, outgoing, pseudonyms, secret, trained, withdrawals
from fedsynth.settings import Settings
from tests.sets import make_set, tiny_params

ROOT = Path(__file__).parents[2]
PARAMS = tiny_params()
MADE = {
    "train": "vae-0123456789abcdef.pt",
    "reference": "local-0123.safetensors",
    "audit": "vae/pairs.png",
    "look": "index.html",
    "validation": "index.html",
    "running": "0123",
    "answers": "0123.json",
}


@pytest.fixture
def hospital(tmp_path, monkeypatch):
    """A site `north` with 24 images, and with one file of each kind that is made from images."""
    for name in ("FEDSYNTH_ROOT", "FEDSYNTH_FEDERATION", "FEDSYNTH_IMAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FEDSYNTH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FEDSYNTH_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    make_set(tmp_path / "data/north", PARAMS, n=24)
    make_set(tmp_path / "data/east", PARAMS, site="east", n=12)
    for folder, name in MADE.items():
        for site in ("north", "east"):
            path = tmp_path / "state" / site / folder / name
            path.parent.mkdir(parents=True)
            path.write_text("made from images")
    for name in ("policy.yaml", "notes.txt"):
        (tmp_path / "state/north" / name).write_text("a person's")
    return tmp_path


def north(hospital):
    return forget.site_of(Settings.read(), "north")


def rows(hospital):
    return manifest.read(hospital / "data/north")


def subjects(hospital):
    return sorted(set(rows(hospital)["subject"]))


def does(hospital, *names):
    found = forget.plan(north(hospital), list(names))
    forget.carry_out(found)
    return found


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_their_rows_and_pixels_are_gone_and_all_others_are_as_they_were(hospital):
    before, (one, other, *_) = ImageSet.load(hospital / "data/north"), subjects(hospital)
    keep = ~before.manifest["subject"].isin([one, other]).to_numpy()
    assert does(hospital, one, other).images == (~keep).sum() > 1
    left = ImageSet.load(hospital / "data/north")
    np.testing.assert_array_equal(left.images, before.images[keep])
    assert list(left.manifest["image_id"]) == list(before.manifest["image_id"][keep])
    assert manifest.digest(left.manifest) != manifest.digest(before.manifest)
    assert one.encode() not in (hospital / "data/north/manifest.csv").read_bytes()


def test_all_that_was_made_from_images_is_gone_and_nothing_else(hospital):
    east = files(hospital / "state/east"), files(hospital / "data/east")
    does(hospital, subjects(hospital)[0])
    assert withdrawals.made(hospital / "state/north") == []
    for name in ("policy.yaml", "notes.txt"):
        assert (hospital / "state/north" / name).read_text() == "a person's"
    assert (files(hospital / "state/east"), files(hospital / "data/east")) == east


def test_every_folder_that_a_job_writes_at_the_site_is_known(hospital):
    """A new folder of a site's state must be decided upon: is it made from images, or kept, and why?"""
    found = set()
    for path in [p for folder in ("fedsynth", "nvflare_jobs") for p in (ROOT / folder).rglob("*.py")]:
        found |= set(re.findall(r"(?:site|self|own)\.state / \"([a-z]+)\"", path.read_text()))
    assert {"train", "reference", "audit", "validation"} <= found
    assert found <= set(withdrawals.MADE) | set(forget.KEPT)


def test_no_file_that_is_kept_names_them_and_the_lists_are_the_owners_alone(hospital):
    trained.remember(hospital / "state/north", "vae", rows(hospital))
    one = subjects(hospital)[0]
    does(hospital, one)
    for path in (p for p in (hospital / "state/north").rglob("*") if p.is_file()):
        assert one.encode() not in path.read_bytes(), path
    for name in (withdrawals.FORGOTTEN, withdrawals.WITHDRAWN, "trained/models"):
        assert stat.S_IMODE((hospital / "state/north" / name).stat().st_mode) == 0o600
    assert one in withdrawals.forgotten(hospital / "state/north")
    assert not trained.knows(hospital / "state/north", one), "their mark is gone from the lists of sets"
    assert trained.knows(hospital / "state/north", subjects(hospital)[0])


def test_the_set_that_held_them_is_withdrawn_with_those_that_models_were_trained_with(hospital):
    state, (one, other, *_) = hospital / "state/north", subjects(hospital)
    first = manifest.digest(rows(hospital))
    trained.remember(state, "vae", rows(hospital))
    make_set(hospital / "data/north", PARAMS, n=30, seed=5)
    second = manifest.digest(rows(hospital))
    trained.remember(state, "gan", rows(hospital))
    trained.remember(state, "gan", rows(hospital))
    make_set(hospital / "data/north", PARAMS, n=6, seed=6, subject="somebody else")
    trained.remember(state, "ddpm", rows(hospital))
    third = manifest.digest(rows(hospital))
    found = does(hospital, one)
    assert (found.images, found.digests) == (0, sorted([first, second]))
    assert sorted(withdrawals.withdrawn(state)) == sorted([first, second])
    told = [line.partition(" (")[0] for line in found.models]
    assert told == ["vae", "gan"], "each once, and not the one that never saw them"
    assert third not in withdrawals.withdrawn(state)
    assert does(hospital, other).models, "another patient of the same sets"


def test_the_record_has_a_line_for_it_without_a_name_and_a_damaged_one_holds_nothing_up(hospital):
    one, other, *_ = subjects(hospital)
    digest, found = manifest.digest(rows(hospital)), does(hospital, one)
    (entry,) = audit.entries(hospital / "state/north")
    assert (entry["what"], entry["sets"]) == ("withdrawn", [digest])
    assert f"1 patients, {found.images} images" in audit.row(entry)[audit.COLUMNS.index("left")]
    assert one not in audit.page("north", [entry])
    (hospital / "state/north/record.jsonl").write_text("{}\n")
    found = does(hospital, other)
    assert "the record, which this could not be written to" in found.kept[-1]
    assert other not in subjects(hospital)


def test_a_set_that_nobody_has_trained_with_is_withdrawn_too(hospital):
    digest = manifest.digest(rows(hospital))
    does(hospital, subjects(hospital)[0])
    assert withdrawals.withdrawn(hospital / "state/north") == [digest]


def test_an_unknown_subject_is_an_error_that_names_nobody_else_and_changes_nothing(hospital):
    before, (one, *_) = files(hospital), subjects(hospital)
    wrong = one[:-1] + "x"
    with pytest.raises(forget.ForgetError) as error:
        does(hospital, one, wrong)
    assert repr(wrong) in str(error.value)
    assert "--list shows" in str(error.value)
    assert not any(name in str(error.value) for name in subjects(hospital))
    with pytest.raises(forget.ForgetError, match=one):
        forget.plan(north(hospital), [wrong], show=True)
    assert files(hospital) == before


@pytest.mark.parametrize("named", [[], [""], ["  "], ["north-subject-0-000", ""]])
def test_nobody_is_meant_by_no_name(hospital, named):
    make_set(hospital / "data/north", PARAMS, n=24, subject=["", *["p"] * 23])
    before = files(hospital)
    with pytest.raises(forget.ForgetError, match="no subject was named"):
        does(hospital, *named)
    assert files(hospital) == before


def test_a_site_that_is_not_there_is_answered_with_those_that_are(hospital):
    with pytest.raises(forget.ForgetError, match=r"there is no site 'weast': .* holds east, north"):
        forget.site_of(Settings.read(), "weast")
    (hospital / "data").rename(hospital / "elsewhere")
    assert forget.site_of(Settings.read(), "north").name == "north", "its state is there"


def test_a_name_with_an_accent_is_one_however_it_is_written(hospital):
    make_set(hospital / "data/north", PARAMS, n=24, subject=["Mu\u0308ller", *["p"] * 23])
    assert does(hospital, "M\u00fcller").images == 1
    assert "M\u00fcller" in withdrawals.forgotten(hospital / "state/north")


def test_a_second_call_is_no_error_and_changes_nothing(hospital):
    one = subjects(hospital)[0]
    does(hospital, one)
    before = files(hospital)
    found = does(hospital, one)
    assert (found.images, found.digests, found.removed) == (0, [], [])
    assert files(hospital) == before


STEPS = ("record", "sweep", "take_out", "drop")


@pytest.mark.parametrize("step", STEPS)
def test_an_interrupted_call_is_completed_by_a_second_one(hospital, monkeypatch, step):
    trained.remember(hospital / "state/north", "vae", rows(hospital))
    one, digest = subjects(hospital)[0], manifest.digest(rows(hospital))
    places = {"record": withdrawals, "sweep": withdrawals, "take_out": forget.removal, "drop": trained}

    def cut(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(places[step], step, cut)
        with pytest.raises(KeyboardInterrupt):
            does(hospital, one)
    does(hospital, one)
    assert one not in subjects(hospital)
    assert withdrawals.made(hospital / "state/north") == []
    assert withdrawals.withdrawn(hospital / "state/north") == [digest]
    assert one in withdrawals.forgotten(hospital / "state/north")
    assert not trained.knows(hospital / "state/north", one)
    ImageSet.load(hospital / "data/north")


def test_two_calls_at_once_lose_nobody(hospital):
    some = subjects(hospital)[:6]
    calls = [threading.Thread(target=does, args=(hospital, name)) for name in some]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert all(name in withdrawals.forgotten(hospital / "state/north") for name in some)
    assert not set(some) & set(subjects(hospital))
    ImageSet.load(hospital / "data/north")


def test_a_link_in_the_state_is_removed_and_what_it_leads_to_is_not(hospital):
    (hospital / "elsewhere").mkdir()
    (hospital / "elsewhere/page.html").write_text("mine")
    shutil.rmtree(hospital / "state/north/look")
    (hospital / "state/north/look").symlink_to(hospital / "elsewhere")
    does(hospital, subjects(hospital)[0])
    assert not (hospital / "state/north/look").is_symlink()
    assert (hospital / "elsewhere/page.html").read_text() == "mine"


def test_a_damaged_list_is_not_taken_for_an_empty_one(hospital):
    one, other, *_ = subjects(hospital)
    does(hospital, one)
    path = hospital / "state/north" / withdrawals.FORGOTTEN
    for text in ("", "key xyz\n", path.read_text()[:-5], "key " + "0" * 64 + "\nnorth-subject\n"):
        path.write_text(text)
        with pytest.raises(pseudonyms.ListError, match="is damaged"):
            does(hospital, other)


def test_it_says_what_is_removed_kept_and_why_and_what_is_not_taken_back(hospital):
    trained.remember(hospital / "state/north", "vae", rows(hospital))
    found = forget.plan(north(hospital), subjects(hospital)[:1])
    said = forget.words(found, Settings.read(), done=False)
    for name in MADE:
        assert f"{hospital / 'state/north' / name}: " in said
    for part in (
        "policy.yaml: what the hospital allows",
        "notes.txt: not known to this command",
        "kept:",
        "not taken back:",
        "synthetic sets",
        "models that were trained with them:\n  - vae (20",
        "A job is running here, or died: stop the site's FLARE client first",
        "at the source",
        "kit/<job id>/",
    ):
        assert part in said
    forget.carry_out(found)
    assert "removed:" in forget.words(found, Settings.read(), done=True)


def test_a_model_of_which_only_a_state_is_here_is_named_too(hospital):
    assert forget.plan(north(hospital), subjects(hospital)[:1]).models == ["vae (a state of its training is here)"]


def test_a_folder_that_cannot_be_written_to_is_said_with_what_to_do(hospital, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(forget.removal, "take_out", full)
        with pytest.raises(forget.ForgetError, match=r"No space left on device; mend that and give the same command"):
            does(hospital, subjects(hospital)[0])
    does(hospital, subjects(hospital)[0])


def test_what_a_job_that_runs_meanwhile_has_written_is_removed_and_nothing_of_it_leaves(hospital):
    state = hospital / "state/north"
    began = withdrawals.stamp(state)
    withdrawals.unchanged(state, began)
    one, other, *_ = subjects(hospital)
    does(hospital, one)
    (state / "train").mkdir()
    (state / "train/vae-0.pt").write_text("of images that it had in its memory")
    with pytest.raises(withdrawals.Withdrawn) as error:
        withdrawals.unchanged(state, began)
    assert withdrawals.made(state) == []
    assert failures.word(error.value) == "not_validated"
    began = withdrawals.stamp(state)
    does(hospital, other)
    with pytest.raises(withdrawals.Withdrawn):
        withdrawals.unchanged(state, began)


def test_the_centre_is_told_digests_and_nothing_else(hospital):
    one, state = subjects(hospital)[0], hospital / "state/north"
    digest = secret.keyed(state, manifest.digest(rows(hospital)))  # as the centre knows the set
    does(hospital, one)
    gone = withdrawals.told(state)
    assert outgoing.leave("look", {"digest": digest, "withdrawn": gone}, ["none"]) == {
        "digest": digest,
        "withdrawn": [digest],
    }
    assert outgoing.leave("look", {"digest": digest}, ["none"]) == {"digest": digest}
    for wrong in ([one], [""], [digest[:-1]], [digest.upper()], [digest + "\n"], [digest] * 65, digest, [1], None):
        with pytest.raises(outgoing.LeakError) as error:
            outgoing.leave("look", {"digest": digest, "withdrawn": wrong}, ["none"])
        assert one not in str(error.value)


def test_no_more_digests_leave_at_once_than_an_answer_may_hold_and_a_person_is_told(hospital):
    state = hospital / "state/north"
    many = [f"{i:064x}" for i in range(70)]
    withdrawals.record(state, ["p"], many)
    assert withdrawals.told(state) == [secret.keyed(state, digest) for digest in many[6:]]
    outgoing.leave("look", {"digest": "", "withdrawn": withdrawals.told(state)})
    found = forget.plan(north(hospital), subjects(hospital)[:1])
    found.digests = many
    assert "send it" in forget.words(found, Settings.read(), done=True)


def test_lists_are_of_keys_of_their_own_and_tell_no_name(tmp_path):
    one, other = pseudonyms.Pseudonyms(), pseudonyms.Pseudonyms()
    assert one.mark("p-017") != other.mark("p-017")
    one.add(["p-017"])
    one.write(tmp_path / "list")
    back = pseudonyms.Pseudonyms.read(tmp_path / "list")
    assert ("p-017" in back, "p-018" in back) == (True, False)
    assert "p-017" not in (tmp_path / "list").read_text()


def test_a_list_of_files_that_an_ingest_was_killed_over_goes_too(tmp_path):
    """It is hashes of rows, names among them, with no key: of a name one could ask whether it is in it."""
    cut, other = tmp_path / "ingested.4242.part", tmp_path / "policy.yaml"
    cut.write_text("{")
    other.write_text("")
    assert withdrawals.made(tmp_path) == [cut]
    withdrawals.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [other]
