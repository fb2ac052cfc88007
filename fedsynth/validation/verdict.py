"""Verdict of a validation: in full for the site, and the part that may leave the hospital."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from fedsynth.data.manifest import SPLITS

SHOWN = 10  # rows of a failed expectation that a message names
WITHHELD = "withheld"  # a count that is not small itself, but another one would follow from it


@dataclass
class Failure:
    """One expectation that was not met. `rows`, `files` and `values` are of the same length where it is about
    images.
    """

    expectation: str
    severity: Literal["critical", "warning"]
    count: int
    rows: list[str] = field(default_factory=list)  # image_ids
    files: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    hint: str = ""

    def lines(self, shown: int = SHOWN) -> list[str]:
        """`image_id  file  value` for the first rows, then how many more there are."""
        columns = [column or [""] * len(self.values) for column in (self.rows, self.files, self.values)]
        texts = ["  ".join(part for part in parts if part) for parts in zip(*columns, strict=True)]
        more = len(texts) - shown
        return texts[:shown] + ([f"and {more} more"] if more > 0 else [])


@dataclass
class Verdict:
    site: str
    passed: bool
    digest: str  # of the manifest; empty where it could not be read
    images: int
    failures: list[Failure]
    warnings: list[Failure]
    counts: dict[str, dict[str, int]]  # images without a problem: label -> split -> n, of the labels in params.yaml
    checked: list[str] = field(default_factory=list)  # names of the expectations that were looked at

    def outgoing(self, min_cell: int) -> dict[str, Any]:
        """What may leave the hospital (docs/architecture.md): no row, file, value or subject, and no count below
        `min_cell`.

        `images` is the sum of the cells that are shown, not the number of rows: with the number of rows, one
        subtraction would give away the only cell that is withheld. So would the count of an expectation that no image
        meets: where a cell is withheld, no count of failures leaves. Labels are those of params.yaml alone, since an
        unknown one may be anything.
        """
        cells = [n for splits in self.counts.values() for n in splits.values()]
        shown = [n for n in cells if n >= min_cell]

        def counted(failures: list[Failure]) -> list[dict[str, Any]]:
            told = (WITHHELD if len(shown) < len(cells) else withhold(f.count, min_cell) for f in failures)
            return [{"expectation": f.expectation, "count": n} for f, n in zip(failures, told, strict=True)]

        return {
            "passed": self.passed,
            "digest": self.digest,
            "images": withhold(sum(shown), min_cell),
            "failed": counted(self.failures),
            "warnings": counted(self.warnings),
            "counts": {
                label: {split: withhold(n, min_cell) for split, n in splits.items()}
                for label, splits in self.counts.items()
            },
        }

    def message(self) -> str:
        """For the person at the site: site, expectation, rows with file and value, and what to do."""
        ended = f"failed {len(self.failures)} of {len(self.checked)} expectations" if self.failures else "passed"
        text = [
            f"{self.site}: validation {ended}, {_number(self.images, 'image')},"
            f" {_number(len(self.warnings), 'warning')}"
        ]
        for failure in [*self.failures, *self.warnings]:
            kind = "warning" if failure.severity == "warning" else "failed"
            text.append(f"  {kind}: {failure.expectation} ({failure.count})")
            text += [f"    {line}" for line in failure.lines()]
            text.append(f"    -> {failure.hint}")
        return "\n".join(text)

    def to_dict(self) -> dict[str, Any]:
        """The whole detail; it stays at the site."""
        return asdict(self)


def _number(n: int, what: str) -> str:
    return f"{n} {what}" + ("" if n == 1 else "s")


def withhold(n: int, min_cell: int) -> int | str:
    """A count as it may leave: itself, or "< 5"."""
    return n if n >= min_cell else f"< {min_cell}"


def count(rows: Any, labels: list[str]) -> dict[str, dict[str, int]]:
    """Images of each known label and split in a manifest."""
    sizes = rows.groupby(["label", "split"]).size()
    return {label: {split: int(sizes.get((label, split), 0)) for split in SPLITS} for label in labels}
