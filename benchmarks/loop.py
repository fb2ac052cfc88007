"""Images per second of processor time of the training loop, beside the loop of MONAI's tutorials, on one thread.

    python benchmarks/loop.py --out loop.json

The network, the batches, the objective (rectified flow), the mirroring and AdamW are the same. MONAI's half is the loop
of its diffusion tutorials: CacheDataset, RandFlipd and a DataLoader in this process, AdamW as torch has it, the loss
read after each step. Ours is `fedsynth.training.trainer.Trainer`, with averaged weights (EMA) and clipped gradients,
which the tutorial does not have. Both take turns, and the mean of the turns' ratios counts; a size is a square or, with
three numbers, a volume. bf16 is for processors that have such instructions; others imitate them, many times slower.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from evidence import Claim, leave, over_seeds
from monai.data.dataloader import DataLoader
from monai.data.dataset import CacheDataset
from monai.transforms.spatial.dictionary import RandFlipd
from monai.utils.misc import set_determinism
from torch import Tensor, nn

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.families.diffusion import Diffusion
from fedsynth.networks.blocks import from_patches, to_patches
from fedsynth.params import Training
from fedsynth.training.trainer import Trainer

SIZES = ["32x32", "64x64", "128x128", "32x32x32"]
CHANNELS, LABELS = 3, 3  # two images and a mask; classes


class Patched(nn.Module):
    """The U-Net of a Diffusion as a network of images (B, C, *S), as MONAI's tutorials call one."""

    def __init__(self, family: Diffusion):
        super().__init__()
        self.unet, self.patch = family.unet, family.patch

    def forward(self, x: Tensor, timesteps: Tensor, class_labels: Tensor) -> Tensor:
        return from_patches(self.unet(to_patches(x, self.patch), timesteps, class_labels=class_labels), self.patch)


class Tutorial:
    """The loop of MONAI's tutorials on the images x (N, C, *S) of the classes y (N,)."""

    def __init__(self, family: Diffusion, x: Tensor, y: Tensor, batch: int, bf16: bool):
        self.schedule, self.net, self.bf16 = family.schedule(), Patched(family), bf16
        rows = [{"image": image, "label": label} for image, label in zip(x, y, strict=True)]
        flip = RandFlipd(keys=["image"], prob=0.5, spatial_axis=1)
        self.loader = DataLoader(
            CacheDataset(rows, flip, cache_rate=1.0, progress=False), batch_size=batch, shuffle=True, drop_last=True
        )
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=1e-4)

    def epoch(self) -> int:
        """Train one epoch. Returns the number of images."""
        self.net.train()
        total, seen = 0.0, 0
        for rows in self.loader:
            images, labels = rows["image"].as_tensor(), rows["label"]
            self.optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                noise = torch.randn_like(images)
                times = self.schedule.sample_timesteps(images)
                noisy = self.schedule.add_noise(images, noise, times)
                loss = F.mse_loss(self.net(noisy, times, labels).float(), images - noise)
            loss.backward()
            self.optimizer.step()
            total, seen = total + loss.item(), seen + len(images)
        return seen


class Ours:
    """A site's trainer on the same images, one epoch a round."""

    def __init__(self, family: Diffusion, x: Tensor, y: Tensor, batch: int, bf16: bool):
        training = Training(rounds=1000, epochs=1, batch=batch, lr=1e-4, ema=0.995, flip=[1], bf16=bf16)
        self.trainer, self.rounds, self.batch = Trainer(family, FedAvg(), training, x, y, None, seed=1), 0, batch
        self.weights = {n: p.detach().numpy().copy() for n, p in family.named_parameters()}

    def epoch(self) -> int:
        update = self.trainer.round(self.weights, self.rounds)
        self.rounds += 1
        return update.steps * self.batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=SIZES)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("loop.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    set_determinism(1)
    rows = []
    print(f"{torch.backends.cpu.get_cpu_capability()}, batch {arguments.batch}; images per CPU second")
    for text in arguments.sizes:
        size = [int(side) for side in text.split("x")]
        for bf16 in (False, True) if arguments.bf16 else (False,):
            found = measure(size, bf16, arguments)
            rows.append({"size": text, "bf16": bf16} | found)
            print(f"{text:<10} {'bf16' if bf16 else 'fp32'}  fedsynth {found['fedsynth']:7.1f}  "
                  f"MONAI {found['monai']:7.1f}  ratio {found['ratio']:.2f}", flush=True)  # fmt: skip
    leave(arguments.out, claims(rows), rows)


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return the ratios of the turns, of either precision to the tutorials' loop in single precision."""
    plain = {row["size"]: row["rates"]["monai"] for row in rows if not row["bf16"]}
    said = "images per CPU second of the training loop over those of MONAI's tutorials"
    return [
        over_seeds(f"{said}, {row['size']}, {'bf16 over fp32' if row['bf16'] else 'both fp32'}",
                   (a / b for a, b in zip(row["rates"]["fedsynth"], plain[row["size"]], strict=True)), "x")
        for row in rows
    ]  # fmt: skip


def measure(size: list[int], bf16: bool, arguments: argparse.Namespace) -> dict[str, Any]:
    images = max(2 * arguments.batch, min(256, 256 * 32**2 // torch.tensor(size).prod().item()))
    images -= images % arguments.batch
    x, y = torch.randn(images, CHANNELS, *size), torch.arange(images) % LABELS
    loops: dict[str, Tutorial | Ours] = {}
    for name, kind in {"monai": Tutorial, "fedsynth": Ours}.items():
        torch.manual_seed(0)
        family = Diffusion(CHANNELS, 0, LABELS, size, channels=(32, 64))
        loops[name] = kind(family, x, y, arguments.batch, bf16)
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(arguments.turns + 1):  # the first one warms up
        for name, loop in loops.items():
            began = time.process_time()
            seen = loop.epoch()
            rates[name] += [seen / (time.process_time() - began)] if turn else []
    ratios = [a / b for a, b in zip(rates["fedsynth"], rates["monai"], strict=True)]
    return {name: statistics.median(of) for name, of in rates.items()} | {
        "ratio": statistics.median(ratios),
        "rates": rates,
    }


if __name__ == "__main__":
    main()
