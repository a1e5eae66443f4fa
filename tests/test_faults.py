"""Faults: killed processes, lost and silent databases, locks held elsewhere, slow clients.

What is told to a client is stored; what cannot be done is a 503, in time; and when the fault
is over, the next request works. Every client here gives up a little after the service should
have answered, so an answer that comes too late fails the test.
"""

import contextlib
import functools
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa
from conftest import Json, another_database, pages
from databases import SERVERS, end_all_others
from servers import (
    ANSWERED,
    STOCK,
    TIMEOUT,
    Call,
    Process,
    Proxy,
    assert_busy,
    at_once,
    open_shop,
    order,
    running,
    serving,
    statuses,
    wait_for,
)

pytestmark = [pytest.mark.every_database, pytest.mark.system, pytest.mark.needs("orders")]


@contextlib.contextmanager
def order_traffic(client: httpx2.Client) -> Iterator[list[httpx2.Response]]:
    """Eight clients that place orders until the end of the block; all answers they got."""
    answers: list[httpx2.Response] = []
    stop = threading.Event()

    def keep_ordering() -> None:
        while not stop.is_set():
            with contextlib.suppress(httpx2.TransportError):
                answers.append(order(client))

    with ThreadPoolExecutor(8) as threads:
        for _ in range(8):
            threads.submit(keep_ordering)
        try:
            yield answers
        finally:
            stop.set()


def assert_nothing_acknowledged_is_lost(
    client: httpx2.Client, answers: list[httpx2.Response]
) -> None:
    """Every order that was answered 201 is there, and the stock agrees with the orders there."""
    stored: dict[int, Json] = {}
    for response in pages(client, "/orders/?limit=100"):
        stored |= {row["id"]: row for row in response.json()}
    for answer in answers:
        if answer.status_code == 201:
            assert stored[answer.json()["id"]]["order_number"] == answer.json()["order_number"]
    assert client.get("/products/1").json()["stock_quantity"] == STOCK - len(stored)


def test_a_killed_process_loses_no_acknowledged_order(own_database: str) -> None:
    with running(own_database) as shop:
        open_shop(shop.client)
        with order_traffic(shop.client) as answers:
            wait_for(lambda: len(answers) >= 50)
            shop.stop(signal.SIGKILL)
        assert {answer.status_code for answer in answers} == {201}
        shop.start()
        assert_nothing_acknowledged_is_lost(shop.client, answers)
        assert order(shop.client).status_code == 201
    if own_database.startswith("sqlite"):
        with sqlite3.connect(sa.make_url(own_database).database or "") as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_process_told_to_stop_answers_what_it_accepted(own_database: str) -> None:
    with running(own_database) as shop:
        open_shop(shop.client)
        with order_traffic(shop.client) as answers:
            wait_for(lambda: len(answers) >= 50)
            shop.stop(signal.SIGTERM)
        assert {answer.status_code for answer in answers} == {201}
        shop.start()
        assert_nothing_acknowledged_is_lost(shop.client, answers)
        stored = STOCK - shop.client.get("/products/1").json()["stock_quantity"]
        assert stored == len(answers)


# A database that goes away: a proxy between the service and the database's server.


def assert_alive(shop: Process) -> None:
    """The process answers at once, whatever its database does."""
    assert shop.client.get("/health", timeout=1.5).status_code == 200


def test_an_unreachable_database_is_503_until_it_is_back(
    behind_proxy: tuple[Process, Proxy],
) -> None:
    shop, proxy = behind_proxy
    for _ in range(2):
        proxy.cut()
        assert_busy(order(shop.client))
        assert_busy(shop.client.get("/products/1"))
        assert_busy(shop.client.get("/health/db"))
        assert_alive(shop)
        proxy.up()
        assert order(shop.client).status_code == 201
        assert shop.client.get("/products/1").status_code == 200
        assert shop.client.get("/health/db").status_code == 200


