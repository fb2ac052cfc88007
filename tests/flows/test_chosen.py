"""Which stages a run brings up to date, and which models have no results in it."""

from __future__ import annotations

import pytest

from flows import chosen

GRAPH = {
    "source": [],
    "validate": ["source"],
    "reference": ["validate"],
    **{
        f"{stage}@{model}": before
        for model in ("vae", "gan")
        for stage, before in (
            ("train", ["validate"]),
            ("sample", [f"train@{model}"]),
            ("score", ["reference", f"sample@{model}"]),
        )
    },
    "report": ["reference", "train@vae", "score@vae", "train@gan", "score@gan"],
}


def test_models_are_named_in_a_text_or_a_list_and_come_in_the_order_of_params_yaml():
    known = ["diffusion", "gan", "vae"]
    assert chosen.asked("", known) == chosen.asked([], known) == known
    assert chosen.asked("vae,gan", known) == chosen.asked(["vae", "gan"], known) == ["gan", "vae"]
    with pytest.raises(chosen.ModelsError, match=r"no models\.vea; it has diffusion, gan, vae; did you mean 'vae'"):
        chosen.asked("vea", known)


def test_a_subset_has_the_stages_of_its_models_what_they_need_and_the_report():
    assert chosen.gathering(GRAPH) == ["report"]
    assert chosen.stages(GRAPH, ["vae", "gan"]) == list(GRAPH)
    assert chosen.stages(GRAPH, ["gan"]) == [
        "source", "validate", "reference", "train@gan", "sample@gan", "score@gan", "report",
    ]  # fmt: skip


def test_what_another_models_stages_need_is_run_too():
    tied = GRAPH | {"train@gan": ["validate", "train@vae"]}
    assert "train@vae" in chosen.stages(tied, ["gan"])
    assert "sample@vae" not in chosen.stages(tied, ["gan"])


def test_a_model_that_failed_has_its_reason_and_one_that_was_not_asked_for_none():
    stale = ["train@gan", "sample@gan", "score@gan", "score@vae", "report"]
    found = chosen.missing(GRAPH, {"train@gan": "its training diverged"}, stale, ["validate"])
    assert found == {
        "gan": {"stage": "train@gan", "why": "its training diverged"},
        "vae": {"stage": "score@vae", "why": ""},
    }


def test_a_model_whose_stages_are_up_to_date_has_results():
    assert chosen.missing(GRAPH, {}, ["train@vae", "report"], ["train@vae"]) == {}
    assert chosen.missing(GRAPH, {"validate": "no"}, [], []) == {}
