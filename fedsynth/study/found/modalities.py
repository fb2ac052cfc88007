"""Images of several files, a modality each, by the ends of their names: a_flair.nii.gz, a_t1.nii.gz, a_seg.nii.gz."""

from __future__ import annotations

import re

import pandas as pd

from fedsynth.study.found import pairs, subjects
from fedsynth.study.found.layout import shown, stem

MODALITIES = (
    "t1", "t1w", "t1n", "t1c", "t1ce", "t1gd", "t2", "t2w", "t2f", "t2star", "flair", "dwi", "adc", "swi", "pd", "pdw",
    "ct", "pet", "suv", "cbct",
)  # fmt: skip
ENDS = re.compile(rf"(.+?)[ _-]({'|'.join(MODALITIES)}|{pairs.WORDS})$", re.IGNORECASE)


def table(files: list[str]) -> tuple[pd.DataFrame | None, list[str]]:
    """A manifest with a row for each modality of an image, and what was seen; None where names do not say so.

    All images must have the same modalities, two at least; a file that ends with a word for masks is their mask.
    """
    found: dict[str, dict[str, str]] = {}
    for file in files:
        if not (match := ENDS.fullmatch(stem(file))):
            return None, []
        above = file.rpartition("/")[0]
        found.setdefault(f"{above}/{match[1]}".lstrip("/"), {})[match[2].casefold()] = file
    kinds = {tuple(sorted(set(of) & set(MODALITIES))) for of in found.values()}
    if len(kinds) != 1 or len(names := kinds.pop()) < 2:
        return None, []
    masks = {image: next((of[word] for word in sorted(of) if word not in names), "") for image, of in found.items()}
    who, said = subjects.by_name([f"{image}.nii" for image in found])
    rows = [
        {"image": found[image][name], "mask": masks[image], "label": "", "subject": subject, "modality": name}
        | {"image_id": image}
        for image, subject in zip(found, who, strict=True)
        for name in names
    ]
    notes = [f"a channel for each modality in names of files: {shown(list(names))}"]
    return pd.DataFrame(rows), [*notes, *([said] if said else [])]
