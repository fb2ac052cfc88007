"""Keys of params.yaml that are the centre's own: the study's name, who approves, how much is kept."""

from __future__ import annotations

import pytest
import yaml

from fedsynth import params
from fedsynth.hospital.policy import study as policy
from fedsynth.hospital.policy.model import Study
from fedsynth.settings import Settings
from fedsynth.stages import inputs
from nvflare_jobs.centre.program import public
from tests.sets import TINY, tiny_params

NAMED = {"study": "busi", "promote": {"approvers": ["Ada Lovelace"]}, "keep_runs": 5}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(TINY | NAMED, sort_keys=False))
    return tmp_path


def test_they_are_read_alone_and_the_default_study_is_fedsynth(root, tmp_path_factory):
    assert params.centre(root).promote.approvers == ["Ada Lovelace"]
    assert params.study_of(root) == params.load(root / "params.yaml").study == "busi"
    elsewhere = tmp_path_factory.mktemp("serving")
    assert params.study_of(elsewhere) == tiny_params().study == "fedsynth"
    assert (params.keep_runs(root), params.keep_runs(elsewhere)) == (5, 3)
    with pytest.raises(params.ParamsError, match=r"params.yaml is not there"):
        params.centre(elsewhere)


@pytest.mark.parametrize("name", ["with blank", "a/b", "-x", "ä", "", "x" * 81, "a\n"])
def test_a_name_that_cannot_name_an_experiment_is_refused(root, name):
    (root / "params.yaml").write_text(yaml.safe_dump({"study": name}))
    with pytest.raises(params.ParamsError, match=r"study: .*letters .without accents., digits, _ and -, 80 at most"):
        params.study_of(root)


@pytest.mark.parametrize("number", [0, 10000, 1.5, "all"])
def test_what_is_no_number_of_runs_is_refused(root, number):
    (root / "params.yaml").write_text(yaml.safe_dump({"keep_runs": number}))
    with pytest.raises(params.ParamsError, match="keep_runs"):
        params.keep_runs(root)


def test_no_stage_becomes_stale_by_them(tmp_path):
    ingest = {"cmd": "python -m fedsynth ingest", "deps": ["data/inputs/ingest.json"], "meta": {"params": ["seed"]}}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"ingest": ingest}}))
    (before, after) = (inputs.texts(tmp_path, tiny_params(**of), Settings.read()) for of in ({}, NAMED))
    assert {file for file in before if before[file] != after[file]} == {inputs.FOLDER / inputs.ALL}


def test_no_job_and_no_policy_holds_them_and_none_is_refused_for_them():
    assert set(NAMED).isdisjoint(public(tiny_params(**NAMED)))
    assert set(NAMED).isdisjoint(policy.agreed(tiny_params(**NAMED)))
    other = tiny_params(study="other").model_dump(mode="json") | {"models": {}}  # as from a centre that still sends it
    studies = {"ours": Study(params=policy.agreed(tiny_params(**NAMED)), may_differ=[])}
    assert policy.of(studies, other) == policy.of(studies, public(tiny_params())) == "ours"
