"""Environment variables: WHERE results are computed and stored.

The project's variables are parsed here; paths in params.yaml may refer to further ones.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, fields
from pathlib import Path

from fedsynth.errors import UserError

DESCRIBED = {
    "FEDSYNTH_FEDERATION": (
        "what runs the jobs: simulator (default), poc (a federation provisioned here for one job), production"
    ),
    "FEDSYNTH_KIT": "production: folder of the startup kit of whom the centre acts as (an admin of the federation)",
    "FEDSYNTH_ROOT": (
        "the study's folder; default: the working directory, or the nearest folder above it that holds a study"
    ),
    "FEDSYNTH_DATA": "folder that holds a site's ingested sets, <data>/<site>/; default: <root>/data/sites",
    "FEDSYNTH_STATE": "folder where a site keeps its own state and validation reports; default: <root>/.work/sites",
    "FEDSYNTH_EXTRACTORS": (
        "folder of the files that feature extractors read, at the centre and each site; default: <root>/extractors"
    ),
    "FEDSYNTH_POLICY": (
        "file of a site's policy, which the site's FLARE client reads and cannot write; default:"
        " <FEDSYNTH_STATE>/<site>/policy.yaml"
    ),
    "FEDSYNTH_MIN_CELL": (
        "a site's own: no smaller count of its images leaves, whatever consortium.min_cell is; default 5"
    ),
    "FEDSYNTH_STALL_S": (
        "seconds without a sign of life after which a job is ended; default 180, in production 3600 (longer than a"
        " round)"
    ),
    "FEDSYNTH_CONNECT_S": (
        "seconds to wait for the federation's server, and for sites that are not connected; default 60"
    ),
    "FEDSYNTH_CODE": (
        "what code a job carries to the sites: thin (default: its client.py), none (sites that allow no code)"
    ),
    "FEDSYNTH_KEEP_RUNS": (
        "a site's own: of how many trainings of each model it keeps the state; default 3. What the centre keeps:"
        " keep_runs of params.yaml"
    ),
    "FEDSYNTH_MEMORY": (
        "megabytes of images that a process holds of one set; a larger set is read from disk batch by batch; default"
        " 1024"
    ),
    "FEDSYNTH_INGEST_PROCESSES": (
        "processes in which `ingest` reads and prepares images; default: as many as there are cores for it"
    ),
    "FEDSYNTH_DEVICE": (
        "where tensors are computed: auto (default: a GPU where there is one, else the CPU), cpu, cuda, cuda:1, mps"
    ),
    "FEDSYNTH_PROCESSES": (
        "a site's own: how many processes train a model there, each with its share of every batch (and a GPU of its own"
        " where there are as many); default 1"
    ),
    "FEDSYNTH_PRECISION": (
        "in which numbers a training's losses are computed where its `bf16` is not false: auto (default: bfloat16),"
        " fp32, bf16, fp16"
    ),
    "FEDSYNTH_EVENTS": "1: stages also print machine-readable events, for the flow",
    "MLFLOW_TRACKING_URI": "tracking server and registry; default: SQLite in the project's folder",
    "PREFECT_API_URL": "Prefect server that runs are shown on; default: one of its own for the time of a run",
}

# Turns off the telemetry of all tools. MLflow accepts only `true`, and Prefect accepts it, too.
QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GX_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DVC_NO_ANALYTICS": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


# The number of a simulated site, or of one of the processes that train together at a site; set by what starts them.
PLACE = "FEDSYNTH_PLACE"

LOOPBACK = ("localhost", "127.0.0.1", "::1")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy", "ws_proxy", "wss_proxy")

STUDY = ("params.yaml", "dvc.yaml")
FEDERATIONS, CODES = ("simulator", "poc", "production"), ("thin", "none")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


class SettingsError(UserError):
    """An environment variable is invalid; the message names it and says what to do."""


@dataclass(frozen=True)
class Settings:
    """The values of the FEDSYNTH_* environment variables."""

    federation: str
    root: Path
    data: Path
    state: Path
    stall_s: float
    events: bool
    kit: Path | None = None
    connect_s: float = 60
    code: str = "thin"
    extractors: Path = Path("extractors")
    min_cell: int = 5
    policy: Path | None = None
    keep_runs: int = 3
    device: str = "auto"
    precision: str = "auto"
    processes: int = 1

    @classmethod
    def read(cls) -> Settings:
        """Read the settings from the current environment. Raises SettingsError naming the variable."""
        env = os.environ
        root = project()
        federation = _one_of("FEDSYNTH_FEDERATION", FEDERATIONS)
        kit = env.get("FEDSYNTH_KIT")
        if federation == "production" and not kit:
            raise SettingsError(
                "FEDSYNTH_KIT is not set; in production it names the startup kit (a folder) that the centre signs in"
                " with"
            )
        return cls(
            federation=federation,
            root=root,
            data=Path(env.get("FEDSYNTH_DATA") or root / "data" / "sites").resolve(),
            state=Path(env.get("FEDSYNTH_STATE") or root / ".work" / "sites").resolve(),
            stall_s=_seconds("FEDSYNTH_STALL_S", 3600 if federation == "production" else 180),
            events=env.get("FEDSYNTH_EVENTS") == "1",
            kit=Path(kit).resolve() if kit else None,
            connect_s=_seconds("FEDSYNTH_CONNECT_S", 60),
            code=_one_of("FEDSYNTH_CODE", CODES),
            extractors=Path(env.get("FEDSYNTH_EXTRACTORS") or root / "extractors").resolve(),
            min_cell=_number("FEDSYNTH_MIN_CELL", 5, "images"),
            policy=Path(env["FEDSYNTH_POLICY"]).resolve() if env.get("FEDSYNTH_POLICY") else None,
            keep_runs=_number("FEDSYNTH_KEEP_RUNS", 3, "trainings"),
            device=device(),
            precision=precision(),
            processes=_number("FEDSYNTH_PROCESSES", 1, "processes", 2),
        )

    @property
    def simulation(self) -> bool:
        """Whether the sites are simulated on this machine, so that their data may be read here."""
        return self.federation != "production"

    @property
    def thin(self) -> bool:
        """Whether jobs carry their client code to the sites."""
        return self.code == "thin"

    def rows(self) -> list[tuple[str, str, str]]:
        """Return (variable, current value, meaning) for `fedsynth env`."""
        named = {f"FEDSYNTH_{f.name.upper()}": str(getattr(self, f.name) or "") for f in fields(self)}
        return [
            (name, masked(named.get(name, os.environ.get(name, ""))), meaning) for name, meaning in DESCRIBED.items()
        ]


# Up to the last @: a password may contain an unescaped @ or / (%40, %2F).
PASSWORD = re.compile(r"(?<=://)([^/@:\s]*):\S*@")
LONE = re.compile(r"(https?://)[^/@:\s?#]+@")  # in a web address, a name without a password is a token
QUERY = re.compile(
    r"(?<=[?&;])([\w.-]*(?:pass|pwd|token|secret|key|credential|signature)[\w.-]*=)[^&;#\s'\"]+", re.IGNORECASE
)


def masked(text: str) -> str:
    """Mask the passwords and tokens of addresses in a text: "postgresql://user:***@host/db?password=***"."""
    return QUERY.sub(r"\1***", LONE.sub(r"\1***@", PASSWORD.sub(r"\1:***@", text)))


def _one_of(name: str, known: tuple[str, ...]) -> str:
    """Return the variable's value, which must be in `known`; the first of `known` if it is not set."""
    value = os.environ.get(name) or known[0]
    if value not in known:
        raise SettingsError(f"{name}={value!r} is not known; use {', '.join(known[:-1])} or {known[-1]}")
    return value


