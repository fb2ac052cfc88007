"""DVC for the flow: graph, stale stages, and running a stage as a process group that can be ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

from fedsynth import processes
from fedsynth.errors import UserError
from fedsynth.processes import OWNER

DVC = (sys.executable, "-m", "dvc")
SYSTEM_CONFIG = "DVC_SYSTEM_CONFIG_DIR"  # DVC's own variable
MARK = "FEDSYNTH_FLOW"  # environment variable of every process that this flow starts
RAN, RESTORED, UNCHANGED = "ran", "restored", "unchanged"
ENDED = "ended with the run"
LOGS = Path(".work") / "logs"  # the output of each stage's last run
# matches the last line of a traceback
RAISED = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Warning)\b.*")


class StageFailed(RuntimeError):
    """A stage failed.

    `retry`: whether another try can help, which is so where the federation broke and not so for bad input. `why`: what
    the stage printed as its reason.
    """

    def __init__(self, reason: str, retry: bool, why: str = ""):
        super().__init__(reason)
        self.retry, self.why = retry, why


def cache(root: Path) -> Path:
    """Return the folder of DVC's cache."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        return Path(repo.cache.local_cache_dir)


def use_cache(root: Path, folder: Path) -> None:
    """Let a project use a cache that others use, too: by links to it where the disk can do that."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo, repo.config.edit("local") as config:
        config["cache"] |= {"dir": str(folder), "type": "reflink,hardlink,copy"}


def checkout(root: Path) -> None:
    """Bring all outputs from the cache that it has."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        repo.checkout(force=True, allow_missing=True)


class OverrideError(UserError):
    """Values for params.yaml cannot be used; the message says why."""


def override(path: Path, overrides: list[str]) -> None:
    """Write values into a params file, as `dvc exp run -S` does: "key=value" in Hydra's grammar, "~key" without it.

    A key that is not there is added, because one with a default may be left out.
    """
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides

    try:
        apply_overrides(path, [of if of.startswith(("+", "~")) else f"++{of}" for of in overrides])
    except DvcException as error:
        why = " ".join(str(error.__cause__ or error).split())
        raise OverrideError(f"{' '.join(overrides)} cannot be read as key=value: {why}") from error


