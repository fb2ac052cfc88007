"""The report as Prefect's pages show it: one text with the verdict, its pictures in it, and where the whole page is.

A browser opens no file:// link from a page that a server gives it, and an image artifact shows the letters of its
picture beside it. A picture within Markdown is shown as it is.
"""

from __future__ import annotations

import base64
import io
import platform
import shlex
from pathlib import Path

WIDTH = 1000  # pixels: Prefect's column has 730, and its database keeps each run's


def markdown(report: Path, address: str) -> str:
    """Return the text of a run's report. `address`: of its page, "" where no server shows it."""
    verdict, _, worth = (report / "verdict.md").read_text(encoding="utf-8").partition("\n# ")
    sheets = sorted(report.glob("samples_*.png"))
    pictures = [("worth against privacy", report / "tradeoff.png")]
    pictures += [(f"samples of {path.stem.removeprefix('samples_')}", path) for path in sheets]
    shown = [f"**{said}**\n\n![{said}]({_embedded(path)})" for said, path in pictures]
    return "\n\n".join([_whole(report / "index.html", address), verdict, *shown, f"# {worth}"])


def _whole(page: Path, address: str) -> str:
    if address:
        return f"[The whole page, in MLflow]({address})"
    command = f"python3 -m webbrowser -t {shlex.quote(page.as_uri())}"
    return f"The whole page is `{page}` on {platform.node()}; there, `{command}` opens it."


def _embedded(path: Path) -> str:
    """Return a smaller copy of a picture as the address that stands for it."""
    from PIL import Image

    made = io.BytesIO()
    with Image.open(path) as picture:
        small = picture.convert("RGB")
    small.thumbnail((WIDTH, small.height))
    small.save(made, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(made.getvalue()).decode()}"
