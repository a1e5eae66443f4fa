"""PostgreSQL with a streaming standby: reading from it, and going on with it as the primary.

The servers are made here, from the programs of the machine's own PostgreSQL, and TEST_DATABASE_URLS
does not matter. Where there are none these tests are skipped, or fail if REPLICA_REQUIRED is set.
"""

import contextlib
import functools
import os
import pwd
import shutil
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from conftest import KEY, Json, log_in
from servers import (
    ANSWERED,
    STOCK,
    TIMEOUT,
    assert_busy,
    create_user,
    free_port,
    leave_out,
    open_shop,
    order,
    serving,
    wait_for,
)

pytestmark = [pytest.mark.system, pytest.mark.needs("orders")]

PROGRAMS = ("initdb", "pg_ctl", "pg_basebackup")
SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = '{folder}'
shared_buffers = 16MB
wal_retrieve_retry_interval = 200ms
"""


@functools.cache
def programs() -> dict[str, str]:
    """Where PostgreSQL's programs are: on the PATH or, the newest first, where Debian has them."""
    versions = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    newest_first = sorted(versions, key=lambda folder: int(folder.parent.name), reverse=True)
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, newest_first)])
    return {name: found for name in PROGRAMS if (found := shutil.which(name, path=path))}


def user_options() -> dict[str, Any]:
    """Who runs the servers: PostgreSQL refuses to be run by root."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


class Server:
    """A PostgreSQL server in a folder and on a port of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.data, self.log = folder, folder / name, folder / f"{name}.log"
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"postgresql://postgres@{self.host}/shop"

    def run(self, name: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [programs()[name], *arguments],
            cwd=self.folder,
            env={"LC_ALL": "C", "PATH": os.environ.get("PATH", "")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            **user_options(),
        )
        logged = self.log.read_text() if self.log.exists() else ""
        assert done.returncode == 0, done.stdout + done.stderr + logged

    def control(self, command: str, *arguments: str | Path) -> None:
        self.run("pg_ctl", command, "-D", self.data, *arguments)

    def configure(self, lines: str) -> None:
        """Add settings, of which the last one counts."""
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(f"{lines}\n")

    def start(self) -> None:
        self.control("start", "-w", "-l", self.log)

    def kill(self) -> None:
        """End it as a crash would, without a word to its clients or its standby."""
        self.control("stop", "-m", "immediate")

    def end(self) -> None:
        if (self.data / "postmaster.pid").exists():
            self.kill()

    def ask(self, query: str, database: str = "shop") -> list[tuple[Any, ...]]:
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", dbname=database, autocommit=True
        ) as connection:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []


@contextlib.contextmanager
def replicated() -> Iterator[tuple[Server, Server]]:
    """A primary with an empty database, and its standby; stopped and deleted in the end."""
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="cornershop_replica_"))
        stack.callback(shutil.rmtree, folder)
        if who := user_options():
            os.chown(folder, who["user"], who["group"])
        primary, standby = Server(folder, "primary"), Server(folder, "standby")
        stack.callback(primary.end)
        stack.callback(standby.end)
        options = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale")
        primary.run("initdb", "-D", primary.data, *options)
        primary.configure(SETTINGS.format(folder=folder) + f"port = {primary.port}")
        primary.start()
        primary.ask("CREATE DATABASE shop", "postgres")
        source = ("-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres")
        standby.run("pg_basebackup", "-D", standby.data, "-R", "-c", "fast", *source)
        standby.configure(f"port = {standby.port}")
        standby.start()
        yield primary, standby


def in_sqlalchemys_form(*servers: Server) -> str:
    return f"postgresql://postgres@/shop?{'&'.join(f'host={server.host}' for server in servers)}&"


def in_libpqs_form(*servers: Server) -> str:
    return f"postgresql://postgres@{','.join(server.host for server in servers)}/shop?"


@pytest.fixture(scope="module", autouse=True)
def _postgresql() -> None:
    try:
        user_options()
        missing = [name for name in PROGRAMS if name not in programs()]
    except KeyError:
        missing = ["a user postgres, to be used by root"]
    if missing:
        leave_out(
            "REPLICA_REQUIRED",
            f"No PostgreSQL to make servers with: {', '.join(missing)} is missing",
        )


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Server, Server]]:
    with replicated() as servers:
        yield servers


@contextlib.contextmanager
def reading_from_the_standby(
    pair: tuple[Server, Server], **settings: str
) -> Iterator[httpx2.Client]:
    """The service, with its database made anew, once that has come to the standby."""
    primary, standby = pair
    primary.ask("DROP DATABASE IF EXISTS shop WITH (FORCE)", "postgres")
    primary.ask("CREATE DATABASE shop", "postgres")
    with serving(primary.url, **{"DATABASE_READ_URL": standby.url, **settings}) as client:
        wait_for(lambda: client.get("/health/db").status_code == 200)
        yield client


