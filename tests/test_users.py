"""Users: unique whatever the case, passwords never seen again, what goes along on a delete."""

import json
import re
from collections.abc import Callable
from datetime import timedelta

import argon2
import httpx2
import pytest
import sqlalchemy as sa
from conftest import SECTIONS, SLOW_HASHER, Json, Make, log_in, needing
from document import columns_of, with_defaults
from sqlmodel import Session, col, select

import db
from kit import now
from models import User

pytestmark = pytest.mark.every_database

ANN = {
    "username": "Ann_1",
    "email": "Ann.Lee@Example.com",
    "full_name": "Ann Lee",
    "bio": "Likes lamps. 💡",
    "password": "Password1",
}
BOB = {"username": "bob", "email": "bob@example.com", "password": "Password2"}
KEYS = columns_of(User)


def stored_hash(user_id: int) -> str:
    with Session(db.database.reader.engine) as session:
        return session.exec(select(User.password_hash).where(User.id == user_id)).one()


def last_changed(user_id: int, *, days_ago: float) -> None:
    """Make a user one whose last change was so many days ago."""
    then = now() - timedelta(days=days_ago)
    with Session(db.database.writer.engine) as session:
        session.exec(sa.update(User).where(col(User.id) == user_id).values(updated_at=then))
        session.commit()


def usernames(rows: list[Json]) -> list[str]:
    return [row["username"] for row in rows]


# The six routes


def test_a_created_user_is_answered_with_its_defaults_and_location(client: httpx2.Client) -> None:
    response = client.post("/users/", json=ANN)
    assert response.status_code == 201
    assert response.headers["Location"] == "/users/1"
    user = response.json()
    assert user == with_defaults(
        User,
        {
            "id": 1,
            "username": "Ann_1",
            "email": "ann.lee@example.com",
            "full_name": "Ann Lee",
            "bio": "Likes lamps. 💡",
            "is_active": True,
            "is_superuser": False,
            "created_at": user["created_at"],
            "updated_at": user["updated_at"],
        },
    )
    for time in (user["created_at"], user["updated_at"]):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z", time)
    assert client.get("/users/1").json() == user
    assert client.get("/users/").json() == [user]


def test_keys_come_in_declared_order_from_every_route(client: httpx2.Client) -> None:
    rows = [
        client.post("/users/", json=ANN).json(),
        client.post("/users/bulk", json=[BOB]).json()[0],
        client.put("/users/1", json=ANN).json(),
        client.patch("/users/1", json={"bio": "x"}).json(),
        client.get("/users/1").json(),
        client.get("/users/").json()[0],
        client.get("/users/search?q=ann").json()[0],
        client.get("/users/by-email/bob@example.com").json(),
        client.get("/users/page").json()["items"][0],
    ]
    assert [list(row) for row in rows] == [KEYS] * len(rows)


def test_replacing_a_user_gives_omitted_fields_their_defaults(client: httpx2.Client) -> None:
    before = client.post("/users/", json=ANN).json()
    response = client.put("/users/1", json=BOB)
    assert response.status_code == 200
    after = response.json()
    expected = {"username": "bob", "email": "bob@example.com", "full_name": None, "bio": None}
    assert after == before | expected | {"updated_at": after["updated_at"]}
    assert after["updated_at"] > before["updated_at"]
    assert client.get("/users/1").json() == after


def test_patching_a_user_changes_only_what_is_sent(client: httpx2.Client) -> None:
    before = client.post("/users/", json=ANN).json()
    changes = {"email": "ann@example.com", "is_active": False, "is_superuser": True}
    response = client.patch("/users/1", json=changes | {"email": "ANN@example.com"})
    assert response.status_code == 200
    after = response.json()
    assert after == before | changes | {"updated_at": after["updated_at"]}
    assert after["updated_at"] > before["updated_at"]
    assert client.get("/users/1").json() == after


def test_patching_with_nothing_changes_nothing(client: httpx2.Client, make: Make) -> None:
    before = make("users")
    response = client.patch("/users/1", json={})
    assert (response.status_code, response.json()) == (200, before)


