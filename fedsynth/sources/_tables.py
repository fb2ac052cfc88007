"""Tables that people write, as text: read with the true number of each line, and rows of them chosen and renamed."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd

from fedsynth.data.manifest import SetError
from fedsynth.data.people import PERSON
from fedsynth.data.planes import key as channel_key
from fedsynth.data.splits import place_of
from fedsynth.params import ParamsError
from fedsynth.params.names import normal, quoted
from fedsynth.params.near import near

SEPARATORS = (",", ";", "\t")
NUMBER = re.compile(r"[-+]?\d+(\.\d*)?")
WORDS = {True: ("yes", "true", "on", "y"), False: ("no", "false", "off", "n")}  # that YAML does not take for texts
# what tables say for a split: ours
SPLITS = {
    "": "", "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip


def text_table(path: Path, columns: Sequence[str], what: str) -> pd.DataFrame:
    """A CSV as text; the index has the number of each row's line in the file.

    Cells are in NFC and without blanks around them. They are parted by commas, semicolons or tabs, whichever the header
    has most of (a .tsv by tabs). Blank lines, and separators behind the last cell, count for nothing. Raises SetError
    naming the file, the line, and what is wrong or lacks; `what` says what the file should be.
    """
    if not path.is_file():
        raise SetError(f"{path} is not there; {what}")
    lines = list(_lines(path))
    if not lines:
        raise SetError(f"{path} is empty; {what}")
    names, rows = _named(lines[0][1], path), lines[1:]
    if missing := [c for c in columns if c not in names]:
        raise SetError(f"{path} lacks the columns {missing}; it has {names}")
    if not rows:
        raise SetError(f"{path} has no rows")
    cells = [_fitted(row, len(names), f"{path}: line {line}") for line, row in rows]
    return pd.DataFrame(cells, columns=names, index=pd.Index([line for line, _ in rows], name="line"), dtype=object)


def text(value: object) -> str:
    """A cell, or what params.yaml says of one, as text to compare: numbers as they are written, null as nothing."""
    return normal("" if value is None else str(value)).strip().strip("\ufeff")


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The number of each line that is not blank, and its cells."""
    content = _decoded(path)
    first = next((line for line in content.splitlines() if line.strip()), "")
    bare = re.sub(r'"[^"]*"', "", first)
    separator = "\t" if path.suffix.lower() == ".tsv" else max(SEPARATORS, key=bare.count)
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    line = 1
    try:
        for cells in reader:
            found = [text(cell) for cell in cells]
            if any(found):
                yield line, found
            line = reader.line_num + 1
    except csv.Error as error:
        raise SetError(f"{path} is not a readable CSV: line {line}: {error}; look at its quotes") from error


def _decoded(path: Path) -> str:
    raw = path.read_bytes()
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise SetError(f"{path} is not a readable CSV: it is UTF-16, Excel's Unicode text; save it as CSV UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise SetError(
            f"{path} is not a readable CSV: it is not UTF-8 (line {line} has the byte 0x{raw[error.start]:02x}, as"
            " Latin-1 or Windows write umlauts); save it as CSV UTF-8"
        ) from error


def _named(header: list[str], path: Path) -> list[str]:
    while header and not header[-1]:
        header = header[:-1]
    names = [name or f"column {place}" for place, name in enumerate(header, 1)]  # pandas leaves an index without one
    if twice := next((name for place, name in enumerate(names) if name in names[:place]), ""):
        raise SetError(f"{path} has two columns {twice!r}; keep or rename one")
    return names


def _fitted(cells: list[str], columns: int, where: str) -> list[str]:
    """Cells of a line, as many as there are columns."""
    if any(cells[columns:]) or len(cells) < columns:
        raise SetError(
            f"{where} has {len(cells)} cells, the header names {columns} columns; put a cell that holds a separator in"
            " quotes, and leave empty ones where they are"
        )
    return cells[:columns]


def chosen(rows: pd.DataFrame, keep: dict[str, Any] | None, drop: dict[str, Any] | None, path: Path) -> pd.DataFrame:
    """Rows whose columns have one of the values of `keep` (source.args.rows), {column: [values]}, and none of those of
    `drop` (exclude). Raises SetError where there is no such column, or no row is left.
    """
    for argument, wanted in (("rows", keep), ("exclude", drop)):
        for column, values in (wanted or {}).items():
            if column not in rows.columns:
                raise SetError(
                    f"{path} has no column {column!r}, which source.args.{argument} names; it has"
                    f" {list(rows.columns)}{near(column, map(str, rows.columns))}"
                )
            there = rows[column].isin(_meant_by(values, rows[column]))
            rows = rows[there if argument == "rows" else ~there]
    if not len(rows):
        said = " and ".join(f"{name} {of}" for name, of in (("rows", keep), ("exclude", drop)) if of)
        raise SetError(f"{path} has no rows left with source.args.{said}")
    return rows.copy()


def _meant_by(values: Any, column: pd.Series) -> set[str]:
    there = list(dict.fromkeys(column))
    return {one for value in (values if isinstance(values, list) else [values]) for one in meant(value, there)}


