"""All work that has tensors, on the CPU and on the pretended device, as a program: it prints what differs, as JSON.

A process of its own, because torch counts a process's devices at its first backward pass.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.algorithms.fedcar import FedCAR
from fedsynth.features.classifier import Classifier
from fedsynth.features.frozen import Frozen
from fedsynth.measures._losses import losses
from fedsynth.params import Training
from fedsynth.training import sampling, weights
from fedsynth.training.trainer import Trainer
from fedsynth.uses.segmentation import Segmentation
from fedsynth.worth import use_networks
from tests import pretended
from tests.contracts.test_families import FAMILIES, make
from tests.measures.seen import look
from tests.privacy.test_dpsgd import protected
from tests.sets import tiny_params
from tests.toys import Toy
from tests.training.test_central_generator import centre, site

# the work itself, of which nothing may be left on the CPU
HEAVY = {"convolution", "convolution_backward", "mm", "addmm", "bmm", "baddbmm", "native_group_norm", "_fused_adamw_"}
SIZE, GIVEN = (16, 16), 1
Work = Callable[[int], list[np.ndarray]]  # of a number of steps: numbers that must be the same on both devices


def training(cls: type) -> Work:
    """Two rounds of a family, and what it then samples."""

    def work(steps: int) -> list[np.ndarray]:
        family = make(cls, SIZE, GIVEN)
        torch.manual_seed(5)
        x, given = torch.rand((8, 2, *SIZE)) * 2 - 1, torch.rand((8, GIVEN, *SIZE)) * 2 - 1
        plan = Training(**({"rounds": 2, "local_steps": steps, "batch": 4, "flip": [1]} | cls.defaults))
        start = {name: p.detach().numpy().copy() for name, p in family.named_parameters()}
        trainer = Trainer(family, FedAvg(), plan, x, torch.arange(8) % 3, given, 1)
        updates = [trainer.round(start, number) for number in range(2)]
        drawn = trainer.family.eval().sample(torch.arange(2), given[:2], torch.Generator().manual_seed(1)).cpu()
        told = [np.array(list(update.losses.values())) for update in updates]
        return [*told, *(a for update in updates for a in update.difference.values()), drawn.numpy()]

    return work


def private(steps: int) -> list[np.ndarray]:
    """The clipped gradients of DP-SGD, image by image and then added, without noise."""
    torch.manual_seed(0)
    family = Toy().to(on())
    mechanism = protected(family, n=10, batch=4)
    x, y = torch.rand((6, 2, 4, 4)).to(on(), non_blocking=True), torch.arange(6).to(on(), non_blocking=True)
    for optimizer in mechanism.noisy.values():
        optimizer.noise_multiplier = 0.0
    mechanism.sizes = [2, 1, 3]
    for _ in range(steps):
        mechanism.gradient("first", x, y, None)
    return [p.grad.cpu().numpy() for p in family.first.parameters()]


def exchange(steps: int) -> list[np.ndarray]:
    """MD-GAN: the centre's generator and a site's discriminator."""
    generator, discriminator = centre({"a": 1.0}), site()
    for _ in range(steps):
        generator.learn({"a": discriminator.step(*generator.draw()["a"])})
    return [*generator.arrays().values(), np.array(list(discriminator.means().values()))]


def use(steps: int) -> list[np.ndarray]:
    """A use's network is trained, and tested."""
    made, rng = Segmentation(1, 1, (16, 16), steps=steps, batch=4), torch.Generator().manual_seed(3)
    images = torch.rand((6, 1, 16, 16), generator=rng) * 2 - 1
    masks, y = torch.where(images > 0.5, 1.0, -1.0), torch.arange(6) % 2
    net = made.fit(images, masks, y, seed=1)
    return [*use_networks.state_of(net).values(), made.judge(net, images, masks, y)["dice"]]


def features(steps: int) -> list[np.ndarray]:
    """All extractors."""
    params, images = tiny_params(), np.random.default_rng(0).uniform(-1, 1, (3, 1, 16, 16)).astype(np.float32)
    uses = use_networks.uses(params)
    name, of = next((name, of) for name, of in uses.items() if hasattr(of.network(1), "embed"))
    net = use_networks.network(of, use_networks.state_of(of.network(1)), 1)
    seen = np.repeat(images, len(params.image.originals), axis=1)
    return [
        Frozen().open({}, Path()).features(images),
        Classifier(name).open({name: (of, net)}, Path()).features(seen[..., : params.image.size[0], :]),
    ]


def attack(steps: int) -> list[np.ndarray]:
    """The losses of a released model, of which an attack on its training images is made; and its samples."""
    params = tiny_params()
    with tempfile.TemporaryDirectory(prefix="a blank ") as folder:
        seen = look(Path(folder), params, n=12, synthetic=6)
    torch.manual_seed(2)
    model = params.models["vae"]
    arrays = {n: p.detach().numpy() for n, p in model.family.build(**params.image.context()).named_parameters()}
    about = {"family": model.family.model_dump(), "image": params.image.model_dump(mode="json")}
    family = weights.build_family(about, arrays)
    drawn = sampling.draw(family, params.image, torch.tensor([0, 1]), None, torch.Generator().manual_seed(1))
    return [losses(seen, family, seen.train, player, 2) for player in family.players()] + [drawn.numpy()]


def server(steps: int) -> list[np.ndarray]:
    """FedCAR draws images of each site's model at the server."""
    family = make(FAMILIES[0], SIZE)
    algorithm, sent = FedCAR(images=3), {n: p.detach().numpy().copy() for n, p in family.named_parameters()}
    algorithm.before_aggregate(lambda: family, sent, {})
    updates = [(name, 1.0, {n: np.full_like(a, 0.01 * k) for n, a in sent.items()}) for k, name in enumerate("abc")]
    return [np.array(list(algorithm.nearness(updates).values()))]


WORK: dict[str, Work] = {cls.__name__: training(cls) for cls in FAMILIES} | {
    "DP-SGD": private,
    "MD-GAN": exchange,
    "use": use,
    "features": features,
    "attack": attack,
    "server": server,
}
# MD-GAN's images and gradients travel at each step; the noise of DP-SGD is made by CUDA alone on the device itself
WAITS_AT_EACH_STEP = {"MD-GAN", "DP-SGD", "features"}


def on() -> torch.device:
    from fedsynth.networks import device

    return device.device()


def compared(work: Work) -> dict[str, object]:
    """Return how far the results are apart, what waited at each step, and what heavy work the CPU did."""
    plain = work(1)
    with pytest.MonkeyPatch.context() as patch, pretended.pretended(patch) as there:
        found = work(1)
        few = len(there.waits)
        work(2)
        more = len(there.waits) - few
    off = max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in zip(plain, found, strict=True))
    heavy = {name.removeprefix("aten::") for name in there.computed} & HEAVY
    left = {name.removeprefix("aten::") for name, _ in there.here} & HEAVY
    return {"off": off, "waits": more - few, "there": sorted(heavy), "left": sorted(left)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    pretended.device()
    print(json.dumps({name: compared(WORK[name]) for name in sys.argv[1:] or WORK}))
