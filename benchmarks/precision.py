"""CPU milliseconds per training image of each model on one thread, with and without bf16 autocast and channels_last.

    python benchmarks/precision.py --sizes 32 48 64 --out precision.json

All ways take turns, and each is compared with single precision in the same turn, because other load on the machine adds
time; printed is the best turn. Loss and gradient are measured, without the optimiser's step.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path
from typing import Any

import torch
from evidence import Claim, leave, over_seeds

from fedsynth import params as config

WAYS = {
    "fp32": (False, torch.contiguous_format),
    "fp32 channels_last": (False, torch.channels_last),
    "bf16": (True, torch.contiguous_format),
    "bf16 channels_last": (True, torch.channels_last),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 48, 64])
    parser.add_argument("--models", nargs="+", help="keys of models in params.yaml; default: all")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("precision.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    params = config.load()
    print(f"{torch.backends.cpu.get_cpu_capability()}, batch {arguments.batch}: {', '.join(WAYS)}")
    rows = []
    for name, size in itertools.product(arguments.models or params.models, arguments.sizes):
        rows.append({"model": name, "size": size, "ms": measure(params, name, size, arguments)})
        print(f"{name:<10} {size} x {size} " + "".join(f"{min(of):8.1f}" for of in rows[-1]["ms"].values()), flush=True)
    leave(arguments.out, claims(rows), rows)


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return the time of each way over that in single precision of the same turn."""
    return [
        over_seeds(f"{row['model']}, {row['size']} x {row['size']}: CPU time of loss and gradient, {way} over fp32",
                   (a / b for a, b in zip(ms, row["ms"]["fp32"], strict=True)), "x")
        for row in rows for way, ms in row["ms"].items() if way != "fp32"
    ]  # fmt: skip


def measure(params: config.Params, name: str, size: int, arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Return the CPU milliseconds per image of each way in each turn, in which all ways follow one another."""
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    steps = {way: Step(params, name, size, arguments.batch, *of) for way, of in WAYS.items()}
    for turn in range(arguments.turns + 1):  # the first one warms up
        for way, step in steps.items():
            started = time.process_time()
            step()
            found[way] += [1000 * (time.process_time() - started) / arguments.batch] if turn else []
    return found


class Step:
    """Loss and gradient of each player of a model on a batch of noise."""

    def __init__(
        self, params: config.Params, name: str, size: int, batch: int, bf16: bool, layout: torch.memory_format
    ):
        torch.manual_seed(0)
        image = params.image.model_copy(update={"size": (size, size)})
        self.family, self.bf16 = params.models[name].family.build(**image.context()).to(memory_format=layout), bf16
        self.x = torch.randn(batch, len(image.generated), size, size).to(memory_format=layout)
        self.y = torch.zeros(batch, dtype=torch.long)
        self.given = torch.randn(batch, len(image.given), size, size) if image.given else None

    def __call__(self) -> None:
        for player, network in self.family.players().items():
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                loss = self.family.loss(player, self.x, self.y, self.given)
            loss.backward(inputs=list(network.parameters()))


if __name__ == "__main__":
    main()
