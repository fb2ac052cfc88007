"""Names and their keys. A site or a label is any text; files, FLARE clients and MLflow's metrics have its key.

The key of a text that is safe already is the text itself; of any other it is a readable part of it and eight digits of
its hash: "st-mary-s-hospital-5f0c2a91". People see the text, paths are made of keys alone.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from fedsynth.params.errors import ParamsError

# Letters without accents, digits, _ and -: FLARE separates the parts of its addresses by dots, and what begins with -
# is an option on its command line. A certificate's name has 64 characters at most.
SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}")
IDENTIFIER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")  # of a channel, use, measure or exporter; never ".."
SLUG, DIGITS, LONGEST = 40, 8, 200  # characters of a key's readable part, of its hash; of a text
# What FLARE and this package call something else: in a job's workspace, in a federation, in FEDSYNTH_STATE.
RESERVED = frozenset({"server", "simulate_job", "localhost", "admin", "keys"})
# What no site can be called, because gates and tables have another meaning for it.
TAKEN = {"worst_site": "gates say @worst_site for whichever is worst", "all": "tables say all for all sites together"}
JOINERS = "\u200c\u200d"  # invisible, and letters of some languages are written with them


def normal(text: str) -> str:
    """The text in Unicode's composed form: both ways to write an umlaut are one name."""
    return unicodedata.normalize("NFC", text)


def key(text: str) -> str:
    """The safe name of a text, always the same for it; a text that is safe, as a key is, is its own key."""
    if SAFE.fullmatch(text) and text.lower() not in RESERVED:
        return text
    plain = unicodedata.normalize("NFKD", text.casefold()).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", plain)[:SLUG].strip("-") or "name"
    return f"{slug}-{hashlib.sha256(normal(text).encode('utf-8', 'surrogatepass')).hexdigest()[:DIGITS]}"


def keys(sites: Iterable[str]) -> dict[str, str]:
    """Site -> key, in their order. Raises ParamsError for a text that cannot name a site, and for two that are one."""
    found: dict[str, str] = {}
    seen: dict[str, str] = {}
    for site in sites:
        if said := of_site(site):
            raise ParamsError(f"site {site!r}: {said}")
        if (other := seen.setdefault(_folded(site), site)) != site:
            raise ParamsError(
                f"the sites {other!r} and {site!r} differ only in blanks, upper and lower case, or how an accent is"
                " written: write one of them everywhere, or two names that people can tell apart"
            )
        found[site] = key(site)
    if len(set(found.values())) < len(found):
        same = [site for site in found if list(found.values()).count(found[site]) > 1]
        raise ParamsError(f"the sites {same} have the same key {found[same[0]]!r}; give one of them another name")
    return found


def _folded(text: str) -> str:
    """The same for two texts that people take for one name."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def of_site(text: object) -> str:
    """Why a text cannot name a site, "" where it can."""
    if said := refusal(text):
        return said
    return f"no site may have this name: {TAKEN[str(text)]}" if text in TAKEN else ""


def refusal(text: object) -> str:
    """Why a text cannot name anything, "" where it can."""
    if not isinstance(text, str):
        return quoted(text)
    if not text.strip():
        return "the name is empty; give it one"
    if wrong := next((c for c in text if _invisible(c)), None):
        return f"the name holds the control character U+{ord(wrong):04X}; take it out"
    if len(text) > LONGEST:
        return f"the name has {len(text)} characters, and {LONGEST} are allowed; shorten it"
    return ""


def _invisible(c: str) -> bool:
    """Controls, marks of direction, halves of characters, separators of lines."""
    return unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in JOINERS


def quoted(value: object) -> str:
    """What to do with a name that YAML takes for something else: yes and no are true and false to it."""
    if isinstance(value, bool):
        words = "yes, true and on" if value else "no, false and off"
        return f"YAML reads {words} without quotes as {str(value).lower()}; put the name in quotes"
    kind = "nothing" if value is None else f"a {type(value).__name__} ({value})"
    return f"YAML reads this as {kind} and not as a text; put the name in quotes"


def find(asked: str, texts: Iterable[str]) -> str | None:
    """The one of `texts` that is meant by `asked`, the text itself or its key; None where there is none."""
    names = list(texts)
    by_text = {normal(name): name for name in names}
    by_key = {key(name): name for name in names}
    return by_text.get(normal(asked)) or by_key.get(asked)


def told(value: Any, texts: Mapping[str, str]) -> Any:
    """A value (a sentence, or a table as in JSON) with texts in the place of their keys. `texts`: key -> text."""
    others = {of: text for of, text in texts.items() if of != text}
    return _told(value, others, _within(others)) if others else value


def _within(keys: Iterable[str]) -> re.Pattern[str]:
    """Whole words, and not as a part of a path."""
    longest_first = "|".join(re.escape(of) for of in sorted(keys, key=len, reverse=True))
    return re.compile(rf"(?<![\w/-])(?:{longest_first})(?![\w/-])")


def _told(value: Any, texts: Mapping[str, str], within: re.Pattern[str]) -> Any:
    if isinstance(value, dict):
        return {_told(name, texts, within): _told(of, texts, within) for name, of in value.items()}
    if isinstance(value, list):
        return [_told(of, texts, within) for of in value]
    return within.sub(lambda found: texts[found[0]], value) if isinstance(value, str) else value


def as_name(value: object) -> str:
    """A name of params.yaml as text, a whole number as its digits. Raises ValueError where it cannot name anything."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if said := refusal(text):
        raise ValueError(said)
    return normal(str(text))


def as_identifier(text: str) -> str:
    """A name that becomes a part of file names as it is. Raises ValueError for one that cannot."""
    if not IDENTIFIER.fullmatch(text):
        raise ValueError(
            f"the name {text!r} becomes a part of file names: it must have 1 to 80 letters (without accents), digits,"
            " _, - and . and begin with a letter, a digit or _"
        )
    return text


Name = Annotated[str, BeforeValidator(as_name)]  # of a site or a label: any text
Identifier = Annotated[str, AfterValidator(as_identifier)]  # of a channel, a use, a measure, an exporter
