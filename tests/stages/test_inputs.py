"""What makes a stage stale: each leaf of params.yaml, the code, and where it runs; and that DVC then makes its outputs
anew.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedsynth.params import Centre, Params, load
from fedsynth.settings import Settings
from fedsynth.stages import inputs
from tests.test_architecture import ROOT

RAW = load(ROOT / "params.yaml").model_dump(mode="json")
STAGES = inputs.stages(ROOT, RAW["models"])
MODELS = list(RAW["models"])
LABELS = {"none", "infiltrating", "extra_axial"}


def of_models(*names: str) -> set[str]:
    return {f"{name}@{model}" for name in names for model in MODELS}


EVERY = {stage.address for stage in STAGES}
# Which stages use a key, said once more by hand: the longest of these that a leaf begins with.
USED_BY = {
    "study": set(),  # keys of the centre's own, which no result hangs on
    "promote": set(),
    "keep_runs": set(),
    "seed": {"ingest", "pretrain", "reference", *of_models("train", "sample", "score"), "report"},
    "source": {"ingest"},
    "image": EVERY,
    "split": {"ingest"},
    "split.train_only": {"ingest", "validate"},
    "split.test_only": {"ingest", "validate"},
    "expectations": {"validate", *of_models("sample")},
    "consortium": {"validate"},
    "consortium.min_cell": {"validate", "reference", *of_models("train", "score", "export"), "report"},
    "consortium.quorum": {"validate", "reference", *of_models("train", "score")},
    "consortium.grace_s": {"validate", "reference", *of_models("train", "score")},
    "models.vae": {"train@vae", "report"},
    "models.vae.pretrain": {"pretrain", "train@vae", "report"},
    "models.vae.family": {"train@vae", "sample@vae", "score@vae", "report"},
    "models.vae.algorithm": {"train@vae", "sample@vae", "score@vae", "report"},
    "models.vae.seed": {"train@vae", "sample@vae", "score@vae", "report"},
    "models.gan": {"train@gan", "report"},
    "models.gan.pretrain": {"pretrain", "train@gan", "report"},
    "models.gan.family": {"train@gan", "sample@gan", "score@gan", "report"},
    "models.gan.algorithm": {"train@gan", "sample@gan", "score@gan", "report"},
    "models.gan.seed": {"train@gan", "sample@gan", "score@gan", "report"},
    "models.diffusion": {"train@diffusion", "report"},
    "models.diffusion.pretrain": {"pretrain", "train@diffusion", "report"},
    "models.diffusion.family": {"train@diffusion", "sample@diffusion", "score@diffusion", "report"},
    "models.diffusion.algorithm": {"train@diffusion", "sample@diffusion", "score@diffusion", "report"},
    "models.diffusion.seed": {"train@diffusion", "sample@diffusion", "score@diffusion", "report"},
    "sample": of_models("sample"),
    "sample.balance": of_models("sample", "export"),
    "sample.given": of_models("sample", "export"),
    "sample.exporters": of_models("export"),
    "score.seeds": {"reference", *of_models("score"), "report"},
    "score.rounds": {"reference", "report"},
    "score.real_share": {*of_models("score"), "report"},
    "score.uses": {"reference", *of_models("score", "export"), "report"},
    "score.public": {"pretrain", "reference", "report"},
    "audit": of_models("train", "score"),
    "score.features": {*of_models("score"), "report"},
    "score.measures": {*of_models("score"), "report"},
    "gates": {*of_models("export"), "report"},
}


def leaves(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The way to every leaf; an empty mapping or list is one."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not inside or not value:
        yield path
    for key, of in inside:
        yield from leaves(of, (*path, key))


def other(value: Any, path: tuple) -> Any:
    """Another value of a leaf, of its kind."""
    if path[-1] == "class_path":  # another class of the same folder
        folder = value.rsplit(".", 2)[0]
        return next(
            f"{folder}.{file.stem}.Other"
            for file in sorted(ROOT.joinpath(*folder.split(".")).glob("[a-z]*.py"))
            if file.stem != value.split(".")[-2]
        )
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return (
        f"{value}x"
        if isinstance(value, str)
        else ["something"]
        if value is None or isinstance(value, list)
        else {"a": 1}
    )


def changed(raw: dict[str, Any], path: tuple) -> dict[str, Any]:
    raw = copy.deepcopy(raw)
    place = raw
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = other(place[path[-1]], path)
    return raw


def settings(monkeypatch, tmp_path, **env: str) -> Settings:
    for name in [n for n in os.environ if n.startswith("FEDSYNTH_")]:
        monkeypatch.delenv(name)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return Settings.read()


def texts(raw: dict[str, Any], where: Settings) -> dict[str, str]:
    return {stage.address: inputs.text(inputs.of_stage(stage, raw, where)) for stage in STAGES}


@pytest.mark.parametrize("path", leaves(RAW), ids=lambda path: ".".join(map(str, path)))
def test_a_leaf_of_params_yaml_changes_the_inputs_of_the_stages_that_use_it_and_no_others(path, monkeypatch, tmp_path):
    where = settings(monkeypatch, tmp_path)
    before, after = texts(RAW, where), texts(changed(RAW, path), where)
    key = ".".join(map(str, path))
    expected = USED_BY[max((name for name in USED_BY if f"{key}.".startswith(f"{name}.")), key=len)]
    assert {address for address in EVERY if before[address] != after[address]} == expected
    assert expected or key.partition(".")[0] in Centre.model_fields, f"no stage uses {key}"


def test_the_order_of_channels_counts(monkeypatch, tmp_path):
    raw = copy.deepcopy(RAW)
    raw["image"]["channels"] = {name: raw["image"]["channels"][name] for name in ("t2", "t1", "lesion")}
    assert texts(raw, settings(monkeypatch, tmp_path)) != texts(RAW, settings(monkeypatch, tmp_path))


def test_the_order_of_arguments_by_name_does_not(monkeypatch, tmp_path):
    raw = copy.deepcopy(RAW)
    args = raw["models"]["vae"]["family"]["args"]
    raw["models"]["vae"]["family"]["args"] = dict(reversed(args.items()))
    assert len(args) > 1
    assert texts(raw, settings(monkeypatch, tmp_path)) == texts(RAW, settings(monkeypatch, tmp_path))


def test_a_sites_smallest_cell_counts_where_the_sites_are_this_machine(monkeypatch, tmp_path):
    five, fifty = (texts(RAW, settings(monkeypatch, tmp_path, FEDSYNTH_MIN_CELL=n)) for n in ("5", "50"))
    assert {address for address in EVERY if five[address] != fifty[address]} == {
        "validate", "reference", *of_models("train", "score")
    }  # fmt: skip


def test_a_run_computes_what_params_yaml_said_when_it_began(monkeypatch, tmp_path):
    """A person may write the next experiment into params.yaml while one runs."""
    where = settings(monkeypatch, tmp_path)
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    began = load(tmp_path / "params.yaml")
    inputs.write(tmp_path, inputs.texts(tmp_path, began, where))
    (tmp_path / "params.yaml").write_text((tmp_path / "params.yaml").read_text().replace("images: 300", "images: 500"))
    assert inputs.params_of_run(tmp_path, where).sample.images == 500  # a person's own call
    monkeypatch.setenv("DVC_STAGE", "sample@vae")
    assert inputs.params_of_run(tmp_path, where) == began
    monkeypatch.setattr(inputs.code, "digests", lambda *_: {"fedsynth.stages.sample": "another"})
    with pytest.raises(inputs.DagError, match="sample@vae: its code or its environment has changed since this run"):
        inputs.params_of_run(tmp_path, where)


def test_a_key_that_is_left_out_is_its_default(monkeypatch, tmp_path):
    short = yaml.safe_load((ROOT / "params.yaml").read_text())
    for key in ("seed", "consortium"):
        del short[key]
    del short["score"]["seeds"], short["score"]["rounds"], short["score"]["features"], short["sample"]["images"]
    spelt = Params.model_validate(short).model_dump(mode="json")
    assert {stage.address for stage in inputs.stages(ROOT, spelt["models"])} == EVERY
    assert texts(spelt, settings(monkeypatch, tmp_path)) == texts(RAW, settings(monkeypatch, tmp_path))


def test_a_key_that_is_left_out_is_the_familys_default_and_its_stages_follow_that(monkeypatch, tmp_path):
    """A GAN's betas; those of a diffusion stay torch's."""

    def written(training, of="gan"):
        raw = copy.deepcopy(RAW)
        raw["models"][of]["training"] = {"rounds": 8} | training
        filled = Params.model_validate(raw).model_dump(mode="json")
        return texts(filled, settings(monkeypatch, tmp_path))[f"train@{of}"]

    plain = written({})
    assert plain == written({"betas": [0.0, 0.99], "clip": None, "lr": 1e-3, "ema": 0.995})
    assert plain != written({"betas": [0.9, 0.999]})
    assert written({}, "diffusion") == written({"betas": [0.9, 0.999], "ema": 0.995, "clip": 1.0}, "diffusion")
    monkeypatch.setattr("fedsynth.params.model.training_defaults", lambda path: {"betas": (0.5, 0.9)})
    assert json.loads(written({}))["params"]["models.gan"]["training"]["betas"] == [0.5, 0.9]


def test_where_a_job_ran_is_part_of_what_it_is(monkeypatch, tmp_path):
    simulator = texts(RAW, settings(monkeypatch, tmp_path))
    poc = texts(RAW, settings(monkeypatch, tmp_path, FEDSYNTH_FEDERATION="poc"))
    jobs = {"validate", "reference", *of_models("train", "score")}
    assert {address for address in EVERY if simulator[address] != poc[address]} == jobs
    production = settings(monkeypatch, tmp_path, FEDSYNTH_FEDERATION="production", FEDSYNTH_KIT=str(tmp_path))
    assert {address for address in EVERY if simulator[address] != texts(RAW, production)[address]} == EVERY


def test_a_stage_that_does_not_depend_on_its_inputs_is_refused(tmp_path):
    (tmp_path / "dvc.yaml").write_text("stages: {report: {cmd: python -m fedsynth report, outs: [x]}}\n")
    with pytest.raises(inputs.DagError, match=r"stage report does not depend on data/inputs/report\.json"):
        inputs.stages(tmp_path, [])


def test_a_stage_that_uses_a_key_that_cannot_be_is_refused(monkeypatch, tmp_path):
    stage = inputs.Stage("report", "python -m fedsynth report", ("score.sedes",), (), ())
    with pytest.raises(inputs.DagError, match=r"stage report uses score\.sedes"):
        inputs.of_stage(stage, RAW, settings(monkeypatch, tmp_path))


# --- with DVC: dvc.yaml as it is, whose commands write what they were given, and a line that is never the same

STUB = """
import json, sys, uuid
from pathlib import Path
words = sys.argv[1:]
if "nvflare_jobs.source.job" in words:
    from fedsynth.settings import Settings
    from fedsynth.stages import inputs
    import yaml
    raw = yaml.safe_load(Path("params.yaml").read_text())
    where, stages = Settings.read(), inputs.stages(Path("."), raw["models"])
    wanted = {stage.file: inputs.text(inputs.of_stage(stage, raw, where)) for stage in stages}
    inputs.write(Path("."), wanted)
    for name in ("source", "given", "missing"):
        Path(f"data/{name}.json").write_text("{}")
    sys.exit()