def meant(value: object, there: Sequence[str]) -> list[str]:
    """Which of the texts that are there a value of params.yaml stands for: the same text, or else the same number, or
    what YAML has made true or false of.
    """
    if isinstance(value, bool):
        return [one for one in there if one.casefold() in WORDS[value]]
    wanted = text(value)
    if wanted in there:
        return [wanted]
    number = _number(wanted)
    return [one for one in there if number is not None and _number(one) == number]


def _number(said: str) -> Decimal | None:
    return Decimal(said) if NUMBER.fullmatch(said) else None


def renamed(rows: pd.DataFrame, labels: dict[Any, Any] | None) -> pd.DataFrame:
    """Rows with labels renamed, {in the table: in image.labels}; those whose label becomes null are left out.

    Raises SetError for a label that no row has but for case, blanks, "-" and "_". Any other label that no row has is
    told on the terminal: hospitals share one params.yaml, and one of them may lack a class.
    """
    good = rows["problem"] == "" if "problem" in rows else pd.Series(True, index=rows.index)
    there = sorted(set(rows.loc[good, "label"]))
    names: dict[str, str | None] = {}
    for old, new in (labels or {}).items():
        if isinstance(new, bool):
            raise ParamsError(f"source.args.labels.{old}: {quoted(new)}")
        found = meant(old, there)
        if good.any() and len(found) != 1:
            said = f"source.args.labels.{old}: {_unknown(old, there, found)}"
            if found or isinstance(old, bool) or channel_key(str(old)) in map(channel_key, there):
                raise SetError(said)
            print(f"warning: {said}", flush=True)
        names |= dict.fromkeys(found, None if new is None else text(new))
    kept = rows[~rows["label"].isin([old for old, new in names.items() if new is None])]
    return kept.assign(label=kept["label"].replace({old: new for old, new in names.items() if new is not None}))


def _unknown(label: object, there: list[str], found: list[str]) -> str:
    hint = f"; {quoted(label)}" if isinstance(label, bool) else ""
    if found:
        return f"may be any of the labels {', '.join(map(repr, found))}; write it as the table does, in quotes"
    return f"no image has this label; there are {', '.join(map(repr, there))}{near(label, there)}{hint}"


def splits_of(rows: pd.DataFrame, path: Path) -> pd.Series:
    """The split that each row names in a column `split`: train, val, test, or none. Raises SetError naming the line."""
    if "split" not in rows:
        return pd.Series("", index=rows.index)
    said = rows["split"].str.casefold().str.replace(r"[- ]", "_", regex=True)
    if (odd := ~said.isin(list(SPLITS))).any():
        line = odd.idxmax()
        raise SetError(
            f"{path}: line {line} has the split {rows.loc[line, 'split']!r}; known are train, val, test, and nothing,"
            " where ingest is to choose"
        )
    return said.map(SPLITS)


def at_most(rows: pd.DataFrame, n: int | None, seed: int) -> pd.DataFrame:
    """Rows of at most `n` images of each class at each site, for trials: those of the first subjects in the order of a
    hash. Rows of one image share a `key`, where there is one.
    """
    if n is None:
        return rows
    images = rows.assign(key=rows["key"] if "key" in rows else range(len(rows)))
    first = images.drop_duplicates("key")
    places = [place_of(subject, f"at_most:{seed}") for subject in first["subject"]]
    kept = first.assign(order=places).sort_values("order", kind="stable").groupby(["site", "label"]).head(n)["key"]
    return rows[images["key"].isin(kept).to_numpy()]


def check_at_most(n: object) -> None:
    """Raises ParamsError for what is no number of images."""
    if n is not None and (not isinstance(n, int) or isinstance(n, bool) or n < 1):
        raise ParamsError(f"source.args.at_most: a number of images from 1 on, not {n!r}")


def once(names: Iterable[tuple[int, str]], path: Path) -> None:
    """Raises SetError naming both lines, where two rows (line, file) are of one file."""
    lines: dict[str, int] = {}
    for line, name in names:
        if name in lines:
            raise SetError(
                f"{path}: lines {lines[name]} and {line} are both of {name}; an image has one row. Keep one of them, or"
                " choose by source.args.rows or exclude"
            )
        lines[name] = line


def cases_of(path: Path, keys: Sequence[str]) -> pd.DataFrame:
    """label, and subject, site, split, sex and age where it has them, of a table of images.

    They are by the first of `keys` that is a column of it.

    Raises SetError naming the file, for two rows of one image that differ, too.
    """
    table = text_table(
        path, ["label"], f"source.args.table must name a CSV with the columns label and {' or '.join(keys)}"
    )
    if (key := next((k for k in keys if k in table.columns), None)) is None:
        raise SetError(f"{path} has none of the columns {', '.join(keys)}; it has {list(table.columns)}")
    if "split" in table:
        table["split"] = splits_of(table, path)
    table = table[
        list(dict.fromkeys([key, *(c for c in ("label", "subject", "site", "split", *PERSON) if c in table.columns)]))
    ].drop_duplicates()
    if (twice := table[key].duplicated()).any():
        raise SetError(
            f"{path}: line {twice.idxmax()} says something else of its {key} than a line before; keep one of them"
        )
    return table.set_index(key, drop=False)
