"""The table of worth: identities of the gap closed and of what is retained, and what is missing stays missing."""

from __future__ import annotations

import io
import json
import math

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from fedsynth.worth import intervals, ratios, terminal, worth

LOCAL = {"north": 0.8, "south": 0.5}
POOLED = {"north": 0.9, "south": 0.9}


def row(name, site, value, model="", use="classification", seed=1, trained_on=None):
    place = trained_on or {"local": site, "augmented": site, "pooled": "all", "federated": "all"}.get(name, model)
    metrics = {"balanced_accuracy": value, "auroc": 0.5}
    return {
        "use": use,
        "name": name,
        "trained_on": place,
        "model": model,
        "site": site,
        "seed": seed,
        "metrics": metrics,
        "n": dict.fromkeys(metrics, 40),
    }


def consortium(synthetic=None, augmented=None, local=None, pooled=None, federated=None, model="vae"):
    given = {
        "local": LOCAL if local is None else local,
        "pooled": POOLED if pooled is None else pooled,
        "federated": federated or {},
    }
    rows = [row(name, site, value) for name, values in given.items() for site, value in values.items()]
    made = {"synthetic": synthetic or {}, "augmented": augmented or {}}
    return rows + [row(name, site, value, model) for name, values in made.items() for site, value in values.items()]


def of(rows, model="vae", use="classification"):
    return worth.summary(rows)[model][use]


def test_a_set_that_adds_nothing_closes_nothing_of_the_gap():
    found = of(consortium(augmented=LOCAL))
    assert found["gap_closed"] == found["gap_closed_poorest"] == 0


def test_a_set_as_good_as_all_real_images_closes_the_whole_gap_and_retains_all():
    found = of(consortium(synthetic=POOLED, augmented=POOLED))
    assert found["gap_closed"] == found["gap_closed_poorest"] == found["retained"] == 1
    assert found["why"] == {}


def test_a_set_that_harms_closes_less_than_nothing():
    assert of(consortium(augmented={"north": 0.7, "south": 0.4}))["gap_closed"] < 0


def test_a_set_better_than_all_real_images_is_not_cut_at_one():
    assert of(consortium(synthetic={"north": 0.99, "south": 0.99}))["retained"] == pytest.approx(1.1)


def test_the_gap_over_sites_is_of_the_means_and_the_poorest_site_has_its_own():
    found = of(consortium(augmented={"north": 0.8, "south": 0.7}))
    assert found["gap_closed"] == pytest.approx((0.75 - 0.65) / (0.9 - 0.65))
    assert found["gap_closed_by_site"] == {"north": 0, "south": pytest.approx(0.5)}
    assert (found["poorest_site"], found["gap_closed_poorest"]) == ("south", pytest.approx(0.5))


def test_every_site_counts_the_same_however_many_images_it_tests():
    rows = consortium(synthetic={"north": 0.9, "south": 0.45})
    for r in rows:
        r["n"] = dict.fromkeys(r["n"], 1000 if r["site"] == "north" else 10)
    found = of(rows)
    assert found["retained"] == pytest.approx(0.75)
    assert found["retained_by_site"] == {"north": 1, "south": 0.5}


def test_seeds_are_averaged_and_their_spread_is_kept():
    rows = [row("local", "north", value, seed=seed) for seed, value in enumerate((0.4, 0.6), 1)]
    line = worth.table(rows).query("metric == 'balanced_accuracy'").iloc[0]
    assert (line["value"], line["std"], line["seeds"], line["n"]) == (
        pytest.approx(0.5),
        pytest.approx(math.sqrt(0.02)),
        2,
        40,
    )
    assert math.isnan(worth.table(rows[:1])["std"].iloc[0]), "one seed has no spread"


def test_a_seed_without_a_value_makes_the_mean_unknown():
    rows = [row("local", "north", 0.4), row("local", "north", None, seed=2)]
    assert math.isnan(worth.table(rows).query("metric == 'balanced_accuracy'")["value"].iloc[0])