def test_a_silent_database_is_503_in_time_and_holds_nobody_afterwards(
    behind_proxy: tuple[Process, Proxy],
) -> None:
    shop, proxy = behind_proxy
    before = shop.client.get("/products/1").json()["stock_quantity"]
    proxy.flowing.clear()
    calls: list[Callable[[], httpx2.Response]] = [
        lambda: order(shop.client),
        lambda: shop.client.get("/products/1"),
        lambda: shop.client.get("/health/db"),
    ]
    with ThreadPoolExecutor(12) as threads:
        waiting = [threads.submit(call) for call in calls * 4]
        assert_alive(shop)
        for answer in waiting:
            assert_busy(answer.result())
        assert_alive(shop)
    proxy.flowing.set()
    for _ in range(20):
        assert shop.client.get("/products/1").status_code == 200
    assert shop.client.get("/products/1").json()["stock_quantity"] == before
    assert order(shop.client).status_code == 201


def test_connections_that_the_database_ends_lose_nothing(server_url: str, tmp_path: Path) -> None:
    url = another_database(server_url, tmp_path, "cut")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with running(url) as shop, engine.connect() as connection:
        open_shop(shop.client)
        with order_traffic(shop.client) as answers:
            for _ in range(10):
                enough = len(answers) + 20
                end_all_others(connection)
                wait_for(lambda enough=enough: len(answers) >= enough)  # type: ignore[misc]
        assert {answer.status_code for answer in answers} <= {201, 503}
        assert_nothing_acknowledged_is_lost(shop.client, answers)
        end_all_others(connection)
        assert shop.client.get("/products/1").status_code == 200
        end_all_others(connection)
        assert order(shop.client).status_code == 201


SLOW_COMMIT = """
CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql
AS 'BEGIN IF NEW.title = ''slow'' THEN PERFORM pg_sleep(8); END IF; RETURN NEW; END';
CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON item DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION dawdle();
"""


@pytest.mark.parametrize("url", [url for url in SERVERS if url.startswith("postgresql")])
def test_a_commit_without_an_answer_says_that_it_may_be_stored(url: str, tmp_path: Path) -> None:
    url = another_database(url, tmp_path, "slow")
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with serving(url, DB_POOL_TIMEOUT="1") as client:
        with engine.begin() as connection:
            connection.exec_driver_sql(SLOW_COMMIT)
        response = client.post("/items/", json={"title": "slow", "price": 1}, timeout=6)
        assert_busy(response)
        assert "whether this was stored" in response.json()["detail"]
        assert client.post("/items/", json={"title": "quick", "price": 1}).status_code == 201


def test_a_deadlock_is_tried_again_unseen(server_url: str, tmp_path: Path) -> None:
    url = another_database(server_url, tmp_path, "deadlock")
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    lock = sa.text("SELECT id FROM product WHERE id = :id FOR UPDATE")
    with serving(url) as client, ThreadPoolExecutor(1) as thread:
        open_shop(client)
        product = {"name": "Kite", "price": 10, "sku": "K-1", "stock_quantity": STOCK}
        assert client.post("/products/", json=product).status_code == 201
        both = [{"product_id": 1, "quantity": 1}, {"product_id": 2, "quantity": 1}]
        with engine.connect() as connection:
            connection.execute(lock, {"id": 2})
            body = {"user_id": 1, "items": both}
            placing = thread.submit(client.post, "/orders/", json=body)  # locks 1, waits for 2
            time.sleep(0.3)
            with contextlib.suppress(sa.exc.DBAPIError):  # one of the two is told of a deadlock
                connection.execute(lock, {"id": 1})
            connection.rollback()
        assert placing.result().status_code == 201
        stocks = [row["stock_quantity"] for row in client.get("/products/").json()]
        assert stocks == [STOCK - 1, STOCK - 1]


