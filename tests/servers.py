"""What the tests start beside themselves: server processes, many clients at once, a TCP proxy."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import httpx2
import pytest
from databases import HOME, SCRATCH

Json = Any


def leave_out(required: str, why: str) -> NoReturn:
    """Skip a test for what is missing here; or fail, if the environment says it is required."""
    stop = pytest.fail if os.environ.get(required) else pytest.skip
    stop(why)


def free_port() -> int:
    """One that nobody has, below those that the system takes for outgoing connections."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port


class Process:
    """A server process that can be killed and started again on the same database."""

    def __init__(self, url: str, *command: str | Path, **settings: str) -> None:
        self.port = free_port()
        self.url, self.settings = url, settings
        self.command = command or (sys.executable, HOME / "main.py")
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [*self.command, "--port", str(self.port)],
            env={**os.environ, "DATABASE_URL": self.url, **self.settings},
            cwd=SCRATCH,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        for _ in range(1200):
            with contextlib.suppress(httpx2.TransportError):
                self.client.get("/health")
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        self.process.kill()
        self.process.wait()
        logged = self.logged()
        self.client.close()
        self.log.close()
        raise AssertionError(f"the server does not start: {logged}")

    def stop(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(timeout=15)

    def logged(self) -> str:
        """What the process has written so far."""
        return os.pread(self.log.fileno(), 100_000_000, 0).decode()


@contextlib.contextmanager
def running(url: str, *command: str | Path, **settings: str) -> Iterator[Process]:
    """A server process on a database and a free port: `python main.py`, or another command."""
    process = Process(url, *command, **settings)
    try:
        yield process
    finally:
        process.client.close()
        with contextlib.suppress(ProcessLookupError):  # with the workers that it may have
            os.killpg(process.process.pid, signal.SIGKILL)
        process.process.wait()
        process.log.close()


@contextlib.contextmanager
def serving(url: str, *arguments: str, **settings: str) -> Iterator[httpx2.Client]:
    """A client of `python main.py`, which is told to stop in the end and has logged no fault."""
    with running(url, sys.executable, HOME / "main.py", *arguments, **settings) as process:
        yield process.client
        process.client.close()
        process.stop(signal.SIGTERM)
        assert "Traceback" not in process.logged(), process.logged()


# Races: many clients of a live server at once.

Call = Callable[[], httpx2.Response]


def at_once(calls: Sequence[Call]) -> list[httpx2.Response]:
    """Make the calls, each in a thread of its own, when all threads are ready; their answers."""
    barrier = threading.Barrier(len(calls))

    def wait_and_call(call: Call) -> httpx2.Response:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(wait_and_call, calls))


def sender(
    server: httpx2.Client,
    method: str,
    path: str,
    body: Json = None,
    headers: dict[str, str] | None = None,
) -> Call:
    return lambda: server.request(method, path, json=body, headers=headers)


def create(server: httpx2.Client, path: str, body: Json) -> Json:
    response = server.post(path, json=body)
    assert response.status_code == 201, response.text
    return response.json()


def create_user(server: httpx2.Client, name: str = "ann") -> Json:
    body = {"username": name, "email": f"{name}@example.com", "password": "Password1"}
    return create(server, "/users/", body)


def create_product(server: httpx2.Client, n: int, stock_quantity: int) -> Json:
    body = {"name": f"P{n}", "sku": f"P{n}", "price": 0.1, "stock_quantity": stock_quantity}
    return create(server, "/products/", body)


def create_account(server: httpx2.Client, balance: float) -> Json:
    return create(server, "/accounts/", {"user_id": 1, "balance": balance})


def create_order(server: httpx2.Client, quantity: int = 3) -> Json:
    items = [{"product_id": 1, "quantity": quantity}]
    return create(server, "/orders/", {"user_id": 1, "items": items})


def statuses(answers: Sequence[httpx2.Response]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


def details(answers: Sequence[httpx2.Response]) -> set[str]:
    return {answer.json()["detail"] for answer in answers if not answer.is_success}


def balances(server: httpx2.Client) -> list[float]:
    return [account["balance"] for account in server.get("/accounts/").json()]


# Faults

TIMEOUT = 2  # DB_POOL_TIMEOUT in these tests, in seconds
ANSWERED = TIMEOUT + 5  # within how many seconds every request is answered
STOCK = 100_000


def open_shop(client: httpx2.Client) -> None:
    """A user, and a product of which there is plenty."""
    user = {"username": "ann", "email": "ann@example.com", "password": "Password1"}
    product = {"name": "Lamp", "price": 10, "sku": "L-1", "stock_quantity": STOCK}
    assert client.post("/users/", json=user).status_code == 201
    assert client.post("/products/", json=product).status_code == 201


def order(client: httpx2.Client) -> httpx2.Response:
    return client.post("/orders/", json={"user_id": 1, "items": [{"product_id": 1, "quantity": 1}]})


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited in vain")


class Proxy:
    """A TCP proxy that can be told to cut its connections, or to keep them and go silent."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.port = free_port()
        self.flowing = threading.Event()
        self.open: list[socket.socket] = []
        self.up()

    def up(self) -> None:
        self.flowing.set()
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, args=[self.listener], daemon=True).start()

    def cut(self) -> None:
        """End all connections, and refuse new ones."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.flowing.set()
        while self.open:
            with contextlib.suppress(OSError):
                self.open.pop().shutdown(socket.SHUT_RDWR)

    def accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(self.target)
            self.open += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self.pump, args=[source, sink], daemon=True).start()

    def pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.flowing.wait()
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def assert_busy(response: httpx2.Response) -> None:
    assert response.status_code == 503, response.text
    assert int(response.headers["Retry-After"]) > 0
    assert response.headers["Content-Type"] == "application/problem+json"
