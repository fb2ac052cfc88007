"""A simulated site's environment is as a hospital would write it, and the study says how much it keeps."""

from __future__ import annotations

from types import SimpleNamespace

from fedsynth.hospital.secret import SIMULATED
from fedsynth.settings import PLACE, Settings, place
from nvflare_jobs.federation.place import of_simulated
from nvflare_jobs.site.site import Site


def test_a_simulated_site_keeps_as_many_states_as_the_study_says_whatever_is_set_at_the_centre(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text("keep_runs: 7\n")
    monkeypatch.setenv("FEDSYNTH_ROOT", str(tmp_path))
    monkeypatch.setenv("FEDSYNTH_KEEP_RUNS", "2")
    centre = Settings.read()
    for name, value in of_simulated(centre, ["a", "b"]).items():
        monkeypatch.setenv(name, value)
    site = Settings.read()
    assert (site.keep_runs, site.data, site.state) == (7, centre.data, centre.state)


def test_sites_that_share_a_machine_know_their_places_and_a_hospitals_own_has_the_first(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDSYNTH_ROOT", str(tmp_path))
    monkeypatch.setenv("FEDSYNTH_PROCESSES", "2")
    monkeypatch.setenv(SIMULATED, of_simulated(Settings.read(), ["north", "east", "west"])[SIMULATED])
    places = []
    for name in ("north", "east", "west"):
        monkeypatch.setenv(PLACE, "")
        monkeypatch.setattr("nvflare_jobs.site.site.flare", SimpleNamespace(init=list, get_site_name=lambda n=name: n))
        Site("train")
        places.append(place())
    assert places == [0, 2, 4]
    monkeypatch.setenv(PLACE, "")
    monkeypatch.delenv(SIMULATED)
    Site("train")
    assert place() == 0