def _seconds(name: str, default: float) -> float:
    try:
        value = float(os.environ.get(name) or default)
    except ValueError as error:
        raise SettingsError(f"{name}={os.environ[name]!r} is not a number of seconds") from error
    if not value > 0:
        raise SettingsError(f"{name}={os.environ[name]!r} must be more than 0 seconds")
    return value


def _number(name: str, default: int, of: str, digits: int = 4) -> int:
    """Return the variable's value as a number of images, megabytes and the like, from 1 to `digits` nines."""
    value = os.environ.get(name) or str(default)
    if not re.fullmatch(f"[0-9]{{1,{digits}}}", value) or not int(value):
        raise SettingsError(f"{name}={value!r} is not a number of {of} from 1 to {'9' * digits}")
    return int(value)


def memory() -> int:
    """Return how many bytes of images a process holds of one set."""
    return _number("FEDSYNTH_MEMORY", 1024, "megabytes", 7) * 2**20


def ingest_processes() -> int:
    """Return in how many processes images are prepared; 1 where processes cannot be forked safely."""
    if not sys.platform.startswith("linux"):
        return 1
    return _number("FEDSYNTH_INGEST_PROCESSES", len(os.sched_getaffinity(0)), "processes", 3)


def device() -> str:
    """Return where tensors are to be computed, as it was asked for: "auto", "cpu", "cuda", "cuda:1", "mps"."""
    value = os.environ.get("FEDSYNTH_DEVICE") or "auto"
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", value):
        raise SettingsError(f"FEDSYNTH_DEVICE={value!r} is not known; use auto, cpu, cuda, cuda:N (N from 0) or mps")
    return value


