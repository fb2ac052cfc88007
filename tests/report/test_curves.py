"""Charts of losses hold every player, site and round, fetch nothing, and survive odd names and values."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image as Pillow

from fedsynth.report import curves


def history(
    rounds: int = 4,
    players: tuple[str, ...] = ("generator", "discriminator"),
    sites: tuple[str, ...] = ("north", "east"),
) -> dict:
    def metrics(r: int, i: int) -> dict:
        return {f"loss/{player}": 1.0 / (r + 1) + 0.1 * i for player in players} | {"steps": 9, "weight": 100}

    return {
        "job_id": "j",
        "seconds": 12.0,
        "rounds": [{"round": r, "sites": {s: metrics(r, i) for i, s in enumerate(sites)}} for r in range(rounds)],
    }


def test_curves_count_rounds_from_one_and_keep_each_sites_losses():
    assert curves.by_player(history(2))["generator"] == {"north": [(1, 1.0), (2, 0.5)], "east": [(1, 1.1), (2, 0.6)]}


def test_there_is_a_chart_for_each_player_with_every_site_named():
    charts = curves.losses(history(), ["west", "north", "east"])
    assert list(charts) == ["generator", "discriminator"]
    for svg in charts.values():
        texts = [e.text for e in ET.fromstring(svg.replace("xlink:href", "href")).iter("text")]
        assert {"north", "east", "round", "loss"} <= set(texts)
        assert "west" not in texts, "it trained nothing"


def test_a_sites_colour_is_its_place_in_the_consortium_whoever_trained():
    svg = curves.losses(history(), ["west", "north", "east"])["generator"]
    assert "var(--site-0)" not in svg
    assert {"var(--site-1)", "var(--site-2)"} <= {part[:13] for part in svg.replace("var(", "\nvar(").split("\n")}


def test_a_chart_fetches_nothing_and_takes_ink_and_font_of_the_page():
    for svg in curves.losses(history(), ["north", "east"]).values():
        assert "http" not in svg
        assert "font-family" not in svg
        assert "#000000" not in svg


def test_odd_site_names_are_escaped():
    svg = curves.losses(history(sites=("<b>$x$", "a&b")), ["<b>$x$", "a&b"])["generator"]
    assert "&lt;b&gt;$x$" in svg
    assert "a&amp;b" in svg


def test_the_same_history_gives_the_same_bytes():
    assert curves.losses(history(), ["north", "east"]) == curves.losses(history(), ["north", "east"])
    assert curves.losses_png(history(), ["north", "east"]) == curves.losses_png(history(), ["north", "east"])


@pytest.mark.parametrize("odd", [float("nan"), None, -3.0, 1e6])
def test_a_loss_that_is_no_number_or_far_away_breaks_no_chart(odd):
    told = history(1)
    told["rounds"][0]["sites"]["north"]["loss/generator"] = odd
    assert "<svg" in curves.losses(told, ["north", "east"])["generator"]


def test_a_history_without_rounds_gives_no_chart_and_a_readable_png():
    assert curves.losses({"rounds": []}, ["north"]) == {}
    assert Pillow.open(io.BytesIO(curves.losses_png({"rounds": []}, ["north"]))).size[0] > 0


def test_labels_that_meet_are_moved_apart_as_little_as_needed():
    assert curves.spread([0.1, 0.5], 0.1) == [0.1, 0.5]
    moved = curves.spread([0.5, 0.5, 0.5], 0.1)
    assert np.allclose(moved, [0.4, 0.5, 0.6])
    many = curves.spread(sorted(np.random.default_rng(0).uniform(size=9)), 0.09)
    assert np.diff(many).min() > 0.09 - 1e-9
