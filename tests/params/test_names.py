"""Keys of names are safe and differ as their texts do; texts that cannot be names are refused; gates take both."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fedsynth.params import Image, Params, ParamsError, load, names
from fedsynth.params.gates import meant, parse
from fedsynth.worth.gates import Known, evaluate
from tests.sets import tiny_params

ODD = ["St. Mary's Hospital", "a/b", "../../../x", "Zürich", "βγ", "50 %", "server", "localhost", "-x", ".", "..",
       "x" * 99, "north ", 'say "x"', "C:\\data", "$HOME", "[bold]", "a@b", "a, b", "a\u00a0b", "~", "*"]  # fmt: skip


@pytest.mark.parametrize("text", ["north", "site-1", "T1_ce", "NORTH", "7", "_x"])
def test_a_safe_name_is_its_own_key(text):
    assert names.key(text) == text


@pytest.mark.parametrize("text", ODD)
def test_the_key_of_any_other_text_is_a_safe_name(text):
    key = names.key(text)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}", key)
    assert key != text
    assert names.key(key) == key == names.key(text)


def test_a_key_can_be_read():
    assert names.key("St. Mary's Hospital").startswith("st-mary-s-hospital-")
    assert names.key("Müller & Straße").startswith("muller-strasse-")


def test_keys_of_many_texts_are_all_different():
    texts = [f"{a}{b}{c}" for a in ODD for b in (" ", "/", ".", "'") for c in ODD]
    assert len({names.key(text) for text in texts}) == len(set(texts))


@given(st.text(max_size=120))
def test_no_text_has_a_key_that_leads_anywhere_else(text):
    assert names.SAFE.fullmatch(names.key(text))
    assert names.key(text).lower() not in names.RESERVED


def test_both_ways_to_write_an_umlaut_are_one_name():
    assert names.key("Zu\u0308rich") == names.key("Z\u00fcrich")


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "empty"), (" \t", "empty"), ("a\nb", "U\\+000A"), ("a\u202eb", "U\\+202E"), ("a\ud800", "U\\+D800"),
     ("x" * 201, "201 characters"), (7, "in quotes"), (True, "yes, true and on .* in quotes"), (None, "in quotes"),
     ("worst_site", "no site may have this name"), ("all", "no site may have this name")],
)  # fmt: skip
def test_what_cannot_name_a_site_is_refused_with_the_reason(text, said):
    with pytest.raises(ParamsError, match=said):
        names.keys(["north", text])


@pytest.mark.parametrize("other", ["NORTH", "north ", " north", "ｎorth"])
def test_two_sites_that_people_take_for_one_are_refused(other):
    with pytest.raises(ParamsError, match=r"'north' and .* differ only in"):
        names.keys(["north", other])


def test_a_site_is_found_by_its_name_and_by_its_key():
    texts = ["north", "St. Mary's Hospital"]
    assert names.find("St. Mary's Hospital", texts) == names.find(names.key("St. Mary's Hospital"), texts) == texts[1]
    assert names.find("east", texts) is None


def test_what_flare_says_of_a_key_is_told_with_the_name():
    key = names.key("St. Mary's Hospital")
    said = {key: [f"site {key}: failed", f"/data/{key}/log.txt"], "north": {"n": 3}}
    assert names.told(said, {key: "St. Mary's Hospital", "north": "north"}) == {
        "St. Mary's Hospital": ["site St. Mary's Hospital: failed", f"/data/{key}/log.txt"],  # a path stays one
        "north": {"n": 3},
    }


def raw(**changes):
    said = tiny_params().model_dump(mode="json")
    for path, value in changes.items():
        *above, last = path.split("__")
        at = said
        for part in above:
            at = at[part]
        at[last] = value
    return said


def test_labels_are_any_text_and_whole_numbers_are_their_digits():
    labels = ["basal cell carcinoma", "Ductal (in situ), G2", "Müller/β 50%", "it's"]
    assert Image(size=(8, 8), channels={"x": "image"}, labels=labels).labels == labels
    assert Image(size=(8, 8), channels={"x": "image"}, labels=[0, 1], empty_labels=[0]).labels == ["0", "1"]


def test_yes_and_no_as_labels_are_answered_with_quotes(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("image: {size: [8, 8], channels: {x: image}, labels: [yes, no]}\n", encoding="utf-8")
    with pytest.raises(ParamsError, match=r"image\.labels.*YAML reads yes, true and on .* put the name in quotes"):
        load(path)


@pytest.mark.parametrize("name", ["../x", "..", ".", "a/b", "/x", "", "a b", "é", "x" * 99, "a\nb", "-x"])
@pytest.mark.parametrize("place", ["image__channels", "models", "score__uses", "score__measures", "sample__exporters"])
def test_a_channel_model_use_measure_or_exporter_that_would_lead_elsewhere_is_refused(place, name):
    block = {"class_path": "fedsynth.exporters.png.PNG", "args": {}}
    value = "image" if place == "image__channels" else raw()["models"]["vae"] if place == "models" else block
    with pytest.raises(ValidationError, match=r"file names|becomes a folder"):
        Params.model_validate(raw(**{place: {name: value}}))


NUMBERS = {"c/sensitivity.basal cell carcinoma": 0.9, "fid@St. Mary's Hospital": 2.0, "fid@worst_site": 2.0, "fid": 1.5,
           "c/sensitivity.a@b": 0.7}  # fmt: skip


@pytest.mark.parametrize(
    "gate",
    ["c/sensitivity.basal cell carcinoma >= 0.8", "fid@St. Mary's Hospital <= 3", "fid@worst_site <= 3",
     f"c/sensitivity.{names.key('basal cell carcinoma')} >= 0.8", f"fid@{names.key(ODD[0])} <= 3",
     f"c/sensitivity.{names.key('a@b')} >= 0.5"],
)  # fmt: skip
def test_a_gate_names_labels_and_sites_by_text_or_by_key(gate):
    (judged,) = evaluate({"require": [gate]}, Known(NUMBERS))["gates"]
    assert judged["held"], judged["reason"]


def test_a_gate_on_a_site_that_is_not_there_is_missing():
    assert meant("fid@St. Mary", NUMBERS) == "fid@St. Mary"
    assert parse("fid@St. Mary's Hospital <= 3").site == "St. Mary's Hospital"
