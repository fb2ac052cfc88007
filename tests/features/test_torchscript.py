"""A TorchScript file is run only where it is the very file that params.yaml names."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedsynth.features import ExtractorError
from fedsynth.features.torchscript import TorchScript


class Means(nn.Module):
    """(N, I, *S) -> (N, I): the mean of each channel."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).mean(2)


class Planes(nn.Module):
    """Not an extractor: gives an image back."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def put(folder: Path, module: nn.Module, name: str = "means.pt") -> str:
    torch.jit.script(module).save(str(folder / name))
    return hashlib.sha256((folder / name).read_bytes()).hexdigest()


@pytest.mark.parametrize("size", [(8, 8), (4, 4, 4)], ids=["2d", "3d"])
def test_the_features_are_the_module_s(tmp_path: Path, size: tuple[int, ...]) -> None:
    sha = put(tmp_path, Means())
    extractor = TorchScript("means.pt", sha).open({}, tmp_path)
    images = np.random.default_rng(0).uniform(-1, 1, (65, 2, *size)).astype(np.float32)
    np.testing.assert_allclose(extractor.features(images), images.reshape(65, 2, -1).mean(2), atol=1e-6)
    assert extractor.features(images).dtype == np.float64
    assert extractor.title == f"TorchScript file means.pt, sha256 {sha[:12]}"


def test_a_missing_file_is_named_with_its_folder_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ExtractorError, match=f"means.pt is not in {tmp_path}: put the file there"):
        TorchScript("means.pt", "0" * 64).open({}, tmp_path)


def test_another_file_of_the_same_name_is_refused_unopened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, Means())
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("a file of another sha256 was run"))
    with pytest.raises(ExtractorError, match="sha256"):
        TorchScript("means.pt", "0" * 64).open({}, tmp_path)


def test_a_file_outside_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    sha = put(tmp_path, Means())
    with pytest.raises(ExtractorError, match="without a folder"):
        TorchScript("../means.pt", sha).open({}, tmp_path / "in")


def test_a_file_that_is_no_torchscript_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "means.pt").write_bytes(b"text")
    with pytest.raises(ExtractorError, match=r"means\.pt cannot be read as TorchScript"):
        TorchScript("means.pt", hashlib.sha256(b"text").hexdigest()).open({}, tmp_path)


def test_a_module_that_gives_no_vectors_is_an_error(tmp_path: Path) -> None:
    extractor = TorchScript("means.pt", put(tmp_path, Planes())).open({}, tmp_path)
    with pytest.raises(ExtractorError, match=r"\(N, F\)"):
        extractor.features(np.zeros((2, 1, 4, 4), np.float32))
