"""Deals the subjects of one site out to train, val and test, class by class."""

from __future__ import annotations

import hashlib

import pandas as pd

from fedsynth.data.manifest import SPLITS, SetError
from fedsynth.params import Split


def assign(rows: pd.DataFrame, split: Split, seed: int, site: str = "") -> pd.Series:
    """The split of each row of a site's manifest (columns subject, label, split). A row that names one keeps it, as all
    of its subject do. A site in `split.train_only` or `split.test_only` has that split alone.

    Within each class subjects come in the order of a hash of their name, and each goes to the split that lacks most of
    its share of the class's images: so shares hold as well as whole subjects allow, two images of one patient never
    part, and the same subjects and seed give the same splits. A subject with images of several classes counts for the
    rarest of them.

    Raises SetError where a row names a split that its site does not have.
    """
    shares, only = split.shares(site), split.only(site)
    if only and (others := sorted(set(rows["split"]) & set(SPLITS) - {only})):
        raise SetError(
            f"{site} is in split.{only}_only of params.yaml, but its source names the split {' and '.join(others)} for"
            f" {int(rows['split'].isin(others).sum())} of its images; take it out of one of them"
        )
    seed = seed if split.seed is None else split.seed
    rows = rows.reset_index(drop=True)
    frequent = rows["label"].value_counts()
    classes = rows.assign(n=rows["label"].map(frequent)).sort_values(["n", "label"]).groupby("subject")["label"].first()
    own = rows[rows["split"].isin(SPLITS)].groupby("subject")["split"].first().to_dict()
    images = rows.groupby("subject").size()
    found: dict[str, str] = {}
    for _, subjects in classes.groupby(classes):
        total = float(images[subjects.index].sum())
        lacking = {name: share * total for name, share in shares.items()}
        # those that are settled first, then by the hash
        for subject in sorted(subjects.index, key=lambda s: (s not in own, place_of(s, seed))):
            place = own.get(subject) or max(lacking, key=lambda name: (lacking[name], shares[name]))
            found[subject] = place
            lacking[place] -= float(images[subject])
    named = rows["split"].where(rows["split"].isin(SPLITS), rows["subject"].map(found))
    return named.set_axis(rows.index)


def place_of(subject: str, salt: object) -> str:
    """What subjects are put in order by: a hash, the same for the same subject and salt."""
    return hashlib.sha256(f"{salt}:{subject}".encode()).hexdigest()
