"""Splits: by subject, class by class, and settled where a row or params.yaml says so."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsynth.data.manifest import SPLITS, SetError
from fedsynth.data.splits import assign
from fedsynth.params import Split
from fedsynth.params.names import key

HALF = Split(val=0.2, test=0.3)


def rows(*subjects, split=""):
    """Rows of (subject, label, how many images)."""
    listed = [{"subject": s, "label": label, "split": split} for s, label, n in subjects for _ in range(n)]
    return pd.DataFrame(listed, columns=["subject", "label", "split"])


def many(classes, images=1):
    return rows(*[(f"{label}{i}", label, images) for label, n in classes.items() for i in range(n)])


@given(
    st.lists(st.tuples(st.integers(0, 15), st.sampled_from("abc"), st.integers(1, 4)), min_size=1), st.integers(0, 99)
)
@settings(max_examples=60)
def test_two_images_of_one_patient_never_part(subjects, seed):
    table = rows(*[(f"s{number}", label, n) for number, label, n in subjects])
    found = assign(table, HALF, seed)
    assert set(found) <= set(SPLITS)
    assert (found.groupby(table["subject"]).nunique() == 1).all()


@pytest.mark.parametrize("seed", range(20))
def test_each_class_is_in_every_split_in_its_share(seed):
    table = many({"rare": 10, "usual": 100})
    found = assign(table, HALF, seed)
    for label, n in (("rare", 10), ("usual", 100)):
        counts = found[table["label"] == label].value_counts()
        assert counts.to_dict() == {"train": n // 2, "val": n // 5, "test": 3 * n // 10}


@pytest.mark.parametrize("seed", range(20))
def test_shares_are_of_images_and_hold_to_within_a_subject(seed):
    table = rows(*[(f"s{i}", "a", 1 + i % 4) for i in range(60)])
    shares = assign(table, HALF, seed).value_counts(normalize=True)
    for split, share in (("train", 0.5), ("val", 0.2), ("test", 0.3)):
        assert shares[split] == pytest.approx(share, abs=4 / len(table))


def test_the_order_of_rows_does_not_count_and_the_seed_does():
    table = many({"a": 30, "b": 30})
    shuffled = table.sample(frac=1, random_state=1)
    first = dict(zip(table["subject"], assign(table, HALF, 1), strict=True))
    again = dict(zip(shuffled["subject"], assign(shuffled.reset_index(drop=True), HALF, 1), strict=True))
    assert first == again
    assert first != dict(zip(table["subject"], assign(table, HALF, 2), strict=True))


def test_a_seed_of_its_own_is_not_that_of_all():
    table = many({"a": 40})
    own = Split(val=0.2, test=0.3, seed=7)
    assert assign(table, own, 1).equals(assign(table, own, 2))
    assert assign(table, own, 1).equals(assign(table, HALF, 7))


def test_a_row_that_names_a_split_keeps_it_and_so_does_all_of_its_subject():
    table = many({"a": 20}, images=2)
    table.loc[table["subject"] == "a3", "split"] = ["test", ""]
    table.loc[table["subject"] == "a4", "split"] = "val"
    found = assign(table, HALF, 1)
    assert set(found[table["subject"] == "a3"]) == {"test"}
    assert set(found[table["subject"] == "a4"]) == {"val"}
    assert found.value_counts().to_dict() == {"train": 20, "val": 8, "test": 12}  # the others make up for it


def test_without_validation_none_is_dealt_to_it():
    assert set(assign(many({"a": 9, "b": 2}), Split(val=0, test=0.5), 1)) == {"train", "test"}


def test_the_index_is_kept_and_no_rows_are_no_splits():
    table = many({"a": 4})
    assert list(assign(table, HALF, 1).index) == [0, 1, 2, 3]
    assert len(assign(many({}), HALF, 1)) == 0


def test_a_subject_of_several_classes_counts_for_the_rarest():
    common = [(f"c{i}", "common", 1) for i in range(40)]
    both = [(f"b{i}", label, 1) for i in range(10) for label in ("rare", "common")]
    table = rows(*common, *both)
    found = assign(table, HALF, 3)
    assert found[table["label"] == "rare"].value_counts().to_dict() == {"train": 5, "val": 2, "test": 3}
    assert np.isclose((found == "test").mean(), 0.3, atol=0.05)


@pytest.mark.parametrize("only", ["train", "test"])
def test_a_site_too_small_for_both_has_one_split_alone_and_the_others_have_all(only):
    split = Split(val=0.2, test=0.3, **{f"{only}_only": ["St. Mary's"]})
    table = many({"a": 6, "b": 4})
    for name in ("St. Mary's", key("St. Mary's")):  # FLARE knows a site by its key
        assert set(assign(table, split, 1, name)) == {only}
    assert assign(table, split, 1, "north").equals(assign(table, HALF, 1, "north"))
    assert split.training(["north", "St. Mary's"]) == (["north"] if only == "test" else ["north", "St. Mary's"])
    assert split.testing(["north", "St. Mary's"]) == (["north"] if only == "train" else ["north", "St. Mary's"])


def test_a_row_that_names_a_split_its_site_does_not_have_is_refused():
    table = many({"a": 6})
    table.loc[:1, "split"] = ["val", "test"]
    said = "north is in split.train_only .* names the split test and val for 2 of its images; take it out"
    with pytest.raises(SetError, match=said):
        assign(table, Split(train_only=["north"]), 1, "north")