def test_a_network_trained_at_one_site_does_not_count_at_another():
    rows = consortium(augmented=LOCAL)
    strangers = [
        row("local", "north", 0.0, trained_on="south"),
        row("augmented", "north", 0.0, "vae", trained_on="south"),
    ]
    assert worth.summary(rows + strangers) == worth.summary(rows)


def test_no_gap_to_speak_of_is_none_with_the_reason():
    found = of(consortium(augmented=POOLED, local={"north": 0.895, "south": 0.92}))
    assert found["gap_closed"] is None
    assert "no gap: pooled 0.900" in found["why"]["gap_closed"]
    assert found["gap_closed_by_site"] == {"north": None, "south": None}
    assert math.isnan(ratios.gap_closed(local=0.9, augmented=0.95, together=0.9))


@pytest.mark.parametrize(
    ("rows", "missing"),
    [
        (
            consortium(synthetic=POOLED, augmented=POOLED, pooled={}),
            {"retained": "no federated at north, south", "gap_closed": "no federated at north, south"},
        ),
        (
            consortium(synthetic=POOLED),
            {"gap_closed": "no augmented at north, south", "gap_closed@north": "no augmented at north"},
        ),
        (consortium(augmented=POOLED), {"retained": "no synthetic at north, south"}),
        (
            consortium(synthetic=POOLED, augmented=POOLED, local={}),
            {
                "gap_closed": "no local at north, south",
                "gap_closed_poorest": "the poorest site is not known: no local at north, south",
            },
        ),
        # one site's row is missing
        (consortium(synthetic={"north": 0.9}, augmented=POOLED), {"retained": "no synthetic at south"}),
        (consortium(synthetic={"north": 0.9, "south": None}, augmented=POOLED), {"retained": "no synthetic at south"}),
        (
            consortium(augmented=POOLED, pooled={"north": 0.9, "south": None}, federated=POOLED),
            {"gap_closed": "no pooled at south"},
        ),
    ],
)
def test_what_is_missing_is_none_never_0(rows, missing):
    found = of(rows)
    for measure, reason in missing.items():
        assert found.get(measure) is None
        assert found["why"][measure] == reason


def test_where_nobody_can_pool_images_federated_stands_in_for_all_of_them():
    federated = {"north": 0.8, "south": 0.7}
    rows = consortium(
        synthetic={"north": 0.6, "south": 0.6}, augmented={"north": 0.8, "south": 0.6}, pooled={}, federated=federated
    )
    found = worth.summary(rows, [vary(s, names=("local", "federated", "synthetic", "augmented")) for s in LOCAL])[
        "vae"
    ]["classification"]
    assert (found["against"], found["retained"], found["gap_closed"]) == (
        "federated",
        pytest.approx(0.8),
        pytest.approx(0.5),
    )
    assert (found["retained_by_site"]["north"], found["gap_closed_poorest"]) == (
        pytest.approx(0.75),
        pytest.approx(0.5),
    )
    for name in ("synthetic", "retained", "gap_closed", "gap_closed_poorest"):
        low, high = found["intervals"][name]
        assert low < found[name] < high
    assert found["intervals"]["gap_closed@north"] is None, "there is no gap at north"
    assert found["why"] == {"gap_closed@north": "no gap: federated 0.800 is not 0.05 above local 0.800 at north"}
    assert "gap to federated closed" in shown(rows)
    assert of(consortium(synthetic=POOLED, federated=federated))["against"] == "pooled"


def test_a_site_that_did_not_answer_makes_the_shares_missing_and_is_named():
    rows = consortium(synthetic={"north": 0.9, "south": None}, augmented={"north": 0.9, "south": None})
    for r in (r for r in rows if r["model"] and r["site"] == "south"):
        r |= {"left_out": "not connected", "n": {}}
    found = of(rows)
    assert [found[k] for k in ("retained", "gap_closed", "gap_closed_poorest")] == [None] * 3
    assert (
        found["why"]["retained"]
        == found["why"]["retained@south"]
        == "no synthetic at south (did not answer: not connected)"
    )
    assert found["why"]["gap_closed_poorest"] == "no augmented at south (did not answer: not connected)"


