"""Events: every notification reaches every listener once, in order, whatever else happens.

Ids are not counted from 1 here: the servers that the tests share are not emptied between two
of them, since a table that begins anew under its listeners is no case of the service's.
"""

import asyncio
import contextlib
import json
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import httpx2
import pytest
import sqlalchemy as sa
from conftest import KEY, Json, another_database, log_in, pages, three_users
from databases import HOME, SERVERS, kind_of
from document import model_of
from servers import Process, Proxy, assert_busy, open_shop, order, running, serving, wait_for

from kit import now
from models import User

pytestmark = [pytest.mark.every_database, pytest.mark.needs("notifications")]

Notification = model_of("Notification")
PATH = "/notifications/events"
PAUSE = 2.5  # seconds in which the service looks several times, and might give up a gap
PATIENCE = 20  # seconds without anything after which a client gives up


class Listener:
    """A client of the events, whose stream is open once there is one of it."""

    def __init__(
        self,
        client: httpx2.Client,
        after: int | str | None = None,
        path: str = PATH,
        user: dict[str, str] | None = None,
    ) -> None:
        headers = {**(user or {}), **({} if after is None else {"Last-Event-ID": str(after)})}
        self.client = httpx2.Client(base_url=client.base_url, timeout=PATIENCE)
        self.stack = contextlib.ExitStack()
        self.stack.enter_context(self.client)
        self.response = self.stack.enter_context(self.client.stream("GET", path, headers=headers))
        if self.response.is_error:
            self.response.read()
        self.lines = self.response.iter_lines()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stack.close()

    def block(self) -> list[str]:
        """The lines until the next empty one; none of them at the end of the stream."""
        lines: list[str] = []
        for line in self.lines:
            if not line:
                break
            lines.append(line)
        return lines

    def event(self) -> dict[str, str]:
        """The fields of the next event, before a second comment says that nothing comes."""
        block = self.block()
        if block and block[0].startswith(":"):
            block = self.block()
        assert block, "the stream has ended"
        assert not block[0].startswith(":"), "nothing has come"
        pairs = [line.partition(": ")[::2] for line in block]
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    def ids(self, count: int) -> list[int]:
        return [int(self.event()["id"]) for _ in range(count)]

    def ids_to(self, last: int) -> list[int]:
        """The ids that come until this one has come."""
        found = self.ids(1)
        while found[-1] != last and len(found) < 20_000:
            found += self.ids(1)
        return found


class Served(NamedTuple):
    client: httpx2.Client
    engine: sa.Engine


def new_shop(client: httpx2.Client, url: str) -> Served:
    """An open shop with an order, so that there is something to notify of."""
    open_shop(client)
    assert order(client).status_code == 201
    return Served(client, sa.create_engine(url, poolclass=sa.NullPool))