def test_a_null_empties_a_field_that_may_be_null(client: httpx2.Client) -> None:
    client.post("/users/", json=ANN)
    user = client.patch("/users/1", json={"full_name": None, "bio": None}).json()
    assert (user["full_name"], user["bio"]) == (None, None)


def test_a_null_is_422_where_a_field_cannot_be_null(client: httpx2.Client, make: Make) -> None:
    before = make("users")
    for field in ("username", "email", "password", "is_active", "is_superuser"):
        assert client.patch("/users/1", json={field: None}).status_code == 422
    assert client.get("/users/1").json() == before


def test_a_deleted_user_is_gone(client: httpx2.Client, make: Make) -> None:
    make("users")
    response = client.delete("/users/1")
    assert (response.status_code, response.content) == (204, b"")
    assert client.get("/users/").json() == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/users/7", None),
        ("PUT", "/users/7", BOB),
        ("PATCH", "/users/7", {"bio": "x"}),
        ("PATCH", "/users/7", {"password": "Password2"}),
        ("DELETE", "/users/7", None),
        ("DELETE", "/users/7/soft", None),
        needing("posts", "GET", "/users/7/with-posts", None),
        ("GET", "/users/by-email/nobody@example.com", None),
    ],
)
def test_an_unknown_user_is_404(client: httpx2.Client, method: str, path: str, body: Json) -> None:
    response = client.request(method, path, json=body)
    assert (response.status_code, response.json()["detail"]) == (404, "User not found")


# What a user may be


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("username", "ann"),
        ("username", "x" * 50),
        ("username", "_A9"),
        ("email", "a+b@example.com"),
        ("full_name", "Ž" * 100),
        ("full_name", "Ann "),
        ("bio", "💡" * 1000),
        ("bio", ""),
    ],
)
def test_values_at_their_limits_are_stored_as_they_came(
    client: httpx2.Client, make: Make, field: str, value: str
) -> None:
    assert make("users", **{field: value})[field] == value
    assert client.get("/users/1").json()[field] == value


@pytest.mark.parametrize("password", ["Passwor1", "P1" + "x" * 98, "1 Ünïcode Password 💡"])
def test_a_password_of_8_to_100_characters_will_do(make: Make, password: str) -> None:
    make("users", password=password)
    assert argon2.PasswordHasher().verify(stored_hash(1), password)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"username": "an"}, "username"),
        ({"username": "x" * 51}, "username"),
        ({"username": "ann lee"}, "username"),
        ({"username": "ann\n"}, "username"),
        ({"username": "änn"}, "username"),
        ({"username": "ann٣"}, "username"),
        ({"username": None}, "username"),
        ({"username": 123}, "username"),
        ({"email": "ann"}, "email"),
        ({"email": "ann@"}, "email"),
        ({"email": "a b@example.com"}, "email"),
        ({"email": "a\0@example.com"}, "email"),
        ({"email": f"{'a' * 250}@example.com"}, "email"),
        ({"email": None}, "email"),
        ({"full_name": "x" * 101}, "full_name"),
        ({"full_name": "a\0b"}, "full_name"),
        ({"bio": "x" * 1001}, "bio"),
        ({"bio": "a\0b"}, "bio"),
        ({"password": "Passw0r"}, "password"),
        ({"password": "P1" + "x" * 99}, "password"),
        ({"password": "password1"}, "password"),
        ({"password": "Password"}, "password"),
        ({"password": None}, "password"),
        ({"is_active": True}, "is_active"),
        ({"is_superuser": True}, "is_superuser"),
        ({"password_hash": "x"}, "password_hash"),
        ({"username_key": "x"}, "username_key"),
        ({"id": 5}, "id"),
    ],
)
def test_a_bad_user_is_422_and_names_the_field(
    client: httpx2.Client, change: dict[str, object], field: str
) -> None:
    body = BOB | change
    for response in (client.post("/users/", json=body), client.put("/users/1", json=body)):
        assert response.status_code == 422
        assert [error["loc"] for error in response.json()["errors"]] == [["body", field]]
    assert client.get("/users/").json() == []


