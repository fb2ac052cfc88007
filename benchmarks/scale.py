"""Cost of one more site: time and memory by number of sites, with a model so small that the federation dominates.

    python benchmarks/scale.py --sites 2 8 32
    # without the variable, then with it:
    python benchmarks/scale.py --sites 8 32 --with MALLOC_ARENA_MAX=2
    # this code at server and sites, then the other checkout's:
    python benchmarks/scale.py --sites 8 32 --with PYTHONPATH=/another/checkout

Runs in the simulator and writes to a temporary folder only; the job itself is always built by this code. Memory is PSS,
which counts shared memory once. "server" is every process of the job that is not a site's: in the simulator, FLARE's
starter and the server. CPU seconds are what other load on the machine changes least.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from evidence import Claim, leave, over_seeds

from fedsynth.data import manifest
from fedsynth.hospital import secret
from fedsynth.params import Params
from fedsynth.settings import Settings
from fedsynth.stages.ingest import ingest
from nvflare_jobs.centre import build_rounds, job_folder
from nvflare_jobs.federation import interface, runner
from nvflare_jobs.federation.simulator import Simulator
from nvflare_jobs.train import job as training

MIB, GIB = 2**20, 2**30
LEGEND = """\
first, rounds, end: seconds from submission to the first round's end, of a round after it, from the last round to the
collected result
at server:          median seconds of these rounds as the server measures them, from sending to the mean
CPU first, a round: CPU seconds of all processes of the job up to the first round's end, and in a round after it
of server:          the server's of these
server, site, all:  peaks of PSS in MiB: the server, a site's mean and the largest site, everything
here:               CPU seconds of this process, which follows the job as a stage does and looks at its memory
"""
NAMES = ("sites", "first", "rounds", "at server", "end", "CPU first", "a round", "of server", "server", "site mean",
         "largest", "all", "here")  # fmt: skip
WIDTH, DIGITS = 11, {"sites": 0, "server": 0, "site mean": 0, "largest": 0, "all": 0, "here": 1}
SAID = {  # what is claimed: no wall time, which other load on the machine changes
    "CPU first": ("CPU seconds to the end of the first round", "s"),
    "a round": ("CPU seconds of a later round", "s"),
    "site mean": ("peak memory of a site", "MiB"),
    "all": ("peak memory of everything", "MiB"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--rounds", type=int, default=5, help="2 or more")
    parser.add_argument("--turns", type=int, default=1, help="runs of each")
    parser.add_argument("--images", type=int, default=24, help="of each site")
    parser.add_argument("--with", dest="changes", action="append", default=[], metavar="NAME=VALUE",
                        help="run each number of sites a second time with this environment variable")  # fmt: skip
    parser.add_argument("--only", action="store_true", help="run with these variables only")
    parser.add_argument("--leave", type=float, default=4, help="GiB of free memory below which a run is ended")
    parser.add_argument("--out", type=Path, default=Path("scale.json"))
    arguments = parser.parse_args()
    changes = dict(change.split("=", 1) for change in arguments.changes)
    variants = [changes] if arguments.only or not changes else [{}, changes]
    print(LEGEND, "".join(f"{name:>{WIDTH}}" for name in NAMES), sep="\n", flush=True)
    rows = []
    for n, variant, _ in itertools.product(arguments.sites, variants, range(arguments.turns)):
        said = " ".join(f"{k}={v}" for k, v in variant.items())
        with tempfile.TemporaryDirectory() as folder, variables(variant):
            row = measure(Path(folder), n, arguments)
        if isinstance(row, str):
            print(row, said, flush=True)
            continue
        rows.append({"variant": said} | row)
        print("".join(f"{row[name]:>{WIDTH}.{DIGITS.get(name, 2)}f}" for name in NAMES), said, flush=True)
    leave(arguments.out, claims(rows), rows)


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return what so many sites cost, in the mean of the turns."""
    found = []
    for n, said in dict.fromkeys((row["sites"], row["variant"]) for row in rows):
        of = [row for row in rows if (row["sites"], row["variant"]) == (n, said)]
        case = f"{n} sites{', ' * bool(said)}{said}"
        found += [over_seeds(f"{case}: {what}", (row[name] for row in of), unit) for name, (what, unit) in SAID.items()]
    return found


