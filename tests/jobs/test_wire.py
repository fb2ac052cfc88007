"""What is counted of the messages between a server and its sites, without FLARE's processes."""

from __future__ import annotations

from types import SimpleNamespace

import msgpack
from nvflare.fuel.f3.cellnet.core_cell import CoreCell

from nvflare_jobs.server.traffic import Wire

FRAME = 16  # bytes of a frame's prefix


def watched():
    """A connection manager that carries nothing, and what counts at it."""
    passed = []
    receiver = SimpleNamespace(process_message=lambda *of: passed.append(("received", of[-1].payload)))
    manager = SimpleNamespace(
        receivers={CoreCell.APP_ID: receiver}, send_message=lambda *of: passed.append(("sent", of[-1]))
    )
    core = SimpleNamespace(communicator=SimpleNamespace(conn_manager=manager))
    wire = Wire()
    wire.watch(SimpleNamespace(get_cell=lambda: SimpleNamespace(core_cell=core)))
    return wire, manager, passed


def headers(topic: str = "download", stream: int = 1, **more: str) -> dict:
    return {"sm__tp": topic, "sm__id": stream, **{f"cn__{name}": value for name, value in more.items()}}


def arrive(manager, payload: bytes, **of) -> int:
    made = headers(origin="north.job", **of)
    manager.receivers[CoreCell.APP_ID].process_message(None, None, 2, SimpleNamespace(headers=made, payload=payload))
    return FRAME + len(msgpack.packb(made)) + len(payload)


def leave(manager, payload: bytes, site: str = "north", **of) -> int:
    made = headers(destination=f"{site}.job", **of)
    manager.send_message(None, 2, made, payload)
    return FRAME + len(msgpack.packb(made)) + len(payload)


def test_each_message_counts_with_its_headers_for_the_site_that_it_comes_from_or_goes_to_and_passes_on_unchanged():
    wire, manager, passed = watched()
    up, down, east = arrive(manager, b"x" * 500), leave(manager, b"y" * 300), leave(manager, b"z", site="east")
    assert passed == [("received", b"x" * 500), ("sent", b"y" * 300), ("sent", b"z")]
    assert wire.take() == {
        "east": {"bytes_up": 0, "bytes_down": east, "bytes_asking": 0},
        "north": {"bytes_up": up, "bytes_down": down, "bytes_asking": 0},
    }
    assert wire.take() == {}


def test_questions_for_work_that_are_answered_with_none_are_counted_apart_with_their_receipts():
    wire, manager, _ = watched()
    asking = arrive(manager, b"?", topic="server_command:get_task", stream=7)
    asking += leave(manager, b"..__try_again__..", topic="server_command:get_task", stream=8)
    asking += leave(manager, b"", topic="", stream=7) + arrive(manager, b"", topic="", stream=8)
    task = leave(manager, b"a task", topic="server_command:get_task", stream=9)
    assert wire.take()["north"] == {"bytes_up": 0, "bytes_down": task, "bytes_asking": asking}
