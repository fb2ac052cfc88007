"""What a federation costs beside a bare loop and beside Flower: the same three-site diffusion, the same steps.

    pip install --target flower 'flwr[simulation]'    # an environment of its own: its pins are others than fedsynth's
    python benchmarks/peers.py --flower flower --local-steps 14 111 --out peers.json

Three sites of phantoms train one diffusion by FedAvg. "bare" is a loop of PyTorch in one process, site after site;
"fedsynth" is the stage `train` in FLARE's simulator, with its policies, checks and records; "flower" is the same loop
as a ClientApp in Flower's simulation. Each is started anew in processes of its own, and they take turns. CPU seconds
are those of the whole process tree, after its last process has ended; memory is the peak of the tree's PSS. All use
one thread a site, AdamW, clipped gradients and mirrored images, and no averaged weights.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import yaml
from evidence import Claim, leave, over_seeds

ROOT = Path(__file__).resolve().parents[1]
SITES, BATCH, LR = 3, 8, 2e-3
PR_SET_CHILD_SUBREAPER = 36
MODEL = {
    "family": {"class_path": "fedsynth.families.diffusion.Diffusion", "args": {"channels": [32, 64], "steps": 12}},
    "training": {"batch": BATCH, "lr": LR, "lr_end": 1.0, "ema": None, "flip": [1]},
}
SITE = {"images": 160, "noise": 0.04, "bias": 0.1, "gamma": 1.0, "gain": 1.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--local-steps", type=int, nargs="+", default=[14, 111], help="steps of a site in a round")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--flower", type=Path, help="folder that it is installed in; else it is left out")
    parser.add_argument("--out", type=Path, default=Path("peers.json"))
    parser.add_argument("--role", choices=["bare", "flower"], help=argparse.SUPPRESS)
    parser.add_argument("--study", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role:
        {"bare": bare, "flower": flower}[arguments.role](arguments.study, arguments.rounds, arguments.local_steps[0])
        return
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what outlives its parent becomes this process's child
    rows = [row for steps in arguments.local_steps for row in compared(arguments, steps)]
    leave(arguments.out, claims(rows), rows)


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    said = "CPU seconds of three sites' diffusion over those of a bare PyTorch loop"
    return [
        over_seeds(f"{said}: {row['name']}, {row['steps']} steps", row["ratios"], "x")
        for row in rows if row["name"] != "bare"
    ]  # fmt: skip


def compared(arguments: argparse.Namespace, local_steps: int) -> list[dict[str, Any]]:
    """Run all for one number of steps, in turns. Returns and prints a row for each."""
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        study = prepared(Path(folder), arguments.rounds, local_steps)
        own = [sys.executable, str(Path(__file__).resolve()), "--study", str(study), "--rounds", str(arguments.rounds)]
        own += ["--local-steps", str(local_steps), "--role"]
        commands = {"bare": [*own, "bare"], "fedsynth": [sys.executable, "-m", "nvflare_jobs.train.job", "model"]}
        commands |= {"flower": [*own, "flower"]} if arguments.flower else {}
        for _ in range(arguments.turns):
            for name, command in commands.items():
                found.setdefault(name, []).append(spent(command, study, name, arguments.flower))
    rows = []
    for name, turns in found.items():
        means = {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
        ratios = [a["cpu_s"] / b["cpu_s"] for a, b in zip(turns, found["bare"], strict=True)]
        ratio = statistics.median(ratios)
        rows.append({"name": name, "steps": SITES * arguments.rounds * local_steps, "ratios": ratios, **means})
        print(f"{rows[-1]['steps']:>6} steps  {name:<9} {means['cpu_s']:7.1f} CPU s  {ratio:5.2f} x bare  "
              f"{means['wall_s']:6.1f} s  {means['mib']:6.0f} MiB", flush=True)  # fmt: skip
    return rows


def prepared(folder: Path, rounds: int, local_steps: int) -> Path:
    """Make a study of three sites, ingested and validated."""
    study = folder / "study"
    study.mkdir()
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["source"]["args"]["sites"] = dict.fromkeys(("east", "north", "south"), SITE)
    model = MODEL | {"training": MODEL["training"] | {"rounds": rounds, "local_steps": local_steps}}
    params["models"] = {"model": model}
    (study / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (study / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    for module in (["nvflare_jobs.source.job"], ["fedsynth", "ingest"], ["nvflare_jobs.validate.job"]):
        subprocess.run([sys.executable, "-m", *module], cwd=study, env=environment(), check=True, capture_output=True)
    return study


def environment(extra: Path | None = None) -> dict[str, str]:
    paths = [str(p.resolve()) for p in (extra, ROOT) if p is not None]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FEDSYNTH_")}
    return kept | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "RAY_DISABLE_MEMORY_MONITOR": "1"}


def spent(command: list[str], study: Path, name: str, flower_at: Path | None) -> dict[str, float]:
    """Run a command to the end of its last process. Returns CPU seconds, wall seconds and the peak of memory."""
    extra = flower_at if name == "flower" else None
    began, peak, done = time.monotonic(), [0.0], threading.Event()
    with (study / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=study, env=environment(extra), stdout=log, stderr=log)
    watcher = threading.Thread(target=watch, args=(peak, done), daemon=True)
    watcher.start()
    cpu, status, wall = 0.0, 0, 0.0
    with suppress(ChildProcessError):  # raised once no child is left
        while True:
            pid, ended, usage = os.wait4(-1, 0)
            cpu += usage.ru_utime + usage.ru_stime
            if pid == process.pid:
                status, wall = os.waitstatus_to_exitcode(ended), time.monotonic() - began
                process.returncode = status
    done.set()
    watcher.join()
    if status:
        raise SystemExit(f"{name} ended with {status}:\n{(study / f'{name}.log').read_text()[-3000:]}")
    return {"cpu_s": cpu, "wall_s": wall, "mib": peak[0] / 2**20}


def watch(peak: list[float], done: threading.Event) -> None:
    """Keep the largest sum of PSS of all processes that this one has started."""
    while not done.wait(0.5):
        total = 0
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                total += child.memory_full_info().pss
        peak[0] = max(peak[0], total)


class Local:
    """The loop of one site, as one would write it in plain PyTorch."""

    def __init__(self, study: Path, site: str):
        import torch

        from fedsynth import params as config
        from fedsynth.data.dataset import ImageSet

        torch.set_num_threads(1)
        torch.manual_seed(1)
        params = config.load(study / "params.yaml")
        self.family = params.models["model"].family.build(**params.image.context())
        images = ImageSet.load(study / "data" / "sites" / site).split("train")
        self.x = torch.tensor(images.channels(params.image, params.image.generated))
        self.y = torch.from_numpy(images.condition_labels(params.image))
        self.optimizer = torch.optim.AdamW(self.family.parameters(), lr=LR, weight_decay=0.0)

    def train(self, steps: int) -> float:
        import torch

        total = 0.0
        self.family.train()
        for _ in range(steps):
            places = torch.randint(len(self.x), (BATCH,))
            x = self.x[places]
            mirrored = torch.rand(BATCH) < 0.5
            x[mirrored] = x[mirrored].flip(3)
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.family.loss("unet", x, self.y[places], None)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.family.parameters(), 1.0)
            self.optimizer.step()
            total += loss.item()
        return total / steps


def sites_of(study: Path) -> list[str]:
    return sorted(path.name for path in (study / "data" / "sites").iterdir() if path.is_dir())


def bare(study: Path, rounds: int, local_steps: int) -> None:
    import torch

    sites = [Local(study, site) for site in sites_of(study)]
    weights = [len(site.x) / sum(len(s.x) for s in sites) for site in sites]
    current = {name: p.clone() for name, p in sites[0].family.state_dict().items()}
    for number in range(rounds):
        states = []
        for site in sites:
            site.family.load_state_dict(current)
            print(number, site.train(local_steps))
            states.append(site.family.state_dict())
        current = {name: sum(w * state[name] for w, state in zip(weights, states, strict=True)) for name in current}
    torch.save(current, study / "bare.pt")


def flower(study: Path, rounds: int, local_steps: int) -> None:
    import torch
    from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    client, server, names = ClientApp(), ServerApp(), sites_of(study)

    @client.train()
    def train(message: Message, context: Context) -> Message:
        site = Local(study, names[int(context.node_config["partition-id"])])
        site.family.load_state_dict(message.content["arrays"].to_torch_state_dict())
        loss = site.train(local_steps)
        content = {"arrays": ArrayRecord(site.family.state_dict()),
                   "metrics": MetricRecord({"loss": loss, "num-examples": len(site.x)})}  # fmt: skip
        return Message(content=RecordDict(content), reply_to=message)

    @server.main()
    def serve(grid: Grid, context: Context) -> None:
        strategy = FedAvg(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=SITES, min_available_nodes=SITES)
        initial = ArrayRecord(Local(study, names[0]).family.state_dict())
        result = strategy.start(grid=grid, initial_arrays=initial, num_rounds=rounds)
        torch.save(result.arrays.to_torch_state_dict(), study / "flower.pt")

    run_simulation(server, client, SITES, backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}})
    if not (study / "flower.pt").is_file():
        raise SystemExit("Flower ended without a result")


if __name__ == "__main__":
    main()
