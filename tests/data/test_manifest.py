"""The manifest: hashes that mean what they say, a table that comes back as it went."""

import numpy as np
import pandas as pd
import pytest

from fedsynth.data import manifest
from tests.sets import make_set, rewrite, tiny_params


def test_sha256_tells_apart_value_shape_and_type():
    array = np.arange(6, dtype=np.float32)
    others = [array + 1, array.reshape(2, 3), array.astype(np.float64)]
    assert len({manifest.sha256(a) for a in [array, *others]}) == 4
    assert manifest.sha256(array.reshape(2, 3).T.copy()) == manifest.sha256(array.reshape(2, 3).T)


def test_a_written_table_reads_back_with_the_same_digest(tmp_path):
    written = make_set(tmp_path, tiny_params(), n=12).manifest
    read = manifest.read(tmp_path)
    pd.testing.assert_frame_equal(read, written)
    assert manifest.digest(read) == manifest.digest(written) == manifest.digest(read.sample(frac=1, random_state=0))


def test_the_digest_changes_with_one_cell(tmp_path):
    params = tiny_params()
    before = manifest.digest(make_set(tmp_path, params, n=12).manifest)
    rewrite(tmp_path, 3, label=params.image.labels[-1] if 3 % len(params.image.labels) == 0 else params.image.labels[0])
    assert manifest.digest(manifest.read(tmp_path)) != before


def test_a_label_named_none_or_na_stays_text(tmp_path):
    make_set(tmp_path, tiny_params(), n=6, label=["none", "NA", "null", "", "nan", "1"])
    assert manifest.read(tmp_path)["label"].tolist() == ["none", "NA", "null", "", "nan", "1"]


def test_an_empty_table_has_all_columns_and_types(tmp_path):
    empty = manifest.frame([])
    manifest.write(tmp_path, empty, np.zeros((0, 3, 8, 8)))
    assert list(manifest.read(tmp_path).columns) == list(manifest.COLUMNS)
    assert len(manifest.digest(empty)) == 64


def test_a_missing_folder_says_what_to_do(tmp_path):
    with pytest.raises(manifest.SetError, match="ingest"):
        manifest.read(tmp_path / "nowhere")


def test_a_missing_column_is_named(tmp_path):
    make_set(tmp_path, tiny_params(), n=6)
    table = pd.read_csv(tmp_path / manifest.FILE).drop(columns="sha256")
    table.to_csv(tmp_path / manifest.FILE, index=False)
    with pytest.raises(manifest.SetError, match="sha256"):
        manifest.read(tmp_path)
