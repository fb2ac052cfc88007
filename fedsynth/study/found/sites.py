"""Which sites a study has, and how their subjects are dealt out to training and test."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from fedsynth.data import splits
from fedsynth.hospital.policy.simulated import LESS
from fedsynth.params import Consortium, Image, Split
from fedsynth.study.found.found import Found
from fedsynth.study.found.labels import IMAGES, Labels
from fedsynth.study.found.layout import FoundError, counted, shown

SEEDS = 10  # that are tried, so that each site has images of each class to train and to test
ENOUGH = {"train": 5, "test": 3}  # images of a class at a site, as expectations.min_images has by default
SHOWN = {"train": 5, "test": 5}  # smaller numbers are withheld, and what is computed of them is said in few digits
CELL = Consortium().min_cell  # images of a class, of which the number may be told
TESTS = (0.4, 0.3, 0.25, 0.2, 0.15, 0.1)  # shares for testing, the largest that leaves enough to train
NEEDED = LESS.subjects + 1  # subjects at a site: so many to train, and another to test
THREE = 45  # subjects of a class, from which on there are three sites
MOST = 1500  # images of a first study


@dataclass
class Sites:
    """`partition`: the source's argument, None for the sites of the files. `counts`: images by site, label, split.
    By site: `subjects`, how many train; `held`, how many do not; `epochs`, the least of a round, so that policies know
    that enough images and subjects stand behind it.
    """

    seed: int
    split: dict[str, float]
    partition: dict[str, Any] | None
    counts: pd.DataFrame
    subjects: pd.Series
    held: pd.Series
    epochs: dict[str, float]
    at_most: int | None = None
    every_class: bool = True
    why: dict[str, str] = field(default_factory=dict)

    @property
    def number(self) -> int:
        return len(self.names)

    @property
    def fewest(self) -> int:
        """Subjects that train at the site which has fewest of them."""
        return int(min(self.subjects.get(site, 0) for site in self.names))

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(self.counts["site"]))

    @property
    def refused(self) -> list[str]:
        """Sites at which the policy of a simulated hospital refuses a training: too few stand behind it."""
        images = self.of("train")
        return [
            site
            for site in self.names
            if images[site] < LESS.images or self.subjects.get(site, 0) < LESS.subjects or math.isinf(self.epochs[site])
        ]

    @property
    def least(self) -> dict[str, int]:
        """expectations.min_images: what each site has of each class that it has, at most the usual."""
        cells = self.cells
        return {of: min(usual, int(cells[of].min())) for of, usual in ENOUGH.items()}

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Images by site and label: columns train and test."""
        counts = self.counts.set_index(["site", "label", "split"])["n"].unstack("split")
        return counts.reindex(columns=["train", "test"]).fillna(0).astype(int)

    @property
    def silent(self) -> bool:
        """Whether a site tests on so few images that it tells no number."""
        return bool((self.of("test") < CELL).any())

    @cached_property
    def quality(self) -> tuple[bool, int, bool, float, int]:
        """Whether policies allow it, else how many subjects train; whether all sites tell numbers; how well cells are
        filled (the least of them, 1 is enough), how many there are.
        """
        filled = min(min(int(self.cells[of].min()) / n, 1.0) for of, n in SHOWN.items())
        return not self.refused, min(self.fewest, LESS.subjects), not self.silent, filled, len(self.cells)

    @property
    def sound(self) -> bool:
        """Whether nothing could be better: policies allow it, and all cells are filled."""
        return self.quality[:4] == (True, LESS.subjects, True, 1.0)

    def of(self, split: str) -> pd.Series:
        """Images of a split by site."""
        return self.counts[self.counts["split"] == split].groupby("site")["n"].sum().reindex(self.names).fillna(0)


def sites(found: Found, image: Image, made: Labels, args: dict[str, Any]) -> Sites:
    """The sites of the files where there are two at least that can train and test, else simulated ones; one where
    policies would refuse two, or two would tell no number.

    `args`: the source's arguments that were chosen, but for the partition. Raises FoundError where no way gives one.
    """
    tried: list[Sites] = []
    for ways in _ways(found, made):
        tried += [one for how in ways if (one := _best(found, image, made, args, how))]
        best = max(tried, key=lambda one: (one.quality[:4], one.number), default=None)
        if best and not best.refused and not best.silent:
            return best
    if not tried:
        raise FoundError(
            f"{found.layout.folder}: its {counted(found.known['subject'].nunique(), 'subject')} cannot be dealt out"
            " so that a site has images to train and to test; bring more subjects"
        )
    return max(tried, key=lambda one: (one.quality[:3], one.number))


@dataclass
class Way:
    partition: dict[str, Any] | None
    why: str
    least: int = 2  # sites


def _ways(found: Found, made: Labels) -> Iterator[list[Way]]:
    """Ways that are as good as each other, before others that are tried where policies refuse all of these."""
    known, where = found.known, "one hospital"
    if found.layout.sited:
        of = known.groupby("site")
        usable = [str(s) for s in of.size()[(of["subject"].nunique() >= NEEDED) & (of.size() >= IMAGES)].index]
        small = [str(s) for s in of.size().index if s not in usable]
        if len(usable) > 1:
            said = f"sites as the data have them, but for those too small to train and test: {shown(small)}"
            yield [Way({"kind": "site", "sites": usable} if small else None, said if small else "")]
            where = "these sites are too small to train and test"
        elif len(small) > 1:
            where = f"{shown(small)} are too small to train and test"
    subjects = known["subject"].nunique()
    if subjects >= 2 * NEEDED:
        skewed = "{{kind: dirichlet, sites: {n}, alpha: 0.5}} makes their classes differ"
        said = f"{where}: subjects are dealt out to {{n}} simulated sites; {skewed}"
        numbers = (3, 2) if _plenty(found, made) else (2,)
        yield [Way({"kind": "iid", "sites": n}, said.format(n=n)) for n in numbers]
    one = "one simulated site, as the head of this file says"
    yield [Way({"kind": "iid", "sites": 1}, one, least=1)]


