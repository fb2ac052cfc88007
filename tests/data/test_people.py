"""Sex and age become words of a closed list and bands, whoever has written them."""

import numpy as np
import pandas as pd
import pytest

from fedsynth.data import manifest
from fedsynth.data.people import band_of, sex_of
from fedsynth.data.record import Record
from fedsynth.params import Image
from fedsynth.sources import Source
from fedsynth.sources.table import Table
from fedsynth.stages.ingest import ingest_site
from tests.sets import tiny_params
from tests.tables import make_table


@pytest.mark.parametrize(("text", "sex"), [("F", "female"), (" male ", "male"), ("w", "female"), ("O", "other"),
                                           ("", ""), ("n/a", ""), ("Müller", "")])  # fmt: skip
def test_a_sex_is_one_of_three_words_or_unknown(text, sex):
    assert sex_of(text) == sex


@pytest.mark.parametrize(("text", "band"), [("0", "0-17"), ("17.9", "0-17"), ("18", "18-39"), ("063Y", "60-79"),
                                            ("011M", "0-17"), ("101", "80+"), ("", ""), ("1957-03-02", ""),
                                            ("999", ""), ("sixty", "")])  # fmt: skip
def test_an_age_is_a_band_of_years_or_unknown(text, band):
    assert band_of(text) == band


class One(Source):
    def sites(self):
        return ["north"]

    def records(self, site):
        plane = np.random.default_rng(0).uniform(size=(16, 16)).astype(np.float32)
        channels = {"t1": plane, "t2": plane, "lesion": np.zeros((16, 16), np.float32)}
        yield Record(channels, "none", "a", file="a", mask_shape=(16, 16), sex="F", age="063Y")


def test_ingest_keeps_the_word_and_the_band_and_not_the_age(tmp_path):
    rows = ingest_site(tiny_params(), One(), "north", tmp_path)
    assert rows[["sex", "age"]].to_numpy().tolist() == [["female", "60-79"]]
    text = (tmp_path / "north" / manifest.FILE).read_text()
    assert "063Y" not in text
    assert list(manifest.read(tmp_path / "north").columns) == list(manifest.COLUMNS)


def test_a_manifest_from_before_has_neither(tmp_path):
    ingest_site(tiny_params(), One(), "north", tmp_path)
    path = tmp_path / "north" / manifest.FILE
    pd.read_csv(path).drop(columns=["sex", "age"]).to_csv(path, index=False)
    assert manifest.read(tmp_path / "north")[["sex", "age"]].to_numpy().tolist() == [["", ""]]


def test_a_table_may_tell_both(tmp_path):
    make_table(tmp_path / "files", subjects=4)
    path = tmp_path / "files" / "manifest.csv"
    pd.read_csv(path).assign(sex="F", age=71).to_csv(path, index=False)
    image = Image(
        size=(16, 16), channels={"t1": {"image": "luminance", "of": ["rgb"]}, "lesion": "mask"}, labels=list("abc")
    )
    source = Table(image, 1, str(tmp_path / "files"))
    records = [record for site in source.sites() for record in source.records(site)]
    assert {(record.sex, record.age) for record in records} == {("F", "71")}
