"""What tests of several files start from, and how two workers of pytest-xdist share the files."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, settings

from tests.alone import VARIABLES
from tests.kits import Authority

BUDGET_S = 30  # of the tests of one file that do not wait, together: CONTRIBUTING.md
WAITING = ("pipeline", "production", "flare")  # markers of tests that wait for other processes, the longest first

# an example takes longer beside other work
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with tests that wait come first."""
    waiting = {marker: {item.path for item in items if item.get_closest_marker(marker)} for marker in WAITING}
    items.sort(key=lambda item: [item.path not in waiting[marker] for marker in WAITING])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Whole files. The first worker starts at the first file, the others at the last: one waits, the others compute."""
    from xdist.scheduler import LoadFileScheduling

    class FromBothEnds(LoadFileScheduling):
        def _assign_work_unit(self, node):
            if node is not self.nodes[0]:
                self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
            super()._assign_work_unit(node)

    config.option.loadscopereorder = False
    return FromBothEnds(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the files that take longer than their budget."""
    seconds = Counter()
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        if isinstance(report, pytest.TestReport) and not any(marker in report.keywords for marker in WAITING):
            seconds[report.nodeid.split("::")[0]] += report.duration
    for file, taken in seconds.most_common():
        if taken > BUDGET_S:
            terminalreporter.line(f"{file} takes {taken:.0f} s; the budget is {BUDGET_S} s: CONTRIBUTING.md")


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No tracking server and no experiment of whoever runs the tests; `ingest` sees what a test has patched."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FEDSYNTH_INGEST_PROCESSES", "1")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def at_once(monkeypatch):
    """The servers here are on this machine: what they have to say of a kit comes at once."""
    monkeypatch.setattr("fedsynth.hospital.kit.ALERT_S", 0.2)
