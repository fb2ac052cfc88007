"""bfloat16 in a training step: as params.yaml says, and by "auto" where the processor has instructions for it."""

from __future__ import annotations

import pytest
import torch

from fedsynth.networks import precision
from fedsynth.params import Training

CPU = torch.device("cpu")


def dtype(bf16: object) -> torch.dtype:
    training = Training.model_validate({"rounds": 1, "bf16": bf16})
    with precision.autocast(training, CPU):
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


@pytest.mark.parametrize(
    ("amx", "avx512", "expected"), [(True, False, True), (False, True, True), (False, False, False)]
)
def test_auto_follows_the_processor(monkeypatch, amx, avx512, expected):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert precision.fast_bf16(CPU) is expected
    assert dtype("auto") is (torch.bfloat16 if expected else torch.float32)


def test_a_word_holds_whatever_the_processor(monkeypatch):
    monkeypatch.setattr(precision, "fast_bf16", lambda device: pytest.fail("asked"))
    assert dtype(True) is torch.bfloat16
    assert dtype(False) is torch.float32


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="auto"):
        Training.model_validate({"rounds": 1, "bf16": "fast"})
