"""What was gained, in a sentence for each use: what the poorest site reaches with and without synthetic images."""

from __future__ import annotations

from fedsynth.worth.ratios import AT_CHANCE, SMALLEST_GAP
from fedsynth.worth.wording import is_number, label_of
from fedsynth.worth.worth import Rows, against, headline, summary, table


def gained(rows: Rows) -> list[str]:
    """Return a sentence for each use: numbers at the poorest site, with the images of the model that serves it best.

    Where all sites' images are hardly better than the site's own, or a number is missing, the sentence says that.
    """
    worth = next(iter(summary(rows).values()), {})
    return [_sentence(rows, use, of) for use, of in worth.items()]


def _sentence(rows: Rows, use: str, of: dict) -> str:
    """`of`: the summary of any model: the poorest site is the same for all, because it follows from `local` alone."""
    site, together, metric = of["poorest_site"], against(rows, use), label_of(headline(rows, use))
    found = _values(rows, use, site)
    own, everyone = found.get(("local", "")), found.get((together, ""))
    models = {model: v for (name, model), v in found.items() if name == "augmented" and is_number(v)}
    chance = of["why"].get("gap_closed_poorest", "").startswith(AT_CHANCE)
    if not is_number(own) or not is_number(everyone) or not models or chance:
        return f"In {use} it is not known what was gained: {of['why']['gap_closed_poorest']}."
    if everyone - own < SMALLEST_GAP:
        return (
            f"In {use} there is no gap to close at {site}, the poorest site: {metric} {own:.3f} with its own images,"
            f" {everyone:.3f} with everyone's ({together})."
        )
    best = max(models, key=lambda model: models[model])
    told = (
        f"with {best}'s images {site} reaches {metric} {models[best]:.3f} in {use}, with its own alone {own:.3f}, with"
        f" everyone's {everyone:.3f} ({together})."
    )
    return f"Nothing: {told}" if models[best] <= own else f"{told[0].upper()}{told[1:]}"


def _values(rows: Rows, use: str, site: str | None) -> dict[tuple[str, str], float]:
    """Return (name of a row, model) -> the headline metric at a site."""
    of = table(rows)
    of = of[(of["use"] == use) & (of["metric"] == headline(rows, use)) & (of["site"] == site)]
    return {(name, model): value for name, model, value in zip(of["name"], of["model"], of["value"], strict=True)}
