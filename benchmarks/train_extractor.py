"""Train the frozen extractor of fedsynth/features/frozen.py on procedural textures and shapes; no patient's image.

    PYTHONPATH=. python benchmarks/train_extractor.py --steps 3000

It learns to tell, of one gray image: its texture and its shape (6 and 5 classes); and as numbers its noise, blur and
grid, its mean and contrast, the area and contrast of the shape. Writes fedsynth/features/frozen.safetensors and prints
the SHA-256 that belongs into frozen.py. About ten minutes on one CPU core.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from fedsynth.data.procedural import SHAPES, TEXTURES, shape, texture
from fedsynth.features import frozen

NUMBERS = 7  # that are told of an image
PER_BATCH, AHEAD = 64, 300  # images of a step; batches that are drawn once and used again, mirrored and turned
SIZES = (32, 32, 40)


def image(size: int, rng: np.random.Generator) -> tuple[np.ndarray, list[int], list[float]]:
    """(H, W) in [-1, 1], its two classes, and its numbers in about unit spread."""
    one, other = (int(rng.integers(len(TEXTURES))) for _ in range(2))
    figure = int(rng.integers(len(SHAPES) + 1))  # the last: none
    contrast, mean, apart = rng.uniform(0.03, 0.4), rng.uniform(-0.8, 0.5), rng.uniform(-0.8, 0.8)
    made = mean + contrast * texture(TEXTURES[one], (size, size), rng)
    area = 0.0
    if figure < len(SHAPES):
        where = shape(SHAPES[figure], (size, size), rng)
        inner = mean + apart + 0.5 * contrast * texture(TEXTURES[other], (size, size), rng)
        made, area = made + where * (inner - made), float(where.mean())
    blur, noise, lattice = rng.uniform(0, 1.6), np.exp(rng.uniform(-5, -1)), np.exp(rng.uniform(-5, -1))
    blur, noise, lattice = (v * (rng.random() < 0.7) for v in (blur, noise, lattice))
    made = gaussian_filter(made, blur) if blur > 0.2 else made
    made = made + noise * rng.normal(size=made.shape) + lattice * (np.indices(made.shape).sum(0) % 2 * 2 - 1)
    made = made.clip(-1, 1)
    logs = [np.log(max(v, 0.005)) / 1.2 + 3 for v in (noise, lattice)]
    return made, [one, figure], [*logs, 2 * blur - 1.5, 2 * mean, 2 * apart * (area > 0), 15 * area, 3 * made.std()]


def batch(size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """(B, 1, H, W), (B, 2) classes, (B, NUMBERS)."""
    images, kinds, numbers = zip(*(image(size, rng) for _ in range(PER_BATCH)), strict=True)
    return torch.tensor(np.stack(images)[:, None]).float(), torch.tensor(kinds), torch.tensor(numbers).float()


def train(steps: int, seed: int) -> tuple[frozen.Network, list[tuple[Tensor, Tensor, Tensor]]]:
    torch.manual_seed(seed)
    rng, net = np.random.default_rng(seed), frozen.Network()
    head = nn.Sequential(nn.ReLU(), nn.Linear(frozen.UNITS, len(TEXTURES) + len(SHAPES) + 1 + NUMBERS))
    optimizer = torch.optim.AdamW([*net.parameters(), *head.parameters()], lr=4e-3, weight_decay=1e-4)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    drawn: list[tuple[Tensor, Tensor, Tensor]] = []
    started = time.monotonic()
    for step in range(steps):
        if len(drawn) < AHEAD:
            drawn.append(batch(SIZES[step % len(SIZES)], rng))
        x, kinds, numbers = drawn[step % AHEAD]
        x = torch.rot90(x, int(rng.integers(4)), (2, 3)).flip(3) if rng.random() < 0.5 else x
        found = head(net(x)).split([len(TEXTURES), len(SHAPES) + 1, NUMBERS], 1)
        parts = [F.cross_entropy(found[0], kinds[:, 0]), F.cross_entropy(found[1], kinds[:, 1])]
        parts.append(3 * F.mse_loss(found[2], numbers))
        optimizer.zero_grad()
        torch.stack(parts).sum().backward()
        optimizer.step()
        plan.step()
        if step % 200 == 199:
            print(
                step + 1,
                *(f"{float(p.detach()):.3f}" for p in parts),
                f"{time.monotonic() - started:.0f} s",
                flush=True,
            )
    return net.eval(), [batch(size, rng) for size in SIZES for _ in range(10)]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--steps", type=int, default=3000)
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--out", type=Path, default=Path(frozen.__file__).with_name(frozen.FILE))
    given = asked.parse_args()
    net, others = train(given.steps, given.seed)
    from safetensors.torch import save

    with torch.no_grad():
        units = torch.cat([net(x) for x, _, _ in others])
    arrays = net.state_dict() | {"mean": units.mean(0), "spread": units.std(0).clamp_min(1e-3)}
    content = save({name: array.contiguous() for name, array in arrays.items()})
    given.out.write_bytes(content)
    print(f"{len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