def test_where_a_site_s_own_score_was_withheld_the_poorest_site_is_not_known():
    rows = consortium(synthetic=POOLED, augmented=POOLED, local={"north": 0.8, "south": None})
    for r in rows:
        r["n"] = dict.fromkeys(r["n"], "< 5" if r["site"] == "south" else 40)
    found = of(rows)
    assert (found["poorest_site"], found["gap_closed_poorest"]) == (None, None)
    assert (
        found["why"]["gap_closed_poorest"]
        == "the poorest site is not known: no local at south (withheld: < 5 test images)"
    )
    for r in (r for r in rows if r["site"] == "south"):
        r["n"] = dict.fromkeys(r["n"], "withheld")
    assert of(rows)["why"]["gap_closed_poorest"] == "the poorest site is not known: no local at south (withheld)"


def test_a_row_may_lack_metrics_and_counts():
    rows = consortium(synthetic=POOLED, augmented=POOLED)
    for r in (r for r in rows if r["site"] == "north"):
        r["metrics"], r["n"] = {"auroc": 0.5}, {}
    found = of(rows)
    assert (found["headline"], found["retained"]) == ("balanced_accuracy", None)
    assert "no synthetic at north" in found["why"]["retained"]
    counts = worth.table(rows).set_index(["name", "site", "metric"])["n"]
    assert counts["local", "south", "auroc"] == 40
    assert isinstance(counts["local", "south", "auroc"], int), "a count beside one that is not there stays whole"
    assert counts["local", "north", "auroc"] is None


def test_a_model_that_one_use_has_not_scored_has_none_there():
    rows = [*consortium(synthetic=POOLED, augmented=POOLED), row("local", "north", 0.5, use="segmentation")]
    found = of(rows, use="segmentation")
    assert [found[k] for k in ("synthetic", "augmented", "retained", "gap_closed", "gap_closed_poorest")] == [None] * 5


def test_models_are_judged_apart():
    rows = consortium(synthetic=POOLED) + [row("synthetic", site, 0.45, "gan") for site in POOLED]
    assert (of(rows)["retained"], of(rows, "gan")["retained"]) == (1, 0.5)


def test_the_summary_is_plain_json():
    rows = consortium(synthetic=POOLED, augmented={"north": 0.85, "south": None})
    assert json.loads(json.dumps(worth.summary(rows), allow_nan=False)) == worth.summary(rows)


def test_without_rows_there_is_an_empty_summary():
    assert worth.summary([]) == {}
    assert worth.table([]).empty


def test_rows_come_from_the_reports_folder(tmp_path):
    folder = tmp_path / "reports" / "score"
    folder.mkdir(parents=True)
    rows = consortium(synthetic=POOLED)
    (folder.parent / "reference.json").write_text(json.dumps({"rows": rows[:4]}))
    (folder / "vae.json").write_text(json.dumps({"rows": rows[4:]}))
    (folder / "gan.json").write_text(json.dumps({"rows": [row("synthetic", "north", 0.1, "gan")]}))
    assert worth.rows(tmp_path, ["vae"]) == rows
    assert {r["model"] for r in worth.rows(tmp_path)} == {"", "gan", "vae"}


def shown(rows, width=200):
    console = Console(file=io.StringIO(), width=width)
    console.print(terminal.text(terminal.tables(rows), console.width))
    return console.file.getvalue()


def test_the_terminal_shows_each_line_with_its_measures():
    words = [
        line.split()
        for line in shown(consortium(synthetic=POOLED, augmented={"north": 0.8, "south": 0.7})).splitlines()
    ]
    assert ["local", "0.800", "0.500", "0.650"] in words
    assert ["synthetic", "vae", "0.900", "0.900", "0.900", "100", "%"] in words
    assert ["augmented", "vae", "0.800", "0.700", "0.750", "40", "%", "50", "%"] in words


