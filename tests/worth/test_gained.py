"""The sentence on what was gained: the poorest site, the best model, and what is said where there is nothing to say."""

from __future__ import annotations

from fedsynth.worth.gained import gained
from tests.worth.test_worth import LOCAL, POOLED, consortium, row


def test_the_poorest_site_with_the_model_that_serves_it_best():
    rows = consortium(augmented={"north": 0.85, "south": 0.7})
    rows += [row("augmented", "north", 0.99, "gan"), row("augmented", "south", 0.6, "gan")]
    assert gained(rows) == [
        "With vae's images south reaches balanced accuracy 0.700 in classification, with its own alone 0.500, with"
        " everyone's 0.900 (pooled)."
    ]


def test_in_a_federation_everyone_s_images_are_those_of_the_federated_reference():
    (said,) = gained(consortium(augmented=POOLED, pooled={}, federated={"north": 0.85, "south": 0.8}))
    assert said.endswith("with its own alone 0.500, with everyone's 0.800 (federated).")


def test_where_nothing_was_gained_that_comes_first():
    (said,) = gained(consortium(augmented={"north": 0.7, "south": 0.4}))
    assert said.startswith("Nothing: with vae's images south reaches balanced accuracy 0.400 in classification, with"
                           " its own alone 0.500")  # fmt: skip


def test_where_there_is_no_gap_that_is_said():
    assert gained(consortium(augmented=POOLED, local={"north": 0.895, "south": 0.88})) == [
        "In classification there is no gap to close at south, the poorest site: balanced accuracy 0.880 with its own"
        " images, 0.900 with everyone's (pooled)."
    ]


def test_what_is_not_known_is_said_with_the_reason():
    (said,) = gained(consortium(augmented=POOLED, local={"north": 0.8}))
    assert said.endswith("it is not known what was gained: the poorest site is not known: no local at south.")
    (said,) = gained(consortium(synthetic=POOLED))
    assert said == "In classification it is not known what was gained: no augmented at south."


def test_each_use_has_its_sentence():
    rows = consortium(augmented=LOCAL)
    assert len(gained(rows + [r | {"use": "another"} for r in rows])) == 2
