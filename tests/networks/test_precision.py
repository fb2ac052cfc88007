"""Half precision in a training step: as params.yaml and the machine say, by "auto" where the processor is fast."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.hospital import failures
from fedsynth.networks import precision
from fedsynth.params import Training
from fedsynth.settings import Settings, SettingsError
from fedsynth.training.central_generator import Discriminating
from tests import toys
from tests.privacy.test_dpsgd import protected
from tests.toys import trainer
from tests.training.test_trainer import initial, run

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


@pytest.mark.parametrize(
    ("study", "machine", "expected"),
    [
        (False, "auto", None),
        (False, "fp32", None),
        (False, "bf16", None),
        (False, "fp16", None),
        (True, "auto", torch.bfloat16),
        (True, "fp32", None),
        (True, "bf16", torch.bfloat16),
        (True, "fp16", torch.float16),
        ("auto", "fp32", None),
        ("auto", "bf16", torch.bfloat16),
        ("auto", "fp16", torch.float16),
    ],
)
def test_a_machine_chooses_among_what_the_study_allows_and_the_more_exact_wins(monkeypatch, study, machine, expected):
    monkeypatch.setattr(precision, "fast_bf16", lambda device: pytest.fail("asked"))
    monkeypatch.setenv("FEDSYNTH_PRECISION", machine)
    training = Training.model_validate({"rounds": 1, "bf16": study})
    assert precision.half(training, CPU) is expected
    assert dtype(study) is (expected or torch.float32)
    assert precision.scaler(training, CPU).is_enabled() == (expected is torch.float16)


def test_another_precision_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setenv("FEDSYNTH_PRECISION", "fp8")
    with pytest.raises(SettingsError, match="FEDSYNTH_PRECISION"):
        Settings.read()


@pytest.mark.parametrize("scaled", [True, False])
def test_a_gradient_that_is_too_small_for_float16_moves_the_weights_once_its_loss_is_scaled(monkeypatch, scaled):
    monkeypatch.setenv("FEDSYNTH_PRECISION", "fp16")
    made = trainer(FedAvg(), bf16=True, rounds=1, local_steps=1)
    if not scaled:
        made.scalers = {name: torch.amp.GradScaler("cpu", enabled=False) for name in made.scalers}
    loss = made.family.loss
    monkeypatch.setattr(made.family, "loss", lambda *given: loss(*given) * 1e-7)
    difference = made.round(initial(made), 0).difference
    assert (np.abs(difference["first.weight"]).max() > 0.01) == scaled  # of a step of 0.05


def test_float16_trains_with_scaled_losses_and_goes_on_with_the_scale_it_had(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDSYNTH_PRECISION", "fp16")
    made = trainer(FedAvg(), state=tmp_path / "state.pt", bf16=True, rounds=4)
    scaler = made.scalers["first"]
    updates, current = run(made, 2)
    assert all(np.isfinite(update.losses["first"]) for update in updates)
    assert 1024 <= scaler.get_scale() <= 65536
    scaler.update(128.0)
    made._keep()
    again = trainer(FedAvg(), state=tmp_path / "state.pt", bf16=True, rounds=4)
    run(again, 3, start=2, current=current)
    assert again.scalers["first"].get_scale() == 128


def test_a_step_that_overflows_is_left_out_and_the_scale_halved(monkeypatch):
    monkeypatch.setenv("FEDSYNTH_PRECISION", "fp16")
    made = trainer(FedAvg(), bf16=True, rounds=1, local_steps=1)
    loss = made.family.loss
    monkeypatch.setattr(made.family, "loss", lambda *given: loss(*given) * 1e6)
    difference = made.round(initial(made), 0).difference
    assert all((of == 0).all() for of in difference.values())
    assert made.scalers["first"].get_scale() == 32768


def test_dp_sgd_and_md_gan_refuse_float16(monkeypatch):
    monkeypatch.setenv("FEDSYNTH_PRECISION", "fp16")
    with pytest.raises(precision.PrecisionError, match="DP-SGD cannot leave out") as error:
        protected(toys.Toy(), bf16=True)
    assert failures.word(error.value) == "settings"
    protected(toys.Toy())  # its study computes in single precision
    with pytest.raises(precision.PrecisionError, match="MD-GAN"):
        Discriminating(toys.gan(), toys.training(bf16=True), 1, 1, torch.zeros(4, 1, 8, 8), torch.zeros(4))
