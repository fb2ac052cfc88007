"""Rectified flow: a U-Net learns the velocity from noise to image; Euler or Heun steps integrate it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn

from fedsynth.families import Family
from fedsynth.networks.blocks import coarsest, errors, fill, from_patches, mse, to_patches, with_given
from fedsynth.networks.monai_imports import monai_imports

with monai_imports():
    from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
    from monai.networks.schedulers.rectified_flow import RFlowScheduler

LOOKED_AT = (0.1, 0.2, 0.35)  # shares of the way to noise at which an attack looks at an image's loss
TIMES = 1000  # training timesteps of the schedule; the sampler uses `steps` of them


class Diffusion(Family):
    """Rectified flow (Liu et al. 2022, arXiv:2209.03003, equation 1) with timesteps from a logit-normal distribution.

    x_t = (1 - t) x + t noise; the U-Net learns the velocity v = x - noise, so that dx = v (-dt) leads from noise at t =
    1 to an image at t = 0. The timesteps are those of Esser et al. 2024, arXiv:2403.03206.

    In an image of more pixels the same share of noise hides less, because neighbours tell of each other. With `base`
    the times of training and sampling are shifted for that (equation 23 of Esser et al.): t becomes s t / (1 + (s - 1)
    t), where s is the square root of the number of pixels over that of an image of the size `base`.

    Classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598, equation 6 with w = guidance - 1): the class is
    replaced by "any class" for a share `drop` of the training images, and the sampler uses v_any + guidance (v_class -
    v_any). With guidance = 1 it uses the class-conditional model alone, in half the time.

    Args:
        patch: side, in pixels, of the patches that become channels before the U-Net (pixel unshuffle).
        channels, blocks, attention: channels, residual blocks and attention of the U-Net's levels.
        steps: steps of the sampler.
        solver: "euler", one evaluation of the U-Net in a step, or "heun", two in all steps but the last (Karras et al.
            2022, arXiv:2206.00364, algorithm 1 without noise).
        base: [H, W] or [D, H, W], the image size whose times are not shifted; without one no times are.
        site: length of a site embedding, added as planes beside the image; 0 for none. Each site learns its own, which
            never leaves it. Half of the training images and all samples go without it.
        may_lack: indices of generated channels that may be missing (NaN); the loss leaves missing ones out.

    Raises ValueError if `steps` is not from 1 to 1000, `solver` is another, `base` has not as many axes as `size`, or
    `size` is not divisible by `patch` and the halvings.
    """

    defaults: ClassVar = {"lr": 2e-3, "ema": 0.995}

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
        steps: int = 20,
        guidance: float = 1.5,
        drop: float = 0.1,
        spread: float = 1.0,
        site: int = 0,
        may_lack: Sequence[int] = (),
        solver: str = "euler",
        base: Sequence[int] | None = None,
    ):
        super().__init__()
        self.generated, self.given, self.labels, self.size = generated, given, labels, size
        self.patch, self.channels, self.blocks, self.attention, self.groups = patch, channels, blocks, attention, groups
        self.steps, self.guidance, self.drop, self.spread = steps, guidance, drop, spread
        if not 1 <= steps <= TIMES:
            raise ValueError(f"steps must be from 1 to {TIMES}, not {steps}")
        if solver not in ("euler", "heun"):
            raise ValueError(f"solver must be euler or heun, not {solver!r}")
        if base is not None and (len(base) != len(size) or min(base) < 1):
            raise ValueError(f"base must have {len(size)} axes of 1 pixel or more, like the images, not {list(base)}")
        self.site, self.may_lack, self.solver, self.base = site, may_lack, solver, base
        coarsest(size, len(channels) - 1, patch)
        d = len(size)
        self.unet = DiffusionModelUNet(
            d,
            (generated + given) * patch**d + site,
            generated * patch**d,
            num_res_blocks=blocks,
            channels=tuple(channels),
            attention_levels=tuple(attention or [False] * len(channels)),
            norm_num_groups=groups,
            num_head_channels=groups,
            num_class_embeds=labels + 1,
        )

        if site:
            self.unet.register_parameter("site", nn.Parameter(torch.zeros(site)))
            self.personal = ("unet.site",)

    def schedule(self) -> RFlowScheduler:
        """Returns a new scheduler, with the sampler's timesteps.

        It is no attribute: MONAI's is a Module by name only, and inside another Module it can be neither moved nor
        copied.
        """
        pixels = prod(self.size)
        shift = math.sqrt(pixels / prod(self.base or self.size))
        # MONAI's shift is the n-th root of a ratio of pixels, for n axes; equation 23 takes the square root always
        schedule = RFlowScheduler(
            sample_method="logit-normal",
            scale=self.spread,
            use_timestep_transform=self.base is not None,
            base_img_size_numel=pixels / shift ** len(self.size),  # type: ignore[arg-type]  # a ratio is taken of it
            spatial_dim=len(self.size),
        )
        schedule.set_timesteps(self.steps, input_img_size_numel=pixels)
        return schedule

    def players(self) -> dict[str, nn.Module]:
        return {"unet": self.unet}

    def predict(self, x: Tensor, t: Tensor, y: Tensor, given: Tensor | None, here: Tensor | float = 0.0) -> Tensor:
        """Returns the U-Net's output (B, C, *S), here v, for x_t at t (B,) in [0, 1000].

        y = `labels` means "any class". `here` (B,) or a scalar: 1 uses the site embedding, 0 does not.
        """
        patches = to_patches(with_given(x, given, self.given), self.patch)
        if self.site:
            ours = self.unet.get_parameter("site") * torch.as_tensor(here, device=x.device).expand(len(x))[:, None]
            planes = ours.reshape(len(x), self.site, *[1] * len(self.size)).expand(-1, -1, *patches.shape[2:])
            patches = torch.cat([patches, planes.to(patches)], 1)
        return from_patches(self.unet(patches, t, class_labels=y).float(), self.patch)

    def loss(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        x, known = fill(x, self.may_lack)
        schedule, noise = self.schedule(), torch.randn_like(x)
        # drawn on the CPU, by the shape alone, and sent without waiting for what the device computes
        t = schedule.sample_timesteps(torch.empty(()).expand(x.shape)).to(x.device, non_blocking=True)
        told = self.predict(schedule.add_noise(x, noise, t), t, self.forget(y), given, self.some(y))
        return mse(told, self.wanted(x, noise, t), known)

    def evidence(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        """The loss at the times LOOKED_AT (Carlini et al. 2023, arXiv:2301.13188, section 5)."""
        x, known = fill(x, self.may_lack)
        schedule, noise = self.schedule(), torch.randn_like(x[:1]).expand_as(x)
        found = []
        for share in LOOKED_AT:
            t = torch.full((len(x),), int(share * schedule.num_train_timesteps), device=x.device)
            told = self.predict(schedule.add_noise(x, noise, t), t, y, given)
            found.append(errors(told, self.wanted(x, noise, t), known))
        return torch.stack(found, 1)

    def wanted(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Returns what the U-Net should predict (B, C, *S), here the velocity."""
        return x - noise

    has_error = True
    bounded = True  # samples are clipped to [-1, 1]; off for the latents of latent diffusion

    def error(self, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        """Mean squared error of the image x_t + t v predicted in a single step from t = 0.5."""
        x, known = fill(x, self.may_lack)
        t, noise = torch.full((len(x),), 500.0, device=x.device), torch.randn_like(x)
        noisy = self.schedule().add_noise(x, noise, t)
        return mse(noisy + 0.5 * self.predict(noisy, t, y, given), x, known)

    def forget(self, y: Tensor) -> Tensor:
        """Replace a random fraction `drop` of the labels y by "any class"."""
        return torch.where(torch.rand(len(y), device=y.device) < self.drop, self.labels, y)

    def some(self, y: Tensor) -> Tensor | float:
        """Returns (B,) 1 for the images that use the site embedding, a random half, and 0 for the others."""
        return (torch.rand(len(y), device=y.device) < 0.5).float() if self.site else 0.0

    @torch.no_grad()
    def sample(self, y: Tensor, given: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        device = next(self.parameters()).device
        y, given = y.to(device), None if given is None else given.to(device)
        x = torch.randn((len(y), self.generated, *self.size), generator=generator).to(device)
        schedule = self.schedule()
        times = schedule.timesteps.tolist()
        for now, after in zip(times, [*times[1:], 0], strict=True):
            velocity = self.guided(x, now, y, given)
            there, _ = schedule.step(velocity, now, x, after)
            if self.solver == "heun" and after > 0:
                there, _ = schedule.step((velocity + self.guided(there, after, y, given)) / 2, now, x, after)
            x = there
        return x.clamp(-1, 1) if self.bounded else x

    def guided(self, x: Tensor, time: float, y: Tensor, given: Tensor | None) -> Tensor:
        """Returns the guided prediction v_any + guidance (v_class - v_any)."""
        t = torch.full((len(y),), time, device=x.device)
        if self.guidance == 1:
            return self.predict(x, t, y, given)
        both = torch.cat([y, torch.full_like(y, self.labels)])
        twice = None if given is None else torch.cat([given, given])
        ours, anyones = self.predict(torch.cat([x, x]), torch.cat([t, t]), both, twice).chunk(2)
        return anyones + self.guidance * (ours - anyones)