@pytest.mark.parametrize("field", ["username", "email", "full_name", "bio", "password"])
def test_half_a_surrogate_pair_is_422(client: httpx2.Client, field: str) -> None:
    body = json.dumps(BOB | {field: "Password1 \ud800"})
    response = client.post("/users/", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    assert client.get("/users/").json() == []


@pytest.mark.parametrize("field", ["username", "email", "password"])
def test_a_user_needs_a_name_an_address_and_a_password(client: httpx2.Client, field: str) -> None:
    body = {key: value for key, value in BOB.items() if key != field}
    errors = client.post("/users/", json=body).json()["errors"]
    assert [error["loc"] for error in errors] == [["body", field]]


@pytest.mark.parametrize(
    "change",
    [
        {"username": "x"},
        {"email": "x"},
        {"password": "weak"},
        {"is_active": "maybe"},
        {"id": 2},
        {"created_at": "2026-01-01T00:00:00Z"},
    ],
)
def test_a_bad_change_is_422_and_changes_nothing(
    client: httpx2.Client, make: Make, change: dict[str, object]
) -> None:
    before = make("users")
    assert client.patch("/users/1", json={"bio": "new"} | change).status_code == 422
    assert client.get("/users/1").json() == before


@pytest.mark.parametrize("field", ["username", "email"])
def test_usernames_and_addresses_are_unique_whatever_their_case(
    client: httpx2.Client, make: Make, field: str
) -> None:
    clash = {field: {"username": "ANN_1", "email": "ANN.lee@EXAMPLE.com"}[field]}
    client.post("/users/", json=ANN)
    bob = make("users", **BOB)
    carl = BOB | {"username": "carl", "email": "carl@example.com"}
    for response in (
        client.post("/users/", json=carl | clash),
        client.put("/users/2", json=BOB | clash),
        client.patch("/users/2", json=clash),
    ):
        assert response.status_code == 409
        assert response.json()["detail"] == f"{field} already exists"
    assert client.get("/users/2").json() == bob
    assert len(client.get("/users/").json()) == 2


def test_a_user_may_change_the_case_of_their_own_name(client: httpx2.Client) -> None:
    client.post("/users/", json=ANN)
    assert client.patch("/users/1", json={"username": "ann_1"}).json()["username"] == "ann_1"
    assert client.put("/users/1", json=ANN | {"username": "ANN_1"}).json()["username"] == "ANN_1"


# Passwords


def test_passwords_are_hashed_as_owasp_says() -> None:
    assert SLOW_HASHER.hash("Password1").startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_a_password_is_stored_as_an_argon2id_hash(client: httpx2.Client) -> None:
    client.post("/users/", json=ANN)
    first = stored_hash(1)
    assert first.startswith("$argon2id$")
    assert argon2.PasswordHasher().verify(first, "Password1")
    client.post("/users/bulk", json=[BOB | {"password": "Password1"}])
    assert stored_hash(2).startswith("$argon2id$")
    assert stored_hash(2) != first


@pytest.mark.parametrize(("method", "body"), [("PUT", BOB), ("PATCH", {"password": "Password2"})])
def test_a_password_can_be_changed(client: httpx2.Client, method: str, body: Json) -> None:
    client.post("/users/", json=ANN)
    assert client.request(method, "/users/1", json=body).status_code == 200
    assert argon2.PasswordHasher().verify(stored_hash(1), "Password2")


def test_a_change_of_something_else_keeps_the_password(client: httpx2.Client) -> None:
    client.post("/users/", json=ANN)
    before = stored_hash(1)
    client.patch("/users/1", json={"bio": "x"})
    assert stored_hash(1) == before


def test_no_answer_holds_a_password_or_its_hash(client: httpx2.Client, make: Make) -> None:
    answers = [
        client.post("/users/", json=ANN),
        client.post("/users/bulk", json=[BOB]),
        client.put("/users/1", json=ANN),
        client.patch("/users/1", json={"password": "Password1"}),
        client.get("/users/1"),
        client.get("/users/"),
        client.get("/users/search?q=a"),
        client.get("/users/by-email/bob@example.com"),
        client.get("/users/page"),
        client.get("/users/1/with-posts"),
        client.post("/users/", json=ANN),
    ]
    make("products")
    make("orders", user_id=1, items=[{"product_id": 1, "quantity": 1}])
    answers += [client.get("/orders/1/details"), client.get("/users/top-spenders")]
    for answer in answers:
        assert not re.search("passw|hash|argon2|username_key", answer.text, re.IGNORECASE)


def test_a_refused_password_or_address_is_not_quoted(client: httpx2.Client) -> None:
    body = BOB | {"password": "hunter2", "email": "bob-at-home"}
    for response in (
        client.post("/users/", json=body),
        client.post("/users/bulk", json=[body]),
        client.patch("/users/1", json=body),
    ):
        assert response.status_code == 422
        assert "hunter2" not in response.text
        assert "bob-at-home" not in response.text


# Lists and searches


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["zoe", "Bob_B", "ann"]),
        ("is_active=true", ["zoe", "ann"]),
        ("is_active=false", ["Bob_B"]),
        ("q=BOB", ["Bob_B"]),
        ("q=garden", ["zoe"]),
        ("q=ärger", ["ann"]),
        ("q=ÄRGER", ["ann"]),
        ("q=_", ["Bob_B"]),
        ("q=%25", ["ann"]),
        ("q=", ["zoe", "Bob_B", "ann"]),
        ("q=example&is_active=true", ["ann"]),
        ("sort=username", ["Bob_B", "ann", "zoe"]),
        ("sort=-username", ["zoe", "ann", "Bob_B"]),
        ("sort=created_at", ["zoe", "Bob_B", "ann"]),
        ("sort=-created_at", ["ann", "Bob_B", "zoe"]),
        ("sort=-id&limit=2", ["ann", "Bob_B"]),
    ],
)
def test_users_are_filtered_and_sorted(
    client: httpx2.Client, make: Make, query: str, found: list[str]
) -> None:
    make("users", username="zoe", email="zoe@GARDEN.org")
    make("users", username="Bob_B", email="bee@example.com")
    make("users", username="ann", email="ann@example.com", full_name="Ann Ärger 100%")
    client.patch("/users/2", json={"is_active": False})
    assert usernames(client.get(f"/users/?{query}").json()) == found


