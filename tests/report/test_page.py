"""The page holds what the stages left, asks nothing of the network, shows real images in a simulation only, and opens
in a browser.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from markupsafe import escape

from fedsynth.data.dataset import ImageSet
from fedsynth.errors import UserError
from fedsynth.params import Params
from fedsynth.params.names import key
from fedsynth.report.fact_tables import tables
from fedsynth.report.measure_tables import audit_of
from fedsynth.report.page import Trained, best, duration, listed, page
from fedsynth.report.use_tables import number, percent
from fedsynth.stages.report import report
from fedsynth.worth import missing
from fedsynth.worth.facts import facts
from tests.report.test_curves import history
from tests.sets import make_set, tiny_params

SITES = ("north", "east", "west")
NAMES = ("vae", "gan")
ODD = "St. <b>Ann & 'Co' \"$x$\""

WORDS = r'alt="\d+ (real|synthetic) images(, from the left| of the class)'


def params() -> Params:
    block = tiny_params().models["vae"].model_dump(mode="json")
    uses = {name: {"class_path": f"fedsynth.uses.{name}.{name.title()}"} for name in ("classification", "segmentation")}
    gates = {"require": ["fid <= 3 * floor", "classification/retained@worst_site >= 0.1"]}
    return tiny_params(models=dict.fromkeys(NAMES, block), score={"seeds": [1], "uses": uses}, gates=gates)


def rows(name: str, model: str = "", sites: tuple[str, ...] = SITES) -> list[dict]:
    base = {"local": 0.5, "pooled": 0.9, "synthetic": 0.7, "augmented": 0.8}[name]
    metrics = {
        "classification": {"balanced_accuracy": base, "auroc": base + 0.05},
        "segmentation": {"dice": base - 0.1},
    }
    trained_on = {"pooled": "all", "synthetic": model}
    return [
        {
            "use": use,
            "name": name,
            "trained_on": trained_on.get(name, site),
            "model": model,
            "site": site,
            "seed": 1,
            "metrics": of,
        }
        | {"n": dict.fromkeys(of, 21)}
        for use, of in metrics.items()
        for site in sites
    ]


def verdict(passed: bool = True) -> dict:
    counts = {label: {"train": 12, "val": "< 5", "test": 6} for label in params().image.labels}
    failed = [] if passed else [{"expectation": "every image can be read", "count": "< 5"}]
    return {"passed": passed, "digest": "d1" * 32, "images": 60, "failed": failed, "warnings": [], "counts": counts}


def write(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def project(root: Path, sites: tuple[str, ...] = SITES, left_out: tuple[str, ...] = ()) -> Path:
    """What the stages before the report leave, with made-up scores."""
    made = params()
    used = tuple(s for s in sites if s not in left_out)
    for site in used:
        make_set(root / "data" / "sites" / key(site), made, site=site, n=18)
    for name in NAMES:
        make_set(
            root / "data" / "synthetic" / name,
            made,
            site=f"synthetic-{name}",
            n=12,
            origin="synthetic",
            model=f"{name}/c3",
            seed=0,
        )
        facts = {
            "job_id": f"train_{name}-4f2a",
            "sites": dict.fromkeys(used, 60),
            "fedsynth": "0.1.0",
            "weights_sha256": "c3" * 32,
        }
        write(
            root / "models" / name / "model.json", {"name": name, **made.models[name].model_dump(mode="json"), **facts}
        )
        write(root / "models" / name / "history.json", history(sites=used))
        write(
            root / "reports" / "score" / f"{name}.json",
            {"rows": rows("synthetic", name, used) + rows("augmented", name, used)},
        )
    write(root / "reports" / "reference.json", {"rows": rows("local", sites=used) + rows("pooled", sites=used)})
    write(root / "reports" / "validation.json", {"sites": {s: verdict(s in used) for s in sites}, "used": list(used)})
    return root


def written(root: Path, **how) -> str:
    report(params(), root, root / "out", **how)
    return (root / "out" / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def text(root) -> str:
    return written(root, lineage={"git commit": "850a5b9d", "made": "2026-11-24"})


def test_the_page_holds_every_model_site_use_and_class(text):
    for name in (*NAMES, *SITES, "classification", "segmentation", *params().image.labels):
        assert name in text
    for model in NAMES:
        assert f'<section id="model-{model}">' in text
        assert f"train_{model}-4f2a" in text


def test_it_says_where_it_comes_from(text):
    assert "850a5b9d" in text
    assert "2026-11-24" in text
    assert "c3" * 32 in text


def test_it_asks_nothing_of_the_network(text):
    assert not re.findall(r"""(?:src|href|action|poster)\s*=\s*["']?\s*(?:https?:)?//""", text)
    assert not re.findall(r"url\(\s*[\"']?(?!#)", text)
    assert not re.findall(r"<(?:script|link|iframe|object|embed)\b|@import", text)
    assert "default-src 'none'; img-src data:" in text