def _plenty(found: Found, made: Labels) -> bool:
    """Whether there are subjects for three sites."""
    known = found.known
    if made.by_mask:
        return bool(known["subject"].nunique() >= 3 * THREE)
    of = known[known["label"].isin(made.names)].groupby("label")["subject"].nunique()
    return bool(len(of) and of.min() >= THREE)


def _best(found: Found, image: Image, made: Labels, args: dict[str, Any], way: Way) -> Sites | None:
    """The first seed with which each site has enough of each class; else the best of all. None where none has any."""
    best: Sites | None = None
    salted = found.layout.class_path.endswith("DICOM") and found.layout.dims == 3  # a subject's name is of the seed
    few = len(found.listed) < MOST  # listing takes long in large folders
    for seed in range(1, 2 if salted else SEEDS + 1 if few else 4):
        rows, more = _chosen(found, image, made, args, way, seed)
        for split in _splits(rows):
            one = _dealt(rows, split, seed, way.least)
            if one and (best is None or one.quality > best.quality):
                one.partition, one.at_most = way.partition, more.get("at_most")
                one.why = {"partition": way.why} | _part(found, more)
                one.every_class = len(one.cells) == one.number * len(made.names)
                best = one
            if best and best.sound:
                return best
            if one and not one.refused:
                break  # fewer to test would be no better
    return best


def _chosen(
    found: Found, image: Image, made: Labels, args: dict[str, Any], way: Way, seed: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The images of the study by site, and the source's arguments that say which: partition, and at_most for many."""
    more: dict[str, Any] = {} if way.partition is None else {"partition": way.partition}
    rows = _rows(found, image, made, args | more, seed)
    rows = rows[rows["label"].isin(made.names)]
    number = rows["site"].nunique()
    if len(rows) > MOST and found.layout.at_most and not made.by_mask and found.layout.slices is None:
        more["at_most"] = -(-MOST // (number * len(made.names)))
        rows = _rows(found, image, made, args | more, seed)
        rows = rows[rows["label"].isin(made.names)]
    chosen = (way.partition or {}).get("sites")
    return (rows[rows["site"].isin(chosen)] if isinstance(chosen, list) else rows), more


def _part(found: Found, more: dict[str, Any]) -> dict[str, str]:
    if "at_most" not in more:
        return {}
    return {"at_most": f"images of each class at each site, for a first study; there are {len(found.listed)} in all"}


def _splits(rows: pd.DataFrame) -> Iterator[dict[str, float]]:
    """Fractions of the subjects: more for testing where there are few, none for validation where hardly any."""
    site = rows.groupby("site")
    few = site["subject"].nunique().min() < 12
    first = 0 if few or site.size().min() < 150 else 1
    return ({"val": 0 if few else 0.1, "test": test} for test in TESTS[first:])


def _dealt(rows: pd.DataFrame, split: dict[str, float], seed: int, least: int) -> Sites | None:
    """None where there are fewer sites than `least`, or one has nothing to train or to test."""
    parts = [of.assign(split=splits.assign(of, Split(**split), seed, str(site)).to_numpy())
             for site, of in rows.groupby("site")]  # fmt: skip
    if len(parts) < least:
        return None
    dealt = pd.concat(parts)
    counts = dealt.groupby(["site", "label", "split"]).size().rename("n").reset_index()
    trained = dealt[dealt["split"] == "train"].groupby("site")
    held = dealt[dealt["split"] != "train"].groupby("site")["subject"].nunique()
    epochs = {str(site): _epochs(of) for site, of in trained}
    found = Sites(seed, split, None, counts, trained["subject"].nunique(), held, epochs)
    return None if any((found.of(of) < 1).any() for of in ENOUGH) else found


def _epochs(rows: pd.DataFrame) -> float:
    """The least epochs of a round with which a policy knows that enough images and subjects stand behind it.

    `rows`: the training images of a site. It counts with those of the largest subjects, and takes as many steps as
    classes with so many images allow that their number is told. Infinite where no class has.
    """
    n, classes = len(rows), rows["label"].value_counts()
    told = n if (classes >= CELL).all() else int(classes[classes >= CELL].sum())
    largest = int(rows["subject"].value_counts().iloc[: LESS.subjects - 1].sum())
    needed = min(n, max(LESS.images, LESS.share * n, largest + 1))
    return needed / told if told else math.inf


def _rows(found: Found, image: Image, made: Labels, args: dict[str, Any], seed: int) -> pd.DataFrame:
    """site, subject, label and split of each image."""
    layout = found.layout
    with layout.beside(found.table) as table:
        plain = image.model_copy(update={"labels": layout.labels or image.labels, "empty_labels": []})
        listed = layout.source(plain, seed, table, **args).listed().reset_index(drop=True)
    if not (found.whole and (made.by_mask or (layout.slices is not None and layout.dims == 3))):
        return listed
    site = dict(zip(listed["subject"], listed["site"], strict=True))
    good = found.good
    rows = good.assign(site=good["site"] if layout.sited and "partition" not in args else good["subject"].map(site))
    if made.by_mask:
        rows["label"] = [made.names[1] if mask == "marked" else made.names[0] for mask in rows["mask"]]
    return rows[rows["site"].notna()][["site", "subject", "label", "split"]].reset_index(drop=True)
