"""Parser of gates, the lines of params.yaml that a model's numbers must satisfy before promotion.

A gate reads `name op limit`. The name is a use's (`classification/retained`, `segmentation/dice`,
`classification/sensitivity.none`) or a measure's (`fid`, `copies_pixel`, `epsilon`), of one site with `@north`, of
every site with `@worst_site`. The limit is a number, or a multiple of the measure's real-real floor: `fid <= 3 *
floor`. At its end, `by bound` or `by point` says what must hold: the end of the 95 % interval on the safe side, or the
value alone; without it `gates.by` says so.
"""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Iterable
from dataclasses import dataclass

from fedsynth.params.names import key

OPS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
WORST = "worst_site"
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
# A number of one class ends in its label. Label and site are any text but for the signs that separate a gate's parts.
TEXT = r"[^<>=≤≥@\s](?:[^<>=≤≥@]*[^<>=≤≥@\s])?"
NAME = rf"[\w.\-]+(?:/\w+(?:[.\-]\w+)*(?:\.{TEXT})?)?"
GATE = re.compile(
    rf"(?P<name>{NAME})(?:@(?P<site>{TEXT}))?\s*(?P<op><=|>=|<|>)\s*(?P<number>{NUMBER})(?:\s*\*\s*(?P<floor>floor))?"
    r"(?:\s+by\s+(?P<by>bound|point))?"
)
FORMS = (
    "`use/metric >= 0.8`, `measure <= 0.1`, `measure <= 3 * floor`, each name also with `@worst_site` or `@<site>`, and"
    " each gate with `by point` or `by bound` at its end"
)


def meant(name: str, known: Iterable[str]) -> str:
    """The one of `known` numbers that a gate names, with a label or a site as text or as its key; else `name`."""
    numbers = list(known)
    if name in numbers:
        return name
    wanted = _spellings(name)
    return next((number for number in numbers if wanted & _spellings(number)), name)


def _spellings(number: str) -> set[str]:
    """A number's name with the keys of its label and site, for each place where the name of a site may begin."""
    cuts = [len(number), *(found.start() for found in re.finditer("@", number))]
    return {_spelt(number[:cut], number[cut + 1 :]) for cut in cuts}


def _spelt(name: str, site: str) -> str:
    metric, dot, label = name.partition(".")
    return f"{metric}{dot}{key(label) if label else ''}@{key(site) if site else ''}"


@dataclass(frozen=True)
class Gate:
    """`number` is the limit itself, or with `of_floor` a multiple of the floor; `site` is "" (all together), a site or
    "worst_site"; `by` is "bound", "point" or "", as `gates.by` says.
    """

    text: str
    name: str
    site: str
    op: str
    number: float
    of_floor: bool
    by: str = ""


def parse(text: str) -> Gate:
    """One line of params.yaml. Raises ValueError saying what of it is not understood, with the nearest form that is."""
    found = GATE.fullmatch(text.strip())
    if found is not None and not math.isfinite(float(found["number"])):
        raise ValueError(f"gate {text!r} is not understood: its limit is not finite, so that it holds always or never")
    if found is None or _misspelt(found["site"]):
        near = _near(text)
        hint = f"did you mean `{near}`?" if near else f"a gate reads {FORMS}"
        raise ValueError(f"gate {text!r} is not understood: {_wrong(text)}; {hint}")
    return Gate(
        text.strip(),
        found["name"],
        found["site"] or "",
        found["op"],
        float(found["number"]),
        bool(found["floor"]),
        found["by"] or "",
    )


def _misspelt(site: str | None) -> bool:
    return bool(site) and site != WORST and bool(difflib.get_close_matches(str(site), [WORST], cutoff=0.75))


def _parts(text: str) -> tuple[str, str, str]:
    """What stands left of the operator, the operator, what stands right of it; as written."""
    found = re.fullmatch(r"\s*([^<>=!≤≥]*?)\s*([<>=!≤≥][<>=!≤≥\s]*|)\s*([^<>=!≤≥]*)\s*", text)
    return (found[1], "".join(found[2].split()), found[3].strip()) if found else (text, "", "")


def _wrong(text: str) -> str:
    left, op, right = _parts(text)
    name, _, site = left.partition("@")
    if op not in OPS:
        return f"{op!r} is none of {', '.join(OPS)}" if op else f"it has none of {', '.join(OPS)}"
    if not re.fullmatch(NAME, name):
        return f"{name!r} is no name of a number"
    if "@" in left and (not re.fullmatch(TEXT, site) or _misspelt(site)):
        return f"'@{site}' is no site"
    return f"{right!r} is neither a number nor `number * floor`"


def _near(text: str) -> str:
    """The text with its likely mistakes mended, "" where that makes no gate of it either."""
    left, op, right = _parts(text)
    right, _, by = right.partition(" by ")
    name, _, site = left.partition("@")
    site = "_".join(site.split())
    site = WORST if _misspelt(site) else site
    op = {"=>": ">=", "=<": "<=", "≥": ">=", "≤": "<=", "==": "", "=": ""}.get(op, op)
    value = re.search(NUMBER, right.replace(",", "."))
    if value is None:
        return ""
    rest = right.replace(",", ".").replace(value[0], "", 1).strip(" *x×").lower()
    limit = value[0]
    if rest == "%":
        limit = f"{float(limit) / 100:g}"
    elif difflib.get_close_matches(rest, ["floor"]):
        limit = f"{limit} * floor"
    mended = f"{'_'.join(name.split())}{'@' + site if site else ''} {op} {limit}{f' by {by.strip()}' if by else ''}"
    found = GATE.fullmatch(mended)
    return mended if found and not _misspelt(found["site"]) else ""