def test_a_lock_held_elsewhere_is_503_in_time(server_url: str, tmp_path: Path) -> None:
    url = another_database(server_url, tmp_path, "lock")
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with serving(url, DB_POOL_TIMEOUT=str(TIMEOUT)) as client:
        open_shop(client)
        client.timeout = httpx2.Timeout(ANSWERED)
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT id FROM product WHERE id = 1 FOR UPDATE")
            with ThreadPoolExecutor(40) as threads:  # more than there are connections
                waiting = [threads.submit(order, client) for _ in range(40)]
                assert client.get("/products/1").status_code == 200
                for answer in waiting:
                    assert_busy(answer.result())
        assert order(client).status_code == 201
        assert client.get("/products/1").json()["stock_quantity"] == STOCK - 1


def test_a_write_lock_held_by_another_process_delays_writes_only(tmp_path: Path) -> None:
    file = tmp_path / "locked_test.db"
    with serving(f"sqlite:///{file}", DB_POOL_TIMEOUT=str(TIMEOUT)) as client:
        open_shop(client)
        client.timeout = httpx2.Timeout(ANSWERED)
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(8) as threads:
            waiting = [threads.submit(order, client) for _ in range(8)]
            for _ in range(20):
                assert client.get("/products/1", timeout=1.5).status_code == 200
            for answer in waiting:
                assert_busy(answer.result())
            placing = threads.submit(order, client)
            time.sleep(0.2)
            other.execute("ROLLBACK")
            assert placing.result().status_code == 201
        other.close()
        assert client.get("/products/1").json()["stock_quantity"] == STOCK - 1


def test_where_no_connection_is_kept_each_request_has_one_for_its_time(own_database: str) -> None:
    with serving(own_database, DB_POOL_SIZE="0", DB_MAX_OVERFLOW="2") as client:
        open_shop(client)
        calls: list[Call] = [functools.partial(order, client)] * 20
        calls += [functools.partial(client.get, "/products/1")] * 20
        assert statuses(at_once(calls)) == {201: 20, 200: 20}
        headers = {"Last-Event-ID": "0"}
        with client.stream("GET", "/notifications/events", headers=headers) as events:
            assert next(events.iter_lines()) == "event: notification"
        wait_for(lambda: not connections_to(own_database))
        writing = 1 if own_database.startswith("sqlite") else 2
        health = client.get("/health/db").json()
        assert health.pop("revision")
        assert health == {
            "status": "healthy",
            "pool_size": writing + 2,
            "checked_in": 0,
            "checked_out": 1,
            "overflow": 0,
            "total_connections": 1,
        }
        assert client.get("/health").json()["database"]["connections_in_use"] == 0


def connections_to(url: str) -> int:
    """How many others there are to a server's database; whether there are any to a SQLite one."""
    if url.startswith("sqlite"):  # the last one takes the log along
        return Path(f"{sa.make_url(url).database}-wal").exists()
    others = {
        "postgresql": "pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid()",
        "mysql": "information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()",
    }
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        query = f"SELECT count(*) FROM {others[engine.dialect.name]}"
        return int(connection.exec_driver_sql(query).scalar_one())


def test_slow_clients_keep_nobody_waiting_and_hold_no_connection(own_database: str) -> None:
    beginnings = [
        b"",  # says nothing
        b"GET /items/ HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",  # a header by the byte
        b"POST /items/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 1000\r\n\r\n{",  # a body by the byte
        b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50,  # and reads nothing
    ]
    with running(own_database) as shop, contextlib.ExitStack() as stack:
        client, sockets = shop.client, []
        open_shop(client)
        for n in range(300):
            s = socket.create_connection(("127.0.0.1", shop.port))
            stack.enter_context(s)
            s.sendall(beginnings[n % len(beginnings)])
            sockets.append(s)
        for _ in range(5):
            for n, s in enumerate(sockets):
                if n % len(beginnings) in (1, 2):
                    s.sendall(b"a")
            assert order(client).status_code == 201
            assert client.get("/products/1", timeout=5).status_code == 200
        assert client.get("/health").json()["database"]["connections_in_use"] == 0
