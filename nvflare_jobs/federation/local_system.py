"""A provisioned federation on this machine, for mode `poc` and the tests: mutual TLS as in a hospital, on loopback."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import yaml

from fedsynth import processes
from fedsynth.hospital.policy import simulated
from nvflare_jobs.site.installed import EXCHANGE

MARK = "FEDSYNTH_LOCAL"  # environment variable of every process of a system, by which all are found and ended
# FLARE binds only loopback for a server of this name, and all addresses for any other
SERVER, ADMIN = "localhost", "lead@centre.org"


class LocalError(RuntimeError):
    """The local system could not be provisioned."""


class LocalSystem:
    """Server, sites and the startup kit of an admin in `folder`.

    `places`: environment variables by participant (sites, and "localhost"). `heart_beat_s`: seconds after which FLARE's
    server takes a silent site for gone. `locked`: sites allow no code in jobs. `streaming`: FLARE sends the sites'
    error logs to the server, as it does by default. `encryption`: the kits hold keys (needs TenSEAL).
    """

    def __init__(
        self,
        folder: Path,
        sites: list[str],
        places: dict[str, dict[str, str]],
        heart_beat_s: int = 30,
        locked: bool = False,
        streaming: bool = False,
        encryption: bool = False,
        python: str = sys.executable,
    ):
        self.folder, self.sites, self.places, self.python = folder.absolute(), sites, places, Path(python)
        self.heart_beat_s, self.locked, self.streaming, self.encryption = heart_beat_s, locked, streaming, encryption
        self.mark = uuid.uuid4().hex
        self.kits = self.folder / "kits" / "fedsynth" / "prod_00"

    @property
    def admin(self) -> Path:
        return self.kits / ADMIN

    def provision(self) -> None:
        """Create certificates and startup kits anew, in about 1.5 s. Raises LocalError where that fails."""
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "tmp").mkdir(parents=True)
        self.port = free_port()
        (self.folder / "project.yml").write_text(
            yaml.safe_dump(project(self.sites, self.port, self.encryption)), encoding="utf-8"
        )
        command = [sys.executable, "-m", "nvflare.cli", "provision", "-p", "project.yml", "-w", "kits"]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not self.kits.is_dir():
            raise LocalError(f"the federation could not be provisioned: {done.stdout}{done.stderr}")
        for site in self.sites:
            if state := self.places.get(site, {}).get("FEDSYNTH_STATE"):
                simulated.write(Path(state), [site])
        for name in (SERVER, *self.sites):
            self._resources(name)
            if self.locked:
                self._lock(name)

    def _resources(self, name: str) -> None:
        """Write local/resources.json with our folders, log streaming and allowed classes.

        By default FLARE keeps jobs in a system folder that all servers share, and streams the sites' error logs to the
        server.
        """
        local = self.kits / name / "local"
        raw = json.loads((local / "resources.json.default").read_text(encoding="utf-8"))
        if name == SERVER:
            raw["servers"][0]["heart_beat_timeout"] = self.heart_beat_s
            raw["snapshot_persistor"]["args"]["storage"]["args"]["root_dir"] = str(self.folder / "snapshots")
            manager = next(c for c in raw["components"] if c["id"] == "job_manager")
            manager["args"]["uri_root"] = str(self.folder / "jobs")
        elif not self.streaming:
            raw["allow_log_streaming"] = False
            raw["components"] = [c for c in raw["components"] if c["id"] != "site_log_streamer"]
        # full class names: with a prefix such as "nvflare_jobs." a job could name whatever our modules import, and so
        # run any command
        if name == SERVER:
            raw["class_allow_list"] = [
                f"nvflare_jobs.server.{cls}"
                for cls in ("controller.Rounds", "persistor.Arrays", "aggregator.Aggregate", "ask.Ask")
            ]
            raw["class_allow_list"] += [
                "nvflare_jobs.exchange.server.Centre",
                "nvflare.collab.runtime.controller.CollabController",
            ]
        elif self.locked:
            raw["class_allow_list"] = [
                "nvflare_jobs.site.installed.Installed",
                EXCHANGE,
                "nvflare.collab.runtime.executor.CollabExecutor",
            ]
        (local / "resources.json").write_text(json.dumps(raw, indent=2), encoding="utf-8")

    def _lock(self, name: str) -> None:
        """Forbid code in jobs at this participant."""
        local = self.kits / name / "local"
        raw = json.loads((local / "authorization.json.default").read_text(encoding="utf-8"))
        for rights in raw["permissions"].values():
            if isinstance(rights, dict):
                rights["byoc"] = "none"
        (local / "authorization.json").write_text(json.dumps(raw, indent=2), encoding="utf-8")

    def start(self, *names: str) -> None:
        """Start the named participants, or all. Jobs can be scheduled after about 5 s."""
        for name in names or (SERVER, *self.sites):
            kit = self.kits / name
            with (self.folder / f"{name}.log").open("ab") as log:
                subprocess.Popen(
                    ["bash", str(kit / "startup" / "sub_start.sh"), "--once"],
                    cwd=kit,
                    env=self._env(name),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

    def _env(self, name: str) -> dict[str, str]:
        threads = processes.threads(len(self.sites))
        return (
            os.environ
            | {
                MARK: self.mark,
                f"{MARK}_{name.upper().replace('-', '_')}": self.mark,
                # the kits' scripts call "python3"
                "PATH": f"{self.python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
                "TMPDIR": str(self.folder / "tmp"),
                "OMP_NUM_THREADS": threads,
                "MKL_NUM_THREADS": threads,
            }
            | self.places.get(name, {})
        )

    def kill(self, name: str) -> None:
        """Kill one participant with all its processes, as a power cut would."""
        processes.end(f"{MARK}_{name.upper().replace('-', '_')}", self.mark)

    def stop(self) -> None:
        """End all participants. What the sites keep is in their own folders."""
        processes.end(MARK, self.mark)

    def logs(self) -> str:
        """Return the logs of all participants, the latest first. They are all on this machine."""
        files = sorted(self.kits.glob("*/**/log.txt"), key=lambda p: p.stat().st_mtime, reverse=True)
        return "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in files)


def project(sites: list[str], port: int, encryption: bool = False) -> dict[str, Any]:
    """Return NVFLARE's project file: one server, an organisation per site, one admin (`lead`, who may submit jobs)."""
    participants: list[dict[str, Any]] = [{"name": SERVER, "type": "server", "org": "centre", "fed_learn_port": port}]
    participants += [
        {"name": site, "type": "client", "org": "".join(c if c.isalnum() else "_" for c in site)} for site in sites
    ]
    participants += [{"name": ADMIN, "type": "admin", "org": "centre", "role": "lead"}]
    lighter = "nvflare.lighter.impl"
    builders: list[dict[str, Any]] = [
        {"path": f"{lighter}.workspace.WorkspaceBuilder", "args": {"template_file": ["master_template.yml"]}},
        {"path": f"{lighter}.static_file.StaticFileBuilder", "args": {"config_folder": "config"}},
        {"path": f"{lighter}.cert.CertBuilder"},
        *([{"path": f"{lighter}.he.HEBuilder"}] if encryption else []),
        {"path": f"{lighter}.signature.SignatureBuilder"},  # last, because it signs the output of the others
    ]
    return {"api_version": 3, "name": "fedsynth", "participants": participants, "builders": builders}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
