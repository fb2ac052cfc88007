"""The report of models with given channels: what they make of test images in a simulation, and of the given set alone
in a federation.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from fedsynth.data.dataset import ImageSet
from fedsynth.report.page import page
from fedsynth.stages.report import converted, report
from tests.judged import SITES, measure, rows
from tests.report.test_curves import history
from tests.sets import make_set, tiny_params
from tests.trained import trained

LOW = {"t1_low": {"of": "t1", "operator": {"class_path": "fedsynth.operators.resolution.Coarse"}}}
IMAGE = {
    "channels": {"t1_low": "image", "t1": "image", "lesion": "mask"},
    "given": ["t1_low"],
    "aside": ["lesion"],
    "derived": LOW,
}
MODEL = {
    "family": {"class_path": "fedsynth.families.regression.Regression", "args": {"channels": [8, 16]}},
    "training": {"rounds": 1},
}
PARAMS = tiny_params(image=IMAGE, models={"unet": MODEL})
NUMBERS = {"psnr": measure(20.0, 15.0, {}, "higher", title="PSNR"), "fid": measure(1.0, 0.5, {}, title="FID")}
FACTS = {"unet": {"measures": NUMBERS, "uses": {}, "scores": {}}}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for site in SITES:
        make_set(folder / "data" / "sites" / site, PARAMS, site, n=18)
    make_set(folder / "data" / "synthetic" / "unet", PARAMS, "synthetic", n=12, origin="synthetic", model="unet/c3")
    trained(folder, PARAMS, "unet")
    (folder / "models" / "unet" / "history.json").write_text(json.dumps(history(sites=SITES)))
    sites = {
        s: {"passed": True, "digest": "d1" * 32, "images": 18, "failed": [], "warnings": [], "counts": {}}
        for s in SITES
    }
    (folder / "reports").mkdir()
    (folder / "reports" / "validation.json").write_text(json.dumps({"sites": sites, "used": list(sites)}))
    local = [r for r in rows("local") if r["use"] == "classification"]
    (folder / "reports" / "reference.json").write_text(json.dumps({"rows": local}))
    return folder


def text(root: Path, **how) -> str:
    report(PARAMS, root, root / "out", facts=FACTS, **how)
    return (root / "out" / "index.html").read_text(encoding="utf-8")


def test_in_a_simulation_test_images_are_shown_given_generated_real_and_their_difference(root):
    shown = text(root)
    assert re.search(
        r'alt="6 images, from the left none, none, [^"]*rows from the top: t1_low, given; t1, generated; t1, real; t1,'
        r" diff",
        shown,
    )
    assert "Test images that no model saw" in shown


def test_in_a_federation_no_real_image_is_read_or_shown(root, tmp_path):
    shown = text(root, simulation=False)
    assert re.search(r'alt="6 images[^"]*rows from the top: t1_low, given; t1, generated"', shown)
    pairs = converted(PARAMS, root, "unet", Bare(root), ["north"])
    with pytest.raises(ValueError, match="simulation only"):
        page(PARAMS, {"sites": {}, "used": []}, [], {}, simulation=False, pairs={"unet": pairs})


def test_the_numbers_of_pairs_have_a_table_of_their_own(root):
    shown = text(root)
    likeness, paired = (
        shown[shown.index(f'<section id="{name}">') :].split("</section>")[0] for name in ("measures", "paired")
    )
    assert ">PSNR<" in paired
    assert ">FID<" not in paired
    assert ">PSNR<" not in likeness
    assert "what t1_low shows of t1 by itself" in paired
    assert "no model was told the label" in paired


def test_difference_is_black_where_nothing_differs_and_rows_hold_what_they_say(root):
    from fedsynth.data import pictures

    real = ImageSet.load(root / "data" / "sites" / "north").where(np.arange(18) < 2)
    found, tile = pictures.pairs(PARAMS.image, real, real), pictures.TILE + pictures.GAP
    assert found.rows == ["t1_low, given", "t1, generated", "t1, real", "t1, difference"]
    assert (found.picture[3 * tile : 3 * tile + pictures.TILE, : pictures.TILE, :3] == 0).all()
    np.testing.assert_array_equal(found.picture[tile : 2 * tile - 4], found.picture[2 * tile : 3 * tile - 4])


class Bare:
    """What `converted` asks of a model."""

    def __init__(self, root: Path):
        self.model = json.loads((root / "models" / "unet" / "model.json").read_text())
        self.synthetic = ImageSet.load(root / "data" / "synthetic" / "unet")