@contextlib.contextmanager
def paused(standby: Server) -> Iterator[None]:
    """Let the standby receive what is written, and not show it until the end of the block."""
    standby.ask("SELECT pg_wal_replay_pause()")
    try:
        wait_for(lambda: standby.ask("SELECT pg_get_wal_replay_pause_state()") == [("paused",)])
        yield
    finally:
        standby.ask("SELECT pg_wal_replay_resume()")


ITEM = {"title": "Kite", "price": 1}


def test_writes_go_to_the_primary_and_reads_to_the_standby(pair: tuple[Server, Server]) -> None:
    primary, standby = pair
    with reading_from_the_standby(pair) as client:
        with paused(standby):
            assert client.post("/items/", json=ITEM).status_code == 201
            assert client.patch("/items/1", json={"price": 2}).status_code == 200
            assert client.get("/items/1").status_code == 404
            assert client.get("/items/").json() == []
            assert primary.ask("SELECT id FROM item") == [(1,)]
        wait_for(lambda: client.get("/items/1").status_code == 200)
        assert client.get("/items/1").json()["price"] == 2


def test_a_server_that_only_reads_is_found_among_several(pair: tuple[Server, Server]) -> None:
    primary, standby = pair
    url = f"{in_libpqs_form(primary, standby)}target_session_attrs=read-only"
    with reading_from_the_standby(pair, DATABASE_READ_URL=url) as client:
        with paused(standby):
            assert client.post("/items/", json=ITEM).status_code == 201
            assert client.get("/items/1").status_code == 404
        wait_for(lambda: client.get("/items/1").status_code == 200)


def test_orders_are_placed_and_repeated_while_the_standby_is_behind(
    pair: tuple[Server, Server],
) -> None:
    _, standby = pair
    with reading_from_the_standby(pair) as client:
        with paused(standby):
            open_shop(client)
            first, again = [place(client, "key") for _ in range(2)]
            assert (first.status_code, again.status_code) == (201, 201)
            assert first.json() == again.json()
            assert client.get("/products/1").status_code == 404
        wait_for(lambda: client.get("/orders/1").status_code == 200)
        assert client.get("/products/1").json()["stock_quantity"] == STOCK - 1


def test_a_new_user_is_known_before_the_standby_has_heard_of_them(
    pair: tuple[Server, Server],
) -> None:
    _, standby = pair
    new = {"username": "ann", "email": "ann@example.com", "password": "Password1"}
    with reading_from_the_standby(pair, SECRET_KEY=KEY) as client:
        with paused(standby):
            assert client.post("/users/", json=new).status_code == 201
            client.headers |= log_in(client, "ann", "Password1")
            assert client.get("/items/").status_code == 200
            assert client.patch("/users/1", json={"bio": "Hello"}).status_code == 200
            assert client.patch("/users/1", json={"bio": 1}).status_code == 422
            body = {"password": "Password2", "current_password": "Password1"}
            assert client.patch("/users/1", json=body).status_code == 200
            assert client.get("/items/").status_code == 401
        wait_for(lambda: client.get("/health/db").status_code == 200)


def test_without_the_standby_writing_goes_on(pair: tuple[Server, Server]) -> None:
    _, standby = pair
    with reading_from_the_standby(pair, DB_POOL_TIMEOUT=str(TIMEOUT)) as client:
        open_shop(client)
        client.timeout = httpx2.Timeout(ANSWERED)
        standby.kill()
        try:
            assert_busy(client.get("/products/1"))
            assert_busy(client.get("/health/db"))
            assert order(client).status_code == 201
            another = {"username": "bob", "email": "bob@example.com", "password": "Password1"}
            assert client.post("/users/", json=another).status_code == 201
        finally:
            standby.start()
        assert client.get("/health/db").status_code == 200
        wait_for(lambda: client.get("/orders/1").status_code == 200)


def test_without_the_standby_reads_go_to_the_primary_where_that_is_preferred(
    pair: tuple[Server, Server],
) -> None:
    primary, standby = pair
    url = f"{in_libpqs_form(standby, primary)}target_session_attrs=prefer-standby"
    with reading_from_the_standby(pair, DATABASE_READ_URL=url) as client:
        open_shop(client)
        wait_for(lambda: client.get("/products/1").status_code == 200)
        standby.kill()
        try:
            assert order(client).status_code == 201
            assert client.get("/orders/1").status_code == 200
        finally:
            standby.start()


