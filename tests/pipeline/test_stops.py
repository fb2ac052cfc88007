"""What stops a run, and what it says of it: the mistakes in params.yaml, an error that nobody foresaw, bad data."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from tests.pipeline.conftest import change, command, copy, run

pytestmark = pytest.mark.pipeline


def test_all_that_is_wrong_in_params_yaml_is_said_at_once_and_before_anything_is_started(tmp_path):
    copy(tmp_path)

    def edit(raw):
        raw["models"]["gan"]["family"]["class_path"] = "fedsynth.families.gan.GNA"
        raw["models"]["diffusion"]["training"]["flip"] = [2]
        raw["source"]["args"]["sites"]["all"] = raw["source"]["args"]["sites"].pop("south")
        raw["gates"]["require"] = ["FID <= 3"]
        raw["consortium"]["min_cel"] = 5

    change(tmp_path, edit)
    for words in ([sys.executable, "-m", "flows.pipeline"], ["fedsynth", "check"], ["dvc", "repro", "ingest"]):
        done = command(*words, cwd=tmp_path)
        assert done.returncode != 0, words
        assert "params.yaml has 5 problems:" in done.stdout, (words, done.stdout)
        for said in ("did you mean 'fedsynth.families.gan.GAN'", "there is no axis 2", "'all'", "did you mean 'fid'",
                     "did you mean 'min_cell'"):  # fmt: skip
            assert said in done.stdout, (words, said)
    assert not (tmp_path / "data" / "sites").exists()


def test_the_reason_of_an_error_that_nobody_foresaw_reaches_the_terminal_with_the_place_of_the_log(tmp_path):
    copy(tmp_path)
    path = tmp_path / "fedsynth" / "stages" / "ingest.py"
    path.write_text(path.read_text() + "\n\ndef ingest(*_):\n    raise ValueError('the scanner is on fire')\n")
    done = run(tmp_path)
    assert done.returncode == 1
    assert "ingest: ValueError: the scanner is on fire" in done.stdout
    assert "exit code 255" not in done.stdout
    assert "the scanner is on fire" in (tmp_path / ".work/logs/ingest.log").read_text()


def test_bad_data_stop_the_run_with_the_site_the_rows_and_the_files(tmp_path):
    copy(tmp_path)
    table = tmp_path / "images"
    table.mkdir()
    rng = np.random.default_rng(0)
    rows = ["image,mask,label,site,subject,modality"]
    for site in ("north", "south"):
        for i in range(8):
            np.save(table / f"{site}{i}.npy", rng.random((16, 16)))
            rows.append(f"{site}{i}.npy,,a,{site},{site}-{i},x")
    (table / "south3.npy").write_bytes(b"not an image")
    (table / "manifest.csv").write_text("\n".join(rows) + "\n")

    def edit(raw):
        raw["source"] = {"class_path": "fedsynth.sources.table.Table", "args": {"folder": str(table)}}
        raw["image"] = {"size": [16, 16], "channels": {"x": "image"}, "labels": ["a", "b"]}
        raw["expectations"] = {"min_images": {"train": 1}, "every_class": False}
        raw["score"] = {"uses": {"classification": raw["score"]["uses"]["classification"]}}
        raw["gates"] = {}

    change(tmp_path, edit)
    done = command("dvc", "repro", "validate", cwd=tmp_path)
    assert done.returncode != 0
    for word in ("south", "south3.npy", "failed_site"):
        assert word in done.stdout

    change(tmp_path, lambda raw: raw["consortium"].update(failed_site="leave_out", min_sites=1))
    left = command("dvc", "repro", "validate", cwd=tmp_path)
    assert left.returncode == 0, left.stdout
    assert "warning: left out: south" in left.stdout
    assert json.loads((tmp_path / "reports/validation.json").read_text())["used"] == ["north"]

    # mended: that is seen, though neither params nor project have changed
    np.save(table / "south3.npy", rng.random((16, 16)))
    mended = command("dvc", "repro", "validate", cwd=tmp_path)
    assert mended.returncode == 0, mended.stdout
    assert json.loads((tmp_path / "reports/validation.json").read_text())["used"] == ["north", "south"]
