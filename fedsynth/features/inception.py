"""Inception v3 features, as in published FID and KID, if its weights are available."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fedsynth.features import Extractor, ExtractorError, in_batches, local_file

if TYPE_CHECKING:
    from torch import nn

    from fedsynth.uses import Use

WEIGHTS = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"


class Inception(Extractor):
    """Inception v3 of FID (Heusel et al. 2017, arXiv:1706.08500) by torchmetrics, for 2-D images.

    Each of any number of image channels is passed on its own, as a gray image in three channels of 0 to 255, and the
    features are concatenated (F = I x `feature`): a mean over the channels would not detect two exchanged ones.

    Args:
        file, sha256: weights in this machine's folder of extractor files (torch-fidelity's
            `weights-inception-2015-12-05-6726825d.pth`); nothing is downloaded.
        feature: the layer, by its number of features. FID cannot be computed from fewer images than features; 64 needs
            the fewest.

    Raises ExtractorError for a size that is not 2-D and for another `feature`.
    """

    def __init__(
        self, size: tuple[int, ...], file: str, sha256: str, feature: Literal["64", "192", "768", "2048"] = "64"
    ):
        if len(size) != 2:
            raise ExtractorError(
                f"Inception takes 2-D images, and image.size is {list(size)}; take another score.features"
            )
        if str(feature) not in ("64", "192", "768", "2048"):
            raise ExtractorError(f"score.features.args.feature is 64, 192, 768 or 2048, not {feature!r}")
        self.size = size
        self.file, self.sha256, self.feature = file, sha256, str(feature)
        self.title = (
            f"Inception v3 (ImageNet), layer of {self.feature} features for each image channel, weights {file}, sha256"
            f" {sha256[:12]}"
        )

    def open(self, networks: dict[str, tuple[Use, nn.Module]], folder: Path) -> Inception:
        import torch

        from fedsynth.networks.device import device

        try:
            content = local_file(folder, self.file, self.sha256)
        except ExtractorError as error:
            raise ExtractorError(f"{error}. Weights of Inception: {WEIGHTS}") from error
        try:
            from torchmetrics.image.fid import NoTrainInceptionV3

            # check first, because torch-fidelity would also run pickled code in the file
            torch.load(io.BytesIO(content), weights_only=True)
            weights: Any = io.BytesIO(content)  # the annotation asks for a path, but torch.load takes both
            self.net = NoTrainInceptionV3("inception-v3-compat", [self.feature], weights)
        except ModuleNotFoundError as error:
            raise ExtractorError(
                "Inception needs torch-fidelity and its torchvision: pip install torch-fidelity, at the centre and at"
                " every site"
            ) from error
        except Exception as error:
            raise ExtractorError(
                f"{Path(folder) / self.file} does not hold the weights of Inception; take those of {WEIGHTS}"
            ) from error
        self.device = device()
        self.net.to(self.device)
        return self

    def features(self, images: np.ndarray) -> np.ndarray:
        gray = np.clip(np.rint((images + 1) * 127.5), 0, 255).astype(np.uint8)
        channels = [in_batches(self.net, np.repeat(gray[:, [c]], 3, axis=1), self.device) for c in range(gray.shape[1])]
        return np.concatenate(channels, axis=1)
