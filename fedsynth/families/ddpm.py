"""Denoising diffusion: a U-Net predicts the noise in an image; DDPM samples in many stochastic steps, DDIM in few
deterministic ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedsynth.families.diffusion import Diffusion
from fedsynth.networks.blocks import fill, mse
from fedsynth.networks.monai_imports import monai_imports

with monai_imports():
    from monai.networks.schedulers.ddim import DDIMScheduler

TARGETS = ("epsilon", "v_prediction")


class DDPM(Diffusion):
    """DDPM: Ho et al. 2020, arXiv:2006.11239, equation 14; sampled by DDIM's equation 12: Song et al. 2021,
    arXiv:2010.02502.

    x_t = sqrt(a_t) x + sqrt(1 - a_t) noise, t = 0 … `times` - 1. `target`: what the U-Net tells, "epsilon" the noise,
    or "v_prediction" v = sqrt(a_t) noise - sqrt(1 - a_t) x (Salimans & Ho 2022, arXiv:2202.00512), which is steadier in
    few steps. `eta` of equation 16: 1 samples as DDPM does (its posterior's variance), 0 takes no new noise (DDIM),
    between them a mixture. `steps` of the sampler must divide `times`; `beta`: the schedule, of MONAI's NoiseSchedules.
    Classes and guidance as in Diffusion.

    Raises ValueError for a `target`, `eta`, `beta` or number of steps that cannot be.
    """

    def __init__(
        self,
        generated: int,
        given: int,
        labels: int,
        size: Sequence[int],
        patch: int = 2,
        channels: Sequence[int] = (48, 96),
        blocks: int = 1,
        attention: Sequence[bool] | None = None,
        groups: int = 16,
        steps: int = 50,
        guidance: float = 1.5,
        drop: float = 0.1,
        times: int = 1000,
        beta: str = "linear_beta",
        target: str = "epsilon",
        eta: float = 0.0,
        site: int = 0,
        may_lack: Sequence[int] = (),
    ):
        super().__init__(
            generated,
            given,
            labels,
            size,
            patch,
            channels,
            blocks,
            attention,
            groups,
            steps,
            guidance,
            drop,
            site=site,
            may_lack=may_lack,
        )
        self.times, self.beta, self.target, self.eta = times, beta, target, eta
        if times % steps:
            near = min((n for n in range(1, times + 1) if times % n == 0), key=lambda n: abs(n - steps))
            raise ValueError(
                f"steps={steps} must divide times={times}, or the sampler would skip between two noise levels; take"
                f" {near}"
            )
        if target not in TARGETS:
            raise ValueError(f"target must be one of {', '.join(TARGETS)}, not {target!r}")
        if not 0 <= eta <= 1:
            raise ValueError(f"eta must be from 0 (DDIM) to 1 (DDPM), not {eta}")
        self.schedule()  # raises for a schedule that MONAI does not know

    def schedule(self) -> DDIMScheduler:  # type: ignore[override]  # asked by the loss and the sampler below alone
        """With the times of the sampler: `times` - 1, … , in strides that end at -1, the image itself.

        MONAI's own times have another stride than its `step` takes: a step would not end at the noise level where the
        next begins.
        """
        scheduler = DDIMScheduler(self.times, self.beta, prediction_type=self.target, clip_sample=self.bounded)
        scheduler.set_timesteps(self.steps)
        scheduler.timesteps = torch.arange(self.times - 1, -1, -(self.times // self.steps))
        return scheduler

    def loss(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        x, known = fill(x, self.may_lack)
        scheduler, noise = self.schedule(), torch.randn_like(x)
        t = torch.randint(0, self.times, (len(x),), device=x.device)
        wanted = noise if self.target == "epsilon" else scheduler.get_velocity(x, noise, t)
        told = self.predict(scheduler.add_noise(x, noise, t), t, self.forget(y), given, self.some(y))
        return mse(told, wanted, known)

    def error(self, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        """Of the image that one step from half of the times makes: (x_t - sqrt(1 - a) noise) / sqrt(a), or sqrt(a) x_t
        - sqrt(1 - a) v.
        """
        x, known = fill(x, self.may_lack)
        scheduler, noise = self.schedule(), torch.randn_like(x)
        t = torch.full((len(x),), self.times // 2, device=x.device)
        noisy, a = scheduler.add_noise(x, noise, t), scheduler.alphas_cumprod[self.times // 2].to(x)
        told = self.predict(noisy, t, y, given)
        made = (
            (noisy - (1 - a).sqrt() * told) / a.sqrt()
            if self.target == "epsilon"
            else a.sqrt() * noisy - (1 - a).sqrt() * told
        )
        return mse(made.clamp(-1, 1), x, known)

    @torch.no_grad()
    def sample(self, y: Tensor, given: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        device = next(self.parameters()).device
        y, given = y.to(device), None if given is None else given.to(device)
        scheduler = self.schedule()
        x = torch.randn((len(y), self.generated, *self.size), generator=generator)
        for now in scheduler.timesteps.tolist():  # the step itself on the CPU, where the generator is
            x, _ = scheduler.step(self.guided(x.to(device), now, y, given).cpu(), now, x, self.eta, generator)
        return x.clamp(-1, 1) if self.bounded else x
