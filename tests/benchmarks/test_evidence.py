"""docs/evidence.md: made from files, and what a file keeps so that its numbers can be measured again."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def evidence() -> Any:
    spec = importlib.util.spec_from_file_location("evidence", ROOT / "benchmarks" / "evidence.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["evidence"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["evidence"]


def test_the_page_is_what_the_files_say(evidence):
    assert evidence.PAGE.read_text(encoding="utf-8") == evidence.page(evidence.FILES)


def test_a_file_says_how_to_measure_again(evidence, tmp_path, monkeypatch):
    out = tmp_path / "some_loop.json"
    monkeypatch.delenv("PYTHONPATH", raising=False)
    words = [str(ROOT / "benchmarks" / "loop.py"), "--turns", "3", "--out", str(out), "--sizes", "8x8"]
    monkeypatch.setattr(sys, "argv", words)
    evidence.leave(out, [evidence.Claim("faster", 1.23456, 3, (1.1, 1.3), "x")], [{"a": 1}])
    found = json.loads(out.read_text())
    assert found["command"] == "python benchmarks/loop.py --turns 3 --sizes 8x8"
    assert len(found["commit"].rstrip("+")) >= 7
    text = evidence.page(tmp_path)
    assert "| faster | 1.235 x | 1.1 to 1.3 | 3 |" in text
    assert "## Some loop\n\n    python benchmarks/loop.py --turns 3 --sizes 8x8\n" in text
    assert found["machine"] in text


def test_every_file_is_of_a_benchmark_that_is_there(evidence):
    for file in evidence.FILES.glob("*.json"):
        found = json.loads(file.read_text(encoding="utf-8"))
        assert (ROOT / found["command"].removeprefix("PYTHONPATH=. ").split()[1]).is_file(), file
        assert found["claims"], file


def quotes(page: Path) -> Iterator[tuple[str, str, bool]]:
    """Section, number and whether it is in %, of the numbers beside the first column of rows that link to evidence."""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("|") and (section := re.search(r"evidence\.md#([\w-]+)\)", line)):
            for cell in re.sub(r"\[[^]]*\]\([^)]*\)", "", line).split("|")[2:]:
                for number in re.findall(r"[-−+]?\d*\.?\d+", cell):
                    yield section[1].replace("-", "_"), number.replace("−", "-"), "%" in cell


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_a_number_in_a_row_that_links_to_evidence_is_in_it(evidence, page):
    found = list(quotes(ROOT / page))
    assert found
    for section, number, percent in found:
        claims = json.loads((evidence.FILES / f"{section}.json").read_text(encoding="utf-8"))["claims"]
        known = [(of["unit"], value) for of in claims for value in (of["number"], of["n"], *(of["interval"] or []))]
        half = 0.5 * 10 ** -len(number.partition(".")[2]) + 1e-9
        assert any(
            abs(value * (100 if percent and not unit else 1) - float(number)) <= half for unit, value in known
        ), (page, section, number)


def test_a_mean_over_seeds_has_students_interval_and_a_single_seed_has_none(evidence):
    claim = evidence.over_seeds("worth", [0.8, None, 0.9, 1.0], "x")
    assert (claim.n, claim.unit) == (3, "x")
    assert claim.number == pytest.approx(0.9)
    assert claim.interval == pytest.approx((0.9 - 4.3027 * 0.1 / 3**0.5, 0.9 + 4.3027 * 0.1 / 3**0.5), abs=1e-4)
    assert evidence.over_seeds("worth", [0.8]).interval is None
    assert evidence.over_seeds("worth", [0.0, 0.0, 0.0]).interval is None


def test_a_case_that_was_kept_is_not_measured_again_unless_the_code_is_another(evidence, tmp_path, monkeypatch):
    asked, kept = [], tmp_path / "rows.jsonl"

    def measure(case):
        asked.append(case["seed"])
        return {"worth": 10 * case["seed"]}

    cases = [{"seed": seed} for seed in (1, 2)]
    rows = evidence.measured(cases, measure, kept)
    assert rows == [{"seed": 1, "worth": 10}, {"seed": 2, "worth": 20}]
    assert evidence.measured([*cases, {"seed": 3}], measure, kept) == [*rows, {"seed": 3, "worth": 30}]
    assert asked == [1, 2, 3]
    monkeypatch.setattr(evidence, "_commit", lambda: "another")
    evidence.measured(cases, measure, kept)
    assert asked == [1, 2, 3, 1, 2]


def test_no_place_of_a_machine_gets_into_a_command(evidence, tmp_path, monkeypatch):
    words = [str(ROOT / "benchmarks" / "study.py"), "--seeds", "1", "2"]
    monkeypatch.setattr(sys, "argv", [*words, "--rows", "/here/a", "--keep", "/here/b", "--out", str(tmp_path / "x")])
    for path, before in ((None, ""), ("/here", ""), (".", "PYTHONPATH=. ")):
        monkeypatch.setenv("PYTHONPATH", path) if path else monkeypatch.delenv("PYTHONPATH", raising=False)
        evidence.leave(tmp_path / "x.json", [evidence.Claim("c", 1, 1)], [])
        assert (
            json.loads((tmp_path / "x.json").read_text())["command"]
            == f"{before}python benchmarks/study.py --seeds 1 2"
        )


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda file: file.stem)
def test_every_benchmark_leaves_evidence(file):
    if file.stem not in ("evidence", "train_extractor"):
        text = file.read_text(encoding="utf-8")
        assert '"--out"' in text, file
        assert "leave(arguments.out, " in text, file
        assert not re.search("quantile|ppf", text), "an interval is made by evidence.over_seeds or share"


def test_a_difference_is_of_the_same_seed(evidence, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    communication = importlib.import_module("communication")
    fids = {("float32", 1): 1.0, ("float32", 2): 2.0, ("2 bit", 1): 1.1, ("2 bit", 2): 2.2}
    rows = [{"scheme": scheme, "seed": seed, "fid": fid, "up": 1.0, "down": 3.0 if scheme == "float32" else 0.0}
            for (scheme, seed), fid in fids.items()]  # fmt: skip
    known = {claim.claim: claim for claim in communication.claims(rows)}
    assert known["2 bit: float32's bytes over its own"].number == pytest.approx(4)
    worse = known["2 bit: FID beside float32's of the same seed"]
    assert worse.number == pytest.approx(10)
    assert worse.n == 2