name, *model = [words[2], *words[3:]] if words[1] == "fedsynth" else [words[1].split(".")[1], *words[2:]]
address = "@".join([name, *model])
for out in json.loads(Path("outs.json").read_text())[address]:
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.suffix:
        path.mkdir(exist_ok=True)
        if name == "pretrain":  # a file for each model, the same where none asks for weights
            import yaml
            for of in yaml.safe_load(Path("params.yaml").read_text())["models"]:
                (path / f"{of}.json").write_text("{}")
        path /= "file"
    path.write_text(uuid.uuid4().hex)
"""


class Study:
    """A folder with the project's dvc.yaml, whose commands are stubs."""

    def __init__(self, folder: Path):
        self.folder = folder
        programs = folder / "bin"
        programs.mkdir()
        (folder / "stub.py").write_text(STUB)
        (programs / "python").write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" stub.py "$@"\n')
        (programs / "python").chmod(0o755)
        (folder / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
        (folder / "outs.json").write_text(json.dumps({stage.address: stage.outs for stage in STAGES}))
        place = {k: v for k, v in os.environ.items() if not k.startswith(("FEDSYNTH_", "DVC_"))}
        self.env = place | {"PATH": f"{programs}{os.pathsep}{place['PATH']}", "DVC_NO_ANALYTICS": "true"}
        self.dvc("init", "--no-scm", "-q")

    def dvc(self, *words: str) -> str:
        command = [sys.executable, "-m", "dvc", *words]
        done = subprocess.run(command, cwd=self.folder, env=self.env, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def repro(self, raw: dict[str, Any]) -> dict[str, str]:
        """Stage -> ran, restored or unchanged, after `dvc repro` alone."""
        (self.folder / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
        text = self.dvc("repro")
        said = {"Running stage '": "ran", "' is cached": "restored", "' didn't change": "unchanged"}
        found = {}
        for line in text.splitlines():
            for words, outcome in said.items():
                if words in line:
                    found[line.split("'")[1]] = outcome
        return found

    def outputs(self) -> dict[str, str]:
        paths = {s.address: [self.folder / out for out in s.outs] for s in STAGES}
        return {a: "".join((p if p.is_file() else p / "file").read_text() for p in of) for a, of in paths.items()}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    made = Study(tmp_path_factory.mktemp("study"))
    made.repro(RAW)
    return made


def downstream(stages: set[str]) -> set[str]:
    """With all that follow: each depends on an output of one of these, or on what lies in it."""
    found = set(stages)
    while more := {
        s.address for s in STAGES if s.address not in found and any(u.feeds(s) for u in STAGES if u.address in found)
    }:
        found |= more
    return found


def test_a_second_repro_runs_nothing(study):
    before = study.outputs()
    assert set(study.repro(RAW).values()) == {"ran", "unchanged"}  # `source` looks each time
    assert study.outputs() == before


# one leaf for every set of stages, and `size`, which DVC's run cache leaves out of its hash among parameters
LEAVES = {
    "image.size.0": EVERY,
    "source.args.sites.north.noise": USED_BY["source"],
    "consortium.failed_site": USED_BY["consortium"],
    "models.vae.training.lr": USED_BY["models.vae"],
    "models.gan.family.args.width": USED_BY["models.gan.family"],
    "sample.images": USED_BY["sample"],
    "score.rounds": USED_BY["score.rounds"],
    "score.real_share": USED_BY["score.real_share"],
    "gates.require.0": USED_BY["gates"],
}


@pytest.mark.parametrize(("key", "users"), LEAVES.items(), ids=LEAVES)
def test_what_uses_a_leaf_is_made_anew_with_all_that_follows_and_restored_when_it_is_put_back(study, key, users):
    path = tuple(int(part) if part.isdigit() else part for part in key.split("."))
    before = study.outputs()
    outcomes = study.repro(changed(RAW, path))
    expected = downstream(users)
    assert {address for address, outcome in outcomes.items() if outcome == "ran"} - {"source"} == expected
    after = study.outputs()
    assert {address for address in EVERY if before[address] != after[address]} == expected
    back = study.repro(RAW)
    assert {address for address, outcome in back.items() if outcome == "restored"} == expected
    assert study.outputs() == before
