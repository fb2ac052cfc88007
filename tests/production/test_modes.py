"""The same stages in the simulator, on a local provisioned federation (poc), and there without any code in the jobs:
the same results.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nvflare_jobs.federation import local_system
from tests.production.test_jobs import params

pytestmark = pytest.mark.production

ROOT = Path(__file__).parents[2]
PHANTOM = {"images": 60, "mix": [0.34, 0.33, 0.33], "noise": 0.03, "bias": 0.1, "gamma": 1.0, "gain": 1.0}
MODES = {
    "simulator": {},
    "poc": {"FEDSYNTH_FEDERATION": "poc"},
    "poc without code": {"FEDSYNTH_FEDERATION": "poc", "FEDSYNTH_CODE": "none"},
}


def project(folder: Path) -> Path:
    raw = params("")
    raw["source"] = {
        "class_path": "fedsynth.sources.phantom.Phantom",
        "args": {"sites": {"east": PHANTOM, "north": PHANTOM}},
    }
    raw["image"] = {"size": [16, 16], "channels": {"t1": "image", "lesion": "mask"},
                    "labels": ["none", "infiltrating", "extra_axial"], "empty_labels": ["none"]}  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    (folder / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    return folder


def stage(root: Path, mode: str, *words: str) -> str:
    env = (
        {k: v for k, v in os.environ.items() if not k.startswith("FEDSYNTH_")} | MODES[mode] | {"OMP_NUM_THREADS": "1"}
    )
    done = subprocess.run([sys.executable, "-m", *words], cwd=root, env=env, text=True, check=False, timeout=300,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    assert done.returncode == 0, f"{mode} {words}: {done.stdout}"
    return done.stdout


def test_the_modes_give_the_same_events_and_the_same_bits(tmp_path):
    said, weights, rows = {}, {}, {}
    for mode in MODES:
        root = project(tmp_path / mode.replace(" ", "-"))
        stage(root, mode, "nvflare_jobs.source.job")
        stage(root, mode, "fedsynth", "ingest")
        stage(root, mode, "nvflare_jobs.validate.job")
        said[mode] = stage(root, mode, "nvflare_jobs.train.job", "vae")
        stage(root, mode, "nvflare_jobs.reference.job")
        weights[mode] = (root / "models/vae/weights.safetensors").read_bytes()
        rows[mode] = json.loads((root / "reports/reference.json").read_text())["rows"]
    lines = {
        mode: [line.partition("  ")[0] for line in text.splitlines() if "round" in line] for mode, text in said.items()
    }
    assert (
        lines["simulator"]
        == lines["poc"]
        == lines["poc without code"]
        == ["train@vae: round 1/2", "train@vae: round 2/2"]
    )
    assert weights["simulator"] == weights["poc"] == weights["poc without code"]
    assert rows["simulator"] == rows["poc"] == rows["poc without code"]
    assert {row["name"] for row in rows["poc"]} == {"local", "federated", "pooled"}


def test_a_local_federation_listens_on_loopback_alone_and_leaves_nothing_in_the_systems_folders(tmp_path):
    import psutil

    before = {p.name for p in Path("/tmp").iterdir()}
    system = local_system.LocalSystem(tmp_path / "system", ["east", "north"], {})
    system.provision()
    system.start()
    try:
        from fedsynth.settings import Settings
        from nvflare_jobs.federation import provisioned

        settings = Settings("production", tmp_path, tmp_path, tmp_path, 60, False, kit=system.admin)
        with provisioned.Provisioned(settings, tmp_path / "work", system.admin) as connected:
            while len(connected.sites()) < 2:
                pass
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(local_system.MARK) == system.mark:
                    found += [c.laddr.ip for c in process.net_connections() if c.status == psutil.CONN_LISTEN]
            except psutil.Error:
                continue
    finally:
        system.stop()
    assert found
    assert set(found) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert not {n for n in {p.name for p in Path("/tmp").iterdir()} - before if "nvflare" in n}
