"""Of which code a digest is: what a stage's command and the classes of its blocks import, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fedsynth.stages import code
from tests.test_architecture import ROOT, name_of, sources

TRAIN = ("nvflare_jobs.train.job", "nvflare_jobs.train.client")
VAE, GAN = "fedsynth.families.vae.VAE", "fedsynth.families.gan.GAN"


def test_only_the_classes_that_a_block_names_count():
    found = code.digests(TRAIN, [VAE])
    assert {
        "fedsynth.families.vae",
        "fedsynth.families",
        "fedsynth.networks.blocks",
        "fedsynth.training.trainer",
    } <= found.keys()
    assert {"fedsynth.families.gan", "fedsynth.families.diffusion", "fedsynth.algorithms.fedprox"}.isdisjoint(found)


def test_a_class_brings_what_it_builds_on():
    assert "fedsynth.families.gan" in code.digests(TRAIN, ["fedsynth.families.wgan.WGAN"])


def test_what_codes_arrays_counts_for_who_sends_coded_ones():
    assert "fedsynth.training.coding" not in code.digests(TRAIN, [VAE])
    coded = code.digests(TRAIN, [VAE, "fedsynth.compression.quantize.Quantize"])
    assert {"fedsynth.training.coding", "fedsynth.compression", "fedsynth.compression.quantize"} <= coded.keys()
    assert "fedsynth.compression.topk" not in coded


def test_the_other_loop_counts_for_the_algorithm_that_it_is_of():
    assert not [name for name in code.digests(TRAIN, [VAE]) if name.startswith("nvflare_jobs.exchange")]
    found = code.digests(TRAIN, [GAN, "fedsynth.algorithms.mdgan.MDGAN"])
    assert {
        "fedsynth.training.central_generator",
        "nvflare_jobs.exchange.client",
        "nvflare_jobs.exchange.server",
    } <= found.keys()


def test_a_job_counts_what_runs_at_the_server_and_at_the_sites():
    assert {
        "nvflare_jobs.server.aggregator",
        "nvflare_jobs.server.controller",
        "nvflare_jobs.site.site",
    } <= code.digests(TRAIN).keys()
    asked = code.digests(("nvflare_jobs.validate.job", "nvflare_jobs.validate.client"))
    assert "nvflare_jobs.server.ask" in asked
    assert "nvflare_jobs.server.aggregator" not in asked


def test_what_the_files_of_a_kind_share_counts_for_those_that_use_it():
    ingest = ["fedsynth.stages.ingest"]
    assert "fedsynth.sources._indexed" in code.digests(ingest, ["fedsynth.sources.bids.BIDS"])
    assert "fedsynth.sources._indexed" not in code.digests(ingest, ["fedsynth.sources.phantom.Phantom"])
    assert "fedsynth.compression.cast" in code.digests(TRAIN, ["fedsynth.compression.quantize.Quantize"])
    assert "fedsynth.data.manifest" in code.digests(ingest, ["fedsynth.sources.phantom.Phantom"])


def test_a_class_that_a_module_names_in_a_string_counts():
    reference = ("nvflare_jobs.reference.job", "nvflare_jobs.reference.client")
    assert "fedsynth.algorithms.fedavg" in code.digests(reference)
    assert "fedsynth.families.diffusion" in code.digests(TRAIN, ["fedsynth.families.latent.Latent"])


def test_what_lets_an_answer_out_counts_for_the_stage_whose_answer_it_is():
    door = "fedsynth.hospital.outgoing"
    assert {f"{door}.rounds", f"{door}.arrays"} <= code.digests(TRAIN, [VAE]).keys()
    assert {f"{door}.judging", f"{door}.validation", "fedsynth.validation.rules"}.isdisjoint(code.digests(TRAIN, [VAE]))
    assert f"{door}.judging" in code.digests(("nvflare_jobs.score.job", "nvflare_jobs.score.client"))
    assert f"{door}.validation" in code.digests(("nvflare_jobs.validate.job", "nvflare_jobs.validate.client"))


def test_templates_count_with_those_that_they_name():
    found = code.digests(["fedsynth.stages.export"])
    assert {"fedsynth/report/templates/card.md.j2", "fedsynth/report/templates/facts.md.j2"} <= found.keys()
    assert "fedsynth/report/templates/report.css" not in found
    assert "fedsynth/report/templates/report.css" in code.digests(["fedsynth.stages.report"])


def test_a_module_that_is_not_there_is_said():
    with pytest.raises(ModuleNotFoundError, match=r"fedsynth\.families\.vea"):
        code.digests(TRAIN, ["fedsynth.families.vea.VAE"])


def test_no_module_is_forgotten():
    """Each counts for some stage, is said to be plumbing, or has to do with no stage."""
    kinds = (
        "sources",
        "families",
        "algorithms",
        "privacy",
        "compression",
        "robust",
        "operators",
        "uses",
        "features",
        "measures",
        "exporters",
    )
    classes = [f"{name_of(p)}.X" for p in sources() if name_of(p).split(".")[1:2] and name_of(p).split(".")[1] in kinds]
    stages = [f"fedsynth.stages.{name}" for name in ("ingest", "pretrain", "sample", "export", "report")]
    jobs = [f"nvflare_jobs.{kind}" for kind in ("validate", "reference", "train", "score")]
    paths = [path for path in classes if path.count(".") > 2 and "._" not in path]
    counted = {name for path in paths for name in code.digests([*stages, *jobs], [path])}
    left = {name_of(p) for p in sources() if not name_of(p).startswith("flows")} - counted
    left = {name for name in left if not any(code.fnmatchcase(name, of) for of in code.PLUMBING)}
    no_stage = ("fedsynth.registry", "fedsynth.hospital.check", "fedsynth.hospital.findings",
                "fedsynth.hospital.forget", "fedsynth.data.removal", "fedsynth.worth.terminal",
                "fedsynth.worth.gained", "fedsynth.stages.outside",
                "fedsynth.__main__", "nvflare_jobs.source", "fedsynth.hospital.audit",
                "fedsynth.hospital.commands", "fedsynth.generation", "fedsynth.study",
                "fedsynth.stages.last_run")  # fmt: skip
    assert {name for name in left if not name.startswith(no_stage)} == {"fedsynth", "nvflare_jobs"}


@pytest.fixture(scope="module")
def copied(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    for package in code.PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def digests_of(folder: Path) -> dict[str, str]:
    script = f"import json; from fedsynth.stages import code; print(json.dumps(code.digests({TRAIN}, [{VAE!r}])))"
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("edit", "changed"),
    [
        (lambda text: text.replace('"""', '"""Now, ', 1), set()),
        (lambda text: "# a remark\n" + text.replace("\n\n\n", "\n\n\n\n"), set()),
        (lambda text: text + "\n\nSETTING = 1\n", {"fedsynth.families.vae"}),
        (lambda text: text + "\n\nif TYPE_CHECKING:\n    from fedsynth.families.gan import GAN\n", set()),
        (
            lambda text: text + "\n\nfrom fedsynth.families import gan\n",
            {"fedsynth.families.vae", "fedsynth.families.gan"},
        ),
    ],
    ids=["a docstring", "remarks and lines", "a value", "an import for type checkers", "an import"],
)
def test_what_python_runs_counts_and_how_it_is_written_does_not(copied, edit, changed):
    path = copied / "fedsynth" / "families" / "vae.py"
    before, text = digests_of(copied), path.read_text()
    path.write_text(edit(text))
    try:
        after = digests_of(copied)
    finally:
        path.write_text(text)
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} == changed


def kept_digests(folder: Path, parse: str = "pass") -> dict[str, str]:
    """The digests by a process that keeps what it reads in `folder`. `parse`: a statement that it runs before."""
    script = (
        f"import json; from pathlib import Path; from fedsynth.stages import code; {parse};"
        f" print(json.dumps(code.digests({TRAIN}, [{VAE!r}], Path('.'))))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_what_was_read_of_a_file_is_kept_until_the_file_changes(copied):
    path, never = copied / "fedsynth" / "families" / "vae.py", "code.ast.parse = None"
    fresh, text = digests_of(copied), path.read_text()
    assert kept_digests(copied) == fresh
    assert kept_digests(copied, never) == fresh
    path.write_text(text + "\n\nfrom fedsynth.families import gan\n")
    try:
        assert kept_digests(copied) == kept_digests(copied, never) == digests_of(copied) != fresh
    finally:
        path.write_text(text)
    (copied / code.KEPT).write_text('{"fedsynth.families.vae": ')
    assert kept_digests(copied) == fresh


def test_a_new_file_of_a_kind_and_bytecode_change_nothing(copied):
    before = digests_of(copied)
    (copied / "fedsynth" / "families" / "another.py").write_text("A = 1\n")
    cache = copied / "fedsynth" / "families" / "__pycache__"
    cache.mkdir(exist_ok=True)
    (cache / "vae.cpython-311.pyc").write_bytes(b"x")
    assert digests_of(copied) == before