def test_without_the_primary_reading_goes_on(pair: tuple[Server, Server]) -> None:
    primary, _ = pair
    with reading_from_the_standby(pair, DB_POOL_TIMEOUT=str(TIMEOUT)) as client:
        open_shop(client)
        wait_for(lambda: client.get("/products/1").status_code == 200)
        client.timeout = httpx2.Timeout(ANSWERED)
        primary.kill()
        try:
            assert client.get("/products/1").status_code == 200
            assert client.get("/health/db").status_code == 200
            assert_busy(order(client))
        finally:
            primary.start()
        assert order(client).status_code == 201


def test_who_has_just_signed_up_can_log_in_and_write_while_the_standby_is_behind(
    pair: tuple[Server, Server],
) -> None:
    _, standby = pair
    with reading_from_the_standby(pair, SECRET_KEY=KEY) as client:
        with paused(standby):
            create_user(client)
            ann = log_in(client, "ann")
            post = {"title": "First", "content": "Text.", "author_id": 1}
            assert client.post("/posts/", json=post, headers=ann).status_code == 201
        wait_for(lambda: client.get("/users/me", headers=ann).status_code == 200)
        wait_for(lambda: client.get("/posts/1", headers=ann).status_code == 200)


# Failover


def place(client: httpx2.Client, key: str) -> httpx2.Response:
    body = {"user_id": 1, "items": [{"product_id": 1, "quantity": 1}]}
    return client.post("/orders/", json=body, headers={"Idempotency-Key": key})


class Customers:
    """Who place orders, each again with its key until it is acknowledged, and one who only reads.

    Their requests and answers are noted; whether these are as they should be is for the test.
    """

    def __init__(self, client: httpx2.Client) -> None:
        self.client, self.leaving = client, threading.Event()
        self.orders: dict[str, Json] = {}  # as they were acknowledged, by their keys
        self.moments: list[float] = []  # when that was
        self.others: list[httpx2.Response] = []  # other answers than an order or a product
        self.reads = 0

    def keep_ordering(self) -> None:
        while not self.leaving.is_set():
            key, until = str(uuid.uuid4()), time.monotonic() + 60
            while (answer := place(self.client, key)).status_code != 201:
                self.others.append(answer)
                assert time.monotonic() < until, answer.text
                time.sleep(0.1)
            self.moments.append(time.monotonic())
            self.orders[key] = answer.json()

    def keep_reading(self) -> None:
        while not self.leaving.is_set():
            answer = self.client.get("/products/1")
            if answer.status_code == 200:
                self.reads += 1
            else:
                self.others.append(answer)
            time.sleep(0.1)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Until the end of the block, and then until every order is acknowledged."""
        with ThreadPoolExecutor(5) as threads:
            work = [threads.submit(self.keep_ordering) for _ in range(4)]
            work.append(threads.submit(self.keep_reading))
            try:
                yield
            finally:
                self.leaving.set()
        for done in work:
            done.result()


@pytest.mark.parametrize("form", [in_sqlalchemys_form, in_libpqs_form])
def test_a_failover_loses_and_repeats_no_acknowledged_order(
    form: Callable[..., str], record_property: Callable[[str, object], None]
) -> None:
    with replicated() as (primary, standby):
        primary.configure("synchronous_standby_names = '*'")  # and the standby waits for none
        primary.control("reload")
        state = "SELECT sync_state FROM pg_stat_replication"
        wait_for(lambda: primary.ask(state) == [("sync",)])
        url = f"{form(primary, standby)}target_session_attrs=read-write"
        with serving(url, DB_POOL_TIMEOUT=str(TIMEOUT)) as client:
            open_shop(client)
            client.timeout = httpx2.Timeout(ANSWERED)
            customers = Customers(client)
            with customers.at_work():
                time.sleep(2)
                wait_for(lambda: len(customers.moments) >= 20 and customers.reads > 0)
                primary.kill()
                acknowledged = len(customers.moments)
                time.sleep(1)
                standby.control("promote", "-w")
                wait_for(lambda: len(customers.moments) >= acknowledged + 20)
                time.sleep(2)
            away = max(later - moment for moment, later in pairwise(sorted(customers.moments)))
            record_property("seconds without service", round(away, 2))
            print(f"without service for {away:.2f} s")
            for answer in customers.others:
                assert_busy(answer)
            told = [(row["id"], row["order_number"]) for row in customers.orders.values()]
            assert standby.ask('SELECT id, order_number FROM "order" ORDER BY id') == sorted(told)
            lines = standby.ask("SELECT count(*), sum(quantity) FROM order_line")
            assert lines == [(len(told), len(told))]
            assert client.get("/products/1").json()["stock_quantity"] == STOCK - len(told)
            with client.stream("GET", "/notifications/events") as events:
                assert events.status_code == 200