@contextmanager
def variables(changes: dict[str, str]) -> Iterator[None]:
    """Set variables in this process's environment, which the job's processes inherit, and restore it afterwards."""
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def measure(folder: Path, n: int, arguments: argparse.Namespace) -> dict[str, float] | str:
    """Run one training with n sites and return its row of the table, or why there is none."""
    params = small(n, arguments.rounds, arguments.images)
    settings = Settings("simulator", folder, folder / "data", folder / "state", stall_s=600, events=False)
    with redirect_stdout(None):
        os.environ[secret.SIMULATED] = "1"
        rows = ingest(params, settings.data)
        digests = {site: secret.keyed(settings.state / site, manifest.digest(of)) for site, of in rows.items()}
    sites, config = list(digests), training.question(params, "vae", digests)
    job = build_rounds.train(
        folder / "job",
        "train_vae",
        sites,
        params.consortium,
        config,
        config["model"]["algorithm"],
        training.begin(params, "vae"),
        arguments.rounds,
    )
    token, own = job_folder.token(job), time.process_time()
    with Simulator(settings, folder / "work") as simulator:
        watch = Watch(max(1.0, n / 8), arguments.leave * GIB, lambda: simulator.abort(token))
        try:
            runner.run(simulator, job, token, sites, folder / "result", watch.see)
        except interface.FederationError as error:
            if not watch.short:
                raise
            return f"{n:>5}  ended: less than {arguments.leave:g} GiB of memory were left ({error})"
        finally:
            watch.stop()
    return watch.row(n, time.process_time() - own)


def small(n: int, rounds: int, images: int) -> Params:
    sites = {f"site-{i:02d}": {"images": images} for i in range(n)}
    image = {
        "size": [16, 16],
        "channels": {"t1": "image", "t2": "image", "lesion": "mask"},
        "labels": ["none", "infiltrating", "extra_axial"],
    }
    model = {
        "family": {"class_path": "fedsynth.families.vae.VAE"},
        "training": {"rounds": rounds, "epochs": 1, "batch": 8},
    }
    uses = {"classification": {"class_path": "fedsynth.uses.classification.Classification"}}
    return Params.model_validate(
        {
            "source": {"class_path": "fedsynth.sources.phantom.Phantom", "args": {"sites": sites}},
            "image": image | {"empty_labels": ["none"]},
            "models": {"vae": model},
            "sample": {"images": 12},
            "score": {"uses": uses},
        }
    )


class Watch:
    """Watches the processes of a job every `every_s` seconds, in a thread.

    Calls `abort` where less than `leave` bytes of memory are free.
    """

    def __init__(self, every_s: float, leave: float, abort: Callable[[], None]):
        self.every_s, self.leave, self.abort = every_s, leave, abort
        self.short = False
        self.began = time.monotonic()
        self.rounds: list[Round] = []
        self.peaks = dict.fromkeys(("server", "mean", "largest", "all"), 0.0)  # bytes
        self._cpu: dict[int, tuple[str, float]] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def see(self, event: interface.Event) -> None:
        if event.kind == "round":
            self.rounds.append(Round(time.monotonic(), event.seconds, *self._cpu_seconds()))

    def stop(self) -> None:
        self.ended = time.monotonic()
        self._done.set()
        self._thread.join()

    def row(self, n: int, here: float) -> dict[str, float]:
        first, last, after = self.rounds[0], self.rounds[-1], len(self.rounds) - 1
        seconds = (
            first.at - self.began,
            (last.at - first.at) / after,
            statistics.median(r.seconds for r in self.rounds[1:]),
            self.ended - last.at,
        )
        cpu = (first.cpu, (last.cpu - first.cpu) / after, (last.cpu_server - first.cpu_server) / after)
        memory = [self.peaks[name] / MIB for name in ("server", "mean", "largest", "all")]
        return dict(zip(NAMES, (n, *seconds, *cpu, *memory, here), strict=True))

    def _look(self) -> None:
        while not self._done.wait(self.every_s):
            found = [(site, memory.pss) for site, memory in of_job(lambda process: process.memory_full_info())]
            sites, server = [pss for site, pss in found if site], sum(pss for site, pss in found if not site)
            now = {
                "server": server,
                "mean": sum(sites) / max(1, len(sites)),
                "largest": max(sites, default=0),
                "all": server + sum(sites),
            }
            self.peaks = {name: max(peak, now[name]) for name, peak in self.peaks.items()}
            if psutil.virtual_memory().available < self.leave and not self.short:
                self.short = True
                self.abort()

    def _cpu_seconds(self) -> tuple[float, float]:
        """Return the CPU seconds so far of all processes of the job, and of the server alone.

        A process that has ended counts with its last value.
        """
        self._cpu.update(
            {
                pid: (site, t.user + t.system)
                for site, (pid, t) in of_job(lambda process: (process.pid, process.cpu_times()))
            }
        )
        return sum(s for _, s in self._cpu.values()), sum(s for site, s in self._cpu.values() if not site)


@dataclass(frozen=True)
class Round:
    at: float  # time.monotonic() when it was seen
    seconds: float  # as the server measures them
    cpu: float  # seconds of the whole job so far
    cpu_server: float


def of_job(ask: Callable[[psutil.Process], Any]) -> list[tuple[str, Any]]:
    """Return (site, result of `ask`) for each process of the job; the server's site is "".

    Processes that end meanwhile are left out.
    """
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            command = process.cmdline()
            found.append((command[command.index("--client") + 1] if "--client" in command else "", ask(process)))
    return found


if __name__ == "__main__":
    main()
