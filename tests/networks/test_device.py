"""One place names the device: what FEDSYNTH_DEVICE says, what is there, and a clear word where that is not the same."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

from fedsynth import settings
from fedsynth.hospital import failures
from fedsynth.networks import device as of
from fedsynth.settings import SettingsError

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Sets how many GPUs of NVIDIA are there, and whether one of Apple is; none at first."""

    def has(gpus: int = 0, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    for name in ("FEDSYNTH_DEVICE", "FEDSYNTH_PRECISION", "FEDSYNTH_PROCESSES", settings.PLACE):
        monkeypatch.setenv(name, "")  # what a test sets is taken back, too
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    has()
    yield has
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32


@pytest.mark.parametrize(
    ("asked", "gpus", "mps", "expected"),
    [
        ("auto", 0, False, "cpu"),
        ("auto", 2, False, "cuda:0"),
        ("auto", 1, True, "cuda:0"),
        ("auto", 0, True, "mps"),
        ("cpu", 2, True, "cpu"),
        ("cuda", 2, False, "cuda:0"),
        ("cuda:1", 2, False, "cuda:1"),
        ("mps", 1, True, "mps"),
    ],
)
def test_the_device_is_the_one_that_is_named_or_what_is_there(machine, monkeypatch, asked, gpus, mps, expected):
    machine(gpus, mps)
    monkeypatch.setenv("FEDSYNTH_DEVICE", asked)
    assert of.device() == torch.device(expected)


@pytest.mark.parametrize(
    ("asked", "gpus", "there"), [("cuda", 0, "cpu"), ("cuda:2", 2, "cpu, cuda:0, cuda:1"), ("mps", 1, "cpu, cuda:0")]
)
def test_a_device_that_is_not_there_is_an_error_that_says_what_is(machine, monkeypatch, asked, gpus, there):
    machine(gpus)
    monkeypatch.setenv("FEDSYNTH_DEVICE", asked)
    with pytest.raises(
        of.DeviceError, match=f"FEDSYNTH_DEVICE={asked}, .* finds {there} on this machine; set"
    ) as error:
        of.device()
    assert failures.word(error.value) == "settings"


@pytest.mark.parametrize("word", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cuda 1", "CPU", "cuda:1000"])
def test_a_word_that_names_no_device_is_refused_before_anything_runs(monkeypatch, word):
    monkeypatch.setenv("FEDSYNTH_DEVICE", word)
    with pytest.raises(SettingsError, match="FEDSYNTH_DEVICE"):
        settings.Settings.read()


def test_simulated_sites_and_their_processes_take_the_gpus_in_turn(machine, monkeypatch):
    machine(gpus=3)
    monkeypatch.setenv("FEDSYNTH_PROCESSES", "2")
    places = {}
    for site in "abcd":
        settings.take_place(site, list("abcd"))
        places[site] = of.device().index
    assert places == {"a": 0, "b": 2, "c": 1, "d": 0}
    assert (of.apart(3), of.apart(4)) == (True, False)
    monkeypatch.setenv("FEDSYNTH_DEVICE", "cuda:1")
    assert of.device().index == 1, "a number that somebody names holds for all"
    assert not of.apart(2)


def test_a_hospitals_own_site_has_the_first_gpu(machine, monkeypatch):
    machine(gpus=3)
    settings.take_place("north", [""])  # as where nothing is simulated
    assert (settings.place(), of.device().index) == (0, 0)


def test_a_gpu_rounds_to_tf32_unless_fp32_is_asked_for(machine, monkeypatch):
    machine(gpus=1)
    for asked, rounded in (("auto", True), ("fp32", False), ("bf16", True)):
        monkeypatch.setenv("FEDSYNTH_PRECISION", asked)
        of.device()
        assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (rounded, rounded)


def test_numbers_of_many_losses_are_those_that_each_alone_would_be():
    losses = list(torch.rand(50))
    assert of.numbers(losses) == [float(loss) for loss in losses]
    assert of.numbers([]) == []


def test_on_the_cpu_nothing_is_copied_and_there_is_no_other_random_state():
    x = torch.ones(3)
    assert of.moved(x, CPU) is x
    assert of.random_devices(CPU) == []
    assert of.random_state(CPU) is None
    of.set_random_state(CPU, torch.zeros(16, dtype=torch.uint8))  # of a GPU that another process had


WORDS = ("is_available", "device_count", "get_device_name", "get_device_properties")


def test_no_other_file_asks_torch_what_devices_there_are():
    """Nor names one: a literal "cuda" or "mps" anywhere else would decide where something runs."""
    found = []
    for folder in ("fedsynth", "nvflare_jobs", "flows", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            where = str(path.relative_to(ROOT))
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                asks = isinstance(node, ast.Attribute) and node.attr in WORDS and "torch" in ast.unparse(node.value)
                names = isinstance(node, ast.Constant) and node.value in ("cuda", "mps", "cuda:0")
                if asks or names:
                    found.append(f"{where}:{node.lineno}")
    allowed = {"fedsynth/networks/device.py", "fedsynth/networks/precision.py", "fedsynth/privacy/noise.py"}
    assert {place.partition(":")[0] for place in found} == allowed
