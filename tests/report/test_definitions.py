"""What the report says of how a number was made is what the code does, with the arguments that it was made with."""

from __future__ import annotations

from fedsynth.params import Block
from fedsynth.report.definitions import arguments, budget, definitions
from fedsynth.report.measure_tables import measures
from fedsynth.report.use_tables import use_table
from fedsynth.worth.intervals import DRAWS
from tests.facts_made import facts_of, number
from tests.sets import tiny_params

SEGMENTATION = {"class_path": "fedsynth.uses.segmentation.Segmentation", "args": {"steps": 30}}
PRDC = {"class_path": "fedsynth.measures.prdc.PRDC", "args": {"k": 3}}
ROWS = [{"use": "segmentation", "name": "local", "trained_on": "north", "model": "", "site": "north", "seed": 1,
         "metrics": {"dice": 0.5, "hd95": 3.0}, "n": {"dice": 9, "hd95": 9}}]  # fmt: skip


def terms(against: str = "pooled") -> dict[str, str]:
    """Of a run with one use and one measure, both with arguments of their own."""
    params = tiny_params(score={"uses": {"segmentation": SEGMENTATION}, "measures": {"prdc": PRDC}, "seeds": [4, 5]})
    facts = {"vae": facts_of("vae") | {"measures": {"coverage": number(0.8, title="coverage") | {"measure": "prdc"}}}}
    summary = {"vae": {"segmentation": {"against": against}}}
    return dict(definitions(params, [use_table("segmentation", ROWS, ["vae"], ["north"], summary)], measures(facts)))


def test_a_budget_is_that_of_the_use_as_it_was_built_defaults_included():
    said = budget(Block(**SEGMENTATION), tiny_params().image)
    assert said.startswith("Segmentation: 30 steps of 16 images")
    assert "learning rate up to 0.005" in said
    assert said.endswith("; width = 8")


def test_arguments_are_those_given_and_the_defaults_but_not_what_the_project_knows():
    copies = Block(class_path="fedsynth.measures.copies.Copies", args={"neighbours": 20})
    assert arguments(copies, tiny_params().image) == {"alpha": 1e-4, "neighbours": 20, "most": 1000}


def test_a_measure_is_defined_with_its_arguments():
    assert terms()["coverage"] == "Definition of coverage (k = 3)"


def test_a_missed_lesion_counts_with_the_diagonal_and_metrics_that_nobody_asked_for_are_not_defined():
    assert "where nothing was found, the image's diagonal counts" in terms()["HD95 (pixels)"]
    assert "AUROC" not in terms()


def test_the_interval_of_a_share_is_of_draws_with_the_sites_covariance_and_says_of_how_many_seeds():
    said = terms()["intervals, worth"]
    assert f"{DRAWS} draws" in said
    assert "between the 2 seeds of the uses' networks" in said


def test_shares_are_said_to_be_of_what_they_are_of():
    assert terms()["retained"].startswith("(mean synthetic − chance) / (mean pooled − chance)")
    assert "(mean federated − chance)" in terms("federated")["retained"]
    assert "(augmented − local) / (federated − local)" in terms("federated")["gap closed"]
    assert "100 % as good as FedAvg over all sites' real images" in terms("federated")["gap closed"]


def test_channels_that_may_lack_are_spoken_of_only_where_there_are_such():
    said = dict(definitions(tiny_params(image={"may_lack": ["t2"]}), [], measures({})))
    assert "as often as before" in said["without t2"]
    assert not any(term.startswith("without") for term in terms())


def test_seeds_and_extractor_are_named():
    assert terms()["seeds"].startswith("4, 5: ")
    assert "16 features" in terms()["extractor"]
