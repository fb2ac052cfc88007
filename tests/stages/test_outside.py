"""What lies outside of the graph: withdrawals and the set that is given are seen, and nothing heavy is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fedsynth.data import manifest
from fedsynth.hospital import secret
from fedsynth.hospital.policy import FILE, NoPolicy, simulated, words
from fedsynth.settings import Settings
from fedsynth.stages import outside
from fedsynth.stages.ingest import ingest
from fedsynth.stages.outside import fingerprint
from fedsynth.worth import withdrawn
from tests.sets import make_set, tiny_params
from tests.stages.test_ingest import forgets
from tests.stages.test_sample import MASK_TO_IMAGE


def test_the_fingerprint_changes_with_each_withdrawal_and_names_the_sets_alone(tmp_path):
    asked = tiny_params()
    north = ingest(asked, tmp_path / "sets", tmp_path / "state")["north"]
    one, other = north["subject"].unique()[:2]
    found = [fingerprint(asked, tmp_path / "state")]
    assert found[0] == fingerprint(asked)
    digest = secret.keyed(tmp_path / "state/north", manifest.digest(north), simulated=True)  # as its jobs tell it
    for subject in (one, other):
        forgets(tmp_path, subject)
        found.append(fingerprint(asked, tmp_path / "state"))
    assert found[1]["withdrawn"] == {"north": [digest]}
    assert len(found[2]["withdrawn"]["north"]) == 2
    assert found[1]["forgotten"] != found[2]["forgotten"]
    assert not any(name in str(found) for name in (one, other))


def test_floors_that_somebody_has_changed_are_seen_at_each_simulated_site(tmp_path):
    asked, state, other = tiny_params(), tmp_path / "state", tmp_path / "rehearsal.yaml"
    simulated.write(state, ["north", "gone"])
    assert "floors" not in fingerprint(asked, state)
    for site in ("north", "gone"):
        words.write(state / site / FILE, simulated.usual(subjects=3, images=8), "changed by hand")
    assert fingerprint(asked, state)["floors"] == {"north": {"images": [8, 10], "subjects": [3, 5]}}
    words.write(other, simulated.usual(subjects=2), "for all sites")
    assert fingerprint(asked, state, other)["floors"] == {site: {"subjects": [2, 5]} for site in ("north", "east")}


def test_the_policy_that_the_environment_names_is_seen_and_must_be_there(tmp_path, monkeypatch):
    words.write(tmp_path / "rehearsal.yaml", simulated.usual(subjects=2), "for all")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDSYNTH_POLICY", "rehearsal.yaml")
    assert '"subjects"' in outside.texts(tiny_params(), Settings.read())[withdrawn.SOURCE]
    monkeypatch.setenv("FEDSYNTH_POLICY", "lost.yaml")
    with pytest.raises(NoPolicy, match=r"lost\.yaml is not there"):
        outside.texts(tiny_params(), Settings.read())


def test_a_change_of_the_set_that_is_given_is_seen(tmp_path):
    params, seen = tiny_params(image=MASK_TO_IMAGE, sample={"given": str(tmp_path / "other")}), []
    for n in (12, 12, 14):
        make_set(tmp_path / "other", params, "other", n=n)
        seen.append(outside.fingerprint_given(params))
    assert seen[0] == seen[1] != seen[2]
    assert outside.fingerprint_given(tiny_params()) == {"fingerprint": ""}


def test_in_a_federation_the_source_s_files_are_the_sites(tmp_path, monkeypatch):
    assert outside.texts(tiny_params(), Settings.read()).keys() == {outside.GIVEN, withdrawn.SOURCE}
    monkeypatch.setenv("FEDSYNTH_FEDERATION", "production")
    monkeypatch.setenv("FEDSYNTH_KIT", str(tmp_path))
    assert outside.texts(tiny_params(), Settings.read()).keys() == {outside.GIVEN}


def test_to_look_at_phantoms_nothing_heavy_is_imported():
    """As a run does where nothing has changed."""
    script = (
        "import sys; from fedsynth.settings import Settings; from fedsynth.stages import inputs, outside;"
        " from fedsynth import params; outside.texts(params.load('params.yaml'), Settings.read());"
        " print({'pandas', 'torch', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
