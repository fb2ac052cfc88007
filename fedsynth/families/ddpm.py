"""Denoising diffusion with a U-Net, sampled as DDPM in many stochastic or as DDIM in few deterministic steps."""

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
    """DDPM (Ho et al. 2020, arXiv:2006.11239, equation 14), sampled as in DDIM.

    x_t = sqrt(a_t) x + sqrt(1 - a_t) noise, t = 0 … `times` - 1. The sampler is equation 7 of Song et al. 2021,
    arXiv:2010.02502, given x_t and the predicted image, which is clipped to [-1, 1]; with `eta` 1 and steps of one that
    is the posterior of Ho et al., equation 7.

    Args:
        steps: sampling steps; must divide `times`.
        times: number of noise levels.
        beta: the noise schedule, one of MONAI's NoiseSchedules.
        target: what the U-Net predicts: "epsilon", the noise, or "v_prediction", v = sqrt(a_t) noise - sqrt(1 - a_t) x
            (Salimans & Ho 2022, arXiv:2202.00512), which is more stable with few steps.
        eta: as in equation 16 of Song et al.: 1 samples like DDPM (the variance of its posterior), 0 adds no noise
            (DDIM); values between interpolate.

    The other arguments, class conditioning and guidance are those of Diffusion. Raises ValueError for an invalid
    `target`, `eta`, `beta` or `steps`.
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
        self.schedule()  # raises ValueError for a schedule that MONAI does not know

    def schedule(self) -> DDIMScheduler:  # type: ignore[override]  # used only by the loss and the sampler below
        """Returns the scheduler with the sampler's timesteps; its steps take the predicted image (`image`).

        From a prediction of the noise MONAI clips the image and keeps the noise that belonged to the image before, so
        that its steps would not be those of the clipped image.

        They run from `times` - 1 in constant strides to -1, the image itself. MONAI's own timesteps use another stride
        than its `step`: a step would not end at the noise level at which the next one begins.
        """
        scheduler = DDIMScheduler(self.times, self.beta, prediction_type="sample", clip_sample=False)
        scheduler.set_timesteps(self.steps)
        scheduler.timesteps = torch.arange(self.times - 1, -1, -(self.times // self.steps))
        return scheduler

    def _on(self, device: torch.device) -> DDIMScheduler:
        """Returns the scheduler with its noise levels on the device, without waiting for what is computed there."""
        scheduler = self.schedule()
        scheduler.alphas_cumprod = scheduler.alphas_cumprod.to(device, non_blocking=True)
        return scheduler

    def loss(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        x, known = fill(x, self.may_lack)
        scheduler, noise = self._on(x.device), torch.randn_like(x)
        t = torch.randint(0, self.times, (len(x),), device=x.device)
        told = self.predict(scheduler.add_noise(x, noise, t), t, self.forget(y), given, self.some(y))
        return mse(told, self.wanted(x, noise, t), known)

    def wanted(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return noise if self.target == "epsilon" else self._on(x.device).get_velocity(x, noise, t)

    def error(self, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        """Mean squared error of the image predicted in a single step from t = `times` / 2."""
        x, known = fill(x, self.may_lack)
        scheduler, noise = self.schedule(), torch.randn_like(x)
        t = torch.full((len(x),), self.times // 2, device=x.device)
        noisy = scheduler.add_noise(x, noise, t)
        made = self.image(self.predict(noisy, t, y, given), noisy, scheduler.alphas_cumprod[self.times // 2])
        return mse(made.clamp(-1, 1), x, known)

    def image(self, told: Tensor, noisy: Tensor, a: Tensor) -> Tensor:
        """Returns the image that a prediction says is in x_t, with `a` = a_t.

        (x_t - sqrt(1 - a) noise) / sqrt(a), or sqrt(a) x_t - sqrt(1 - a) v.
        """
        signal, rest = a.to(noisy).sqrt(), (1 - a).to(noisy).sqrt()
        return (noisy - rest * told) / signal if self.target == "epsilon" else signal * noisy - rest * told

    @torch.no_grad()
    def sample(self, y: Tensor, given: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        device = next(self.parameters()).device
        y, given = y.to(device), None if given is None else given.to(device)
        scheduler = self.schedule()
        x = torch.randn((len(y), self.generated, *self.size), generator=generator)
        for now in scheduler.timesteps.tolist():  # the step runs on the CPU, where the generator is
            told = self.guided(x.to(device), now, y, given).cpu()
            seen = self.image(told, x, scheduler.alphas_cumprod[now])
            x, _ = scheduler.step(seen.clamp(-1, 1) if self.bounded else seen, now, x, self.eta, generator)
        return x.clamp(-1, 1) if self.bounded else x
