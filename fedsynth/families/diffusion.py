"""Rectified flow: a U-Net learns the velocity from noise to image; Euler steps integrate it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fedsynth.families import Family
from fedsynth.networks.blocks import coarsest, fill, from_patches, mse, to_patches, with_given
from fedsynth.networks.monai_imports import monai_imports

with monai_imports():
    from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
    from monai.networks.schedulers.rectified_flow import RFlowScheduler

TIMES = 1000  # the schedule's own, of which the sampler takes `steps`


class Diffusion(Family):
    """Rectified flow: Liu et al. 2022, arXiv:2209.03003, equation 1, with times from a logit-normal (Esser et al. 2024,
    arXiv:2403.03206).

    x_t = (1 - t) x + t noise; the U-Net learns v = x - noise, so that dx = v (-dt) leads from t = 1 to an image at t =
    0. Classes are forgotten in `drop` of the training images, and the sampler goes `guidance` times as far from "any
    class" to the class asked for (Ho & Salimans 2022, arXiv:2207.12598, equation 6 with w = guidance - 1); guidance 1
    is the model itself, at half the time.

    `patch`: pixels of a side that become channels before the U-Net; `channels`, `blocks`, `attention`: its levels;
    `steps`: of Euler. `site`: length of an embedding of the site, as planes beside the image; each site learns its own,
    which never leaves it. Half of the training images go without, and so does the sampler.
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
        steps: int = 20,
        guidance: float = 1.5,
        drop: float = 0.1,
        spread: float = 1.0,
        site: int = 0,
        may_lack: Sequence[int] = (),
    ):
        super().__init__()
        self.generated, self.given, self.labels, self.size = generated, given, labels, size
        self.patch, self.channels, self.blocks, self.attention, self.groups = patch, channels, blocks, attention, groups
        self.steps, self.guidance, self.drop, self.spread = steps, guidance, drop, spread
        if not 1 <= steps <= TIMES:
            raise ValueError(f"steps must be from 1 to {TIMES}, not {steps}")
        self.site, self.may_lack = site, may_lack
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
        """Made where it is used: MONAI's is a Module by name only, and one inside of a Module can be neither moved nor
        copied.
        """
        return RFlowScheduler(sample_method="logit-normal", scale=self.spread)

    def players(self) -> dict[str, nn.Module]:
        return {"unet": self.unet}

    def predict(self, x: Tensor, t: Tensor, y: Tensor, given: Tensor | None, here: Tensor | float = 0.0) -> Tensor:
        """What the U-Net tells (B, C, *S) of x_t at t (B,) in [0, 1000]: here v; y = `labels` stands for "any class".

        `here` (B,): 1 for an image of this site, 0 for one of any site.
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
        t = schedule.sample_timesteps(x)
        return mse(
            self.predict(schedule.add_noise(x, noise, t), t, self.forget(y), given, self.some(y)), x - noise, known
        )

    has_error = True
    bounded = True  # what is drawn lies in [-1, 1]; the latents of a model around this one need not

    def error(self, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        """Of the image that one step from half of the way makes: x_t + t v."""
        x, known = fill(x, self.may_lack)
        t, noise = torch.full((len(x),), 500.0, device=x.device), torch.randn_like(x)
        noisy = self.schedule().add_noise(x, noise, t)
        return mse(noisy + 0.5 * self.predict(noisy, t, y, given), x, known)

    def forget(self, y: Tensor) -> Tensor:
        """y with `drop` of the labels as "any class"."""
        return torch.where(torch.rand(len(y), device=y.device) < self.drop, self.labels, y)

    def some(self, y: Tensor) -> Tensor | float:
        """1 for half of the images, which are told of their site, 0 for the others."""
        return (torch.rand(len(y), device=y.device) < 0.5).float() if self.site else 0.0

    @torch.no_grad()
    def sample(self, y: Tensor, given: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        device = next(self.parameters()).device
        y, given = y.to(device), None if given is None else given.to(device)
        x = torch.randn((len(y), self.generated, *self.size), generator=generator).to(device)
        schedule = self.schedule()
        schedule.set_timesteps(self.steps)
        times = schedule.timesteps.tolist()
        for now, after in zip(times, [*times[1:], 0], strict=True):
            x, _ = schedule.step(self.guided(x, now, y, given), now, x, after)
        return x.clamp(-1, 1) if self.bounded else x

    def guided(self, x: Tensor, time: float, y: Tensor, given: Tensor | None) -> Tensor:
        """v_any + guidance (v_class - v_any)."""
        t = torch.full((len(y),), time, device=x.device)
        if self.guidance == 1:
            return self.predict(x, t, y, given)
        both = torch.cat([y, torch.full_like(y, self.labels)])
        twice = None if given is None else torch.cat([given, given])
        ours, anyones = self.predict(torch.cat([x, x]), torch.cat([t, t]), both, twice).chunk(2)
        return anyones + self.guidance * (ours - anyones)
