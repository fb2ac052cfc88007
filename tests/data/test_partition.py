"""One hospital dealt out to sites: nobody in two, everybody in one, the same every time, skewed as asked for."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fedsynth.data.manifest import SetError
from fedsynth.data.partition import Partition, deal, parse
from fedsynth.params.problems import ArgumentsError

KINDS = ["iid", "dirichlet", "quantity", "silos"]


def table(n=300, images=1):
    return pd.DataFrame(
        {"subject": [f"s{i:04d}" for i in range(n)], "label": ["abc"[i % 3] for i in range(n)], "images": images}
    )


def counts(subjects, partition, seed=1):
    sites = subjects["subject"].map(deal(subjects, partition, seed))
    return (
        subjects.groupby([sites, "label"])["images"].sum().unstack(fill_value=0).reindex(partition.names, fill_value=0)
    )


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), min_size=1, max_size=40),
    st.sampled_from(KINDS),
    st.integers(1, 6),
    st.floats(0.01, 100),
    st.integers(0, 99),
)
def test_every_subject_is_at_exactly_one_of_the_sites(people, kind, sites, alpha, seed):
    subjects = pd.DataFrame([(f"s{i}", *p) for i, p in enumerate(people)], columns=["subject", "label", "images"])
    most = subjects["label"].value_counts().min() if kind == "silos" else len(subjects)
    partition = Partition(kind=kind, sites=int(min(sites, most)), alpha=alpha)
    found = deal(subjects, partition, seed)
    assert set(found) == set(subjects["subject"])
    assert set(found.values()) <= set(partition.names)
    # the order of the rows does not matter
    assert deal(subjects.sample(frac=1, random_state=seed), partition, seed) == found


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_changes_the_sites(kind):
    partition = Partition(kind=kind, sites=4)  # two silos share a class
    assert deal(table(), partition, 1) != deal(table(), partition, 2)


def test_iid_gives_equal_shares():
    found = counts(table(), Partition(kind="iid", sites=4)).sum(axis=1)
    assert found.max() - found.min() <= 1


def test_dirichlet_with_a_huge_alpha_is_iid():
    found = counts(table(), Partition(kind="dirichlet", sites=4, alpha=1e6))
    assert (found - 25).abs().to_numpy().max() <= 1


def test_dirichlet_with_a_small_alpha_skews_the_classes():
    skewed = [counts(table(), Partition(kind="dirichlet", sites=4, alpha=0.1), seed) for seed in range(20)]
    assert pd.concat(skewed).max(axis=1).mean() > 40  # of the 25 of each class that each site would have had
    assert all((c.sum() == 100).all() for c in skewed)


def test_silos_have_one_class_each():
    found = counts(table(), Partition(kind="silos", sites=3))
    assert found.to_numpy().tolist() == [[100, 0, 0], [0, 100, 0], [0, 0, 100]]


def test_more_silos_than_classes_share_a_class_equally():
    found = counts(table(), Partition(kind="silos", sites=5))
    assert ((found > 0).sum(axis=1) == 1).all()
    assert found.loc[found["a"] > 0, "a"].tolist() == [50, 50]
    assert (found.sum() == 100).all()


def test_fewer_silos_than_classes_have_several_and_none_is_split():
    found = counts(table(), Partition(kind="silos", sites=2))
    assert found.to_numpy().tolist() == [[100, 0, 100], [0, 100, 0]]


def test_quantity_skews_the_sizes_and_not_the_classes():
    found = counts(table(3000), Partition(kind="quantity", sites=4, alpha=0.5), seed=3)
    sizes = found.sum(axis=1)
    assert sizes.max() > 2 * sizes.min()
    share = found.div(sizes, axis=0)[sizes > 100]
    assert (share - 1 / 3).abs().to_numpy().max() < 0.15


@pytest.mark.parametrize(("kind", "least"), [("dirichlet", 12), ("quantity", 30), ("iid", 70)])
def test_min_images_holds(kind, least):
    for seed in range(5):
        found = counts(table(), Partition(kind=kind, sites=4, alpha=0.5, min_images=least), seed)
        assert (found if kind == "dirichlet" else found.sum(axis=1)).to_numpy().min() >= least


@pytest.mark.parametrize(("kind", "least"), [("dirichlet", 26), ("iid", 76)])
def test_min_images_that_cannot_be_had_are_refused(kind, least):
    with pytest.raises(SetError, match="min_images"):
        deal(table(), Partition(kind=kind, sites=4, min_images=least), 1)


@pytest.mark.parametrize("kind", KINDS)
def test_more_sites_than_subjects_are_refused(kind):
    with pytest.raises(SetError, match=r"partition\.sites: 2 subjects.* cannot be dealt to 3 sites"):
        deal(table(2).assign(label="a"), Partition(kind=kind, sites=3), 1)


def test_more_silos_of_a_class_than_it_has_subjects_are_refused():
    with pytest.raises(SetError, match="1 subjects of class 'a' cannot be dealt to 2 sites"):
        deal(table(3), Partition(kind="silos", sites=4), 1)


def test_every_mistake_in_a_partition_is_said():
    with pytest.raises(ArgumentsError) as error:
        parse({"kind": "iid", "sites": ["a", "a", "b", "b"], "alpha": 0, "min_imgs": 3})
    assert [(p.key, p.value) for p in error.value.problems] == [
        ("partition.sites", "a"),
        ("partition.sites", "b"),
        ("partition.alpha", 0),
        ("partition.min_imgs", 3),
    ]
    assert "did you mean 'min_images'?" in error.value.problems[-1].said


def test_a_subject_with_many_images_stays_whole():
    subjects = table(30).assign(images=[50, *[1] * 29])
    assert counts(subjects, Partition(kind="iid", sites=3)).sum(axis=1).max() >= 50


@pytest.mark.parametrize(
    "arguments",
    [
        {"kind": "iid"},
        {"kind": "iid", "sites": 0},
        {"kind": "site", "sites": 3},
        {"kind": "dirichlet", "sites": 2, "alpha": 0},
        {"kind": "iid", "sites": ["a", "a"]},
        {"kind": "random", "sites": 2},
        {"kind": "iid", "sites": 2, "alhpa": 1},
    ],
)
def test_what_makes_no_sense_is_refused(arguments):
    with pytest.raises(ValidationError):
        Partition(**arguments)