def precision() -> str:
    """Return in which numbers losses are to be computed, as it was asked for: one of PRECISIONS."""
    return _one_of("FEDSYNTH_PRECISION", PRECISIONS)


def place() -> int:
    """Return the number of this process among those that share the machine's GPUs: 0 unless it was given another."""
    return int(os.environ.get(PLACE) or 0)


def take_place(name: str, names: list[str]) -> None:
    """Give the process of the simulated site `name`, one of `names`, its place; each site has as many as processes."""
    if name in names:
        os.environ[PLACE] = str(names.index(name) * Settings.read().processes)


def project() -> Path:
    """Return the project's folder: FEDSYNTH_ROOT, or the working directory, or the nearest above it that is a study."""
    here = Path.cwd()
    above = (path for path in (here, *here.parents) if all((path / name).is_file() for name in STUDY))
    return Path(os.environ.get("FEDSYNTH_ROOT") or next(above, here)).resolve()


def home(root: Path) -> Path:
    """Return the folder where runs are stored by default.

    `dvc exp run` works in temporary copies; DVC_ROOT names the real project there.
    """
    return Path(os.environ.get("DVC_ROOT") or root).resolve()


def experiment() -> str:
    """Return the name of the experiment in `dvc exp run`, else an empty string."""
    return os.environ.get("DVC_EXP_NAME", "")


def tracking_uri(root: Path) -> str:
    """Return MLFLOW_TRACKING_URI; default: an SQLite database in the project's folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home(root)}/mlflow.db"


def quiet() -> None:
    """Turn off the telemetry of all tools, and proxies for this computer, for this process and its children."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    _no_proxy_on_loopback()


def _no_proxy_on_loopback() -> None:
    """Where a proxy is set, exempt the addresses of this computer: Prefect, MLflow and FLARE talk to servers here.

    A client that asks a proxy for them waits for minutes. Tools read one of the two spellings or the other.
    """
    if not any(os.environ.get(name) for name in os.environ if name.lower() in PROXIES):
        return
    said = f"{os.environ.get('no_proxy', '')},{os.environ.get('NO_PROXY', '')}"
    hosts = dict.fromkeys(host for part in said.split(",") if (host := part.strip()))
    if "*" not in hosts:
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join({**hosts, **dict.fromkeys(LOOPBACK)})