@pytest.mark.parametrize(
    "query",
    [
        "?sort=email",
        "?sort=password_hash",
        "?is_active=maybe",
        "?q=%00",
        "?name=ann",
        "search?q=%00",
        "search?q=ann&sort=username",
        "by-email/%00@example.com",
    ],
)
def test_a_bad_query_is_422(client: httpx2.Client, query: str) -> None:
    assert client.get(f"/users/{query}").status_code == 422


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("ANN", ["ann", "bob"]),
        ("garden", ["carl"]),
        ("Ärger", ["ann"]),
        ("äRGER", ["ann"]),
        ("%", []),
        ("_", []),
        ("nobody", []),
    ],
)
def test_searching_looks_at_username_address_and_full_name(
    client: httpx2.Client, make: Make, q: str, found: list[str]
) -> None:
    make("users", username="ann", full_name="A. Ärger", email="a@example.com", bio="garden")
    make("users", username="bob", full_name="Johannes B.", email="b@example.com")
    make("users", username="carl", email="c@garden.org")
    assert usernames(client.get("/users/search", params={"q": q}).json()) == found


def test_searching_goes_page_by_page(client: httpx2.Client, make: Make) -> None:
    for _ in range(3):
        make("users")
    first = client.get("/users/search?q=user&limit=2&count=true")
    assert usernames(first.json()) == ["user1", "user2"]
    assert first.headers["X-Total-Count"] == "3"
    last = client.get(first.links["next"]["url"])
    assert usernames(last.json()) == ["user3"]
    assert "Link" not in last.headers
    assert usernames(client.get("/users/search?q=user&skip=1").json()) == ["user2", "user3"]


