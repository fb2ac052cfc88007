"""CPU milliseconds per training image of each model on one thread, with and without bf16 autocast and channels_last.

    python benchmarks/precision.py --sizes 32 48 64

The best of several repetitions, because other load on the machine only adds time. Loss and gradient are measured,
without the optimiser's step.
"""

from __future__ import annotations

import argparse
import itertools
import time

import torch

from fedsynth import params as config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 48, 64])
    parser.add_argument("--models", nargs="+", help="keys of models in params.yaml; default: all")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    params = config.load()
    print(
        f"{torch.backends.cpu.get_cpu_capability()}, batch {arguments.batch}: fp32, fp32 channels_last, bf16, bf16"
        " channels_last"
    )
    for name, size in itertools.product(arguments.models or params.models, arguments.sizes):
        ways = itertools.product((False, True), (torch.contiguous_format, torch.channels_last))
        times = [measure(params, name, size, bf16, layout, arguments) for bf16, layout in ways]
        print(f"{name:<10} {size} x {size} " + "".join(f"{ms:8.1f}" for ms in times), flush=True)


def measure(
    params: config.Params, name: str, size: int, bf16: bool, layout: torch.memory_format, arguments: argparse.Namespace
) -> float:
    torch.manual_seed(0)
    image = params.image.model_copy(update={"size": (size, size)})
    family = params.models[name].family.build(**image.context()).to(memory_format=layout)
    x = torch.randn(arguments.batch, len(image.generated), size, size).to(memory_format=layout)
    y = torch.zeros(arguments.batch, dtype=torch.long)
    given = torch.randn(arguments.batch, len(image.given), size, size) if image.given else None
    best = float("inf")
    for _ in range(arguments.repeat + 1):  # the first one warms up
        started = time.process_time()
        for player, network in family.players().items():
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = family.loss(player, x, y, given)
            loss.backward(inputs=list(network.parameters()))
        best = min(best, time.process_time() - started)
    return 1000 * best / arguments.batch


if __name__ == "__main__":
    main()
