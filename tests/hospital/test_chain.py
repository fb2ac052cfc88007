"""The chain of a record: what was written is read, and a line that was changed, cut or lost is noticed."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from fedsynth.hospital.chain import Chain, ChainError, Place


@pytest.fixture
def chain(tmp_path) -> Chain:
    made = Chain(tmp_path / "record.jsonl")
    for n in range(5):
        made.add({"n": n, "said": "ü"})
    return made


def test_entries_come_back_in_their_order(chain):
    assert [entry["n"] for entry in chain.read()] == [0, 1, 2, 3, 4]


def test_nothing_yet_is_no_entry(tmp_path):
    assert Chain(tmp_path / "record.jsonl").read() == []


def lines(chain: Chain) -> list[bytes]:
    return chain.path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize(
    "harm",
    [
        lambda of: [of[0].replace(b'"n": 0', b'"n": 7'), *of[1:]],
        lambda of: [*of[:4], of[4].replace(b'"n": 4', b'"n": 7')],
        lambda of: [*of[:4], of[4].replace(b'"n": 4', b'"n": 74')],
        lambda of: of[1:],
        lambda of: of[:-1],
        lambda of: [*of[:2], *of[3:]],
        lambda of: [of[1], of[0], *of[2:]],
        lambda of: [*of, of[-1]],
        lambda of: [*of, b"{}\n"],
        lambda of: [],
    ],
)
def test_a_changed_file_is_noticed_when_it_is_read_or_added_to(chain, harm):
    chain.path.write_bytes(b"".join(harm(lines(chain))))
    with pytest.raises(ChainError, match=r"record\.jsonl"):
        chain.read()


def test_nothing_is_added_to_a_file_that_does_not_end_as_it_was_left(chain):
    for harmed in (lines(chain)[:-1], [*lines(chain), b"{}\n"], []):
        chain.path.write_bytes(b"".join(harmed))
        with pytest.raises(ChainError, match="does not end as it was left"):
            chain.add({"n": 5})


def test_half_a_line_of_a_process_that_died_counts_as_not_written(chain):
    whole, end = chain.path.read_bytes(), chain.end.read_bytes()
    chain.add({"n": 5})
    for length in (1, 30, len(lines(chain)[-1]) - 1):
        chain.path.write_bytes(whole + lines(chain)[-1][:length])
        chain.end.write_bytes(end)
        assert len(chain.read()) == 5
        chain.add({"n": 5})
        assert [entry["n"] for entry in chain.read()] == [0, 1, 2, 3, 4, 5]


def test_a_whole_line_of_a_process_that_died_before_it_marked_the_end_counts(chain):
    end = chain.end.read_bytes()
    chain.add({"n": 5})
    chain.end.write_bytes(end)
    assert len(chain.read()) == 6
    chain.add({"n": 6})
    assert [entry["n"] for entry in chain.read()] == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("which", ["path", "end"])
def test_a_lost_file_is_noticed(chain, which):
    getattr(chain, which).unlink()
    with pytest.raises(ChainError):
        chain.read()
    with pytest.raises(ChainError):
        chain.add({"n": 5})


def _write(path: Path) -> None:
    for n in range(20):
        Chain(path).add({"n": n})


def test_two_processes_at_once_lose_nothing(tmp_path):
    path = tmp_path / "record.jsonl"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write, args=(path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(Chain(path).read()) == 60


def test_what_was_written_since_is_read_from_there(chain):
    _, place = chain.follow(Place())
    assert chain.follow(place) == ([], place)
    chain.add({"n": 5})
    found, after = chain.follow(place)
    assert [entry["n"] for entry in found] == [5]
    assert after.lines == 6
    chain.path.write_bytes(b"".join(lines(chain)[:5]))
    with pytest.raises(ChainError, match="does not end as it was left"):
        chain.follow(after)
    chain.path.unlink()
    with pytest.raises(ChainError, match="does not end as it was left"):
        chain.follow(after)


@pytest.mark.parametrize("text", ["", "x y", "1 2 3", "99"])
def test_a_mark_that_cannot_be_read_is_a_lost_one(chain, text):
    chain.end.write_text(text)
    for ask in (chain.read, lambda: chain.add({"n": 5})):
        with pytest.raises(ChainError, match="does not end as it was left"):
            ask()


def test_a_process_that_dies_after_its_first_line_leaves_a_line(tmp_path, monkeypatch):
    chain, mark = Chain(tmp_path / "record.jsonl"), Chain._mark
    monkeypatch.setattr(Chain, "_mark", lambda self, size, last: None if size else mark(self, size, last))
    chain.add({"n": 0})
    monkeypatch.undo()
    assert chain.read() == [{"n": 0}]
    chain.add({"n": 1})
    assert len(chain.read()) == 2
