"""What is handed out: archives whose bytes depend on the images and the facts alone, each with the papers that say what
holds.
"""

from __future__ import annotations

import hashlib
import zipfile

import pytest

from fedsynth.errors import UserError
from fedsynth.stages import export
from tests.judged import judged
from tests.sets import make_set, tiny_params
from tests.trained import trained

PARAMS = tiny_params(
    sample={
        "exporters": {
            "png": {"class_path": "fedsynth.exporters.png.PNG"},
            "nifti": {"class_path": "fedsynth.exporters.nifti.NIfTI"},
        }
    },
    gates={"require": ["classification/retained >= 0.99"]},
)


@pytest.fixture
def root(tmp_path):
    trained(tmp_path, PARAMS)
    make_set(
        tmp_path / "data" / "synthetic" / "vae", PARAMS, site="synthetic", n=12, origin="synthetic", model="vae/c3c3c3"
    )
    judged(tmp_path)
    return tmp_path


def digests(root):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (root / "data" / "export" / "vae").iterdir()}


def test_each_archive_holds_the_papers_that_lie_beside_it(root):
    export.export(PARAMS, root, "vae")
    folder = root / "data" / "export" / "vae"
    assert {p.name for p in folder.iterdir()} == {"DATASHEET.md", "MODEL_CARD.md", "png.zip", "nifti.zip"}
    for name in ("png", "nifti"):
        with zipfile.ZipFile(folder / f"{name}.zip") as archive:
            assert "manifest.csv" in archive.namelist()
            for paper in ("DATASHEET.md", "MODEL_CARD.md"):
                assert archive.read(paper) == (folder / paper).read_bytes()


def test_a_set_whose_gates_do_not_hold_says_so_on_the_first_lines_of_its_papers(root, capsys):
    export.export(PARAMS, root, "vae")
    for paper in ("DATASHEET.md", "MODEL_CARD.md"):
        first = (root / "data" / "export" / "vae" / paper).read_text().splitlines()[:6]
        assert any("Must not be promoted: 1 of 1 required gate " in line for line in first)
    assert "gates: failed: 1 of 1" in capsys.readouterr().out


def test_the_same_set_and_facts_give_the_same_bytes_and_leave_nothing_of_before(root):
    export.export(PARAMS, root, "vae")
    before = digests(root)
    (root / "data" / "export" / "vae" / "old.zip").write_text("of an exporter that was taken out")
    export.export(PARAMS, root, "vae")
    assert digests(root) == before


def test_a_set_that_was_not_scored_is_not_handed_out(root):
    (root / "reports" / "score" / "vae.json").unlink()
    with pytest.raises(UserError, match="run `dvc repro score@vae`"):
        export.export(PARAMS, root, "vae")
    assert not (root / "data" / "export").exists()


def test_an_archive_depends_on_its_files_alone(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "b.txt").write_text("b")
        (tmp_path / name / "a.txt").write_text("a")
        export.archive(tmp_path / name, tmp_path / f"{name}.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
