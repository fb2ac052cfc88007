"""The model card: a short version for MLflow and the whole MODEL_CARD.md (Mitchell et al. 2019, arXiv:1810.03993)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedsynth.worth.wording import began_said, local_work

if TYPE_CHECKING:
    from fedsynth.data.dataset import ImageSet
    from fedsynth.params import Params

LONGEST = 5000  # maximum length of a description in MLflow's database
FILE = "MODEL_CARD.md"


def card(model: dict[str, Any], facts: dict[str, Any] | None) -> str:
    """Return the short card in Markdown, the verdict first.

    `model`: its model.json; `facts`: from fedsynth/worth/facts.py, None if the model was not scored.
    """
    parts = (
        _judged(facts) if facts else ["**Not judged**: what it is worth and what it gives away has not been measured."]
    )
    image, training = model["image"], model["training"]
    sites = ", ".join(f"{site} ({n} images)" for site, n in sorted(model["sites"].items()))
    given = f" from {' + '.join(image['given'])}" if image["given"] else ""
    parts += [
        (
            f"Makes {' + '.join(made(image))} of size {'x'.join(map(str, image['size']))}{given} for the labels"
            f" {', '.join(image['labels'])}; values lie in [-1, 1]. For research, not for diagnosis."
        ),
        (
            f"**{model['name']}**: {_last(model['family'])}, trained by {_last(model['algorithm'])} over"
            f" {len(model['sites'])} sites; {training['rounds']} rounds of {local_work(training)}; FLARE"
            f" job `{model['job_id']}`; fedsynth {model['fedsynth']}."
        ),
        *([f"Its training was {said}."] if (said := began_said(model)) else []),
        f"Sites: {sites}.",
    ]
    text = "\n\n".join(parts)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def papers(params: Params, model: dict[str, Any], synthetic: ImageSet, facts: dict[str, Any]) -> dict[str, str]:
    """Return file name -> text of the documents shipped with a synthetic set: datasheet and model card."""
    from fedsynth.report.datasheet import DATASHEET, datasheet

    return {DATASHEET: datasheet(params, model, synthetic, facts), FILE: model_card(model, facts)}


def model_card(model: dict[str, Any], facts: dict[str, Any] | None) -> str:
    """Return the whole card in Markdown; the same input gives the same text."""
    from fedsynth.report.datasheet import render

    shown = None
    if facts:
        from fedsynth.report.fact_tables import tables

        shown = tables(facts)
    uses = list(facts["uses"]) if facts else []
    return render("card.md.j2", model=model, image=model["image"], made=made(model["image"]), uses=uses, t=shown)


def made(image: dict[str, Any]) -> list[str]:
    """Return the generated channels."""
    return [c for c in image["channels"] if c not in image["given"] and c not in image.get("aside", [])]


def _judged(facts: dict[str, Any]) -> list[str]:
    """Return the parts on verdict, worth, privacy audit, and worst site and class."""
    from fedsynth.report.fact_tables import NOT_COMPUTED, WORTH, short_verdict, tables

    t, (said, *broken) = tables(facts), short_verdict(facts)
    columns = ["use", *(name.replace("_", " ").replace("poorest", "at the poorest site") for name in WORTH)]
    worth = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    worth += [f"| {line['use']} | {' | '.join(line[name] for name in WORTH)} |" for line in t["worth"]]
    audit = [f"{m['title']} {m['value']}" for m in t["audit"] if not m["value"].startswith(NOT_COMPUTED)] + [
        f"epsilon {t['epsilon'][0]}",
    ]
    audit += [f"of all trainings so far {t['epsilon_total'][0]}"] if t["epsilon"][0] != "none" else []
    missing = [m["title"] for m in t["audit"] if m["value"].startswith(NOT_COMPUTED)]
    audit += [f"{NOT_COMPUTED}: {', '.join(missing)}"] if missing else []
    parts = ["\n".join([f"**{said}.**", *(["", *(f"- {line}" for line in broken)] if broken else [])])]
    parts += ["\n".join(worth)] if t["worth"] else ["What it is worth: not computed."]
    return [*parts, f"Gives away: {'; '.join(audit)}.", f"Worst: {'. '.join(t['worst'])}."]


def _last(block: dict[str, Any]) -> str:
    return str(block["class_path"]).rpartition(".")[2]
