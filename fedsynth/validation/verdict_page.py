"""The validation report as one self-contained HTML page; GX's own Data Docs need a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fedsynth.data.manifest import SPLITS
from fedsynth.validation.verdict import Verdict

ROWS = 50  # of each failed expectation on the page; verdict.json has all
LOOK = "../look/index.html"  # the page of `fedsynth look`, from this one


def write(folder: Path, verdict: Verdict, raw: dict[str, Any]) -> None:
    """index.html and message.txt for a person, verdict.json and gx_result.json for a program. They name rows: they stay
    at the site.
    """
    folder.mkdir(parents=True, exist_ok=True)
    look = LOOK if (folder / LOOK).is_file() else ""
    (folder / "index.html").write_text(render(verdict, look), encoding="utf-8")
    (folder / "message.txt").write_text(verdict.message() + "\n", encoding="utf-8")
    (folder / "verdict.json").write_text(json.dumps(verdict.to_dict(), indent=1) + "\n", encoding="utf-8")
    (folder / "gx_result.json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")


def render(verdict: Verdict, look: str = "") -> str:
    """The page; every text from the data is escaped. `look`: where the page with the images is, if it is there."""
    import jinja2

    found = {f.expectation: f for f in [*verdict.failures, *verdict.warnings]}
    order = sorted(
        verdict.checked, key=lambda name: {"critical": 0, "warning": 1}[found[name].severity] if name in found else 2
    )
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fedsynth.validation", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.get_template("verdict_page.html.j2")
    return template.render(
        verdict=verdict,
        expectations=[(name, found.get(name)) for name in order],
        splits=SPLITS,
        shown=ROWS,
        look=look,
    )