@pytest.mark.parametrize(
    "email", ["ann.lee@example.com", "Ann.Lee@Example.com", "ANN.LEE%40EXAMPLE.COM"]
)
def test_a_user_is_found_by_address_in_any_case(client: httpx2.Client, email: str) -> None:
    user = client.post("/users/", json=ANN).json()
    response = client.get(f"/users/by-email/{email}")
    assert (response.status_code, response.json()) == (200, user)


@pytest.mark.needs("posts", "tags")
def test_a_user_is_given_with_their_own_posts(client: httpx2.Client, make: Make) -> None:
    ann, bob = make("users"), make("users")
    make("posts", author_id=1, title="First")
    make("posts", author_id=2, title="Other")
    make("posts", author_id=1, title="Second")
    answer = client.get("/users/1/with-posts").json()
    assert list(answer) == [*KEYS, "posts"]
    assert [post["title"] for post in answer.pop("posts")] == ["First", "Second"]
    assert answer == ann
    client.delete("/posts/2")
    assert client.get("/users/2/with-posts").json() == bob | {"posts": []}


@pytest.mark.parametrize(
    ("query", "ids", "page", "size", "pages", "has_next", "has_previous"),
    [
        ("", [5, 4, 3, 2, 1], 1, 20, 1, False, False),
        ("?page_size=2", [5, 4], 1, 2, 3, True, False),
        ("?page=2&page_size=2", [3, 2], 2, 2, 3, True, True),
        ("?page=3&page_size=2", [1], 3, 2, 3, False, True),
        ("?page=1&page_size=5", [5, 4, 3, 2, 1], 1, 5, 1, False, False),
        ("?page=9&page_size=5", [], 9, 5, 1, False, True),
        ("?page=2147483647&page_size=100", [], 2147483647, 100, 1, False, True),
    ],
)
def test_users_come_in_numbered_pages_newest_first(
    client: httpx2.Client,
    make: Make,
    query: str,
    ids: list[int],
    page: int,
    size: int,
    pages: int,
    has_next: bool,
    has_previous: bool,
) -> None:
    users = {n: make("users") for n in range(1, 6)}
    response = client.get(f"/users/page{query}")
    assert response.status_code == 200
    assert response.json() == {
        "items": [users[id] for id in ids],
        "total": 5,
        "page": page,
        "page_size": size,
        "total_pages": pages,
        "has_next": has_next,
        "has_previous": has_previous,
    }


def test_without_users_there_is_one_empty_answer(client: httpx2.Client) -> None:
    page = client.get("/users/page").json()
    assert (page["items"], page["total"], page["total_pages"]) == ([], 0, 0)
    assert (page["has_next"], page["has_previous"]) == (False, False)


@pytest.mark.parametrize("query", ["page=0", "page=-1", "page=2147483648", "page_size=0", "page=x"])
def test_a_page_number_out_of_range_is_422(client: httpx2.Client, query: str) -> None:
    assert client.get(f"/users/page?{query}").status_code == 422


# Many at once


def test_users_are_created_in_bulk_in_their_order(client: httpx2.Client) -> None:
    response = client.post("/users/bulk", json=[ANN, BOB])
    assert response.status_code == 201
    assert usernames(response.json()) == ["Ann_1", "bob"]
    assert response.json()[0]["email"] == "ann.lee@example.com"
    assert response.json() == client.get("/users/").json()


def test_a_hundred_users_can_be_created_at_once_and_no_more(client: httpx2.Client) -> None:
    many = [{**BOB, "username": f"u_{n}", "email": f"{n}@example.com"} for n in range(101)]
    assert client.post("/users/bulk", json=many).status_code == 422
    assert client.post("/users/bulk", json=[]).status_code == 422
    assert client.get("/users/").json() == []
    assert usernames(client.post("/users/bulk", json=many[:100]).json()) == [
        f"u_{n}" for n in range(100)
    ]