def allow_no_git(root: Path) -> str:
    """Let DVC work in a folder that is in no git repository, as an archive's is, for this process and its children.

    Returns what a person should know of it, "" where there is a repository. The setting is DVC's `core.no_scm`, in a
    configuration of the system's level: any other of the project's or the user's comes before it.
    """
    if any((folder / ".git").exists() for folder in (root, *root.parents)):
        return ""
    folder = root / ".work" / "dvc"
    if os.environ.setdefault(SYSTEM_CONFIG, str(folder)) == str(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config").write_text("[core]\n    no_scm = true\n", encoding="utf-8")
    return (
        f"{root} is in no git repository: DVC runs without one, and results do not say of which commit they are. For"
        " experiments, and for `dvc` by hand, make one (`git init`, then a commit), or `dvc config --local core.no_scm"
        " true`"
    )


def graph(root: Path) -> dict[str, list[str]]:
    """Return the stage instances in an order in which they can run, each with those that it depends on.

    For instance {"train@vae": ["ingest", "validate"], ...}.
    """
    import networkx
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        edges = repo.index.graph
        return {
            s.addressing: sorted(d.addressing for d in edges.successors(s)) for s in networkx.dfs_postorder_nodes(edges)
        }


class BusyError(UserError):
    """Another process of DVC works in the folder; the message names it."""


def status(root: Path) -> tuple[set[str], set[str]]:
    """Return the stage instances whose inputs, outputs or command differ from dvc.lock, and those of `always_changed`.

    The latter look at what is outside the project. Raises BusyError where `dvc repro` runs in another terminal.
    """
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            found = repo.status()
    except LockError as error:
        raise BusyError(f"DVC is at work in {root}: {' '.join(str(error).split())}") from error
    outward = {stage for stage, why in found.items() if why == ["always changed"]}
    return set(found) - outward, outward


def stale(root: Path, stages: dict[str, list[str]]) -> tuple[set[str], set[str]]:
    """Return the stale stage instances, and those of `always_changed`.

    A stage is stale where it has changed (`status`), or where it follows from a stale one. What follows from stages of
    `always_changed` is known only after they have run.
    """
    changed, outward = status(root)
    for stage, upstream in stages.items():
        if changed & set(upstream):
            changed.add(stage)
    return changed, outward


def reason_of(lines: list[str]) -> str:
    """Return why a stage failed, from what it printed.

    This is its own error, which may have several lines, or else the last line of a traceback, or "". DVC's own error is
    ignored, because it only says that the command failed.
    """
    said = [line for line in lines if not (line.startswith("ERROR: ") and "failed to run: " in line)]
    first = next((n for n, line in enumerate(said) if line.lower().startswith(("error:", "federation error:"))), None)
    if first is not None:
        return "\n".join(said[first:]).rstrip()
    return next((line for line in reversed(said) if RAISED.match(line)), "")


def _follow(process: subprocess.Popen[str], log: Path, on_line: Callable[[str], None]) -> tuple[str, list[str]]:
    """Read the output of a stage to its end, and copy it to `log`. Returns the outcome and all lines."""
    outcome, lines = UNCHANGED, []
    log.parent.mkdir(parents=True, exist_ok=True)
    assert process.stdout is not None
    with log.open("w", encoding="utf-8") as file:
        for line in map(str.rstrip, process.stdout):
            file.write(f"{line}\n")
            if line.startswith("Running stage "):
                outcome = RAN
            elif "is cached - skipping run" in line:
                outcome = RESTORED
            lines.append(line)
            on_line(line)
    return outcome, lines


class Runner:
    """Runs stages with `dvc repro --single-item`, each in a process group.

    `stop` ends them all, with the federations that they started.
    """

    def __init__(self, root: Path, at_once: int = 1):
        self.root = root
        self.threads = processes.threads(at_once)
        self.stopping = threading.Event()
        self._mark = uuid.uuid4().hex
        self._groups: set[int] = set()
        self._lock = threading.Lock()

    def repro(self, stage: str, on_line: Callable[[str], None]) -> str:
        """Bring one stage up to date, passing its output line by line to `on_line`. Returns ran, restored or unchanged.

        Raises StageFailed with the reason that the stage printed and the path of its log.
        """
        process = self._start(stage)
        log = self.root / LOGS / f"{stage}.log"
        outcome, lines = _follow(process, log, on_line)
        code = process.wait()
        with self._lock:
            self._groups.discard(process.pid)
        if code == 0:
            return outcome
        if self.stopping.is_set():
            raise StageFailed(f"{stage}: {ENDED}", retry=False)
        reason = reason_of(lines) or f"dvc ended with exit code {code}"
        raise StageFailed(f"{stage}: {reason}\n  log: {log}", retry=reason.startswith("federation error:"),
                          why=re.sub(r"^(federation )?error: ", "", reason))  # fmt: skip

    def _start(self, stage: str) -> subprocess.Popen[str]:
        """Start DVC on one stage, in a process group of its own that carries this run's mark."""
        # stages that run at the same time need both --wait-for-lock and --single-item
        command = [*DVC, "--wait-for-lock", "repro", "--single-item", stage]
        env = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            MARK: self._mark,
            OWNER: str(os.getpid()),
            "FEDSYNTH_EVENTS": "1",
            "OMP_NUM_THREADS": self.threads,
            "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": "utf-8:backslashreplace",
        }
        with self._lock:
            if self.stopping.is_set():
                raise StageFailed(f"{stage}: {ENDED}", retry=False)
            process = subprocess.Popen(command, cwd=self.root, env=env, encoding="utf-8", errors="replace",
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                       start_new_session=True)  # fmt: skip
            self._groups.add(process.pid)
        return process

    def stop(self, patience_s: float = 20) -> None:
        """End every running stage: first by SIGTERM, so that each ends its federation, then by force.

        Takes about `patience_s` seconds at most.
        """
        with self._lock:
            self.stopping.set()
            groups = list(self._groups)
        for group in groups:
            _signal(group, signal.SIGTERM)
        processes.end(MARK, self._mark, patience_s)


def _signal(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return  # it has ended by itself
