"""Writes a FLARE job folder for the simulator and for provisioned federations. It contains no path of a site."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from nvflare.job_config.api import FedJob
from nvflare.job_config.script_runner import FrameworkType, ScriptRunner
from safetensors.numpy import save_file

from nvflare_jobs.site.installed import EXCHANGE, Installed

CLIENT, CONFIG = "client.py", "job.json"
# How often a site that has nothing to do asks the server for its next task: by default every 2 s, which is most of the
# time of an empty round; every 0.1 s would cost four times the CPU of 0.5 s (docs/decisions/0017-what-a-job-costs.md).
POLLED = {"server": {"task_request_interval": 0.5}}
# send arrays within the call: fetching them by a separate request would double the time of a step
INLINE = {"np_download_chunk_size": 0}


def token(job: Path) -> str:
    """Return the token of a job's content, the end of its name.

    Equal content gives the same token, so a retry never starts a second job.
    """
    return str(json.loads((job / "meta.json").read_text(encoding="utf-8"))["name"]).rpartition("-")[2]


def _token(job: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in job.rglob("*") if p.is_file()):
        digest.update(str(path.relative_to(job)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def new_job(name: str, quorum: int) -> FedJob:
    job = FedJob(name=name, min_clients=quorum)
    job.set_app_packages(["fedsynth", "nvflare_jobs"])  # installed at every site; only the thin client travels
    job.to_server(POLLED)
    return job


def export(
    job: FedJob,
    folder: Path,
    sites: list[str],
    kind: str,
    config: dict[str, Any],
    files: dict[str, dict[str, np.ndarray]],
    thin: bool = True,
) -> Path:
    """Write the job as two apps: the server's, with arrays and question, and the sites', with configuration.

    Where `thin`, the sites' app also holds the client. `kind`: a folder with a client.py, as the name of a folder of
    nvflare_jobs or (only where `thin`) as a path.
    """
    script = Path(__file__).parents[1] / kind / CLIENT
    job.to_clients(
        ScriptRunner(script=str(script), framework=FrameworkType.NUMPY) if thin else Installed(Path(kind).name)
    )
    return write(job, folder, sites, kind, config, files, thin)


def write(
    job: FedJob,
    folder: Path,
    sites: list[str],
    kind: str,
    config: dict[str, Any],
    files: dict[str, dict[str, np.ndarray]],
    thin: bool,
) -> Path:
    script = Path(__file__).parents[1] / kind / CLIENT
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    job.export_job(str(folder))
    root = folder / job.name
    server, site = root / "app_server", root / "app_site"
    _move(root / "app" / "config" / "config_fed_server.json", server / "config")
    _move(root / "app" / "config" / "config_fed_client.json", site / "config")
    # FLARE copies the script with the folders of its package; only the script itself must travel
    shutil.rmtree(root / "app")
    if thin:
        (site / "custom").mkdir()
        shutil.copy(script, site / "custom" / CLIENT)
        _portable(site / "config" / "config_fed_client.json")
    for name, arrays in files.items():
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, server / "config" / name)
    (server / "config" / CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")
    meta = json.loads((root / "meta.json").read_text(encoding="utf-8"))
    meta["deploy_map"] = {"app_server": ["server"], "app_site": sites}
    (root / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
    # a restarted centre finds the job again by its name
    (root / "meta.json").write_text(
        json.dumps(meta | {"name": f"{job.name}-{_token(root)}"}, indent=1), encoding="utf-8"
    )
    return root


def _move(path: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    path.replace(folder / path.name)


def _portable(config: Path) -> None:
    """Replace the script's path on this machine, or the installed class, by its place at a site.

    There it lies beside the job's other code.
    """
    raw = json.loads(config.read_text(encoding="utf-8"))
    for executor in raw["executors"]:
        if "task_script_path" in executor["executor"]["args"]:
            executor["executor"]["args"]["task_script_path"] = CLIENT
    for component in raw["components"]:
        if component["path"] == EXCHANGE:
            component["path"] = f"{Path(CLIENT).stem}.{EXCHANGE.rpartition('.')[2]}"
    config.write_text(json.dumps(raw, indent=2), encoding="utf-8")
