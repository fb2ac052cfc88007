"""What is known of a version that is to be promoted: the question that a person is asked, and all of it."""

from __future__ import annotations

from pathlib import Path

from fedsynth.registry import aliases, by_hand, place, promotion, stale, versions
from fedsynth.worth.judgement import required

# tags whose content is shown otherwise: the verdict and the numbers, and what was done to a version
SHOWN = (*promotion.PREFIXES, "promotion.", "rollback.", "served.")
RETAINS = (
    "*Retains*: what networks reach that were trained on its synthetic images alone, as a share of what they reach on"
    " real ones (pooled: those of all sites together; federated: those of each at its place)."
)


def comparison(root: Path, model: str, number: int, champion: str | None) -> tuple[bool, str]:
    """Return whether a version is better than the champion, and a sentence that says so.

    Returns True and "" where there is no other champion.
    """
    if champion is None or champion == str(number):
        return True, ""
    mine, other = versions.version_of(root, model, number), versions.version_of(root, model, int(champion))
    return promotion.compare(f"version {number}", mine.tags, f"version {champion}, the {aliases.CHAMPION},", other.tags)


def question(root: Path, model: str, number: int, champion: str | None, although: str, facts: str) -> str:
    """Return Markdown with what a person must know to answer; `facts`: address of all that is known.

    Prefect's form shows it in a small box, in which long texts and tables scroll out of sight.
    """
    version = versions.version_of(root, model, number)
    instead = f"in place of version {champion}" if champion else "where none is in use yet"
    lines = [f"### Shall version {number} of {version.name} be the one in use ({aliases.CHAMPION}), {instead}?", ""]
    lines += [f"[All that is known of it]({facts})", "", *_head(root, model, number, champion, although)]
    return "\n".join(lines)


def describe(root: Path, model: str, number: int, champion: str | None, although: str = "") -> str:
    """Return Markdown with all that is known of a version, each thing once.

    It has verdict and comparison, the version's description without what the verdict has said, its newest scores beside
    the champion's, and those tags that are in none of these.
    """
    version = versions.version_of(root, model, number)
    scores, there = brief(versions.scores_of(root, version)), {}
    columns = [f"version {number}"]
    if champion:
        there = brief(versions.scores_of(root, versions.version_of(root, model, int(champion))))
        columns.append(f"{aliases.CHAMPION} (version {champion})")
    lines = [f"# {version.name} version {number}", "", *_head(root, model, number, champion, although)]
    if page := place.page(root, f"models/{version.name}/versions/{number}"):
        lines += [f"[The version, in MLflow]({page})", ""]
    card = (version.description or "").splitlines()
    card = card[1:] if card and card[0].startswith("**") else card  # the verdict, which its gates have said
    lines += [line for line in card if not line or line not in lines]
    lines.append("")
    if scores or there:
        lines += [f"| score | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        sides = (scores, there)[: len(columns)]
        lines += [f"| {n} | {' | '.join(_number(side.get(n)) for side in sides)} |" for n in sorted(scores | there)]
    else:
        lines.append("No scores: this version has not been scored.")
    lines += [
        "",
        "| tag | value |",
        "|---|---|",
        *(f"| {n} | {value} |" for n, value in sorted(version.tags.items()) if not n.startswith(SHOWN)),
    ]
    return "\n".join(lines)


def _head(root: Path, model: str, number: int, champion: str | None, although: str) -> list[str]:
    """Return the verdict, what speaks against the version, and how it compares, as lines of Markdown."""
    version = versions.version_of(root, model, number)
    title = f"{version.name} version {number}"
    lines = [*verdict(version.tags), ""]
    lines += [f"**{said}.**", ""] if (said := stale.said(title, version.tags)) else []
    lines += [f"**{said}.**", ""] if (said := by_hand.changed(root, model)) else []
    compared = comparison(root, model, number, champion)[1]
    if compared:
        lines += [f"{compared[:1].upper()}{compared[1:]}. {RETAINS}", ""]
    else:
        lines += [f"There is no {aliases.CHAMPION} yet to compare it with.", ""]
    return [*lines, *([f"Promoted although: {although}", ""] if although else [])]


def verdict(tags: promotion.Tags) -> list[str]:
    """Return the gates' verdict as lines of Markdown, with a line for each gate or warning that does not hold."""
    said = promotion.said(tags)
    lines, gates = [f"**Gates: {said}.**"], promotion.gates(tags)
    if said != promotion.NO_VERDICT and not required(gates):
        lines.append(
            "params.yaml requires nothing of it, so nothing has been proven: without --although it is not promoted."
        )
    broken = [g for g in gates if not g["held"]]
    return [
        *lines,
        "",
        *(f"- {'required' if g['kind'] == 'require' else 'warning'}: {g['gate']}: {g['reason']}" for g in broken),
    ]


def brief(scores: dict[str, float]) -> dict[str, float]:
    """Return the scores without those of single sites.

    What remains: `<use>/<share>`, `<use>/<name>/<metric>`, `measure/<name>`, floors and intervals.
    """
    ends = ("floor", "low", "high")
    return {
        name: value
        for name, value in scores.items()
        if name.count("/") < 2
        or (name.count("/") == 2 and (not name.startswith("measure/") or name.rpartition("/")[2] in ends))
    }


def _number(value: float | None) -> str:
    return "not computed" if value is None else f"{value:.3f}"
