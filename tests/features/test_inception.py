"""Inception shows each channel as a gray picture of 0 to 255, and says what is missing; its weights are not part of the
tests.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsynth.features import ExtractorError
from fedsynth.features.inception import Inception


def put(folder: Path, content: dict[str, Tensor]) -> str:
    torch.save(content, folder / "weights.pth")
    return hashlib.sha256((folder / "weights.pth").read_bytes()).hexdigest()


def test_missing_weights_are_named_with_where_they_come_from_and_where_they_go(tmp_path: Path) -> None:
    with pytest.raises(ExtractorError, match=rf"weights.pth is not in {tmp_path}.*https://"):
        Inception((32, 32), "weights.pth", "0" * 64).open({}, tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("torch_fidelity") is not None, reason="torch-fidelity is installed")
def test_the_missing_package_is_named_with_how_to_install_it(tmp_path: Path) -> None:
    with pytest.raises(ExtractorError, match="pip install torch-fidelity"):
        Inception((32, 32), "weights.pth", put(tmp_path, {})).open({}, tmp_path)


def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"text")
    with pytest.raises(ExtractorError, match="does not hold the weights"):
        Inception((32, 32), "weights.pth", hashlib.sha256(b"text").hexdigest()).open({}, tmp_path)


def test_volumes_and_unknown_layers_are_refused_before_anything_runs() -> None:
    with pytest.raises(ExtractorError, match="2-D"):
        Inception((8, 8, 8), "weights.pth", "0" * 64)
    with pytest.raises(ExtractorError, match="64, 192, 768 or 2048"):
        Inception((8, 8), "weights.pth", "0" * 64, feature="128")  # type: ignore[arg-type]


def test_each_channel_is_shown_as_gray_in_bytes_and_the_features_follow_each_other() -> None:
    extractor = Inception((2, 2), "weights.pth", "0" * 64)
    seen: list[Tensor] = []

    def net(x: Tensor) -> Tensor:
        seen.append(x)
        return x.float().mean((2, 3))

    extractor.net, extractor.device = net, torch.device("cpu")  # type: ignore[assignment]
    images = np.stack([np.full((2, 2), -1.0), np.full((2, 2), 1.0)])[None].astype(np.float32)
    assert extractor.features(images).tolist() == [[0, 0, 0, 255, 255, 255]]
    assert all(x.dtype == torch.uint8 and x.shape == (1, 3, 2, 2) for x in seen)


def test_with_weights_of_the_right_shapes_it_runs_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inception = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    shapes: dict[str, Tensor] = {}
    with monkeypatch.context() as patch:  # the network as it is made, with random weights: no file of 91 MB in a test
        patch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: shapes)
        patch.setattr(inception.FeatureExtractorInceptionV3, "load_state_dict", lambda self, _: None)
        shapes |= inception.FeatureExtractorInceptionV3("random", ["64"]).state_dict()
    sha = put(tmp_path, shapes)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 2, 16, 16)).astype(np.float32)
    for feature in ("64", "192"):
        opened = Inception((16, 16), "weights.pth", sha, feature).open({}, tmp_path)  # type: ignore[arg-type]
        features = opened.features(images)
        assert features.shape == (2, 2 * int(feature))
        assert np.isfinite(features).all()