def test_in_a_narrow_terminal_heads_are_broken_and_numbers_are_whole():
    rows = consortium(synthetic=POOLED, augmented={"north": 0.8, "south": 0.7})
    narrow, wide = shown(rows, 70).splitlines(), shown(rows).splitlines()
    assert max(map(len, narrow)) <= 70 < max(map(len, wide))
    assert len(narrow) > len(wide)
    assert [line.split() for line in wide[1:]] == [line.split() for line in narrow[-len(wide) + 1 :]]
    assert "…" not in "".join(narrow)


def test_where_sites_are_too_many_for_the_terminal_their_mean_is_shown():
    rows = consortium(synthetic=POOLED)
    assert ["local", "0.650"] in [line.split() for line in shown(rows, 55).splitlines()]
    assert "north" not in shown(rows, 55)


def test_the_terminal_tells_no_gap_from_missing():
    assert "no gap" in shown(consortium(augmented=POOLED, local=POOLED))
    text = shown(consortium(synthetic=POOLED, pooled={}))
    assert "missing" in text
    assert "100 %" not in text


def vary(site, model="vae", sd=0.02, together=0.9, names=("local", "pooled", "synthetic", "augmented")):
    """How a site's rows vary: standard deviation `sd` each, correlation `together`."""
    covariance = [[sd**2 * (1 if a == b else together) for b in names] for a in names]
    return {"use": "classification", "model": model, "site": site, "metric": "balanced_accuracy", "names": list(names),
            "covariance": covariance, "n": 40}  # fmt: skip


def test_intervals_hold_the_value_and_are_narrower_where_rows_vary_together():
    rows = consortium(synthetic={"north": 0.8, "south": 0.7}, augmented={"north": 0.85, "south": 0.8})
    widths = []
    for together in (0.0, 0.9):
        found = worth.summary(rows, [vary(s, together=together) for s in LOCAL])["vae"]["classification"]
        for name in ("retained", "gap_closed", "gap_closed_poorest"):
            low, high = found["intervals"][name]
            assert low < found[name] < high
        low, high = found["intervals"]["gap_closed"]
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_rows_that_do_not_vary_have_intervals_of_no_width():
    rows = consortium(synthetic=POOLED, augmented=POOLED)
    found = worth.summary(rows, [vary(s, sd=0.0) for s in LOCAL])["vae"]["classification"]["intervals"]
    assert found.pop("synthetic") == found.pop("synthetic@north") == found.pop("synthetic@south") == [0.9, 0.9]
    assert set(found) == {
        *("retained", "gap_closed", "gap_closed_poorest"),
        *(f"{share}@{site}" for share in ("retained", "gap_closed") for site in LOCAL),
    }
    assert all(ends == [1, 1] for ends in found.values())


def seeded(pooled=(0.84, 0.99, 0.99)):
    """Three seeds: of the pooled network one went astray."""
    given = {"local": (0.6, 0.62, 0.61), "pooled": pooled, "synthetic": (0.97, 0.98, 0.983),
             "augmented": (0.93, 0.95, 0.94)}  # fmt: skip
    return [
        row(name, site, value, "vae" if name in ("synthetic", "augmented") else "", seed=seed)
        for name, values in given.items()
        for seed, value in enumerate(values, 1)
        for site in LOCAL
    ]


def test_an_interval_holds_how_much_the_seeds_of_the_networks_differ():
    """Seeds of .84, .99 and .99 leave 104 % anywhere between 94 and 116 %, and not between 101 and 106 %."""
    spread = [vary(site, sd=0.01) for site in LOCAL]
    found = worth.summary(seeded(), spread)["vae"]["classification"]
    low, high = found["intervals"]["retained"]
    assert (found["retained"], found["seeds"]) == (pytest.approx(1.04, abs=0.01), 3)
    assert 0.91 < low < 0.96
    assert 1.13 < high < 1.20
    of_one = worth.summary([r for r in seeded((0.94, 0, 0)) if r["seed"] == 1], spread)["vae"]["classification"]
    low, high = of_one["intervals"]["retained"]
    assert (of_one["seeds"], high - low < 0.06) == (1, True), "one seed says nothing of others"
    assert of_one["seed_intervals"]["retained"] == [of_one["retained"]] * 2


