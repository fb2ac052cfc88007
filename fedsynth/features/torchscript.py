"""Features of any TorchScript file, such as RadImageNet; each machine has its own copy of the file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedsynth.features import Extractor, ExtractorError, in_batches, local_file

if TYPE_CHECKING:
    from torch import nn

    from fedsynth.uses import Use


class TorchScript(Extractor):
    """A scripted or traced module that maps images (N, I, *S) float32 in [-1, 1] to features (N, F).

    `file` is its name in the machine's folder of extractor files, `sha256` its hash. The file is never sent:
    TorchScript is code, so each hospital installs it itself, and only a file with this hash is run.
    """

    def __init__(self, file: str, sha256: str):
        self.file, self.sha256 = file, sha256
        self.title = f"TorchScript file {file}, sha256 {sha256[:12]}"

    def open(self, networks: dict[str, tuple[Use, nn.Module]], folder: Path) -> TorchScript:
        import torch

        from fedsynth.networks.device import device

        content = local_file(folder, self.file, self.sha256)
        self.device = device()
        try:  # load the checked bytes instead of reading the file again
            self.net = torch.jit.load(io.BytesIO(content), map_location=self.device).eval()
        except RuntimeError as error:
            raise ExtractorError(
                f"{Path(folder) / self.file} cannot be read as TorchScript; make it with torch.jit.save"
            ) from error
        return self

    def features(self, images: np.ndarray) -> np.ndarray:
        return in_batches(self.net, images, self.device)
