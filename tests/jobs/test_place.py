"""A simulated site's environment is as a hospital would write it, and the study says how much it keeps."""

from __future__ import annotations

from fedsynth.settings import Settings
from nvflare_jobs.federation.place import of_simulated


def test_a_simulated_site_keeps_as_many_states_as_the_study_says_whatever_is_set_at_the_centre(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text("keep_runs: 7\n")
    monkeypatch.setenv("FEDSYNTH_ROOT", str(tmp_path))
    monkeypatch.setenv("FEDSYNTH_KEEP_RUNS", "2")
    centre = Settings.read()
    for name, value in of_simulated(centre, ["a", "b"]).items():
        monkeypatch.setenv(name, value)
    site = Settings.read()
    assert (site.keep_runs, site.data, site.state) == (7, centre.data, centre.state)