@pytest.mark.parametrize(
    ("second", "detail"),
    [
        ({"username": "BOB"}, "username already exists"),
        ({"email": "BOB@example.com"}, "email already exists"),
        ({"username": "eve"}, "username already exists"),
        ({"email": "eve@Example.com"}, "email already exists"),
    ],
)
def test_a_duplicate_in_bulk_is_409_and_creates_none(
    client: httpx2.Client, make: Make, second: dict[str, str], detail: str
) -> None:
    eve = make("users", username="Eve", email="eve@example.com")
    body = [BOB, {**ANN, **second}]
    response = client.post("/users/bulk", json=body)
    assert (response.status_code, response.json()["detail"]) == (409, detail)
    assert client.get("/users/").json() == [eve]


def test_a_bad_user_in_bulk_is_422_and_creates_none(client: httpx2.Client) -> None:
    response = client.post("/users/bulk", json=[BOB, ANN | {"username": "x"}])
    assert response.status_code == 422
    assert [error["loc"] for error in response.json()["errors"]] == [["body", 1, "username"]]
    assert client.get("/users/").json() == []


def test_users_idle_for_days_are_deactivated(client: httpx2.Client, make: Make) -> None:
    for days_ago in (0, 9.9, 10.1, 400, 400):
        last_changed(make("users")["id"], days_ago=days_ago)
    client.delete("/users/5/soft")
    last_changed(5, days_ago=400)
    response = client.patch("/users/bulk/deactivate?days=10")
    assert (response.status_code, response.json()) == (200, {"deactivated_count": 2})
    active = client.get("/users/?is_active=true").json()
    assert usernames(active) == ["user1", "user2"]
    assert client.patch("/users/bulk/deactivate?days=10").json() == {"deactivated_count": 0}


@pytest.mark.parametrize("query", ["", "?days=-1", "?days=x", "?days=1.5", "?days=9999999999999"])
def test_days_out_of_range_are_422(client: httpx2.Client, query: str) -> None:
    assert client.patch(f"/users/bulk/deactivate{query}").status_code == 422


@pytest.mark.needs("accounts", "posts")
def test_inactive_users_without_an_account_are_removed(client: httpx2.Client, make: Make) -> None:
    for _ in range(4):
        make("users")
    make("posts", author_id=1)
    make("accounts", user_id=2)
    make("accounts", user_id=2)
    make("accounts", user_id=3)
    for id in (1, 2, 4):
        client.delete(f"/users/{id}/soft")
    response = client.delete("/users/bulk/inactive")
    assert (response.status_code, response.json()) == (200, {"deleted_count": 2})
    assert usernames(client.get("/users/").json()) == ["user2", "user3"]
    assert client.get("/posts/").json() == []
    assert client.delete("/users/bulk/inactive").json() == {"deleted_count": 0}


# Deactivated and deleted


def test_a_soft_deleted_user_is_only_deactivated(client: httpx2.Client, make: Make) -> None:
    before = make("users")
    make("products")
    make("orders", user_id=1, items=[{"product_id": 1, "quantity": 1}])
    response = client.delete("/users/1/soft")
    assert response.status_code == 200
    assert response.json() == {"message": "User 1 has been deactivated"}
    after = client.get("/users/1").json()
    assert after == before | {"is_active": False, "updated_at": after["updated_at"]}
    assert "orders" not in SECTIONS or len(client.get("/orders/").json()) == 1
    assert client.delete("/users/1/soft").json() == response.json()


@pytest.mark.needs("posts", "tags")
def test_deleting_a_user_takes_posts_orders_and_notifications_along(
    client: httpx2.Client, make: Make
) -> None:
    for id in (1, 2):
        make("users")
        make("posts", author_id=id, tag_ids=[make("tags")["id"]])
        make("products", stock_quantity=5)
        make("orders", user_id=id, items=[{"product_id": id, "quantity": 2}])
    assert client.delete("/users/1").status_code == 204
    assert [post["author_id"] for post in client.get("/posts/").json()] == [2]
    assert [order["id"] for order in client.get("/orders/").json()] == [2]
    assert [n["user_id"] for n in client.get("/notifications/").json()] == [2]
    assert len(client.get("/tags/").json()) == 2
    assert client.get("/products/1").json()["stock_quantity"] == 3


