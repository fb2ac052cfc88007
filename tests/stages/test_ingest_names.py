"""Ingest under names of any text: paths are made of keys, and no name in a table leads out of the data folder."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from fedsynth.data import manifest
from fedsynth.data.dataset import ImageSet
from fedsynth.params import ParamsError, names
from fedsynth.stages.ingest import ingest, ingest_site
from tests.sets import tiny_params
from tests.tables import make_table, write_table

ESCAPES = [
    "../../../escaped",
    "/tmp/escaped",
    "..",
    ".",
    "a/../../b",
    "..\\..\\escaped",
    "~/escaped",
    "$HOME/x",
    "%2e%2e/x",
]
ODD = ["St. Mary's Hospital", "Zürich/Nord (β) 50 %", "server", "Krankenhaus Süd", "a,b"]


def asked(folder: Path, labels: list[str]):
    source = {"class_path": "fedsynth.sources.table.Table", "args": {"folder": str(folder)}}
    image = {"size": [16, 16], "channels": {"us": "image", "lesion": "mask"}, "labels": labels, "empty_labels": []}
    return tiny_params(source=source, image=image)


def table(folder: Path, **columns: list[str]) -> pd.DataFrame:
    """A table of eight images whose columns have these values in turn."""
    rows = make_table(folder, subjects=8, images=1)
    for name, values in columns.items():
        rows[name] = [values[place % len(values)] for place in range(len(rows))]
    write_table(folder, rows)
    return rows


def made(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize("site", [*ESCAPES, *ODD])
def test_a_site_of_any_name_is_ingested_into_the_folder_of_its_key(tmp_path, site):
    rows = table(tmp_path / "files", site=[site])
    before, folder = made(tmp_path), tmp_path / "project" / "data" / "sites"
    (found,) = ingest(asked(tmp_path / "files", sorted(set(rows["label"]))), folder).values()
    key = names.key(site)
    assert {path.relative_to(folder).parts[0] for path in made(tmp_path) - before if path.is_file()} == {key}
    assert set(found["site"]) == {site}  # which is shown
    assert all(names.SAFE.fullmatch(name) for name in found["image_id"])
    assert len(ImageSet.load(folder / key)) == 8


@pytest.mark.parametrize("column", ["label", "subject", "modality", "image"])
def test_no_other_cell_of_a_table_writes_or_reads_elsewhere(tmp_path, column):
    (tmp_path / "escaped").mkdir()
    table(tmp_path / "files", **{column: ESCAPES if column != "image" else [f"../{i}.png" for i in range(8)]})
    before, folder = made(tmp_path), tmp_path / "project" / "data" / "sites"
    found = ingest(asked(tmp_path / "files", ["a", "b", "c"]), folder)
    new = {path for path in made(tmp_path) - before if path.is_file()}
    assert {path.relative_to(folder).parts[0] for path in new} == {"p", "q"}
    if column == "image":
        assert all(rows["problem"].str.contains("leads out of the table's folder").all() for rows in found.values())


def test_a_site_is_asked_for_by_its_name_or_its_key(tmp_path):
    rows = table(tmp_path / "files", site=ODD)
    params = asked(tmp_path / "files", sorted(set(rows["label"])))
    source = params.source.build(image=params.image, seed=params.seed)
    by_name = ingest_site(params, source, ODD[0], tmp_path / "a")
    by_key = ingest_site(params, source, names.key(ODD[0]), tmp_path / "b")
    assert manifest.digest(by_name) == manifest.digest(by_key)
    with pytest.raises(manifest.SetError, match=r"no site 'St\. Marys Hospital'"):
        ingest_site(params, source, "St. Marys Hospital", tmp_path / "c")


@pytest.mark.parametrize(
    ("site", "said"),
    [("", "line 3 has no site"),
     ("a\x07b", r"line 3: the site 'a\\x07b': the name holds the control character U\+0007"),
     ("worst_site", "line 3: the site 'worst_site': no site may have this name")],
)  # fmt: skip
def test_a_cell_that_cannot_name_a_site_is_refused_with_its_line(tmp_path, site, said):
    rows = table(tmp_path / "files", site=["north"])
    rows.loc[1, "site"] = site
    write_table(tmp_path / "files", rows)
    with pytest.raises(manifest.SetError, match=said):
        ingest(asked(tmp_path / "files", ["a", "b", "c"]), tmp_path / "sets")
    assert not (tmp_path / "sets").exists()


def test_two_sites_that_people_take_for_one_are_refused(tmp_path):
    table(tmp_path / "files", site=["Klinikum Süd", "Klinikum  Süd"])
    with pytest.raises(ParamsError, match="differ only in blanks"):
        ingest(asked(tmp_path / "files", ["a", "b", "c"]), tmp_path / "sets")


def test_labels_of_any_text_are_ingested_and_counted(tmp_path, capsys):
    labels = ["Ductal (in situ), G2", "Müller/β 50%", "basal cell carcinoma"]
    table(tmp_path / "files", label=labels)
    found = ingest(asked(tmp_path / "files", labels), tmp_path / "sets")
    assert set(pd.concat(found.values())["label"]) == set(labels)
    assert "basal cell carcinoma 1" in capsys.readouterr().out