def test_every_picture_is_in_the_page_and_has_words_for_those_who_do_not_see_it(text):
    pictures = re.findall(r"<img [^>]*>", text)
    assert len(pictures) == 2 + len(NAMES) * len(params().image.labels) * 2  # two at the head
    assert all('src="data:image/png;base64,' in p and re.search(WORDS, p) for p in pictures)


def test_at_the_head_stand_images_of_the_best_model_that_may_be_promoted():
    facts = {
        name: {"uses": {"a": {"retained": retained}}}
        for name, retained in {"one": 0.9, "two": 0.8, "three": None, "four": 0.7}.items()
    }

    def cards(*passed):
        return [{"model": name, "passed": name in passed} for name in facts]

    assert best(cards("two", "four"), facts) == "two"
    assert best(cards(), facts) == "one"
    assert best(cards("three"), facts) == "three"
    assert best([], {}) == ""


def test_the_pictures_table_and_numbers_are_written_beside_the_page(root, text):
    assert {p.name for p in (root / "out").iterdir()} == {
        "index.html",
        "worth.csv",
        "verdict.md",
        "tradeoff.png",
        *(f"{kind}_{m}.png" for kind in ("samples", "losses") for m in NAMES),
    }
    worth = json.loads((root / "worth.json").read_text())
    assert worth["vae"]["classification"]["retained"] == pytest.approx(0.7 / 0.9, abs=1e-4)
    assert set(pd.read_csv(root / "out" / "worth.csv")["site"]) == set(SITES)


def test_the_headline_is_what_the_rows_say(text):
    assert re.search(r'class="big">78\N{NO-BREAK SPACE}%</span><span class="soft">retained by vae', text)
    assert re.search(r'class="big">75\N{NO-BREAK SPACE}%</span><span class="soft">of the gap closed', text)


def test_the_bytes_of_each_site_stand_with_the_model_and_are_missing_where_no_round_has_them(text, root):
    assert "this training's rounds have no bytes" in text
    measured = history(sites=SITES)
    for record in measured["rounds"]:
        record["traffic"] = {SITES[0]: {"bytes_up": 812_000, "bytes_down": 1_600_000, "bytes_asking": 90}}
    model = {**json.loads((root / "models" / NAMES[0] / "model.json").read_text()), "name": NAMES[0]}
    synthetic = ImageSet.load(root / "data" / "synthetic" / NAMES[0])
    shown = page(params(), {"sites": {s: verdict() for s in SITES}, "used": list(SITES)}, [],
                 {NAMES[0]: Trained(model, measured, synthetic)}, simulation=False)  # fmt: skip
    assert "<td>1.6 MB</td><td>812 kB</td><td>90 B</td>" in shown


def test_an_audit_that_was_not_made_is_missing_in_every_line_and_said_to_be(text):
    privacy = text[text.index('<section id="privacy">') : text.index('<section id="tradeoff">')]
    for title, _ in audit_of([]).values():
        line = re.search(rf"{re.escape(title)}<small>.*?</tr>", privacy, re.DOTALL)[0]
        assert line.count(">missing<") == len(NAMES)
    assert "Privacy has <strong>not</strong> been audited" in text


def test_real_images_are_absent_outside_of_a_simulation(root, tmp_path):
    text = written(shutil.copytree(root, tmp_path / "p", ignore=shutil.ignore_patterns("sites")), simulation=False)
    assert not re.search(r'alt="\d+ real images', text)
    assert len(re.findall(r'alt="\d+ synthetic images', text)) == 1 + len(NAMES) * 3
    with pytest.raises(ValueError, match="simulation only"):
        page(
            params(),
            {"sites": {}, "used": []},
            [],
            {},
            real=make_set(tmp_path / "real", params(), n=6),
            simulation=False,
        )


def test_what_was_not_scored_is_missing_and_never_passed(root, tmp_path):
    copy = shutil.copytree(root, tmp_path / "p")
    (copy / "reports" / "score" / "gan.json").unlink()
    (copy / "reports" / "reference.json").unlink()
    text = written(copy)
    line = re.search(r'<th scope="row">gan, synthetic</th>.*?</tr>', text, re.DOTALL)[0]
    assert line.count("missing") == len(SITES) + 2  # each site, the mean, what is retained
    assert not re.search(r'class="big">\d', text)


def test_a_site_that_was_left_out_is_named_with_the_reason(tmp_path):
    text = written(project(tmp_path, left_out=("west",)))
    assert re.search(r"Left out:.*?west.*?failed validation", text, re.DOTALL)
    assert "every image can be read" in text
    assert 'class="bad">failed' in text


