"""uvicorn's HTTP/1.1, with limits on a head that is not whole yet: in bytes, and in time."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from kit.problems import problem

HEAD_LIMIT = 64 * 1024  # bytes
HEAD_TIME = 30  # seconds
HEAD_TOO_LARGE = f"The request's path and headers are over {HEAD_LIMIT} bytes"
CLOSE = {"Connection": "close"}


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP, with limits on a head that is not whole yet: in bytes, and in time."""

    unused = 0  # bytes that have come, of which nothing has come yet
    deadline: asyncio.TimerHandle | None = None
    running: RequestResponseCycle | None = None
    is_last = False  # whether what comes after this request is none of our protocols

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.access_log = False  # the app logs less of what was sent, and more else: see `logs`
        self.deadline = self.loop.call_later(HEAD_TIME, self.give_up)

    def data_received(self, data: bytes) -> None:
        if self.is_last:
            return
        self.unused += len(data)
        super().data_received(data)
        if self.unused > HEAD_LIMIT:
            self.refuse(431, HEAD_TOO_LARGE)
        elif self.unused and not self.deadline:
            self.deadline = self.loop.call_later(HEAD_TIME, self.give_up)

    def on_headers_complete(self) -> None:
        self.go_on()
        super().on_headers_complete()
        if not self.parser.should_upgrade():
            self.headers = []  # for the trailers, which are no headers (RFC 9110, section 6.5.1)
        elif not self._should_upgrade():  # httptools gives up here, where HTTP/2 might begin
            self.is_last, self.cycle.keep_alive = True, False

    def on_body(self, body: bytes) -> None:
        self.go_on()
        super().on_body(body)

    def on_message_complete(self) -> None:  # after the trailers that a body may have
        self.go_on()
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.running = cycle
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        self.go_on()
        if self.running:  # which uvicorn does not tell if others are waiting behind it
            self.running.disconnected = True
            self.running.message_event.set()
        super().connection_lost(exc)

    def go_on(self) -> None:
        self.unused = 0
        if self.deadline:
            self.deadline.cancel()
            self.deadline = None

    def give_up(self) -> None:
        if not self.is_answering():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self.refuse(400, "This is not HTTP")

    def refuse(self, status: int, detail: str) -> None:
        if not self.is_answering() and not self.transport.is_closing():
            answer = problem(status, detail, headers=CLOSE)
            headers = b"".join(b"%b: %b\r\n" % header for header in answer.raw_headers)
            self.transport.write(STATUS_LINE[status] + headers + b"\r\n" + answer.body)
        self.transport.close()

    def is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete


def install() -> None:
    """Have every server of this process speak it.

    uvicorn has chosen its class when it imports an app, so its own one makes ours instead: with
    `uvicorn main:app`, `fastapi run` and any number of workers too.
    """
    HttpToolsProtocol.__new__ = (  # type: ignore[method-assign]
        lambda cls, **options: object.__new__(LimitedProtocol)  # type: ignore[assignment]
    )
