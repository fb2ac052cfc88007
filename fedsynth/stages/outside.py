"""What lies outside of DVC's graph: the source's files, withdrawals, floors of policies, the images of `sample.given`.

The stage `source` writes fingerprints of it, on which other stages depend. Nothing heavy is imported here, because a
run looks at them even where nothing has changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedsynth.data import manifest, outputs
from fedsynth.hospital import withdrawals
from fedsynth.hospital.policy import FILE, simulated
from fedsynth.params import Params, names
from fedsynth.settings import Settings
from fedsynth.worth import withdrawn

GIVEN = Path("data") / "given.json"


def texts(params: Params, settings: Settings) -> dict[Path, str]:
    """Return {path: content} of the files of fingerprints that can be computed here.

    In a federation that of the source cannot: its files are at the sites, which the stage `source` asks.
    """
    found = {GIVEN: outputs.text(fingerprint_given(params))}
    if settings.simulation:
        found[withdrawn.SOURCE] = outputs.text(fingerprint(params, settings.state, settings.policy))
    return found


def fingerprint(params: Params, state: Path | None = None, policy: Path | None = None) -> dict[str, Any]:
    """Return the fingerprint of the source's files; DVC runs the stage again when it changes.

    With `state`, the folder of all sites' states, and where patients have withdrawn: `withdrawn`, site -> digests of
    its earlier sets, and `forgotten`, site -> what changes with each withdrawal. Where somebody has changed floors in
    simulated hospitals' policies: `floors`. `policy`: one file for all sites, default: each has its own in its state.
    """
    source = params.source.build(image=params.image.sourced, seed=params.seed)
    found: dict[str, Any] = {"source": params.source.class_path, "fingerprint": source.fingerprint()}
    own = {site: state / key for site, key in names.keys(source.sites()).items()} if state else {}
    if gone := {site: told for site, path in own.items() if (told := withdrawals.told(path, simulated=True))}:
        found["withdrawn"] = gone
    if forgotten := {site: stamp for site, path in own.items() if (stamp := withdrawals.stamp(path))}:
        found["forgotten"] = forgotten
    if floors := {site: said for site, path in own.items() if (said := simulated.changed(path / FILE, policy))}:
        found["floors"] = floors
    return found


def fingerprint_given(params: Params) -> dict[str, str]:
    """Return the fingerprint of the set named by `sample.given`, at the centre.

    DVC draws the synthetic sets again when it changes.
    """
    named = params.sample.given
    if named is None:
        return {"fingerprint": ""}
    if isinstance(named, str):
        return {"fingerprint": manifest.digest(manifest.read(Path(named)))}
    return {"fingerprint": named.build(image=params.image.sourced, seed=params.seed).fingerprint()}
