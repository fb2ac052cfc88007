"""Sex and age of the person in an image, as far as a site's data say: words of a closed list and bands, never more."""

from __future__ import annotations

import re

UNKNOWN = "unknown"
PERSON = ("sex", "age")  # columns of a table
SEXES = ("female", "male", "other")
BANDS = ("0-17", "18-39", "40-59", "60-79", "80+")
STARTS = (0, 18, 40, 60, 80)  # of the bands, in years
WORDS = {
    "female": ("f", "female", "w", "woman", "weiblich", "femme"),
    "male": ("m", "male", "man", "männlich", "homme"),
    "other": ("o", "other", "d", "divers", "x", "nonbinary"),
}
AGE = re.compile(r"0*(\d{1,3}(?:\.\d+)?)\s*([yY]?)(?:ears?)?|\d{1,4}([dDwWmM])")


def sex_of(text: str) -> str:
    """One of SEXES; "" where the text says none of them."""
    word = text.strip().casefold()
    return next((sex for sex, words in WORDS.items() if word in words), "")


def band_of(text: str) -> str:
    """The band of an age in years, "63" or, as DICOM has it, "063Y" or "011M"; "" where the text is no age."""
    found = AGE.fullmatch(text.strip())
    if found is None:
        return ""
    if found[3]:  # days, weeks, months: DICOM's ages of small children
        return BANDS[0]
    years = float(found[1])
    return BANDS[sum(years >= start for start in STARTS) - 1] if years <= 120 else ""
