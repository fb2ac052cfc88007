"""What a machine can train within minutes: cores, memory, a GPU."""

from __future__ import annotations

import os
from dataclasses import dataclass

# voxels of an image that a machine trains in minutes: up to so many cores, in two and in three dimensions
VOXELS = ((3, 48**2, 16**3), (15, 64**2, 20**3), (10**6, 96**2, 24**3))
ON_GPU = (128**2, 48**3)
MEMORY_GB = 6.0  # below it a GPU does not hold images of `ON_GPU`, and a machine not two jobs of three sites


@dataclass(frozen=True)
class Machine:
    """`memory_gb` is the machine's, `gpu_gb` that of its first GPU, 0 where there is none."""

    cores: int
    memory_gb: float
    gpu_gb: float = 0.0

    @classmethod
    def here(cls) -> Machine:
        """This machine."""
        import psutil

        from fedsynth.networks.device import memory_gb

        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return cls(cores, psutil.virtual_memory().total / 1e9, memory_gb())

    def voxels(self, dims: int) -> int:
        """How many voxels an image may have."""
        if self.gpu_gb >= MEMORY_GB:
            return ON_GPU[dims - 2]
        return next(of[dims - 2] for most, *of in VOXELS if self.cores <= most or self.memory_gb < MEMORY_GB)

    def seconds(self, sites: int) -> float:
        """CPU seconds that a site may train one model: two jobs of all sites share the cores."""
        if self.gpu_gb >= MEMORY_GB:
            return 1500.0  # what takes a GPU a minute or two
        return 42.0 * min(self.cores, 2 * sites) / sites

    def __str__(self) -> str:
        """ "2 cores, 24 GB"."""
        gpu = f", a GPU of {self.gpu_gb:.0f} GB" if self.gpu_gb else ""
        return f"{self.cores} core{'s' * (self.cores != 1)}, {self.memory_gb:.0f} GB{gpu}"
