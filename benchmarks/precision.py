"""What bf16 autocast and channels_last cost or save for one training image of the diffusion: CPU milliseconds on one thread.

    python benchmarks/precision.py --sizes 32 48 64

The best of several repetitions, because others on the machine only ever add; loss and gradient, without the optimiser's step.
"""

from __future__ import annotations

import argparse
import itertools
import time

import torch

from fedsynth.families.diffusion import Diffusion


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 48, 64])
    parser.add_argument("--channels", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{torch.backends.cpu.get_cpu_capability()}, channels {arguments.channels}, batch {arguments.batch}")
    for size, bf16, layout in itertools.product(arguments.sizes, (False, True), (torch.contiguous_format, torch.channels_last)):
        ms = measure(size, bf16, layout, arguments)
        print(f"{size} x {size}  {'bf16' if bf16 else 'fp32'}  {str(layout).removeprefix('torch.'):<17} {ms:7.1f} ms", flush=True)


def measure(size: int, bf16: bool, layout: torch.memory_format, arguments: argparse.Namespace) -> float:
    torch.manual_seed(0)
    family = Diffusion(generated=3, given=0, labels=3, size=(size, size), channels=arguments.channels).to(memory_format=layout)
    x = torch.randn(arguments.batch, 3, size, size).to(memory_format=layout)
    y = torch.zeros(arguments.batch, dtype=torch.long)
    best = float("inf")
    for _ in range(arguments.repeat + 1):  # the first one warms up
        started = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = family.loss("unet", x, y, None)
        loss.backward()
        best = min(best, time.process_time() - started)
    return 1000 * best / arguments.batch


if __name__ == "__main__":
    main()