@pytest.mark.needs("accounts", "posts")
def test_a_user_with_an_account_cannot_be_deleted(client: httpx2.Client, make: Make) -> None:
    user = make("users")
    make("posts", author_id=1)
    make("accounts", user_id=1)
    response = client.delete("/users/1")
    assert response.status_code == 409
    assert "user_id" in response.json()["detail"]
    assert client.get("/users/1").json() == user
    assert len(client.get("/posts/").json()) == 1


# The last superuser

STAYS = "The last superuser has to stay"
GOING: dict[str, Json] = {  # ways to lose user 1
    "DELETE /users/1": None,
    "DELETE /users/1/soft": None,
    "PATCH /users/1": {"is_superuser": False},
    "PATCH /users/1 inactive": {"is_active": False, "is_superuser": True},
}


@pytest.fixture
def shop(client: httpx2.Client, make: Make, close: Callable[[], None]) -> httpx2.Client:
    """The app in closed mode, with a superuser (1), who is its client, and another user (2)."""
    for _ in range(2):
        make("users")
    client.patch("/users/1", json={"is_superuser": True})
    close()
    return client


def without(shop: httpx2.Client, way: str, headers: dict[str, str]) -> tuple[int, str]:
    method, path, *_ = way.split()
    answer = shop.request(method, path, json=GOING[way], headers=headers)
    return answer.status_code, answer.json()["detail"] if answer.is_error else ""


@pytest.mark.parametrize("way", GOING)
def test_the_last_active_superuser_stays(shop: httpx2.Client, way: str) -> None:
    root, other = log_in(shop, "user1"), log_in(shop, "user2")
    assert without(shop, way, other)[0] == without(shop, way, {})[0] + 2 == 403
    users = shop.get("/users/", headers=root).json()
    assert without(shop, way, root) == (400, STAYS)
    assert shop.get("/users/", headers=root).json() == users
    for state, status in (("is_active", 400), ("is_superuser", 400), (None, 200)):
        second = {"is_active": True, "is_superuser": True} | ({state: False} if state else {})
        assert shop.patch("/users/2", json=second, headers=root).status_code == 200
        gone, _ = without(shop, way, root)
        assert gone // 200 == status // 200
    other = log_in(shop, "user2")
    assert shop.get("/users/", headers=other).is_success
    assert shop.delete("/users/2/soft", headers=other).json()["detail"] == STAYS


def test_the_last_superuser_may_be_changed_in_all_else(shop: httpx2.Client) -> None:
    root = log_in(shop, "user1")
    same = {"full_name": "Root", "is_active": True, "is_superuser": True}
    assert shop.patch("/users/1", json=same, headers=root).json()["full_name"] == "Root"
    sent = ANN | {"current_password": "Password1"}
    replaced = shop.put("/users/1", json=sent, headers=root).json()
    assert (replaced["username"], replaced["is_superuser"]) == ("Ann_1", True)


@pytest.mark.parametrize("way", GOING)
def test_in_open_mode_no_superuser_has_to_stay(client: httpx2.Client, make: Make, way: str) -> None:
    make("users")
    client.patch("/users/1", json={"is_superuser": True})
    assert without(client, way, {})[0] < 300


@pytest.mark.parametrize("mode", ["open", "closed"])
def test_what_is_done_to_many_leaves_superusers_alone(
    client: httpx2.Client, make: Make, close: Callable[[], None], mode: str
) -> None:
    for id, state in enumerate(({}, {"is_active": False}, {"is_superuser": False}), 1):
        make("users")
        client.patch(f"/users/{id}", json={"is_superuser": True, **state})
        last_changed(id, days_ago=400)
    if mode == "closed":
        close()
    headers = log_in(client, "user1") if mode == "closed" else {}
    response = client.patch("/users/bulk/deactivate?days=10", headers=headers)
    assert response.json() == {"deactivated_count": 1}
    assert client.delete("/users/bulk/inactive", headers=headers).json() == {"deleted_count": 1}
    left = client.get("/users/", headers=headers).json()
    assert [(user["id"], user["is_active"]) for user in left] == [(1, True), (2, False)]


