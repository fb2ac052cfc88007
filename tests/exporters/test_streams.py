"""Every exporter writes of a set on disk what it writes of one in memory, and reads it one part after the other."""

from __future__ import annotations

import numpy as np
import pytest

from fedsynth.data import stored
from fedsynth.data.dataset import ImageSet
from fedsynth.data.stored import Stored
from fedsynth.generation import formats
from tests.sets import make_set, tiny_params

SIZES = [[16, 16], [6, 8, 8]]


@pytest.mark.parametrize(
    ("name", "size"), [(n, s) for n in formats.names() for s in SIZES if (n, len(s)) != ("png", 3)]
)
def test_a_set_on_disk_gives_the_same_files(tmp_path, monkeypatch, name, size):
    params = tiny_params(image={"size": size})
    make_set(tmp_path / "a set", params, n=20, problem=["broken"] + [""] * 19)
    exporter, sets = formats.exporter(name), {"memory": ImageSet.load(tmp_path / "a set", verify=False)}
    monkeypatch.setattr(stored, "memory", lambda: 0)
    monkeypatch.setattr(stored, "PART", 3)
    monkeypatch.setattr(Stored, "__array__", lambda *_, **__: pytest.fail("the whole set is read at once"))
    sets["disk"] = ImageSet.load(tmp_path / "a set", verify=False)
    assert isinstance(sets["memory"].images, np.ndarray)
    assert isinstance(sets["disk"].images, Stored)
    for where, images in sets.items():
        (tmp_path / where).mkdir()
        exporter.write(images, params.image, tmp_path / where)
    files = {where: sorted(p.relative_to(tmp_path / where) for p in (tmp_path / where).rglob("*")) for where in sets}
    assert files["disk"] == files["memory"]
    for file in files["disk"]:
        one, other = (tmp_path / where / file for where in sets)
        assert one.is_dir() or one.read_bytes() == other.read_bytes(), file