def test_lowered_floors_are_told_at_the_head_of_page_text_and_card(tmp_path):
    root = project(tmp_path)
    told = json.loads((root / "reports" / "validation.json").read_text())
    write(root / "reports" / "validation.json", told | {"floors": {site: {"subjects": [3, 5]} for site in SITES}})
    said = f"somebody has changed the policy of the simulated hospitals {', '.join(SITES)}: floors.subjects is 3, not 5"
    head, markdown = written(root).split("<main>")[0], (root / "out" / "verdict.md").read_text()
    assert said in head
    assert said in markdown.replace("\\", "").split("## Gates")[0]
    assert any(said in line for line in tables(facts(params(), root, NAMES[0]))["rehearsed"])


def test_a_site_without_an_answer_to_a_job_is_named_with_the_reason(root):
    validation = {"sites": {s: verdict() for s in SITES}, "used": list(SITES)}
    text = page(params(), validation, rows("local"), {}, silent={"score of gan": {"west": "not connected"}})
    assert re.search(r"Left out:.*?west</span>: no answer to score of gan \(not connected\)", text)


def test_budget_and_definitions_are_there(text):
    how = text[text.index('<section id="how">') : text.index('<section id="limits">')]
    assert "<dt>budget, classification</dt><dd>Classification: 200 steps of 24 images" in how
    assert "<dt>retained</dt><dd>(mean synthetic − chance) / (mean pooled − chance)" in how


def test_the_mean_over_sites_has_a_deviation_over_seeds(root):
    validation = {"sites": {s: verdict() for s in SITES}, "used": list(SITES)}
    twice = rows("local") + [
        r | {"seed": 2, "metrics": {m: v + 0.2 for m, v in r["metrics"].items()}} for r in rows("local")
    ]
    line = re.search(r"local \(own images\).*?</tr>", page(params(), validation, twice, {}), re.DOTALL)[0]
    assert line.count("<small>± 0.14</small>") == len(SITES) + 1


def test_odd_names_are_shown_and_not_obeyed(tmp_path):
    text = written(project(tmp_path, sites=("north", ODD)))
    assert "<b>Ann" not in text
    assert str(escape(ODD)) in text


def test_a_missing_file_is_named_with_the_stage_that_writes_it(root, tmp_path):
    copy = shutil.copytree(root, tmp_path / "p")
    (copy / "reports" / "validation.json").unlink()
    with pytest.raises(UserError, match=r"validation\.json is not there; run `dvc repro validate`"):
        written(copy)


def test_a_model_without_files_is_shown_as_failed_and_the_others_are_reported(root, tmp_path):
    copy = shutil.copytree(root, tmp_path / "p")
    (copy / "models" / "gan" / "history.json").unlink()
    text = written(copy)
    assert "models/gan/history.json is not there; run `dvc repro train@gan`" in text
    assert 'id="model-vae"' in text
    assert 'id="model-gan"' not in text


def test_a_model_that_failed_says_why_holds_no_gate_and_shows_nothing_of_an_earlier_version(root, tmp_path):
    copy = shutil.copytree(root, tmp_path / "p")
    missing.write(copy, {"gan": {"stage": "train@gan", "why": "its training diverged"}})
    text = written(copy)
    assert "must not be promoted: train@gan failed: its training diverged" in text
    assert 'id="model-gan"' not in text
    worth = pd.read_csv(copy / "out" / "worth.csv")
    assert set(worth["model"].dropna()) == set(NAMES) - {"gan"}
    verdict = json.loads((copy / "verdict.json").read_text())["gan"]
    assert not verdict["passed"]
    assert verdict["gates"]
    assert {(g["held"], g["reason"]) for g in verdict["gates"]} == {(False, "missing: train@gan failed")}
    assert json.loads((copy / "worth.json").read_text())["gan"]["gates"]["passed"] is False


def test_a_model_that_was_not_asked_for_is_not_shown(root, tmp_path):
    copy = shutil.copytree(root, tmp_path / "p")
    missing.write(copy, {"gan": {"stage": "train@gan", "why": ""}})
    written(copy)
    assert "gan" not in json.loads((copy / "verdict.json").read_text())
    assert 'id="model-vae"' in (copy / "out" / "index.html").read_text(encoding="utf-8")


def test_the_same_input_gives_the_same_page(root, text):
    assert written(root, lineage={"git commit": "850a5b9d", "made": "2026-11-24"}) == text


def test_numbers_read_as_words_where_there_are_none():
    assert [number(v) for v in (0.456, None, float("nan"))] == ["0.46", "missing", "undefined"]
    assert [percent(v) for v in (-0.2, None, float("nan"))] == ["−20\N{NO-BREAK SPACE}%", "missing", "undefined"]
    assert [duration(s) for s in (9.6, 75, 7260)] == ["10 s", "1 min 15 s", "2 h 1 min"]
    assert [listed(list(n)) for n in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]
