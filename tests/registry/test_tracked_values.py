"""Flat names and numbers of params, rounds and scores."""

from __future__ import annotations

import math
import re

import pytest

from fedsynth.params import names
from fedsynth.registry.tracked_values import flatten, round_metrics, score_metrics
from tests.sets import tiny_params
from tests.trained import ROUNDS


def test_params_become_dotted_names_and_lists_stay_whole():
    flat = flatten(tiny_params().model_dump(mode="json"))
    assert flat["models.vae.training.rounds"] == "1"
    assert flat["image.size"] == "[16, 16]"
    assert flat["models.vae.family.class_path"] == "fedsynth.families.vae.VAE"
    assert flat["models.vae.family.args"] == "{}"
    assert flat["models.vae.privacy"] == "null"


def test_a_round_has_each_sites_losses_and_their_mean_by_weight():
    assert round_metrics(ROUNDS[0]) == {
        "north/loss/autoencoder": 1.0,
        "east/loss/autoencoder": 2.0,
        "loss/autoencoder": 1.25,
        "seconds": 1.5,
        "sites": 2,
    }


def test_the_mean_of_equal_losses_is_that_loss_whatever_the_weights():
    sites = {str(i): {"loss/g": 0.7, "weight": float(i + 1)} for i in range(5)}
    assert round_metrics({"round": 0, "sites": sites})["loss/g"] == pytest.approx(0.7)


def test_other_numbers_of_a_site_are_kept_but_not_averaged():
    found = round_metrics({"round": 0, "sites": {"north": {"epsilon": 1.5, "loss/g": 1.0, "weight": 2, "steps": 3}}})
    assert found == {"north/epsilon": 1.5, "north/loss/g": 1.0, "loss/g": 1.0, "sites": 1}


def test_what_was_sent_is_told_by_site_and_as_a_sum():
    traffic = {"north": {"bytes_up": 10, "bytes_down": 30}, "east": {"bytes_up": 5, "bytes_down": 31}}
    found = round_metrics({"round": 0, "sites": {}, "traffic": traffic})
    assert found == {
        "sites": 0,
        "north/bytes_up": 10,
        "north/bytes_down": 30,
        "east/bytes_up": 5,
        "east/bytes_down": 31,
        "bytes_up": 15,
        "bytes_down": 61,
    }


def row(name, trained_on, site, value, **more):
    known = {"use": "c", "name": name, "trained_on": trained_on, "model": "", "site": site, "seed": 1}
    return known | {"metrics": {"auroc": value}, "n": {"auroc": 9}} | more


def test_scores_are_means_over_seeds_by_site_and_over_sites():
    rows = [
        row("pooled", "all", "n", 0.8),
        row("pooled", "all", "n", 0.6, seed=2),
        row("pooled", "all", "e", 0.9),
        row("pooled", "all", "e", 0.9, seed=2),
    ]
    found = score_metrics(rows)
    assert found == pytest.approx({"c/pooled/n/auroc": 0.7, "c/pooled/e/auroc": 0.9, "c/pooled/auroc": 0.8})


def test_a_mean_of_which_a_part_could_not_be_computed_is_left_out():
    rows = [
        row("synthetic", "vae", site, value, model="vae") for site, value in (("n", math.nan), ("e", None), ("s", 0.5))
    ]
    assert score_metrics(rows) == {"c/synthetic/s/auroc": 0.5}


def test_a_network_of_another_site_keeps_its_origin_in_the_name_and_out_of_the_mean():
    found = score_metrics([row("local", "n", "n", 0.9), row("local", "n", "e", 0.5)])
    assert found == {"c/local/n/auroc": 0.9, "c/local/auroc": 0.9, "c/local from n/e/auroc": 0.5}


def test_sites_and_labels_of_any_text_are_in_mlflows_names_by_their_keys():
    site, metric = "../St. Mary's", "sensitivity.Ductal (in situ), G2"
    row = {"use": "c", "name": "local", "trained_on": site, "model": "", "site": site, "metrics": {metric: 0.5}}
    keyed = f"sensitivity.{names.key('Ductal (in situ), G2')}"
    assert score_metrics([row]) == {f"c/local/{names.key(site)}/{keyed}": 0.5, f"c/local/{keyed}": 0.5}
    event = {"sites": {site: {"loss/vae": 1.0, "weight": 2.0}}, "traffic": {site: {"bytes_up": 3}}}
    assert f"{names.key(site)}/loss/vae" in round_metrics(event)
    assert all(re.fullmatch(r"[\w./\-]+", name) for name in round_metrics(event))
