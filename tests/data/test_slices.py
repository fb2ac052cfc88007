"""Slices of a volume with values that are outside of the body."""

import numpy as np

from fedsynth.data import images
from fedsynth.data.record import Record
from fedsynth.data.slices import Slices
from fedsynth.params import Image

ASKED = Image(size=(20, 24), channels={"mr": "image"}, labels=["x"])


def volume(*holes):
    array = np.random.default_rng(0).random((6, 20, 24)).astype(np.float32)
    for hole in holes:
        array[hole] = np.nan
    return Record({"mr": array}, "x", "s", file="a")


def test_what_is_outside_of_a_volume_may_lie_within_a_slice():
    """A hole in the middle that opens into the first slice."""
    slices = list(Slices().of(volume((slice(0, 4), 10, 12)), ASKED))
    assert len(slices) == 6
    assert [images.fit(s, ASKED).outside > 0 for s in slices] == [True] * 4 + [False] * 2


def test_a_value_within_the_body_that_is_no_number_is_a_problem_of_the_volume():
    (record,) = Slices().of(volume((slice(2, 4), 10, 12)), ASKED)
    assert "has 2 values in the body that are no numbers" in record.problem
