"""Write a job folder: the same one runs in the simulator and against a provisioned federation. Nothing in it names a path of a site."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from nvflare.client.config import TransferType
from nvflare.fuel.utils.constants import FrameworkType
from nvflare.job_config.api import FedJob
from nvflare.job_config.script_runner import ScriptRunner
from safetensors.numpy import save_file

from nvflare_jobs.server import Aggregate, Arrays, Ask, Rounds

CLIENT, CONFIG = "client.py", "job.json"

# The defaults poll each 2 s and 0.5 s, which is most of an empty round.
FAST_SERVER = {"server": {"task_request_interval": 0.1}}
FAST_CLIENT = {"default_task_fetch_interval": 0.1}


def train(folder: Path, name: str, sites: list[str], config: dict[str, Any], algorithm: dict[str, Any], initial: dict[str, np.ndarray],
          rounds: int, start_round: int = 0) -> Path:  # fmt: skip
    """A job of `rounds` rounds from `start_round` on; `initial` are the global parameters it starts from. Returns the job's folder."""
    job = _job(name, sites)
    persistor_id = job.to_server(Arrays(), id="persistor")
    controller = Rounds(num_clients=len(sites), num_rounds=rounds - start_round, start_round=start_round, persistor_id=persistor_id,
                        aggregator=Aggregate(json.dumps(algorithm), sites), task_check_period=0.1)  # fmt: skip
    job.to_server(controller)
    return _export(job, folder, "train", config, {"initial.safetensors": initial})


def ask(folder: Path, kind: str, name: str, sites: list[str], config: dict[str, Any], payload: dict[str, np.ndarray] | None = None) -> Path:
    """A job that asks every site one question (`kind`: whose client.py answers). Returns the job's folder."""
    job = _job(name, sites)
    job.to_server(Ask(sites=sites))
    # FLARE sends no empty model: a question without arrays carries one number
    return _export(job, folder, kind, config, {"payload.safetensors": payload or {"none": np.zeros(1, np.float32)}})


def token(job: Path) -> str:
    """Of the job's content: the same content is the same job, so a retry never starts a second one."""
    digest = hashlib.sha256()
    for path in sorted(p for p in job.rglob("*") if p.is_file()):
        digest.update(str(path.relative_to(job)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _job(name: str, sites: list[str]) -> FedJob:
    job = FedJob(name=name, min_clients=len(sites))
    job.set_app_packages(["fedsynth", "nvflare_jobs"])  # installed at every site; only the thin client travels
    job.to_server(FAST_SERVER)
    job.to_clients(FAST_CLIENT)
    return job


def _export(job: FedJob, folder: Path, kind: str, config: dict[str, Any], files: dict[str, dict[str, np.ndarray]]) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    script = Path(__file__).parent / kind / CLIENT
    job.to_clients(ScriptRunner(script=str(script), framework=FrameworkType.NUMPY, params_transfer_type=TransferType.FULL))
    job.export_job(str(folder))
    app = folder / job.name / "app"
    _portable(app / "config" / "config_fed_client.json")
    # FLARE's crawler copies the script with the folders of its package; only the script itself is to travel
    shutil.rmtree(app / "custom", ignore_errors=True)
    (app / "custom").mkdir()
    shutil.copy(script, app / "custom" / CLIENT)
    for name, arrays in files.items():
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, app / "custom" / name)
    (app / "custom" / CONFIG).write_text(json.dumps(config, indent=1))
    return folder / job.name


def _portable(config: Path) -> None:
    """FLARE writes the script's path on this machine; at a site it lies beside the job's other code."""
    raw = json.loads(config.read_text())
    for executor in raw["executors"]:
        executor["executor"]["args"]["task_script_path"] = CLIENT
    config.write_text(json.dumps(raw, indent=2))
