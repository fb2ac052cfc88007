"""Weights to begin with: files of all kinds are read without running code, and matched by name and shape or refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.families.latent import Latent
from fedsynth.params.start import Start
from fedsynth.training.initial import initial
from fedsynth.training.start import StartError, digest, matched, read, renamed
from tests.sets import tiny_params

PARAMS = tiny_params()
FAMILY = PARAMS.models["vae"].family.build(**PARAMS.image.context())
STATE = {name: torch.full_like(p, 0.25) for name, p in FAMILY.named_parameters()}
FIRST = next(iter(STATE))


def said(**keys) -> Start:
    return Start.model_validate({"file": "w.pt", "trained_on": "public"} | keys)


def taken(arrays, algorithm=None, **keys):
    sent = (algorithm or FedAvg()).sent(FAMILY)
    return matched(said(**keys), arrays, FAMILY, sent)


def arrays(state=STATE):
    return {name: tensor.numpy() for name, tensor in state.items()}


@pytest.mark.parametrize("form", ["safetensors", "state dict", "nested", "nested twice", "module.", "bundle", "ours"])
def test_every_usual_form_of_a_file_gives_the_same_arrays(tmp_path, form):
    file = tmp_path / "with a blank" / "w.pt"
    file.parent.mkdir()
    if form == "safetensors":
        save_file(STATE, file := file.with_suffix(".safetensors"))
    elif form == "ours":
        save_file(STATE, file.parent / "weights.safetensors")
        file = file.parent
    elif form == "bundle":
        (file.parent / "models").mkdir()
        torch.save(STATE, file.parent / "models" / "model.pt")
        file = file.parent
    else:
        content = {
            "state dict": STATE,
            "nested": {"epoch": 3, "state_dict": STATE},
            "nested twice": {"epoch": 3, "model": {"state_dict": STATE}},
            "module.": {f"module.{name}": tensor for name, tensor in STATE.items()},
        }[form]
        torch.save(content, file)
    found = read(file)
    assert found.keys() == STATE.keys()
    assert all((array == 0.25).all() for array in found.values())


def test_bfloat16_is_read_as_float32(tmp_path):
    save_file({name: tensor.bfloat16() for name, tensor in STATE.items()}, tmp_path / "w.safetensors")
    assert {array.dtype for array in read(tmp_path / "w.safetensors").values()} == {np.dtype(np.float32)}


MAISI = {
    "^": "autoencoder.",
    r"\.conv\.conv\.": ".conv.",
    r"(decoder\.blocks\.\d+)\.conv\.conv\.": r"\1.postconv.conv.",
}


def test_maisis_autoencoder_is_taken_whole_and_encodes_as_there():
    from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi

    torch.manual_seed(0)
    theirs = AutoencoderKlMaisi(
        spatial_dims=3, in_channels=1, out_channels=1, latent_channels=4, num_channels=[32, 64, 64],
        num_res_blocks=[2, 2, 2], norm_num_groups=32, norm_eps=1e-6, attention_levels=[False] * 3,
        with_encoder_nonlocal_attn=False, with_decoder_nonlocal_attn=False, use_checkpointing=False,
        use_convtranspose=False, norm_float16=False, num_splits=1, dim_split=1,
    ).eval()  # fmt: skip
    state = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    ours = Latent(
        generated=1, given=0, labels=2, size=(16, 16, 16), channels=[32, 64, 64], patch=1, blocks=2, groups=32
    )
    found = matched(said(take=["autoencoder.*"], rename=MAISI), state, ours, FedAvg().sent(ours))
    assert len(found.arrays) == len(state)
    assert [name for name in found.left if name.startswith("autoencoder.")] == ["autoencoder.scale"]
    assert found.unused == []
    ours.load_state_dict({name: torch.from_numpy(array) for name, array in found.arrays.items()}, strict=False)
    x = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        assert torch.allclose(theirs.encode(x)[0], ours.autoencoder.eval().encode(x)[0], atol=1e-5)


class Evil:
    def __reduce__(self):
        return (exec, ("raise RuntimeError('code was run')",))


@pytest.mark.parametrize("content", [FAMILY, {"state_dict": STATE, "optimizer": Evil()}, Evil()])
def test_a_pickle_that_holds_more_than_weights_is_not_opened(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(StartError, match=r"w\.pt cannot be read as weights alone .*UnpicklingError"):
        read(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ([1, 2], "holds no table of tensors"),
        ({"epoch": 3}, "holds no table of tensors"),
        ({}, "holds no table of tensors"),
        ({"net": STATE, "ema": STATE}, "several sets of weights .net, ema."),
    ],
)
def test_a_file_without_one_table_of_weights_says_what_it_lacks(tmp_path, content, why):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(StartError, match=why):
        read(tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_what_is_no_file_of_weights_or_is_not_there_is_named(tmp_path, name):
    with pytest.raises(StartError, match="is not there"):
        read(tmp_path / name)
    (tmp_path / name).write_bytes(b"not weights")
    with pytest.raises(StartError, match=name):
        read(tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(StartError, match=r"no weights; a MONAI bundle has models/model\.pt"):
        read(tmp_path / "empty")


def test_all_that_fits_is_taken_and_the_rest_is_counted_by_name():
    half = dict(list(arrays().items())[: len(STATE) // 2]) | {"other.weight": np.zeros(3, np.float32)}
    report = taken(half).report()
    assert report["taken"] == len(STATE) // 2
    assert report["of"] == len(STATE)
    assert report["numbers"] == sum(a.size for a in half.values()) - 3
    assert report["of_numbers"] == sum(p.numel() for p in FAMILY.parameters())
    assert sorted([*report["names"], *report["left"]]) == sorted(STATE)
    assert report["unused"] == ["other.weight"]
    assert report["of_sites"] == []


def test_patterns_say_what_is_taken():
    found = taken(arrays(), take=["*", f"!{FIRST}"])
    assert FIRST in found.left
    assert FIRST not in found.arrays
    assert found.unused == [FIRST]


def test_names_are_written_as_the_family_has_them():
    theirs = {f"net.{name}": array for name, array in arrays().items()}
    assert taken(theirs, rename={r"^net\.": ""}).names == {name: f"net.{name}" for name in STATE}


def test_two_names_that_become_one_and_a_group_that_is_not_there_are_refused():
    with pytest.raises(StartError, match=r"makes one name of a\.w and b\.w: w"):
        renamed(["a.w", "b.w"], {r"^[ab]\.": ""})
    with pytest.raises(StartError, match="cannot be written in its place"):
        renamed(["a.w"], {"a": r"\2"})


def test_what_a_site_keeps_for_itself_is_not_taken_and_is_said():
    found = taken(arrays(), FedAvg(shared=["*", f"!{FIRST}"]))
    assert found.of_sites == [FIRST]
    assert FIRST not in found.arrays


@pytest.mark.parametrize(
    ("change", "keys", "why"),
    [
        (lambda a: {f"x.{n}": v for n, v in a.items()}, {}, "none of the .* names .* is a parameter of VAE.*rename"),
        (lambda a: a, {"take": ["nothing.*"]}, "start.take matches no parameter of VAE"),
        (lambda a: a | {FIRST: np.zeros((1, 2), np.float32)}, {}, rf"{FIRST} of w.pt has the shape \[1, 2\]"),
        (lambda a: a | {FIRST: a[FIRST] * np.nan}, {}, "no finite number"),
        (lambda a: a | {FIRST: a[FIRST].astype(np.int64)}, {}, "no finite number"),
        (lambda a: {}, {}, "w.pt holds nothing"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_parameter(change, keys, why):
    with pytest.raises(StartError, match=why):
        taken(change(arrays()), **keys)


def test_a_training_begins_with_what_was_taken_and_else_with_the_seeds():
    model = PARAMS.models["vae"]
    seeds = initial(model, PARAMS.image, 1)
    begun = initial(model, PARAMS.image, 1, {FIRST: arrays()[FIRST]})
    assert (begun[FIRST] == 0.25).all()
    assert all(np.array_equal(begun[name], seeds[name]) for name in seeds if name != FIRST)


def test_the_digest_is_that_of_names_and_weights_as_a_coded_message_has_them():
    a = {"w": np.linspace(-1, 1, 7, dtype=np.float32), "v": np.ones(2, np.float32)}
    assert digest(a) == digest(dict(reversed(a.items())))
    assert digest(a) == digest({n: v.astype(np.float16).astype(np.float32) for n, v in a.items()})
    assert digest(a) == digest(a | {"control:w": np.zeros(7, np.float32)})
    assert digest(a) != digest({"w": a["w"] * 1.01, "v": a["v"]})
    assert digest(a) != digest({"v": a["w"], "w": a["v"]})