def test_the_interval_of_the_seeds_alone_is_that_of_endless_test_images():
    found = worth.summary(seeded(), [vary(site, sd=0.05, together=0) for site in LOCAL])["vae"]["classification"]
    endless = worth.summary(seeded(), [vary(site, sd=0.0) for site in LOCAL])["vae"]["classification"]
    assert found["seed_intervals"]["retained"] == pytest.approx(endless["intervals"]["retained"], abs=0.003)
    (low, high), (inner, outer) = found["intervals"]["retained"], found["seed_intervals"]["retained"]
    assert low < inner < outer < high


@pytest.mark.parametrize("sds", [(0.03, 0.03, 0.03), (0.04, 0.02, 0.02), (0.0, 0.0, 0.0)])
def test_the_interval_of_a_share_covers_as_it_states(sds):
    """Networks of three seeds, tested at two sites: the seeds and the test images differ from trial to trial."""
    rng, held, truth = np.random.default_rng(5), [], pd.Series({"pooled": 0.85, "synthetic": 0.8, "local": 0.6})
    spread = {site: vary(site, sd=0.02, together=0.5, names=tuple(truth.index)) for site in LOCAL}
    for _ in range(250):
        images = [rng.multivariate_normal(truth, s["covariance"]) for s in spread.values()]
        seeds = rng.normal(0, sds, (3, 3))
        by_site = pd.DataFrame(images, index=list(spread), columns=truth.index) + seeds.mean(0)
        draws = intervals.drawn(by_site, spread, by_site.mean() + pd.DataFrame(seeds, columns=truth.index))
        low, high = intervals.ends(intervals.retained(draws, "pooled", 0.0))
        held.append(low <= truth["synthetic"] / truth["pooled"] <= high)
    assert 0.925 <= np.mean(held) <= 0.985


def chanced(rows, chance=1 / 3):
    return [r | {"chance": chance} for r in rows]


def test_a_share_is_of_what_lies_above_chance():
    synthetic = {"north": 0.6, "south": 0.6}
    found = of(chanced(consortium(synthetic=synthetic, augmented=POOLED)))
    assert found["retained"] == pytest.approx((0.6 - 1 / 3) / (0.9 - 1 / 3), abs=1e-4)
    assert (found["chance"], found["gap_closed"]) == (0.3333, 1), "a gap is a difference, in which chance cancels"
    nothing = of(chanced(consortium(synthetic={"north": 1 / 3, "south": 1 / 3})))
    assert nothing["retained"] == 0, "a set at chance retains nothing"


def test_where_all_networks_guess_nothing_is_retained_and_it_is_said_as_no_gap_is():
    guessing = {"north": 0.33, "south": 0.35}
    rows = chanced(consortium(synthetic=guessing, augmented=guessing, local=guessing, pooled=guessing))
    found = worth.summary(rows, [vary(s) for s in LOCAL])["vae"]["classification"]
    assert [found[k] for k in ("retained", "gap_closed", "gap_closed_poorest")] == [None] * 3
    assert found["why"]["retained"] == "at chance: pooled 0.340 is not 0.05 above 0.333, which is chance"
    assert found["why"]["gap_closed_poorest"].startswith("at chance: pooled 0.330")
    assert (found["intervals"]["retained"], found["intervals"]["gap_closed"]) == (None, None)
    assert shown(rows).count("at chance") == 3


def test_what_may_be_at_chance_has_an_interval_without_a_bound():
    rows = chanced(consortium(synthetic={"north": 0.5, "south": 0.5}, pooled={"north": 0.45, "south": 0.45}))
    _, high = worth.summary(rows, [vary(s, sd=0.1, together=0) for s in LOCAL])["vae"]["classification"]["intervals"][
        "retained"
    ]
    assert high is None


