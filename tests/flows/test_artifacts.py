"""What Prefect's page shows of a report: verdict and pictures in one text, and where the whole page is."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows import artifacts


@pytest.fixture
def report(tmp_path) -> Path:
    (tmp_path / "verdict.md").write_text(
        "# May they be promoted?\n\n- **vae may**\n\n## Gates\n\n# What they are worth\n\nmuch\n"
    )
    noise = np.random.default_rng(1).integers(0, 255, (600, 2400, 4), np.uint8)
    for name in ("tradeoff", "samples_vae", "samples_gan", "losses_vae"):
        Image.fromarray(noise).save(tmp_path / f"{name}.png")
    return tmp_path


def pictures(text: str) -> dict[str, Image.Image]:
    found = re.findall(r"!\[(.+)\]\(data:image/webp;base64,([^)]+)\)", text)
    return {said: Image.open(io.BytesIO(base64.b64decode(data))) for said, data in found}


def test_the_pictures_stand_between_verdict_and_worth_and_are_smaller(report):
    text = artifacts.markdown(report, "")
    shown = pictures(text)
    assert list(shown) == ["worth against privacy", "samples of gan", "samples of vae"]
    assert {of.size for of in shown.values()} == {(artifacts.WIDTH, 250)}
    order = ["# May they be promoted?", "## Gates", "data:image", "\n# What they are worth\n\nmuch"]
    assert [text.index(of) for of in order] == sorted(text.index(of) for of in order)


def test_the_whole_page_is_a_link_where_a_server_shows_it_and_else_a_command(report):
    address = "http://mlflow.example/#/experiments/1/runs/2/artifacts/report/index.html"
    assert artifacts.markdown(report, address).startswith(f"[The whole page, in MLflow]({address})\n")
    here = artifacts.markdown(report, "").splitlines()[0]
    assert f"`{report / 'index.html'}`" in here
    assert f"`python3 -m webbrowser -t {(report / 'index.html').as_uri()}`" in here
    assert "](" not in here, "a browser follows no link to a file"
