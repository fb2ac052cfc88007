"""Counts the bytes of every message between server and sites."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from typing import Any

import msgpack
from nvflare.apis.fl_constant import ServerCommandNames
from nvflare.apis.server_engine_spec import ServerEngineSpec
from nvflare.fuel.f3.cellnet.core_cell import CoreCell
from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey
from nvflare.fuel.f3.cellnet.fqcn import FQCN
from nvflare.fuel.f3.message import MessageReceiver
from nvflare.fuel.f3.sfm.prefix import PREFIX_LEN
from nvflare.fuel.f3.streaming.stream_const import StreamHeaderKey
from nvflare.private.defs import SpecialTaskName

UP, DOWN, ASKING = "bytes_up", "bytes_down", "bytes_asking"


class Wire(MessageReceiver):
    """Counts bytes by site since the last `take`: `bytes_up` to the server, `bytes_down` from it, and `bytes_asking`.

    The size of a message is that of its encoded frame: prefix, headers and payload, including what FLARE adds for
    itself (parts of a stream, receipts, requests for the next part), without TLS and TCP. Sites poll for tasks while
    they wait for others. These requests and the replies without a task depend on time, not on what is exchanged;
    `bytes_asking` counts them apart, in both directions.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._asked: set[Any] = set()  # streams of task requests and of replies without a task

    def watch(self, engine: ServerEngineSpec) -> None:
        """Start counting what the server of this engine sends and receives."""
        manager = engine.get_cell().core_cell.communicator.conn_manager
        self._receiver, self._send = manager.receivers[CoreCell.APP_ID], manager.send_message
        manager.receivers[CoreCell.APP_ID], manager.send_message = self, self.send_message

    def take(self) -> dict[str, dict[str, int]]:
        """Return the counts and reset them.

        For instance {"north": {"bytes_up": 1200, "bytes_down": 1300, "bytes_asking": 400}, ...}.
        """
        with self._lock:
            counts, self._counts = self._counts, defaultdict(Counter)
            self._asked = set()
        return {site: {kind: of[kind] for kind in (UP, DOWN, ASKING)} for site, of in sorted(counts.items())}

    def process_message(self, endpoint: Any, connection: Any, app_id: int, message: Any) -> None:
        self._count(UP, message.headers, MessageHeaderKey.ORIGIN, message.payload)
        self._receiver.process_message(endpoint, connection, app_id, message)

    def send_message(self, endpoint: Any, app_id: int, headers: dict[str, Any] | None, payload: Any) -> None:
        self._count(DOWN, headers, MessageHeaderKey.DESTINATION, payload)
        self._send(endpoint, app_id, headers, payload)

    def _count(self, way: str, headers: dict[str, Any] | None, whose: str, payload: Any) -> None:
        headers, parts = headers or {}, payload if isinstance(payload, list) else [payload or b""]
        site = FQCN.split(headers.get(whose, "") or "?")[0]
        size = PREFIX_LEN + len(msgpack.packb(headers)) + sum(map(len, parts))
        with self._lock:
            self._counts[site][ASKING if self._asks(site, way, headers, parts) else way] += size

    def _asks(self, site: str, way: str, headers: dict[str, Any], parts: list[Any]) -> bool:
        stream = site, headers.get(StreamHeaderKey.STREAM_ID)
        about = str(headers.get(StreamHeaderKey.TOPIC, "")).endswith(ServerCommandNames.GET_TASK)
        if about and (way == UP or any(SpecialTaskName.TRY_AGAIN.encode() in bytes(part) for part in parts)):
            self._asked.add(stream)
        return stream in self._asked
