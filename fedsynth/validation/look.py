"""`fedsynth look`: a page of a site's images with their masks outlined, as models see them. It stays at the site."""

from __future__ import annotations

from pathlib import Path

from fedsynth.data import pictures
from fedsynth.params import Params
from fedsynth.validation import look_cards, look_charts, look_set, look_summary
from fedsynth.validation.look_set import Looked, sets

__all__ = ["FOLDER", "MOST", "sets", "write"]

FOLDER, FILE = "look", "index.html"  # beside the site's folder "validation"
MOST = 60  # images on a page


def write(folder: Path, params: Params, to: Path, most: int = MOST) -> str:
    """The page of the set in `folder` as `to`/index.html, self-contained, of at most `most` images; returns a line that
    says what it shows. Raises SetError where manifest and array do not fit each other or params.yaml.
    """
    of = look_set.load(folder, params.image, to.parent / "validation" / "verdict.json")
    cards = look_cards.cards(of, look_set.chosen(of, most, params.seed))
    to.mkdir(parents=True, exist_ok=True)
    (to / FILE).write_text(render(of, cards, folder.name, to), encoding="utf-8")
    marked = sum(map(bool, of.remarks))
    return f"{folder.name}: {len(cards)} of {len(of.rows)} images, {marked} with a remark: {to / FILE}"


def render(of: Looked, cards: list[dict], name: str, to: Path) -> str:
    """The page; every text from the data is escaped."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fedsynth.validation", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    kinds = [kind for remarks in of.remarks for kind in remarks]
    return environment.get_template("look.html.j2").render(
        site=", ".join(sorted(set(of.rows["site"]))) or name,
        images=len(of.rows),
        cards=cards,
        marked=sum(map(bool, of.remarks)),
        shown=sum(bool(card["remarks"]) for card in cards),
        kinds={kind: kinds.count(kind) for kind in look_set.KINDS if kind in kinds},
        summary=look_summary.tables(of),
        charts=look_summary.charts(of),
        legend=[(label or "(no label)", look_charts.key(n)) for n, label in enumerate(of.usable)],
        masks=list(zip(of.image.masks, pictures.OUTLINES * len(of.image.masks), strict=False)),
        volumes=len(of.image.size) == 3,
        sample=look_summary.SAMPLE,
        validated=(to.parent / "validation" / "index.html").is_file(),
        safe=Markup,
    )