def test_a_gap_that_may_be_none_gives_an_interval_without_a_bound():
    rows = consortium(local={"north": 0.8, "south": 0.84}, augmented={"north": 0.85, "south": 0.9})
    low, high = worth.summary(rows, [vary(s, sd=0.2) for s in LOCAL])["vae"]["classification"]["intervals"][
        "gap_closed"
    ]
    assert low is None or high is None


def test_without_the_spread_of_every_site_there_is_no_interval():
    rows = consortium(synthetic=POOLED, augmented=POOLED)
    withheld = {**vary("north"), "covariance": None}
    for spread in (None, [vary("north")], [withheld, vary("south")]):
        found = worth.summary(rows, spread)["vae"]["classification"]["intervals"]
        assert (found["synthetic"], found["retained"], found["gap_closed"]) == (None, None, None)
    assert found["retained@south"] is not None, "a site has its own"


def test_an_interval_of_what_could_not_be_computed_is_none():
    found = worth.summary(consortium(augmented=POOLED, pooled=LOCAL), [vary(s) for s in LOCAL])["vae"]["classification"]
    assert found["gap_closed"] is None
    assert found["intervals"]["gap_closed"] is None


def with_a_site_that_tests_only():
    rows = consortium(
        synthetic={"north": 0.8, "south": 0.7, "west": 0.6},
        augmented={"north": 0.85, "south": 0.7},
        pooled=POOLED | {"west": 0.9},
    )
    own = (row("local", "west", None), row("augmented", "west", None, "vae"))
    return rows + [r | {"metrics": {"balanced_accuracy": None, "auroc": None}, "tests_only": True} for r in own]


def test_a_site_that_tests_only_counts_for_what_is_retained_and_not_for_the_gap():
    found, without = of(with_a_site_that_tests_only()), of(consortium(augmented={"north": 0.85, "south": 0.7}))
    assert found["retained"] == pytest.approx(0.7 / 0.9, abs=1e-4)
    assert found["retained_by_site"].keys() == {"north", "south", "west"}
    for key in ("gap_closed", "gap_closed_poorest", "poorest_site", "gap_closed_by_site"):
        assert found[key] == without[key] is not None, key
    assert found["why"] == {}


def test_a_site_that_tests_only_and_one_that_did_not_answer_are_not_the_same():
    rows = [{k: v for k, v in r.items() if k != "tests_only"} for r in with_a_site_that_tests_only()]
    rows = [r | {"left_out": "not connected"} if None in r["metrics"].values() else r for r in rows]
    assert of(rows)["gap_closed"] is None
    assert "no local at west (did not answer: not connected)" in of(rows)["why"]["gap_closed"]


def test_where_no_site_both_trains_and_tests_there_is_no_gap_and_the_reason_is_told():
    rows = [r for r in with_a_site_that_tests_only() if r["site"] == "west"]
    found = of(rows)
    assert found["retained"] == pytest.approx(0.6 / 0.9, abs=1e-4)
    assert found["gap_closed"] is None
    assert found["why"]["gap_closed"] == "no site both trains and tests"
    assert found["why"]["gap_closed_poorest"] == "the poorest site is not known: no site both trains and tests"


def test_the_intervals_of_the_gap_are_those_of_the_other_sites():
    names = ["local", "pooled", "synthetic", "augmented"]
    spread = [
        {"use": "classification", "model": "vae", "site": site, "metric": "balanced_accuracy", "n": 40,
         "names": there, "covariance": [[0.001 * (i == j) for i in range(len(there))] for j in range(len(there))]}
        for site, there in (("north", names), ("south", names), ("west", ["pooled", "synthetic"]))
    ]  # fmt: skip
    found = worth.summary(with_a_site_that_tests_only(), spread)["vae"]["classification"]["intervals"]
    assert all(found[key] is not None for key in ("retained", "gap_closed", "gap_closed_poorest"))


def test_the_terminal_shows_the_mean_over_the_sites_that_train():
    _, lines = terminal.cells(with_a_site_that_tests_only(), "classification")
    local = next(line for line in lines if line[0] == "local")
    assert local[1:5] == ["0.800", "0.500", "–", "0.650"]
