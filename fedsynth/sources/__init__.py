"""Where images come from. A new source is one file here and one block of params.yaml.

A source names its sites and yields each site's records, best unit by unit (`units`), so that `ingest` reads in several
processes and reads again only what has changed. A file that cannot be read is a record with a `problem`: one
bad file must not hide the next, and validation names them all. The constructor may ask by name for `image`
(params.Image) and `seed`.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fedsynth.data.manifest import SetError
from fedsynth.data.record import Record
from fedsynth.settings import project

if TYPE_CHECKING:
    import pandas as pd

LISTED = ["site", "subject", "label", "split"]

__all__ = ["Record", "Source", "path_of"]


class Source(ABC):
    # arguments that are no more, and what to write instead
    GONE: ClassVar[dict[str, str]] = {
        "missing_mask": "an image without a mask is one whose mask is unknown now; where nothing is marked in such"
        " images say image.unmarked: healthy"
    }

    @abstractmethod
    def sites(self) -> list[str]:
        """Names of the sites, in a fixed order."""

    def look(self) -> None:
        """Check the folder and the table that say which images there are, without opening an image.

        Raises SetError for what is missing or wrong there, and for a partition that cannot be made of it.
        """
        self.sites()

    def paths(self) -> set[Path]:
        """Absolute paths of the files that the records are read from; empty where there are none."""
        return set()

    def fingerprint(self) -> str:
        """Changes whenever the records may have changed though params.yaml has not: of the files that they are read
        from, say.
        """
        return ""

    def listed(self) -> pd.DataFrame:
        """What is known of the images before one is read: a row for each, or for each volume that slices are cut from,
        with site, subject, label and split; what has a problem is left out. No row where nothing is known.
        """
        import pandas as pd

        return pd.DataFrame(columns=LISTED)

    def records(self, site: str) -> Iterator[Record]:
        """The site's images, in a fixed order; the same arguments and seed give the same bytes.

        A source gives its units, or overrides this and is read in one process.
        """
        units = self.units(site)
        if units is None:
            raise NotImplementedError(f"{type(self).__name__} must have `units` or `records`")
        for unit in units:
            yield from self.of_unit(site, unit)

    def units(self, site: str) -> Sequence[Any] | None:
        """What the site's records are read from, in their order, each by itself: rows of a table, numbers. None where
        they can only be read one after the other; `ingest` then has one process.
        """
        return None

    def of_unit(self, site: str, unit: Any) -> Iterator[Record]:
        """The records of one of `units`, one subject's, whichever were read before."""
        raise NotImplementedError

    def stamp(self, site: str, unit: Any) -> str:
        """Changes whenever the records of a unit may have changed though params.yaml has not, and with nothing else: a
        hash of its row, and of its files' sizes and times of change. Empty where that is not known.
        """
        return ""


def path_of(text: str, argument: str, what: str) -> Path:
    """A path of params.yaml, with `~` and `${NAMES}` of environment variables filled in; `${FEDSYNTH_ROOT}` is the
    project's folder, whether it is set or not. Raises SetError where another one is not set.
    """
    filled = os.path.expandvars(text.replace("${FEDSYNTH_ROOT}", str(project())))
    if "$" in filled:
        raise SetError(f"source.args.{argument} {text!r}: set the environment variable that it names to {what}")
    return Path(filled).expanduser()
