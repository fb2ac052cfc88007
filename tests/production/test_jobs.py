"""The fast path over a provisioned federation: every kind of job as the centre's stages run them, and a search for what
may not leave.

Each of two hospitals has its own folder, table, params.yaml, ingested set and state; the centre has none of them.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from fedsynth.data import manifest
from fedsynth.hospital.record import Record
from nvflare_jobs.federation import local_system
from nvflare_jobs.server.ask import ANSWERS
from tests.production.conftest import Trial, left, started

pytestmark = pytest.mark.flare

ROOT = Path(__file__).parents[2]
SITES = ["east", "north"]
# Marks of what may never leave a hospital: in names of files, of subjects, in a further column of the table, in a file
# that cannot be read.
MARKS = ["SCANFILE7391", "SUBJECT5527", "REMARK8846", "BROKEN4402"]


MEASURES = {
    "fid": "FID",
    "kid": "KID",
    "prdc": "PRDC",
    "ms_ssim": "MSSSIM",
    "intensity": "Intensity",
    "class_agreement": "ClassAgreement",
    "copies": "Copies",
    "membership": "Membership",
}


def params(folder: Path | str) -> dict[str, Any]:
    return {
        "source": {"class_path": "fedsynth.sources.table.Table", "args": {"folder": str(folder)}},
        "image": {"size": [16, 16], "channels": {"x": "image"}, "labels": ["a", "b"]},
        "split": {"val": 0.1, "test": 0.3},
        "expectations": {"min_images": {"train": 2, "test": 2}},
        "models": {
            "vae": {"family": {"class_path": "fedsynth.families.vae.VAE"}, "training": {"rounds": 2, "batch": 8}}
        },
        "sample": {"images": 12},
        "score": {
            "uses": {
                "classification": {"class_path": "fedsynth.uses.classification.Classification", "args": {"steps": 5}}
            },
            "rounds": 2,
            "measures": {
                name.lower(): {"class_path": f"fedsynth.measures.{file}.{name}"} for file, name in MEASURES.items()
            },
        },
    }


def hospital(trial: Trial, site: str) -> Path:
    """A hospital's images and its params.yaml; the last image of north cannot be read."""
    folder = trial.root / "hospitals" / site
    folder.mkdir(parents=True)
    rng, rows = np.random.default_rng(len(site)), ["image,mask,label,site,subject,modality,remark"]
    for i in range(40):
        name = f"{MARKS[0]}_{site}_{i}.npy"
        np.save(folder / name, rng.random((16, 16), np.float32))
        rows.append(f"{name},,{'ab'[i % 2]},{site},{MARKS[1]}-{site}-{i},x,{MARKS[2]}")
    if site == "north":
        (folder / f"{MARKS[3]}.npy").write_bytes(b"not an image")
        rows.append(f"{MARKS[3]}.npy,,a,{site},{MARKS[1]}-{site}-broken,x,{MARKS[2]}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    (folder / "params.yaml").write_text(yaml.safe_dump(params(folder)))
    return folder


def ingest(trial: Trial, site: str) -> None:
    """At the hospital, by its own environment."""
    here = trial.root / "hospitals" / site
    env = os.environ | trial.system.places[site]
    done = subprocess.run([sys.executable, "-m", "fedsynth", "ingest", "--site", site], cwd=here, env=env, check=False,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr


def centre(trial: Trial, *words: str, **env: str) -> subprocess.CompletedProcess:
    """A stage at the centre, which knows its admin's kit and nothing else."""
    place = {k: v for k, v in os.environ.items() if not k.startswith("FEDSYNTH_")}
    place |= {"FEDSYNTH_FEDERATION": "production", "FEDSYNTH_KIT": str(trial.system.admin), "FEDSYNTH_CONNECT_S": "30"}
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=trial.root / "centre",
        env=place | env,
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=240,
    )


@pytest.fixture(scope="module")
def walk(tmp_path_factory) -> Any:
    """All jobs once, independent ones at the same time; each one's output by name."""
    with started(tmp_path_factory.mktemp("walk"), SITES, streaming=True) as trial:
        (trial.root / "centre").mkdir()
        (trial.root / "centre" / "params.yaml").write_text(yaml.safe_dump(params("/no/such/folder/at/the/centre")))
        (trial.root / "centre" / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
        with ThreadPoolExecutor(4) as pool:
            for site in SITES:
                hospital(trial, site)
                ingest(trial, site)
            began, said = time.monotonic(), {}
            look, failed = (
                pool.submit(centre, trial, "nvflare_jobs.source.job"),
                pool.submit(centre, trial, "nvflare_jobs.validate.job"),
            )
            said["look"], said["failed"], said["failed_s"] = look.result(), failed.result(), time.monotonic() - began
            table = trial.root / "hospitals" / "north" / "manifest.csv"
            # mended
            table.write_text(
                "".join(line for line in table.read_text().splitlines(keepends=True) if MARKS[3] not in line)
            )
            ingest(trial, "north")
            said["validate"] = centre(trial, "nvflare_jobs.validate.job")
            train = pool.submit(centre, trial, "nvflare_jobs.train.job", "vae")
            reference = pool.submit(centre, trial, "nvflare_jobs.reference.job")
            said["train"], said["reference"] = train.result(), reference.result()
            said["sample"] = centre(trial, "fedsynth", "sample", "vae")
            said["score"] = centre(trial, "nvflare_jobs.score.job", "vae")
            yield trial, said


def test_every_kind_of_job_ends_well(walk):
    _, said = walk
    for name in ("look", "validate", "train", "reference", "sample", "score"):
        assert said[name].returncode == 0, f"{name}: {said[name].stdout}"


def test_a_site_that_failed_validation_is_named_with_the_expectation_and_nothing_of_its_files(walk, measured):
    _, said = walk
    line = next(text for text in said["failed"].stdout.splitlines() if text.startswith("  north"))
    measured(
        "a site's data fail validation (`failed_site: stop`)",
        f"validation failed at north; {line.strip()}",
        said["failed_s"],
    )
    assert said["failed"].returncode == 1, said["failed"].stdout
    assert "validation failed at north" in said["failed"].stdout
    assert "rows and files are in the report at the site" in said["failed"].stdout


def test_the_report_of_a_failed_validation_stays_at_the_site_and_names_the_file(walk):
    trial, _ = walk
    logs = "".join(p.read_text(errors="replace") for p in (trial.system.kits / "north").rglob("log.txt"))
    assert MARKS[3] in logs  # in the site's own log: what the search below looks for is there to be found
    assert (trial.state("north") / "north" / "validation" / "index.html").is_file()


def test_what_comes_back_is_what_the_simulator_brings(walk):
    root = walk[0].root / "centre"
    validation = json.loads((root / "reports/validation.json").read_text())
    assert validation["used"] == SITES
    source = json.loads((root / "data/source.json").read_text())
    assert list(source["digests"]) == SITES
    assert source["digests"]["east"] == validation["sites"]["east"]["digest"]
    assert source["digests"]["north"] != validation["sites"]["north"]["digest"]  # mended since, and DVC would see it
    history = json.loads((root / "models/vae/history.json").read_text())
    assert [r["round"] for r in history["rounds"]] == [0, 1]
    assert sorted(history["rounds"][0]["sites"]) == SITES
    assert (root / "models/vae/weights.safetensors").is_file()
    reference = json.loads((root / "reports/reference.json").read_text())["rows"]
    # nobody can pool hospitals' images
    assert {(r["name"], r["site"]) for r in reference} == {(n, s) for n in ("local", "federated") for s in SITES}
    score = json.loads((root / "reports/score/vae.json").read_text())
    assert {(r["name"], r["site"]) for r in score["rows"]} == {
        (n, s) for n in ("synthetic", "augmented") for s in SITES
    }
    assert {number["measure"] for number in score["measures"].values()} == {name.lower() for name in MEASURES.values()}
    for name in ("intensity_distance", "class_agreement", "membership_loss_auc", "copies_pixel"):
        assert score["measures"][name]["value"] is not None
        assert score["measures"][name]["sites"].keys() == set(SITES)
    for of in score["spread"]:  # small cells of test images could be solved from it
        cells = [by_split["test"] for by_split in validation["sites"][of["site"]]["counts"].values()]
        assert (of["covariance"] and len(of["covariance"])) == (4 if all(isinstance(n, int) for n in cells) else None)
    assert sorted(of["site"] for of in score["spread"]) == SITES


def test_the_nearest_pairs_are_pictures_that_stay_at_their_site(walk):
    trial, _ = walk
    for site in SITES:
        kept = trial.state(site) / site / "audit" / "vae"
        assert (kept / "pairs.png").stat().st_size > 1000
        assert site in (kept / "pairs.csv").read_text()  # the ids of its images
    received = [*(trial.root / "centre").rglob("*"), *(trial.system.kits / local_system.SERVER).rglob("*")]
    assert not [path for path in received if path.name.startswith("pairs.")]


def test_nothing_of_a_hospital_is_in_anything_that_the_centre_has_received(walk):
    """The centre is its own folder and all of the server's: jobs, results, logs, statistics, models, what FLARE
    streams.
    """
    trial, _ = walk
    marks = [m.encode() for m in MARKS]
    for site in SITES:
        images = np.load(Path(trial.system.places[site]["FEDSYNTH_DATA"]) / site / manifest.ARRAY)
        # three pixels in a row
        marks += [np.ascontiguousarray(image.ravel()[i : i + 3]).tobytes() for image in images for i in (0, 100, 200)]
    places = [
        trial.root / "centre",
        trial.system.kits / local_system.SERVER,
        trial.system.folder / "jobs",
        trial.system.folder / "snapshots",
        trial.system.folder / "tmp",
    ]
    files = [path for place in places for path in place.rglob("*") if path.is_file() and "transfer" not in path.parts]
    assert len(files) > 50
    found = {f"{path}: {mark!r}" for path in files for name, data in opened(path) for mark in marks if mark in data}
    assert found == set()
    # the search itself finds them where they are
    here = trial.root / "hospitals" / "east"
    assert any(marks[0] in path.name.encode() for path in here.iterdir())
    assert any(marks[-1] in data for path in (trial.root / "places").rglob("images.npy") for _, data in opened(path))


def test_all_that_the_centre_has_received_stands_in_each_hospitals_record_and_no_mark_does(walk):
    trial, _ = walk
    answers = [json.loads(path.read_text()) for path in (trial.root / "centre").rglob(ANSWERS)]
    for site in SITES:
        record = Record(trial.state(site) / site)
        entries = record.read()  # raises where a line was changed or is missing
        sent = [entry for entry in entries if entry["what"] == "sent"]
        assert {entry["job"] for entry in sent} == {"look", "validate", "train", "reference", "score"}
        told = {entry.get("answer_sha256") for entry in sent}
        received = [of[site]["answer"] for of in answers if "answer" in of.get(site, {})]
        assert len(received) >= 4  # look, validate, reference, score
        for answer in received:
            assert hashlib.sha256(json.dumps(answer, sort_keys=True).encode()).hexdigest() in told, list(answer)
        weights = load_file(trial.root / "centre" / "models" / "vae" / "weights.safetensors")
        differences = [entry for entry in sent if entry["job"] == "train"]
        assert [entry["round"] for entry in differences] == [0, 1]
        size = sum(array.size for array in weights.values())
        assert {(entry["values"], entry["bytes"]) for entry in differences} == {(size, 4 * size)}
        assert not [mark for mark in MARKS if mark in record.chain.path.read_text()]


def opened(path: Path) -> list[tuple[str, bytes]]:
    """A file's bytes, and those of all that an archive holds."""
    data = path.read_bytes()
    return [(path.name, data), *members(data)]


def members(data: bytes) -> list[tuple[str, bytes]]:
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return []
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        found = [(name, archive.read(name)) for name in archive.namelist()]
    return found + [inner for _, content in found for inner in members(content)]


def test_a_sigterm_to_the_stage_aborts_its_job_and_leaves_no_process(walk):
    trial, _ = walk
    env = os.environ | {
        "FEDSYNTH_FEDERATION": "production",
        "FEDSYNTH_KIT": str(trial.system.admin),
        "PYTHONUNBUFFERED": "1",
    }
    path = trial.root / "centre" / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["models"]["vae"]["training"] |= {"rounds": 150, "epochs": 30}
    path.write_text(yaml.safe_dump(raw))
    process = subprocess.Popen(
        [sys.executable, "-m", "nvflare_jobs.train.job", "vae"],
        cwd=trial.root / "centre",
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "round 2/" in line:
            break
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    process.communicate(timeout=40)
    assert process.returncode == 143
    assert time.monotonic() - began < 20
    deadline = time.monotonic() + 30
    while any("worker_process" in " ".join(c) or "runner_process" in " ".join(c) for c in left(trial.system.mark)):
        assert time.monotonic() < deadline, "processes of the job are left"
        time.sleep(0.5)
