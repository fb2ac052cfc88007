"""The page opens in a browser without an error and without a request, fits a phone, prints, and holds something in
light and dark.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from fedsynth.report.page import Trained, page
from tests.facts_made import bad_gates, facts_of
from tests.report.test_curves import history
from tests.report.test_page import params, rows, verdict
from tests.sets import make_set

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on PATH (Debian: apt install chromium)")

# as long and odd as names come
SITES = ("Universitätsklinikum Schleswig-Holstein, Campus Lübeck", "St. <b>Ann & 'Co'", "south")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=3000",
)
# The page itself may run no script: frames as wide as a screen measure it from outside.
MEASURE = """<body style="margin:0"><script>
const pages = [[1280, DOC], [390, DOC]].map(([width, doc]) => {
  const frame = document.createElement("iframe");
  frame.style.width = width + "px"; frame.style.height = "800px"; frame.srcdoc = doc;
  frame.onload = () => { const root = frame.contentDocument.documentElement;
    const images = frame.contentDocument.images.length;
    document.body.dataset["w" + width] = [root.clientWidth, root.scrollWidth, images].join(" ") };
  document.body.append(frame);
});
</script></body>"""


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> str:
    folder, made = tmp_path_factory.mktemp("sets"), params()
    facts = {
        "vae": facts_of("vae", sites=SITES),
        "gan": facts_of("gan", 0.7, bad_gates(), sites=SITES, fid=None, copies=3),
    }
    models = {
        name: Trained(
            {
                "name": name,
                **made.models[name].model_dump(mode="json"),
                "job_id": "j",
                "sites": dict.fromkeys(SITES, 60),
                "fedsynth": "1",
                "weights_sha256": "c3" * 32,
            },
            history(sites=SITES),
            make_set(folder / name, made, n=12),
        )
        for name in facts
    }
    scores = [row for name in ("local", "pooled") for row in rows(name, sites=SITES)]
    scores += [row for model in models for name in ("synthetic", "augmented") for row in rows(name, model, SITES)]
    return page(
        made, {"sites": {s: verdict() for s in SITES}, "used": list(SITES)}, scores, models, None, False, {}, facts
    )


def opened(path: Path, profile: Path, *how: str) -> tuple[str, list[str]]:
    """What it prints and the messages of the console, in headless Chromium."""
    command = [str(CHROMIUM), *QUIET, f"--user-data-dir={profile}", "--window-size=1400,900", *how, path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_the_page_opens_without_an_error_and_is_never_wider_than_the_screen(text, tmp_path):
    document = json.dumps(text).replace("</", "<\\/").replace("<!--", "<\\!--")
    (tmp_path / "measure.html").write_text(
        '<!doctype html><meta charset="utf-8">' + MEASURE.replace("DOC", document), encoding="utf-8"
    )
    dom, console = opened(tmp_path / "measure.html", tmp_path / "profile", "--dump-dom")
    assert console == []
    for width in (1280, 390):
        client, scroll, shown = map(int, dom.split(f'data-w{width}="')[1].split('"')[0].split())
        assert client > 0.9 * width
        assert scroll <= client, f"at {width} px the page is {scroll} px wide"
        assert shown == 2 * 3 + 1, "a sheet for each model and class, and one at the head"


def test_a_request_that_slipped_in_would_be_refused_and_seen(text, tmp_path):
    (tmp_path / "bad.html").write_text(
        text.replace("</main>", '<img src="http://127.0.0.1:9/x.png" alt=""></main>'), encoding="utf-8"
    )
    _, console = opened(tmp_path / "bad.html", tmp_path / "profile", "--dump-dom")
    assert any("Content Security Policy" in line for line in console)


@pytest.mark.parametrize(("scheme", "paper"), [(1, 255), (0, 23)])
def test_it_is_drawn_in_light_and_in_dark(text, tmp_path, scheme, paper):
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    picture = tmp_path / "page.png"
    opened(
        tmp_path / "page.html",
        tmp_path / "profile",
        f"--screenshot={picture}",
        f"--blink-settings=preferredColorScheme={scheme}",
    )
    gray = np.asarray(Pillow.open(picture).convert("L")).astype(int)
    assert abs(int(np.bincount(gray.ravel()).argmax()) - paper) < 8, "most of it is the page's own colour"
    assert (abs(gray - paper) > 100).mean() > 0.005, "and something stands on it"


def test_it_prints_with_all_that_is_folded_away(text, tmp_path):
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    opened(tmp_path / "page.html", tmp_path / "profile", f"--print-to-pdf={tmp_path / 'page.pdf'}")
    (tmp_path / "less.html").write_text(text.replace("<details>", '<details style="display: none">'), encoding="utf-8")
    opened(tmp_path / "less.html", tmp_path / "profile", f"--print-to-pdf={tmp_path / 'less.pdf'}")
    whole, less = ((tmp_path / name).read_bytes() for name in ("page.pdf", "less.pdf"))
    assert whole.startswith(b"%PDF")
    assert whole.count(b"/Type /Page\n") > less.count(b"/Type /Page\n"), "the tables by site take pages of their own"
