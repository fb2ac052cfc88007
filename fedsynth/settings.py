"""Environment variables: WHERE things are computed and kept. Ours are read here alone; a table's folder may name variables of its own."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

from fedsynth.errors import UserError

DESCRIBED = {
    "FEDSYNTH_FEDERATION": "which federation runs the jobs: simulator (default)",
    "FEDSYNTH_ROOT": "the project's folder; default: the working directory",
    "FEDSYNTH_DATA": "folder that holds a site's ingested sets, <data>/<site>/; default: <root>/data/sites",
    "FEDSYNTH_STATE": "folder where a site keeps its own state and validation reports; default: <root>/.work/sites",
    "FEDSYNTH_STALL_S": "seconds without a sign of life from a job after which it is ended; default 180",
    "FEDSYNTH_EVENTS": "1: stages also print machine-readable events, for the flow",
    "MLFLOW_TRACKING_URI": "tracking server and registry; default: SQLite in the project's folder",
    "PREFECT_API_URL": "Prefect server that runs are shown on; default: one of its own for the time of a run",
}

# What keeps every tool from calling home. MLflow takes `true` only, Prefect takes it too.
QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GX_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DVC_NO_ANALYTICS": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


class SettingsError(UserError):
    """An environment variable cannot be used; the message names it and says what to do."""


@dataclass(frozen=True)
class Settings:
    federation: str
    root: Path
    data: Path
    state: Path
    stall_s: float
    events: bool

    @classmethod
    def read(cls) -> Settings:
        """From the environment as it is now. Raises SettingsError naming the variable."""
        env = os.environ
        root = Path(env.get("FEDSYNTH_ROOT") or ".").resolve()
        federation = env.get("FEDSYNTH_FEDERATION", "simulator")
        if federation != "simulator":
            raise SettingsError(f"FEDSYNTH_FEDERATION={federation!r} is not known; use simulator")
        try:
            stall_s = float(env.get("FEDSYNTH_STALL_S", "180"))
        except ValueError as error:
            raise SettingsError(f"FEDSYNTH_STALL_S={env['FEDSYNTH_STALL_S']!r} is not a number of seconds") from error
        return cls(
            federation=federation,
            root=root,
            data=Path(env.get("FEDSYNTH_DATA") or root / "data" / "sites").resolve(),
            state=Path(env.get("FEDSYNTH_STATE") or root / ".work" / "sites").resolve(),
            stall_s=stall_s,
            events=env.get("FEDSYNTH_EVENTS") == "1",
        )

    @property
    def simulation(self) -> bool:
        return self.federation == "simulator"

    def rows(self) -> list[tuple[str, str, str]]:
        """Variable, value in force, meaning: for `fedsynth env`."""
        named = {f"FEDSYNTH_{f.name.upper()}": str(getattr(self, f.name)) for f in fields(self)}
        return [(name, named.get(name, os.environ.get(name, "")), meaning) for name, meaning in DESCRIBED.items()]


def home(root: Path) -> Path:
    """Where runs are kept by default. `dvc exp run` works in copies that it throws away; DVC_ROOT names the real project even there."""
    return Path(os.environ.get("DVC_ROOT") or root).resolve()


def experiment() -> str:
    """The name of the experiment within `dvc exp run`, else nothing."""
    return os.environ.get("DVC_EXP_NAME", "")


def tracking_uri(root: Path) -> str:
    """MLFLOW_TRACKING_URI, else SQLite in the project's folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home(root)}/mlflow.db"


def quiet() -> None:
    """Turn off every tool's telemetry, for this process and its children."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
