"""`fedsynth generate`: what a person and a program see of it, in a folder that is no study."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from fedsynth.__main__ import app
from fedsynth.validation import expectations
from fedsynth.validation.verdict import Failure, Verdict
from tests.sets import tiny_params
from tests.trained import trained


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working directory, with nothing in it but a model that was handed out."""
    monkeypatch.delenv("FEDSYNTH_ROOT", raising=False)
    trained(tmp_path, tiny_params())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def passed(monkeypatch):
    """The verdict of a good set, with a warning, without Great Expectations, whose import takes seconds."""
    warning = Failure("usual mean intensity", "warning", 2)
    verdict = Verdict("vae", True, "", 0, [], [warning], {}, ["unique hashes", "usual mean intensity"])
    monkeypatch.setattr(expectations, "validate", lambda *_: verdict)


def generate(*words):
    done = CliRunner().invoke(app, ["generate", *words])
    return done.exit_code, done.stdout, str(done.exception or "") + done.stderr


def test_a_person_is_told_what_was_made_by_what_and_how_it_was_checked(here, passed):
    code, said, _ = generate(
        "models/vae", "--images", "4", "--label", "infiltrating", "--label", "none", "--out", "set"
    )
    assert code == 0
    assert "4 images (2 none, 2 infiltrating) by the model in vae, seed 0, png" in said
    assert "the weights against the SHA-256 in model.json; gates: not known" in said
    assert "2 expectations hold" in said
    assert "warning: usual mean intensity (2)" in said
    assert {path.name for path in here.iterdir()} == {"models", "set"}


def test_a_program_gets_json_alone_on_the_output(here, passed):
    code, said, _ = generate(
        "./models/vae", "--images", "3", "--format", "npz", "--seed", "9", "--out", "set", "--json"
    )
    done = json.loads(said)
    assert code == 0
    assert done | {"images": 3, "seed": 9, "format": "npz", "model": "vae", "out": str(here / "set")} == done
    assert done["warnings"] == {"usual mean intensity": 2}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["vae"], "there is no registry in"),
        (["models/vae", "--label", "benign"], "knows no label 'benign'; it knows none, infiltrating, extra_axial"),
        (["models/vae", "--format", "gif"], "there is no format 'gif'; there are decathlon, dicom, nifti, npz, png"),
        (["models/vae", "--version", "2"], "--version 2 goes with a model's name"),
        (["models/vae", "--out", "models"], "is not empty (vae), and nothing is overwritten"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(here, words, said):
    code, out, why = generate(words[0], "--images", "3", "--out", "set", *words[1:])
    assert code == 1
    assert said in why
    assert out == ""
    assert not (here / "set").exists()


def test_a_number_of_images_and_a_folder_are_asked_for():
    assert generate("vae", "--out", "set")[0] == 2
    assert generate("vae", "--images", "3")[0] == 2
    assert generate("vae", "--images", "0", "--out", "set")[0] == 2


def test_ctrl_c_ends_it_and_leaves_no_folder(here):
    # heeded also where the tests run in the background, where a shell has made them deaf to it
    heeding = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        " runpy.run_module('fedsynth', run_name='__main__', alter_sys=True)"
    )
    command = [sys.executable, "-c", heeding, "generate", "models/vae", "--images", "100000", "--out", "set"]
    with subprocess.Popen(
        command, cwd=here, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        until = time.monotonic() + 120
        while not list(here.glob(".set.*.part/.work/set/images.npy")) and time.monotonic() < until:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[0].decode()
    assert process.returncode not in (0, None)
    assert "Traceback" not in said
    assert {path.name for path in here.iterdir()} == {"models"}


def test_the_package_and_the_help_import_nothing_heavy():
    script = (
        "import sys, fedsynth, fedsynth.generation.command; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
