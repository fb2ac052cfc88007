"""The page of `fedsynth look` shows what a person should see first, says what it leaves out, and needs nothing else."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image as Pillow
from typer.testing import CliRunner

from fedsynth.__main__ import app
from fedsynth.data import manifest
from fedsynth.errors import UserError
from fedsynth.validation import expectations, look, look_cards, look_charts, look_set, look_summary
from tests.report.test_browser import CHROMIUM, MEASURE, opened
from tests.sets import make_set, rewrite, tiny_params


@pytest.fixture
def folder(tmp_path):
    make_set(tmp_path / "north", tiny_params(), n=30)
    return tmp_path / "north"


def page_of(folder, params=None, most=look.MOST):
    to = folder.parent / "state" / "look"
    look.write(folder, params or tiny_params(), to, most)
    return (to / "index.html").read_text(encoding="utf-8")


def cards_in(page):
    """{image_id: card as HTML} in the order of the page."""
    found = re.findall(r"<article.*?</article>", page, re.S)
    return {re.search(r'<span class="soft">(.*?)</span>', card)[1]: card for card in found}


def pictures_in(page):
    return [
        np.asarray(Pillow.open(io.BytesIO(base64.b64decode(data))))
        for data in re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    ]


def name(place):
    return f"north-{place:05d}"


def test_a_page_needs_no_network_and_every_picture_has_a_text(folder):
    page = page_of(folder)
    assert not re.search(r"https?://|<script|<link|@import|url\(", page)
    assert "default-src 'none'" in page
    assert (
        len(cards_in(page))
        == len(re.findall(r'<img src="data:[^"]+" alt="north-\d+, \w+, t1\+t2, [\w ]+">', page))
        == 30
    )
    assert len(re.findall("<svg", page)) == len(re.findall(r'role="img" aria-label="[^"]+"|aria-hidden="true"', page))


def test_masks_are_outlined_where_they_are(folder):
    cards = cards_in(page_of(folder))

    def yellow(card):
        return int((pictures_in(card)[0][..., :3].astype(int) == [255, 208, 0]).all(-1).sum())

    assert yellow(cards[name(0)]) == 0
    assert yellow(cards[name(1)]) > 50
    assert "lesion outlined" in cards[name(1)]
    assert "nothing marked" in cards[name(0)]


def test_what_has_a_remark_comes_first_the_gravest_before_the_others(folder):
    rewrite(folder, 20, notes="turned as EXIF says")
    rewrite(folder, 25, problem="scan_00025.png cannot be read", sha256="")
    rewrite(folder, 21, warning="m21.jpg has 80 values")
    rewrite(folder, 22, lacks="lesion")
    cards = cards_in(page_of(folder))
    assert list(cards)[:4] == [name(n) for n in (25, 21, 22, 20)]
    assert "scan_00025.png cannot be read" in cards[name(25)]
    assert not pictures_in(cards[name(25)])
    assert "m21.jpg has 80 values" in cards[name(21)]
    assert "<strong>mask unknown:</strong> lesion" in cards[name(22)]
    assert "turned as EXIF says" in cards[name(20)]


def test_a_card_tells_file_label_split_sizes_spacing_values_and_limits(folder):
    values = {"values": "t1 -12..1644, t2 3..90", "scaled": "t1 0..812, t2 5..80"}
    rewrite(folder, 4, source_shape="200x180", spacing_mm="3.5x3.5", outside=0.125, file="a <b>.png", **values)
    card = cards_in(page_of(folder))[name(4)]
    row = manifest.read(folder).iloc[4]
    said = ("a &lt;b&gt;.png", row["label"], f"{row['subject']}, {row['split']}", "200 × 180 → 16 × 16", "3.5 × 3.5 mm")
    for text in (*said, "12.5%", "-12 to 1644", "0 to 812", "3 to 90", "5 to 80"):
        assert text in card, text


def test_histograms_before_scaling_are_those_of_ingest_with_a_line_at_each_limit(folder):
    read = np.zeros((30, 2, manifest.BINS), np.uint32)
    read[4, 0, [0, 8]] = 100, 25
    np.save(folder / manifest.HISTOGRAMS, read)
    rewrite(folder, 4, values="t1 0..100, t2 0..1", scaled="t1 25..50, t2 0..1")
    card = cards_in(page_of(folder))[name(4)]
    (before,) = re.findall(r'<svg[^>]*aria-label="t1 as read, 0 to 100; 25 to 50 became -1 to 1".*?</svg>', card)
    assert re.findall(r'class="limit" d="M([\d.]+) 0', before) == ["32.0", "64.0"]  # of a width of 128
    heights = [32 - float(h) for h in re.findall(r"V([\d.]+)h", before)]
    assert (heights[0], heights[8], sum(heights)) == (32, 16, 48), "the square root of the count"


def test_what_the_validation_found_stands_beside_the_picture_of_this_very_set(folder):
    image = np.load(folder / manifest.ARRAY)
    image[1, 2] = -1
    true = manifest.row(2, image[1])
    manifest.write(folder, manifest.read(folder), image)
    rewrite(folder, 1, mask_sha256=true["mask_sha256"], mask_area=0)
    expectations.validate(folder, tiny_params(), "north", folder.parent / "state" / "validation")
    cards = cards_in(page_of(folder))
    assert next(iter(cards)) == name(1)
    assert "masks match their label: infiltrating with 0 mask pixels" in cards[name(1)]
    rewrite(folder, 2, notes="another set now")
    assert "masks match their label" not in page_of(folder)


def test_of_many_images_every_class_and_each_kind_of_remark_is_seen_and_the_rest_is_counted(tmp_path):
    make_set(tmp_path / "many", tiny_params(), n=300)
    table = manifest.read(tmp_path / "many")
    table.loc[:99, "notes"] = "turned"
    table.loc[50, "warning"] = "odd"
    table.loc[299, "label"] = "typo"
    table.to_csv(tmp_path / "many" / manifest.FILE, index=False)
    of = look_set.load(tmp_path / "many", tiny_params().image, tmp_path / "none.json")
    order = look_set.chosen(of, 12, 1)
    assert len(set(order)) == 12
    assert set(of.rows["label"].iloc[order]) == {"none", "infiltrating", "extra_axial", "typo"}
    assert 50 in order
    page = page_of(tmp_path / "many", most=12)
    assert "12 of 300 images shown; 100 with a remark (warning 1, note 100)" in page
    assert len(cards_in(page)) == 12
    assert "not in params.yaml" in page


def test_a_page_stays_small_whatever_is_asked_for(folder, monkeypatch):
    one = len(cards_in(page_of(folder))[name(0)])
    monkeypatch.setattr(look_cards, "LARGEST", 5 * one)
    page = page_of(folder)
    assert 3 <= len(cards_in(page)) < 12
    assert f"{len(cards_in(page))} of 30 images shown" in page


def test_all_that_is_there_is_shown_once_and_by_chance_else(folder):
    of = look_set.load(folder, tiny_params().image, folder / "none.json")
    assert sorted(look_set.chosen(of, 60, 1)) == list(range(30))
    assert look_set.chosen(of, 9, 1) == look_set.chosen(of, 9, 1) != look_set.chosen(of, 9, 2)


def test_the_tables_count_classes_by_split_problems_sizes_and_unknown_masks(folder):
    rewrite(folder, 0, problem="gone", sha256="")
    rewrite(folder, 1, source_shape="64x48", lacks="lesion")
    found = look_summary.tables(look_set.load(folder, tiny_params().image, folder / "none.json"))
    none = found["classes"][0]
    assert (none["label"], none["bad"]) == ("none", 1)
    assert [none["n"][split] for split in ("train", "val", "test")] == [5, 2, 2]
    assert found["kinds"]["size as read"] == [("16 × 16", 28), ("64 × 48", 1)]
    assert found["kinds"]["without, or of an unknown mask"] == [("lesion", 1)]


def test_values_of_a_channel_are_found_whatever_it_is_called():
    text = "t1 -1.5e-05..812, t1 (gd), x 3..1e+06, a.b -2..-1"
    assert look_summary.ranges(text, ["t1", "t1 (gd), x", "a.b", "axb"]) == {
        "t1": (-1.5e-05, 812.0),
        "t1 (gd), x": (3.0, 1e6),
        "a.b": (-2.0, -1.0),
    }


def test_a_histogram_on_another_range_keeps_all_of_its_mass_where_it_was():
    counts = np.zeros(manifest.BINS)
    counts[:16] = 1  # evenly from 0 to 50 of 100
    wider = look_charts.on_range(counts, (0, 100), (0, 200))
    np.testing.assert_allclose(wider[:8], 1 / 8)
    np.testing.assert_allclose(wider[8:], 0, atol=1e-12)
    narrow = look_charts.on_range(counts, (0, 100), (0, 25))
    np.testing.assert_allclose(narrow[:-1], 1 / 64)
    assert narrow.sum() == pytest.approx(1)


def test_the_overlay_as_read_shows_a_class_that_is_brighter_though_each_image_is_scaled_alike(folder):
    table = manifest.read(folder)
    read = np.zeros((30, 2, manifest.BINS), np.uint32)
    read[:, :, 16] = 1
    bright = (table["label"] == "none").to_numpy()
    table["values"] = np.where(bright, "t1 0..300, t2 0..100", "t1 0..100, t2 0..100")
    manifest.write(folder, table, np.load(folder / manifest.ARRAY))
    np.save(folder / manifest.HISTOGRAMS, read)
    chart = look_summary.charts(look_set.load(folder, tiny_params().image, folder / "none.json"))[0]
    lines = re.findall(r'class="line-(\d)"[^>]* d="([^"]+)"', chart["read"])
    peaks = [np.argmin([float(v) for v in re.findall(r"V([\d.]+)h", path)]) for _, path in lines]
    assert (chart["low"], chart["high"]) == ("0", "300")
    assert peaks[0] > 2 * peaks[1] > 0
    assert peaks[1] == peaks[2]


def test_of_a_volume_there_are_three_slices_through_what_is_marked(tmp_path):
    params = tiny_params(image={"size": [8, 16, 12]})
    make_set(tmp_path / "north", params, n=3)
    images = np.load(tmp_path / "north" / manifest.ARRAY)
    images[1, 2], images[1, 2, 1:3, 12:14, 2:4] = -1, 1
    manifest.write(tmp_path / "north", manifest.read(tmp_path / "north"), images)
    cards = cards_in(page_of(tmp_path / "north", params))
    assert "three slices of north-00001" in cards[name(1)]
    assert "<dd>1, 12, 2</dd>" in cards[name(1)]
    assert "<dd>4, 8, 6</dd>" in cards[name(0)]
    picture = pictures_in(cards[name(1)])[0]
    assert picture.shape[1] == 84 + 4 + 84 + 4 + 112  # the longest axis has 112 pixels, the others in proportion


@pytest.mark.parametrize("broken", ["array is gone", "another size"])
def test_a_set_that_does_not_fit_is_an_error_that_says_so(folder, broken):
    if broken == "array is gone":
        (folder / manifest.ARRAY).unlink()
        params = tiny_params()
    else:
        params = tiny_params(image={"size": [32, 32]})
    with pytest.raises(manifest.SetError, match="run ingest again"):
        page_of(folder, params)


def test_an_empty_set_has_a_page(tmp_path):
    make_set(tmp_path / "north", tiny_params(), n=0)
    assert "0 of 0 images shown" in page_of(tmp_path / "north")


def test_the_command_writes_a_page_for_each_site_at_the_site_and_names_it(tmp_path, monkeypatch):
    params = tiny_params()
    for site in ("north", "east"):
        make_set(tmp_path / "data" / "sites" / site, params, site, n=6)
    (tmp_path / "params.yaml").write_text(params.model_dump_json(exclude_defaults=True), encoding="utf-8")
    monkeypatch.setenv("FEDSYNTH_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["look"], catch_exceptions=False)
    for site in ("north", "east"):
        path = tmp_path / ".work" / "sites" / site / "look" / "index.html"
        assert f"{site}: 6 of 6 images, 0 with a remark: {path}" in done.output
        assert path.is_file()
    one = CliRunner().invoke(app, ["look", "data/sites/east", "--to", "here", "--images", "4"], catch_exceptions=False)
    assert f"4 of 6 images, 0 with a remark: {tmp_path / 'here' / 'index.html'}" in one.output
    with pytest.raises(UserError, match="--to is for one set"):
        CliRunner().invoke(app, ["look", "data/sites", "--to", "here"], catch_exceptions=False)
    with pytest.raises(manifest.SetError, match="is no set and holds none; run `fedsynth ingest` first"):
        CliRunner().invoke(app, ["look", str(tmp_path / "here")], catch_exceptions=False)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on PATH (Debian: apt install chromium)")
@pytest.mark.parametrize("size", [[16, 16], [8, 16, 12]])
def test_it_opens_without_an_error_and_is_never_wider_than_the_screen(tmp_path, size):
    params = tiny_params(image={"size": size})
    make_set(tmp_path / "north", params, n=6, file="a/very_long_name_" * 12 + ".nii.gz", warning="w" * 300)
    document = json.dumps(page_of(tmp_path / "north", params)).replace("</", "<\\/").replace("<!--", "<\\!--")
    measure = '<!doctype html><meta charset="utf-8">' + MEASURE.replace("DOC", document)
    (tmp_path / "measure.html").write_text(measure, encoding="utf-8")
    dom, console = opened(tmp_path / "measure.html", tmp_path / "profile", "--dump-dom")
    assert console == []
    for width in (1280, 390):
        client, scroll, shown = map(int, dom.split(f'data-w{width}="')[1].split('"')[0].split())
        assert scroll <= client, f"at {width} px the page is {scroll} px wide"
        assert shown == 6