# As a file


def test_users_are_exported_without_what_their_log_in_needs(
    client: httpx2.Client, make: Make
) -> None:
    user = make("users", username="Ann", bio="=1")
    file = client.get("/users/export")
    assert file.headers["Content-Disposition"] == 'attachment; filename="users.csv"'
    assert file.text == (
        "\ufeffid,username,email,full_name,bio,is_active,is_superuser,created_at,updated_at\r\n"
        f"1,Ann,user1@example.com,,'=1,true,false,{user['created_at']},{user['updated_at']}\r\n"
    )
    assert json.loads(client.get("/users/export?format=jsonl").text) == user


def test_users_cannot_be_imported(client: httpx2.Client) -> None:
    headers = {"Content-Type": "text/csv"}
    answer = client.post("/users/import", content="username\nann\n", headers=headers)
    assert answer.status_code == 405


# Numbers


def test_active_users_are_counted(client: httpx2.Client, make: Make) -> None:
    assert client.get("/users/stats/active-count").json() == {"active_users": 0}
    for _ in range(3):
        make("users")
    client.delete("/users/2/soft")
    assert client.get("/users/stats/active-count").json() == {"active_users": 2}


@pytest.mark.needs("orders")
def test_top_spenders_are_those_whose_orders_stand(client: httpx2.Client, make: Make) -> None:
    for name in ("low", "top", "none", "cancelled", "tie"):
        make("users", username=name, email=f"{name}@example.com")
    make("products", price=0.1)
    make("products", price=99999999.99)
    for user_id, product_id, quantity in [(1, 1, 3), (2, 2, 1), (2, 2, 1), (5, 1, 2), (5, 1, 1)]:
        make("orders", user_id=user_id, items=[{"product_id": product_id, "quantity": quantity}])
    for user_id in (1, 4):
        order = make("orders", user_id=user_id, items=[{"product_id": 1, "quantity": 9}])
        client.patch(f"/orders/{order['id']}/status?new_status=cancelled")
    expected = [
        spender("top", 2, 199999999.98),
        spender("low", 1, 0.3),
        spender("tie", 2, 0.3),
    ]
    assert client.get("/users/top-spenders").json() == expected
    assert client.get("/users/top-spenders?limit=1").json() == expected[:1]
    assert list(client.get("/users/top-spenders").json()[0]) == list(expected[0])


def spender(name: str, orders: int, total: float) -> Json:
    return {
        "username": name,
        "email": f"{name}@example.com",
        "order_count": orders,
        "total_spent": total,
    }


@pytest.mark.parametrize("limit", ["0", "-1", "101", "x"])
def test_a_limit_of_spenders_out_of_range_is_422(client: httpx2.Client, limit: str) -> None:
    assert client.get(f"/users/top-spenders?limit={limit}").status_code == 422


@pytest.mark.parametrize("letters", [1, 40, 60, 85, 86, 100, 120, 200])
def test_an_address_that_grows_in_lower_case_is_stored_or_422(
    client: httpx2.Client, letters: int
) -> None:
    created = client.post("/users/", json=ANN | {"email": "İ" * letters + "@example.com"})
    assert created.status_code in (201, 422)
    client.post("/users/", json=BOB)
    changed = client.patch("/users/1", json={"email": "İ" * letters + "@example.org"})
    assert changed.status_code in (200, 404, 422)
    for user in client.get("/users/").json():
        whole = "/with-posts" if "posts" in SECTIONS else ""
        assert client.get(f"/users/{user['id']}{whole}").json()["email"] == user["email"]
        assert client.get(f"/users/by-email/{user['email']}").json() == user
