"""Weights come back as they were written, and only into the family that they belong to."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from fedsynth.training import weights
from tests.sets import tiny_params
from tests.trained import trained


@pytest.fixture
def model(tmp_path):
    about = trained(tmp_path, tiny_params())
    return about, weights.load(tmp_path / "models" / "vae" / weights.FILE)


def test_arrays_come_back_as_they_were_written_and_leave_no_other_file(tmp_path):
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3).T, "b.c": np.array(3, dtype=np.int64)}
    weights.save(tmp_path / "new" / "w.safetensors", arrays, {"round": "3"})
    back = weights.load(tmp_path / "new" / "w.safetensors")
    assert set(back) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["w.safetensors"]


def test_a_missing_and_a_broken_file_are_named(tmp_path):
    with pytest.raises(weights.WeightsError, match=r"gone\.safetensors is not there"):
        weights.load(tmp_path / "gone.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00\x00")
    with pytest.raises(weights.WeightsError, match=r"cut\.safetensors is not a safetensors file"):
        weights.load(tmp_path / "cut.safetensors")


def test_the_family_built_from_them_holds_them_and_leaves_the_arrays_alone(model):
    about, arrays = model
    family = weights.build_family(json.loads(json.dumps(about)), arrays)
    assert not family.training
    for name, parameter in family.named_parameters():
        np.testing.assert_array_equal(parameter.detach().numpy(), arrays[name])
    name, parameter = next(family.named_parameters())
    before = arrays[name].copy()
    with torch.no_grad():
        parameter.add_(1)
    np.testing.assert_array_equal(arrays[name], before)


def test_a_missing_an_unknown_and_a_misshapen_parameter_are_named(model):
    about, arrays = model
    first = sorted(arrays)[0]
    with pytest.raises(weights.WeightsError, match=f"the weights of vae lack '{first}'"):
        weights.build_family(about, {name: a for name, a in arrays.items() if name != first})
    with pytest.raises(
        weights.WeightsError, match=r"hold 'decoder\.extra', which fedsynth\.families\.vae\.VAE has not"
    ):
        weights.build_family(about, arrays | {"decoder.extra": np.zeros(1, np.float32)})
    with pytest.raises(weights.WeightsError, match=f"'{first}' has the shape \\(1, 2\\)"):
        weights.build_family(about, arrays | {first: np.zeros((1, 2), np.float32)})


def test_parameters_that_stay_at_the_sites_need_not_be_there(model):
    about, arrays = model
    about["algorithm"]["args"] = {"shared": "*decoder.*"}
    shared = {name: a for name, a in arrays.items() if "decoder." in name}
    family = weights.build_family(about, shared)
    for name, array in shared.items():
        np.testing.assert_array_equal(family.get_parameter(name).detach().numpy(), array)
    with pytest.raises(weights.WeightsError, match=r"lack '.*decoder\."):
        weights.build_family(about, dict(list(shared.items())[1:]))


def test_a_family_of_which_nothing_travels_is_refused_rather_than_left_as_it_was_made(model):
    about, _ = model
    about["algorithm"]["args"] = {"shared": "nobody.*"}
    with pytest.raises(weights.WeightsError, match=r"no parameter of \w+ matches shared='nobody\.\*'"):
        weights.build_family(about, {})