@pytest.fixture(scope="module")
def shop(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    url = another_database(database, tmp_path_factory.mktemp("events"), "events")
    with serving(url) as client:
        yield new_shop(client, url)


@pytest.fixture(scope="module", params=SERVERS, ids=kind_of)
def server_shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """On a database that more than one transaction can write to at a time."""
    url = another_database(request.param, tmp_path_factory.mktemp("late"), "late")
    with serving(url) as client:
        yield new_shop(client, url)


def insert(connection: sa.Connection, message: str = "x", user_id: int = 1) -> int:
    """Insert a notification in the connection's transaction; its id."""
    values = {"user_id": user_id, "order_id": 1, "message": message, "created_at": now()}
    done = connection.execute(sa.insert(Notification).values(values))
    assert done.inserted_primary_key
    id: int = done.inserted_primary_key[0]
    return id


def insert_many(engine: sa.Engine, count: int, message: str = "x", user_id: int = 1) -> None:
    values = {"user_id": user_id, "order_id": 1, "message": message, "created_at": now()}
    with engine.begin() as connection:
        connection.execute(sa.insert(Notification), [values] * count)


def publish(engine: sa.Engine, user_id: int = 1) -> int:
    """Commit one notification; its id."""
    with engine.begin() as connection:
        return insert(connection, user_id=user_id)


def stored(engine: sa.Engine, after: int = 0) -> list[int]:
    """The ids that are committed, beyond this one."""
    query = sa.text("SELECT id FROM notification WHERE id > :after ORDER BY id")
    with engine.connect() as connection:
        return list(connection.scalars(query, {"after": after}))


def listed(client: httpx2.Client, after: int) -> list[Json]:
    first = f"/notifications/?limit=100&after={after}"
    return [note for page in pages(client, first) for note in page.json()]


# What comes


def test_an_event_is_the_notification_as_it_is_listed(shop: Served) -> None:
    with Listener(shop.client) as listener:
        assert listener.response.headers["Content-Type"].split(";")[0] == "text/event-stream"
        placed = order(shop.client).json()
        event = listener.event()
    [note] = shop.client.get("/notifications/?sort=-id&limit=1").json()
    assert (note["order_id"], note["user_id"]) == (placed["id"], 1)
    assert event.keys() == {"event", "id", "data"}
    assert (event["event"], event["id"]) == ("notification", str(note["id"]))
    listed_as = shop.client.get("/notifications/?sort=-id&limit=1").text
    assert f"[{event['data']}]" == listed_as


def test_every_change_of_an_order_is_an_event(shop: Served) -> None:
    id = order(shop.client).json()["id"]
    with Listener(shop.client) as listener:
        for status in ("confirmed", "shipped", "delivered"):
            assert shop.client.patch(f"/orders/{id}/status?new_status={status}").is_success
            assert status in json.loads(listener.event()["data"])["message"]


def test_a_new_listener_hears_nothing_old(shop: Served) -> None:
    publish(shop.engine)
    with Listener(shop.client) as listener:
        new = publish(shop.engine)
        assert listener.ids(1) == [new]


def test_a_listener_that_joins_others_hears_nothing_old(shop: Served) -> None:
    with Listener(shop.client) as first:
        for _ in range(5):
            old = publish(shop.engine)
            with Listener(shop.client) as second:
                new = publish(shop.engine)
                assert second.ids(1) == [new]
            assert first.ids(2) == [old, new]


def test_a_listener_that_joins_after_a_large_batch_hears_none_of_it(shop: Served) -> None:
    with Listener(shop.client) as first:
        before = stored(shop.engine)[-1]
        insert_many(shop.engine, 1200)
        with Listener(shop.client) as second:
            last = publish(shop.engine)
            assert second.ids_to(last) == [last]
        assert first.ids_to(last) == stored(shop.engine, before)


@pytest.mark.parametrize("path", [PATH, f"/api/v1{PATH}"])
def test_a_listener_that_comes_back_gets_what_it_missed_and_then_what_is_new(
    shop: Served, path: str
) -> None:
    seen = publish(shop.engine)
    missed = [publish(shop.engine) for _ in range(3)]
    with Listener(shop.client, seen, path) as listener:
        assert listener.response.status_code == 200
        assert listener.ids(3) == missed
        new = publish(shop.engine)
        assert listener.ids(1) == [new]


def test_a_listener_can_begin_with_the_first_of_very_many(shop: Served) -> None:
    insert_many(shop.engine, 1200)
    last = publish(shop.engine)
    with Listener(shop.client, 0) as listener:
        assert listener.ids_to(last) == stored(shop.engine, 0)
        new = publish(shop.engine)
        assert listener.ids(1) == [new]


def test_a_listener_that_is_ahead_gets_what_comes_after_its_id(shop: Served) -> None:
    ahead = publish(shop.engine) + 2
    with Listener(shop.client, ahead) as listener:
        assert [publish(shop.engine) for _ in range(2)][-1] == ahead
        new = publish(shop.engine)
        assert listener.ids(1) == [new]


def test_notifications_that_were_deleted_stop_nobody(shop: Served) -> None:
    client, engine = shop
    first = publish(engine)
    gone = publish(engine)
    publish(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM notification WHERE id = :id"), {"id": gone})
    with Listener(client) as new, Listener(client, first) as again:
        later = publish(engine)
        assert new.ids(1) == [later]
        assert again.ids(2) == [gone + 1, later]


def test_a_notification_that_was_deleted_is_not_sent_to_who_comes_back(shop: Served) -> None:
    client, engine = shop
    with Listener(client) as listener:  # so that the service has them in memory
        first = publish(engine)
        gone, last = publish(engine), publish(engine)
        assert listener.ids(3) == [first, gone, last]
        with engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM notification WHERE id = :id"), {"id": gone})
        with Listener(client, first) as again:
            assert again.ids(1) == [last]


def test_an_empty_last_event_id_is_none(shop: Served) -> None:
    with Listener(shop.client, "") as listener:
        later = publish(shop.engine)
        assert listener.ids(1) == [later]


@pytest.mark.parametrize("value", ["abc", "-1", "2147483648", "1.5"])
def test_a_malformed_last_event_id_is_422(shop: Served, value: str) -> None:
    with Listener(shop.client, value) as listener:
        assert listener.response.status_code == 422
        assert listener.response.headers["Content-Type"] == "application/problem+json"
        [error] = listener.response.json()["errors"]
    assert error["loc"] == ["header", "Last-Event-ID"]


def test_an_unknown_query_parameter_is_422(shop: Served) -> None:
    with Listener(shop.client, path=f"{PATH}?user_id=1") as listener:
        assert listener.response.status_code == 422
        assert listener.response.json()["errors"][0]["loc"] == ["query", "user_id"]


@pytest.mark.system
def test_head_ends_at_once_and_leaves_nobody_listening(own_database: str) -> None:
    with running(own_database, DATABASE_ECHO="true") as shop:
        response = shop.client.head(PATH)
        assert (response.status_code, response.content) == (200, b"")
        assert response.headers["Content-Type"].split(";")[0] == "text/event-stream"
        assert_asks_no_more(shop)


def test_events_cannot_be_posted(shop: Served) -> None:
    response = shop.client.post(PATH, json={})
    assert response.status_code == 405
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.system
def test_a_comment_comes_when_nothing_happens(any_database: str) -> None:
    with serving(any_database) as client, Listener(client) as listener:
        assert listener.block() == [": ping"]


# Who is logged in


class Closed(NamedTuple):
    """A process with a key: ann (1), bob (2) and root (3), a superuser, have logged in to it."""

    process: Process
    engine: sa.Engine
    ann: dict[str, str]
    bob: dict[str, str]
    root: dict[str, str]


@pytest.fixture
def closed(own_database: str) -> Iterator[Closed]:
    with running(own_database, SECRET_KEY=KEY, DATABASE_ECHO="true") as process:
        client, engine = process.client, sa.create_engine(own_database, poolclass=sa.NullPool)
        ann, bob, root = three_users(client, engine)
        product = {"name": "Lamp", "price": 10, "sku": "L-1", "stock_quantity": 1}
        assert client.post("/products/", json=product, headers=root).status_code == 201
        lines = {"user_id": 1, "items": [{"product_id": 1, "quantity": 1}]}
        assert client.post("/orders/", json=lines, headers=ann).status_code == 201
        yield Closed(process, engine, ann, bob, root)


def status_of(client: httpx2.Client, user: dict[str, str]) -> int:
    with Listener(client, user=user) as listener:
        return listener.response.status_code


def test_a_user_has_five_streams_and_the_next_is_refused_until_one_ends(closed: Closed) -> None:
    client = closed.process.client
    with contextlib.ExitStack() as stack:
        for user in (closed.ann, closed.root):
            paths = [PATH, f"/api/v1{PATH}"] * 2
            first = Listener(client, user=user)
            more = [stack.enter_context(Listener(client, 0, path, user)) for path in paths]
            assert [one.response.status_code for one in (first, *more)] == [200] * 5
            with Listener(client, user=user) as one_more:
                refused = one_more.response
            assert refused.status_code == 429
            assert int(refused.headers["Retry-After"]) > 0
            assert refused.json() == {
                "type": "about:blank",
                "title": "Too Many Requests",
                "status": 429,
                "detail": "You have 5 event streams open already",
            }
            with first:
                assert status_of(client, closed.bob) == 200
            wait_for(lambda user=user: status_of(client, user) == 200)  # type: ignore[misc]


@pytest.mark.system
def test_streams_whose_token_has_ended_count_no_more(closed: Closed) -> None:
    client = closed.process.client
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(Listener(client, user=closed.ann))
        assert status_of(client, closed.ann) == 429
        assert client.post("/logout", headers=closed.ann).status_code == 204
        assert status_of(client, log_in(client, "ann")) == 200


@pytest.mark.system
def test_a_stream_ends_with_its_connection_though_a_request_waits_behind_it(
    closed: Closed,
) -> None:
    client, name = closed.process.client, closed.ann["Authorization"]
    stream = f"GET {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: {name}\r\n\r\n"
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", closed.process.port)) as s:
            s.sendall(f"{stream}GET /health HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert s.recv(4096).startswith(b"HTTP/1.1 200")
    wait_for(lambda: status_of(client, closed.ann) == 200)
    assert "Traceback" not in closed.process.logged()


@pytest.mark.system
def test_a_stream_that_does_not_come_to_its_events_is_none_that_counts(closed: Closed) -> None:
    client = closed.process.client
    for _ in range(6):
        assert client.head(PATH, headers=closed.ann).status_code == 200
        assert client.get(PATH, headers={**closed.ann, "Last-Event-ID": "x"}).status_code == 422
    with closed.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE notification RENAME TO away")
    for _ in range(6):
        assert_busy(client.get(PATH, headers=closed.ann))
    with closed.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO notification")
    assert status_of(client, closed.ann) == 200


CAUGHT_UP = re.compile(
    r"SELECT .*\bmessage\b.*\s+FROM notification\s+WHERE notification\.id > \S+ AND"
    r" notification\.id <= .*\s+ORDER BY"
)


@pytest.mark.system
def test_what_a_user_missed_is_read_without_the_notifications_of_others(closed: Closed) -> None:
    seen = stored(closed.engine)[-1]
    own = [publish(closed.engine)]
    insert_many(closed.engine, 2500, user_id=2)
    own.append(publish(closed.engine))
    logged = len(closed.process.logged())
    with Listener(closed.process.client, seen, user=closed.ann) as listener:
        assert listener.ids(2) == own
        own.append(publish(closed.engine))
        assert listener.ids(1) == own[2:]
    assert len(CAUGHT_UP.findall(closed.process.logged(), logged)) == 1


@pytest.mark.system
def test_a_superuser_gets_the_notifications_of_all_that_were_missed(closed: Closed) -> None:
    seen = stored(closed.engine)[-1]
    insert_many(closed.engine, 1200, user_id=2)
    last = publish(closed.engine)
    with Listener(closed.process.client, seen, user=closed.root) as listener:
        assert listener.ids_to(last) == stored(closed.engine, seen)


@pytest.mark.system
def test_who_is_no_superuser_any_more_gets_only_their_own_from_then_on(closed: Closed) -> None:
    with Listener(closed.process.client, user=closed.root) as listener:
        of_bob = publish(closed.engine, 2)
        assert listener.ids(1) == [of_bob]
        with closed.engine.begin() as connection:
            connection.execute(sa.update(User).values(is_superuser=False))
        publish(closed.engine, 2)
        own = publish(closed.engine, 3)
        assert listener.ids(1) == [own]
        publish(closed.engine, 1)
        own = publish(closed.engine, 3)
        assert listener.ids(1) == [own]


# Out of order: ids are given before the commit, so a lower one may be committed later


@pytest.mark.system
def test_what_is_committed_out_of_order_comes_in_order(server_shop: Served) -> None:
    client, engine = server_shop
    with engine.connect() as a, Listener(client) as one, Listener(client) as two:
        late = insert(a)
        early = publish(engine)
        time.sleep(PAUSE)
        a.commit()
        last = publish(engine)
        assert one.ids(3) == [late, early, last]
        assert two.ids(3) == [late, early, last]


@pytest.mark.system
def test_a_listener_that_comes_back_before_a_late_commit_misses_nothing(
    server_shop: Served,
) -> None:
    client, engine = server_shop
    seen = publish(engine)
    with engine.connect() as a:
        late = insert(a)
        early = publish(engine)
        with Listener(client, seen) as listener:
            time.sleep(PAUSE)
            a.commit()
            last = publish(engine)
            assert listener.ids(3) == [late, early, last]


@pytest.mark.system
def test_the_first_listener_misses_nothing_that_was_begun_long_before(
    server_url: str, tmp_path: Path
) -> None:
    url = another_database(server_url, tmp_path, "first")
    with serving(url) as client:
        _, engine = new_shop(client, url)
        seen = publish(engine)
        with engine.connect() as a:
            insert(a)
            insert_many(engine, 1000)
            with Listener(client, seen) as listener:
                time.sleep(PAUSE)
                a.commit()
                last = publish(engine)
                assert listener.ids_to(last) == stored(engine, seen)


@pytest.mark.system
def test_a_listener_that_joins_before_a_late_commit_gets_that_and_nothing_old(
    server_shop: Served,
) -> None:
    client, engine = server_shop
    with engine.connect() as a, Listener(client) as first:
        late = insert(a)
        old = publish(engine)
        time.sleep(PAUSE)
        with Listener(client) as second:
            new = publish(engine)
            a.commit()
            assert second.ids(2) == [late, new]
        assert first.ids(3) == [late, old, new]


@pytest.mark.system
def test_an_insert_that_is_rolled_back_stops_nobody(server_shop: Served) -> None:
    client, engine = server_shop
    with engine.connect() as a, Listener(client) as listener:
        insert(a)
        second = publish(engine)
        time.sleep(PAUSE)
        a.rollback()
        third = publish(engine)
        assert listener.ids(2) == [second, third]


@pytest.mark.system
def test_several_gaps_are_filled_or_given_up_each_for_itself(server_shop: Served) -> None:
    client, engine = server_shop
    with (
        engine.connect() as a,
        engine.connect() as b,
        engine.connect() as c,
        Listener(client) as listener,
    ):
        insert(a)
        expected = [publish(engine), insert(b), publish(engine)]
        insert(c)
        expected += [publish(engine)]
        time.sleep(PAUSE)
        c.rollback()
        time.sleep(PAUSE)
        a.rollback()
        b.commit()
        expected += [publish(engine)]
        assert listener.ids(4 + 1) == expected


@pytest.mark.system
def test_a_row_that_is_deleted_behind_a_gap_stops_nobody(server_shop: Served) -> None:
    client, engine = server_shop
    with engine.connect() as a, Listener(client) as listener:
        insert(a)
        gone = publish(engine)
        time.sleep(PAUSE)
        with engine.begin() as b:
            b.execute(sa.text("DELETE FROM notification WHERE id = :id"), {"id": gone})
        a.rollback()
        last = publish(engine)
        assert listener.ids(1) == [last]


# Many


@pytest.mark.system
def test_a_listener_that_comes_back_again_and_again_gets_each_order_once(shop: Served) -> None:
    before = stored(shop.engine)[-1]
    seen: list[int] = []
    with ThreadPoolExecutor(8) as threads:
        orders = [threads.submit(order, shop.client) for _ in range(400)]
        for _ in range(400):
            if len(seen) >= 400:
                break
            with Listener(shop.client, seen[-1] if seen else before) as listener:
                seen += listener.ids(min(25, 400 - len(seen)))
        assert {placed.result().status_code for placed in orders} == {201}
    assert seen == [note["id"] for note in listed(shop.client, before)]
    assert len(seen) == 400


@pytest.mark.system
def test_orders_placed_with_one_process_reach_the_listeners_of_another(
    own_database: str,
) -> None:
    with serving(own_database) as one, serving(own_database) as two:
        open_shop(one)
        with Listener(one) as here, Listener(two) as there:
            with ThreadPoolExecutor(8) as threads:
                clients = [one, two] * 50
                answers = list(threads.map(order, clients))
            assert {answer.status_code for answer in answers} == {201}
            expected = [note["id"] for note in listed(one, 0)]
            assert here.ids(100) == expected
            assert there.ids(100) == expected


@pytest.mark.system
def test_all_listeners_of_two_workers_get_each_event(own_database: str) -> None:
    with serving(own_database, "--workers", "2") as client, contextlib.ExitStack() as stack:
        open_shop(client)
        listeners = [stack.enter_context(Listener(client)) for _ in range(12)]
        assert {order(client).status_code for _ in range(5)} == {201}
        expected = [note["id"] for note in listed(client, 0)]
        for listener in listeners:
            assert listener.ids(5) == expected


CROWD = 500


def threads_of(shop: Process) -> int:
    status = Path(f"/proc/{shop.process.pid}/status").read_text()
    return int(status.partition("Threads:")[2].split()[0])


def connections_to(engine: sa.Engine) -> int:
    """How many connections there are to the database, besides the one that asks."""
    queries = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid()",
        "mysql": "SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE()"
        " AND id <> CONNECTION_ID()",
    }
    if engine.dialect.name == "sqlite":
        return 0  # which are files, and threads
    with engine.connect() as connection:
        return int(connection.exec_driver_sql(queries[engine.dialect.name]).scalar() or 0)


async def crowd(port: int, meanwhile: Callable[[], None], last: Callable[[], int]) -> list[bytes]:
    """What each of very many listeners is sent until the event that `last` names."""

    async def join() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        return reader, writer

    async with asyncio.timeout(60):
        pairs = await asyncio.gather(*(join() for _ in range(CROWD)))
        await asyncio.to_thread(meanwhile)
        end = f"id: {await asyncio.to_thread(last)}\n".encode()
        sent = await asyncio.gather(*(reader.readuntil(end) for reader, _ in pairs))
        for _, writer in pairs:
            writer.close()
    return sent


@pytest.mark.system
def test_very_many_listeners_cost_no_threads_and_no_connections(own_database: str) -> None:
    expected: list[int] = []
    with running(own_database, DATABASE_ECHO="true") as process:
        client, engine = new_shop(process.client, own_database)
        threads, connections = threads_of(process), connections_to(engine)

        def look() -> None:
            assert client.get("/health").json()["database"]["connections_in_use"] == 0
            assert threads_of(process) - threads <= 2
            assert connections_to(engine) - connections <= 2
            assert client.get("/notifications/").status_code == 200
            assert order(client).status_code == 201

        def close() -> int:
            order(client)
            expected.extend(note["id"] for note in listed(client, before))
            return expected[-1]

        before = stored(engine)[-1]
        for sent in asyncio.run(crowd(process.port, look, close)):
            assert [int(id) for id in re.findall(rb"^id: (\d+)$", sent, re.M)] == expected
        assert len(expected) == 2
        assert_asks_no_more(process)
        with Listener(client) as listener:
            assert listener.ids_to(publish(engine))
            assert not asks_no_more(process)


def asks_no_more(shop: Process) -> bool:
    """Whether a process that logs its queries makes none for a while."""
    before = len(shop.logged())
    time.sleep(1)
    return len(shop.logged()) == before


def assert_asks_no_more(shop: Process) -> None:
    assert any(asks_no_more(shop) for _ in range(10))


@pytest.mark.system
def test_a_listener_that_does_not_read_holds_up_nobody_and_loses_nothing(shop: Served) -> None:
    client, engine = shop
    before = stored(engine)[-1]
    with socket.socket() as slow, Listener(client) as quick:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(PATIENCE)
        slow.connect(("127.0.0.1", client.base_url.port))
        slow.sendall(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert slow.recv(4096).startswith(b"HTTP/1.1 200")
        insert_many(engine, 6000, "x" * 500)
        assert order(client).status_code == 201
        last = publish(engine)
        expected = stored(engine, before)
        assert len(expected) == 6002
        assert quick.ids_to(last) == expected
        received = bytearray()
        while f"\nid: {last}\n".encode() not in received[-8192:]:
            received += slow.recv(4096)
        assert [int(id) for id in re.findall(rb"^id: (\d+)$", received, re.M)] == expected


# The end


COMMANDS: dict[str, list[str | Path]] = {
    "main": [sys.executable, HOME / "main.py"],
    "uvicorn": [sys.executable, "-m", "uvicorn", "main:app", "--app-dir", HOME],
    "workers": [sys.executable, HOME / "main.py", "--workers", "2"],
}


@pytest.mark.system
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
def test_a_process_told_to_stop_ends_its_streams(
    any_database: str, command: str, how: signal.Signals
) -> None:
    with running(any_database, *COMMANDS[command]) as shop, contextlib.ExitStack() as stack:
        open_shop(shop.client)
        listeners = [stack.enter_context(Listener(shop.client)) for _ in range(6)]
        assert order(shop.client).status_code == 201
        for listener in listeners:
            listener.event()
        shop.stop(how)
        for listener in listeners:
            assert listener.block() == []  # in good order: not cut off within a chunk
        assert "Traceback" not in shop.logged()


# Faults


@pytest.mark.system
@pytest.mark.parametrize("silent", [False, True], ids=["refuses", "silent"])
def test_a_stream_outlives_the_database_being_away(
    behind_proxy: tuple[Process, Proxy], silent: bool
) -> None:
    shop, proxy = behind_proxy
    with Listener(shop.client) as listener:
        assert order(shop.client).status_code == 201
        seen = listener.ids(1)
        if silent:
            proxy.flowing.clear()
        else:
            proxy.cut()
        for _ in range(2):
            assert_busy(shop.client.get(PATH))
        if silent:
            proxy.flowing.set()
        else:
            proxy.up()
        assert order(shop.client).status_code == 201
        [id] = listener.ids(1)
        assert [note["id"] for note in listed(shop.client, seen[0])] == [id]
        with Listener(shop.client, 0) as again:
            assert again.ids(2) == [*seen, id]


@pytest.mark.system
def test_a_stream_outlives_a_query_that_fails(own_database: str) -> None:
    with running(own_database) as process:
        client, engine = new_shop(process.client, own_database)
        with Listener(client) as listener:
            seen = publish(engine)
            assert listener.ids(1) == [seen]
            with engine.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE notification RENAME TO away")
            time.sleep(PAUSE)
            with engine.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE away RENAME TO notification")
            seen = publish(engine)
            assert listener.ids(1) == [seen]
