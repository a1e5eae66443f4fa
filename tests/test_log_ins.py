"""With SECRET_KEY: log-ins, their tokens and failures, and what browsers are told."""

import base64
import functools
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx2
import jwt
import pytest
import sqlalchemy as sa
from conftest import KEY, ORIGIN, Build, Json, Make, headers_of, log_in
from servers import Process, at_once, create_user, serving, statuses
from sqlmodel import Session, col, select

import db
import kit
import main
from kit import passwords
from kit.log_ins import Tries
from kit.ownership import NOT_YOURS
from models import User

At = Callable[[str], httpx2.Client]
Close = Callable[[], None]

ROOT, ANN, BOB = 1, 2, 3  # the users of the shop
ROUTES = {"owner": f"/users/{ANN}", "superuser": "/users/", "anyone": "/items/1"}
PUBLIC = ["/", "/health", "/health/db"]


@pytest.fixture
def shop(client: httpx2.Client, built: Callable[[Build], None], close: Close) -> httpx2.Client:
    """The app in closed mode, with an item, a superuser and two other users."""
    built(fill)
    close()
    return client


def fill(make: Make) -> None:
    for name in ("root", "Ann", "bob"):
        make("users", username=name, email=f"{name}@Example.com")
    assert make.client.patch(f"/users/{ROOT}", json={"is_superuser": True}).status_code == 200
    make("items")


def try_name(client: httpx2.Client, name: str, password: str = "Password1") -> httpx2.Response:
    return client.post("/token", data={"username": name, "password": password})


def stored(user_id: int) -> User:
    with Session(db.database.writer.engine) as session:
        return session.get_one(User, user_id)


def failures() -> list[Tries]:
    with Session(db.database.writer.engine) as session:
        return list(session.exec(select(Tries)))


def age_failures(seconds: float, last: int | None = None) -> None:
    """Make the failures (of each row the last so many) that much older."""
    with Session(db.database.writer.engine) as session:
        for row in session.exec(select(Tries)):
            kept = [] if last is None else row.times[:-last]
            row.times = [moment - seconds for moment in row.times[len(kept) :]] + kept
            session.add(row)
        session.commit()


def claims_for(user_id: int) -> dict[str, Any]:
    now = int(time.time())
    return {"sub": str(user_id), "stamp": stored(user_id).stamp, "iat": now, "exp": now + 3600}


def bearer(claims: dict[str, Any], key: str = KEY, algorithm: str = "HS256") -> dict[str, str]:
    return {"Authorization": f"Bearer {jwt.encode(claims, key, algorithm)}"}


def assert_is_dead(client: httpx2.Client, authorization: bytes | dict[str, str]) -> None:
    """A bad token is refused by every kind of route but the public ones."""
    if isinstance(authorization, dict):
        authorization = authorization["Authorization"].encode()
    headers = [(b"Authorization", authorization)]
    for path in ROUTES.values():
        answer = client.get(path, headers=headers)
        assert answer.status_code == 401, (path, authorization[:100], answer.text)
        assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.headers["Cache-Control"] == "no-store"
    for path in PUBLIC:
        assert client.get(path, headers=headers).status_code == 200


# Log-ins


def test_a_log_in_gives_a_token_that_holds_nothing_personal(shop: httpx2.Client) -> None:
    answer = try_name(shop, "Ann")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    body = answer.json()
    assert set(body) == {"access_token", "token_type", "expires_in"}
    assert (body["token_type"], body["expires_in"]) == ("bearer", db.settings.token_ttl)
    token = body["access_token"]
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
    claims = jwt.decode(token, KEY, ["HS256"])
    assert set(claims) == {"sub", "iat", "exp", "stamp"}
    assert (claims["sub"], claims["stamp"]) == (str(ANN), stored(ANN).stamp)
    assert claims["exp"] - claims["iat"] == db.settings.token_ttl
    me = shop.get("/users/me", headers={"Authorization": f"Bearer {token}"})
    assert me.json()["username"] == "Ann"


def test_a_token_lasts_as_long_as_the_setting_says(
    shop: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db.settings, "token_ttl", 7)
    body = try_name(shop, "ann").json()
    claims = jwt.decode(body["access_token"], KEY, ["HS256"])
    assert body["expires_in"] == claims["exp"] - claims["iat"] == 7


@pytest.mark.every_database
@pytest.mark.parametrize("name", ["Ann", "ann", "ANN", "ann@example.com", "ANN@EXAMPLE.COM"])
def test_names_and_addresses_are_taken_in_any_case(shop: httpx2.Client, name: str) -> None:
    assert shop.get("/users/me", headers=log_in(shop, name)).json()["id"] == ANN
    assert try_name(shop, name, "password1").status_code == 401


def test_the_form_is_that_of_oauth2(shop: httpx2.Client) -> None:
    form = {"grant_type": "password", "scope": "", "username": "ann", "password": "Password1"}
    assert shop.post("/token", data=form).status_code == 200
    assert shop.post("/api/v1/token", data=form).status_code == 200
    assert shop.post("/token", data=form | {"grant_type": "code"}).status_code == 422
    assert shop.post("/token", data={"username": "ann"}).status_code == 422
    for wrong in (shop.post("/token", json=form), shop.post("/token")):
        assert wrong.status_code == 422
        assert "Password1" not in wrong.text


def test_a_wrong_name_a_wrong_password_and_a_deactivated_user_look_the_same(
    shop: httpx2.Client,
) -> None:
    root = log_in(shop, "root")
    assert shop.delete(f"/users/{BOB}/soft", headers=root).status_code == 200
    answers = [
        try_name(shop, "nobody"),
        try_name(shop, "nobody@example.com"),
        try_name(shop, "ann", "Password2"),
        try_name(shop, "bob"),
        try_name(shop, "bob", "Password2"),
    ]
    first = answers[0]
    assert (first.status_code, first.headers["WWW-Authenticate"]) == (401, "Bearer")
    for answer in answers:
        assert (answer.status_code, answer.content) == (401, first.content)
        assert headers_of(answer) == headers_of(first)


@pytest.mark.every_database
@pytest.mark.parametrize(
    "name", ["ann ", " ann", "\u00e1nn", "an\u0144", "ann\u200b", "%", "_nn", "ann'--", "Ann\t"]
)
def test_a_name_is_no_other_that_looks_like_it(shop: httpx2.Client, name: str) -> None:
    assert try_name(shop, name).status_code == 401


@pytest.mark.every_database
@pytest.mark.parametrize("value", ["a\x00b", "x" * 255, "\U0001f600" * 600])
def test_a_hostile_name_or_password_is_no_fault(shop: httpx2.Client, value: str) -> None:
    assert try_name(shop, value).status_code in (401, 422)
    assert try_name(shop, "ann", value).status_code in (401, 422)


def test_a_password_that_is_no_text_is_no_fault(shop: httpx2.Client) -> None:
    fields = {"username": "ann", "password": "+2AA-"}  # U+D800 in UTF-7
    parts = [
        f'--x\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}' for n, v in fields.items()
    ]
    body = "\r\n".join([*parts, "--x--", ""])
    headers = {"Content-Type": "multipart/form-data; boundary=x; charset=utf-7"}
    assert shop.post("/token", content=body, headers=headers).status_code in (401, 422)


# Failures


@pytest.mark.every_database
def test_after_ten_failures_for_a_name_the_right_password_has_to_wait(
    shop: httpx2.Client, client_at: At
) -> None:
    for n in range(10):
        assert try_name(client_at(f"198.51.100.{n}"), "ann", "Wrong1").status_code == 401
    for name in ("ann", "ANN"):
        locked = try_name(client_at("198.51.100.99"), name)
        assert locked.status_code == 429
        assert locked.headers["Content-Type"] == "application/problem+json"
        assert locked.headers["Cache-Control"] == "no-store"
        assert 1 <= int(locked.headers["Retry-After"]) <= 300
    log_in(client_at("198.51.100.1"), "bob")


def test_after_ten_failures_from_an_address_it_has_to_wait(
    shop: httpx2.Client, client_at: At
) -> None:
    ann = log_in(shop, "ann")
    for n in range(10):
        assert try_name(client_at("198.51.100.7"), f"user{n}").status_code == 401
    locked = try_name(client_at("198.51.100.7"), "ann")
    assert locked.status_code == 429
    assert 1 <= int(locked.headers["Retry-After"]) <= 300
    log_in(client_at("198.51.100.8"), "ann")
    assert client_at("198.51.100.7").get("/users/me", headers=ann).status_code == 200


def test_an_ipv6_network_of_64_bits_counts_as_one_address(
    shop: httpx2.Client, client_at: At
) -> None:
    for n in range(10):
        assert try_name(client_at(f"2001:db8:0:1::{n}"), f"user{n}").status_code == 401
    assert try_name(client_at("2001:db8:0:1:ffff::1"), "ann").status_code == 429
    log_in(client_at("2001:db8:0:2::1"), "ann")


def test_ipv4_addresses_within_ipv6_are_told_apart(shop: httpx2.Client, client_at: At) -> None:
    for n in range(10):
        assert try_name(client_at("::ffff:198.51.100.7"), f"user{n}").status_code == 401
    assert try_name(client_at("::ffff:198.51.100.7"), "ann").status_code == 429
    log_in(client_at("::ffff:198.51.100.8"), "ann")


@pytest.mark.every_database
def test_old_failures_do_not_count(shop: httpx2.Client) -> None:
    for _ in range(10):
        try_name(shop, "ann", "Wrong1")
    age_failures(200)
    locked = try_name(shop, "ann")
    assert locked.status_code == 429
    assert 1 <= int(locked.headers["Retry-After"]) <= 100
    age_failures(101)
    log_in(shop, "ann")


@pytest.mark.every_database
def test_only_failures_of_the_last_five_minutes_are_counted(shop: httpx2.Client) -> None:
    for _ in range(9):
        try_name(shop, "ann", "Wrong1")
    age_failures(301, last=4)
    for _ in range(5):
        assert try_name(shop, "ann", "Wrong1").status_code == 401
    assert try_name(shop, "ann").status_code == 429


def test_refused_tries_are_not_failures_that_make_it_last(shop: httpx2.Client) -> None:
    for _ in range(10):
        try_name(shop, "ann", "Wrong1")
    before = [row.times for row in failures()]
    assert try_name(shop, "ann", "Wrong1").status_code == 429
    assert [row.times for row in failures()] == before


@pytest.mark.every_database
def test_failures_are_deleted_in_passing_when_they_are_old(shop: httpx2.Client) -> None:
    try_name(shop, "nobody", "Wrong1")
    with db.database.writer.engine.begin() as connection:
        long_ago = datetime(2020, 1, 1, tzinfo=UTC)
        connection.execute(sa.update(Tries).values(updated_at=long_ago))
    log_in(shop, "ann")
    assert failures() == []


def test_a_log_in_that_succeeds_records_nothing(shop: httpx2.Client) -> None:
    for _ in range(12):
        log_in(shop, "ann")
    assert failures() == []


def test_failures_keep_no_names_in_clear(shop: httpx2.Client) -> None:
    try_name(shop, "Password1", "ann")
    with db.database.writer.engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT * FROM log_in_failures")).all()
    assert len(rows) == 2
    assert not re.search(r"password1|127\.0\.0\.1|ann", str(rows), re.IGNORECASE)


# Tokens


def test_who_sends_no_token_is_asked_for_one(shop: httpx2.Client) -> None:
    for headers in ({}, {"Authorization": ""}, {"Authorization": "Basic YW5uOlBhc3N3b3JkMQ=="}):
        for path in (ROUTES["owner"], ROUTES["superuser"], "/users/me", "/users/1"):
            answer = shop.get(path, headers=headers)
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert answer.headers["Cache-Control"] == "no-store"
    for path in [*PUBLIC, ROUTES["anyone"]]:
        assert shop.get(path).status_code == 200


def test_the_scheme_may_be_written_in_any_case(shop: httpx2.Client) -> None:
    token = log_in(shop, "ann")["Authorization"].removeprefix("Bearer ")
    for scheme in ("Bearer", "bearer", "BEARER"):
        headers = {"Authorization": f"{scheme} {token}"}
        assert shop.get("/users/me", headers=headers).status_code == 200


def test_another_scheme_opens_nothing(shop: httpx2.Client) -> None:
    token = log_in(shop, "ann")["Authorization"].removeprefix("Bearer ")
    for value in (f"Basic {token}", f"Token {token}", token, f"Bearer{token}", f"JWT {token}"):
        for path in (ROUTES["owner"], ROUTES["superuser"]):
            answer = shop.get(path, headers={"Authorization": value})
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_token_that_was_made_elsewhere_is_refused(shop: httpx2.Client) -> None:
    claims = claims_for(ROOT)
    assert shop.get("/users/", headers=bearer(claims)).status_code == 200  # made as it should be
    assert_is_dead(shop, bearer(claims, "another key, which is of more than 32 characters"))
    assert_is_dead(shop, bearer(claims, KEY.upper()))
    assert_is_dead(shop, bearer(claims, "", "none"))
    assert_is_dead(shop, bearer(claims, KEY * 2, "HS512"))


@pytest.mark.parametrize("algorithm", ["none", "None", "HS384", "HS512", "RS256", "ES256", "", "x"])
def test_the_header_of_a_token_cannot_choose_the_algorithm(
    shop: httpx2.Client, algorithm: str
) -> None:
    _, payload, signature = jwt.encode(claims_for(ROOT), KEY, "HS256").split(".")
    header = encoded(json.dumps({"alg": algorithm, "typ": "JWT"}))
    for end in (signature, ""):
        assert_is_dead(shop, f"Bearer {header}.{payload}.{end}".encode())


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def test_a_token_that_was_changed_is_refused(shop: httpx2.Client) -> None:
    token = log_in(shop, "ann")["Authorization"].removeprefix("Bearer ")
    header, payload, signature = token.split(".")
    other = encoded(json.dumps(claims_for(ROOT)))
    for forged in (
        f"{header}.{other}.{signature}",
        f"{header}.{payload}.{signature[::-1]}",
        f"{header}.{payload}.",
        f"{header}.{payload}",
        f"{header}.{payload}.{signature}.",
        f"{header}..{signature}",
        f".{payload}.{signature}",
        token[:-1],
        f"{token} {token}",
        f"{token}, Bearer {token}",
    ):
        assert_is_dead(shop, f"Bearer {forged}".encode())


@pytest.mark.parametrize("claim", ["sub", "stamp", "iat", "exp"])
def test_a_token_needs_all_its_claims(shop: httpx2.Client, claim: str) -> None:
    claims = claims_for(ROOT)
    del claims[claim]
    assert_is_dead(shop, bearer(claims))
    assert_is_dead(shop, bearer(claims | {claim: None}))


@pytest.mark.parametrize(
    ("claim", "values"),
    [
        (
            "sub",
            [ROOT, True, 1.0, [], {}, "", "x", "0", "-1", "+1", " 1", "1.0", "9" * 30, "\u0661"],
        ),
        ("stamp", [0, True, [], {}, "", "x" * 500, "\u00e9", "' OR 1=1 --"]),
        ("iat", ["x", [], {}, "", 0.5]),
        ("exp", ["x", [], {}, "", True, 0, -1, 1e9]),
    ],
)
def test_a_claim_of_a_wrong_kind_is_refused(
    shop: httpx2.Client, claim: str, values: list[Json]
) -> None:
    for value in values:
        # Made here, since the library checks some claims when it encodes them.
        payload = json.dumps(claims_for(ROOT) | {claim: value}).encode()
        token = jwt.api_jws.encode(payload, KEY, "HS256", {"typ": "JWT"})
        assert_is_dead(shop, f"Bearer {token}".encode())


@pytest.mark.parametrize("payload", ["[]", "1", '"x"', "null", "{", "", "{}", "\u00e9"])
def test_a_token_that_holds_something_else_is_refused(shop: httpx2.Client, payload: str) -> None:
    assert_is_dead(shop, f"Bearer {jwt.api_jws.encode(payload.encode(), KEY)}".encode())


def test_an_expired_token_is_refused(shop: httpx2.Client) -> None:
    now = int(time.time())
    assert_is_dead(shop, bearer(claims_for(ANN) | {"exp": now - 1, "iat": now - 3601}))
    assert_is_dead(shop, bearer(claims_for(ANN) | {"exp": now, "iat": now}))


HOSTILE: list[bytes] = [
    b"Bearer",
    b"Bearer ",
    b"Bearer nonsense",
    b"Bearer .",
    b"Bearer ..",
    b"Bearer ...",
    b"Bearer " + b"." * 1000,
    b"Bearer null",
    b"Bearer a.b.c",
    b"Bearer ====.====.====",
    b"Bearer \xe9\xff\x80",
    b"Bearer \xe9.\xff.\x80",
    b"Bearer " + bytes(range(0x80, 0x100)),
    b"Bearer " + "\u00e9.\u65e5.\u672c".encode(),
    b"Bearer %00.%00.%00",
    b"Bearer ' OR 1=1 --",
    b"Bearer {}.{}.{}",
    b"Bearer " + b"x" * 60_000,
    b"Bearer " + b"x." * 30_000,
    b"Bearer " + encoded("[" * 300).encode() + b".e30.x",
    b"Bearer " + encoded("[" * 40_000).encode() + b".e30.x",
    b"Bearer " + encoded('{"alg":' * 6_000).encode() + b".e30.x",
    b"Bearer " + encoded('{"alg":"HS256"}').encode() + b"." + encoded("[" * 600).encode() + b".x",
    b"Bearer " + encoded('{"alg":["HS256"]}').encode() + b".e30.x",
    b"Bearer " + encoded('{"alg":null}').encode() + b".e30.x",
    b"Bearer " + encoded('{"alg":"HS256","kid":1}').encode() + b".e30.x",
    b"Bearer " + encoded('{"alg":"HS256","crit":["b64"],"b64":false}').encode() + b"..x",
    b"Bearer " + encoded('{"alg":"HS256","n":1e999,"m":NaN}').encode() + b".e30.x",
    b"Bearer " + encoded('{"alg":"HS256","n":' + "9" * 600 + "}").encode() + b".e30.x",
    b"Bearer " + encoded('{"alg":"\\ud800"}').encode() + b".e30.x",
]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value[:30]))
def test_what_is_no_token_is_refused_and_never_a_fault(shop: httpx2.Client, value: bytes) -> None:
    assert_is_dead(shop, value)


def test_a_refused_token_is_not_quoted(shop: httpx2.Client) -> None:
    for path in ROUTES.values():
        answer = shop.get(path, headers={"Authorization": "Bearer SomeSecretToken"})
        assert "SomeSecretToken" not in answer.text + str(answer.headers)


def test_a_bad_token_comes_before_what_else_is_wrong(shop: httpx2.Client) -> None:
    bad = {"Authorization": "Bearer x"}
    for path in ("/items/x", "/items/?nonsense=1", "/items/99", "/users/x", "/users/99"):
        assert shop.get(path, headers=bad).status_code == 401
    assert shop.post("/items/", json={}, headers=bad).status_code == 401
    assert shop.post("/users/", json={}, headers=bad).status_code == 401
    assert shop.post("/items/", json={}).status_code == 401
    assert shop.post("/items/", json={}, headers=log_in(shop, "ann")).status_code == 403


# What ends a token


@pytest.mark.every_database
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_new_password_ends_the_tokens(shop: httpx2.Client, method: str) -> None:
    old, elsewhere, bob = log_in(shop, "ann"), log_in(shop, "ann"), log_in(shop, "bob")
    body = {"password": "Password2", "current_password": "Password1"}
    if method == "PUT":
        body |= {"username": "Ann", "email": "ann@example.com"}
    assert shop.request(method, f"/users/{ANN}", json=body, headers=old).status_code == 200
    assert_is_dead(shop, old)
    assert_is_dead(shop, elsewhere)
    assert try_name(shop, "ann").status_code == 401
    new = log_in(shop, "ann", "Password2")
    for headers in (new, bob):
        assert shop.get("/users/me", headers=headers).status_code == 200


def test_logging_out_ends_all_tokens_of_the_user_and_changes_nothing_else(
    shop: httpx2.Client,
) -> None:
    old, elsewhere, bob = log_in(shop, "ann"), log_in(shop, "ann"), log_in(shop, "bob")
    before = shop.get(f"/users/{ANN}", headers=old)
    answer = shop.post("/logout", headers=old)
    assert (answer.status_code, answer.content) == (204, b"")
    assert_is_dead(shop, old)
    assert_is_dead(shop, elsewhere)
    assert shop.post("/logout", headers=old).status_code == 401
    assert shop.get("/users/me", headers=bob).status_code == 200
    after = shop.get(f"/users/{ANN}", headers=log_in(shop, "ann"))
    assert (after.json(), after.headers["ETag"]) == (before.json(), before.headers["ETag"])


def test_in_open_mode_logging_out_does_nothing(client: httpx2.Client, make: Make) -> None:
    make("users")
    before = stored(1)
    assert client.post("/logout").status_code == 204
    assert stored(1) == before


def test_a_change_of_something_else_ends_no_token(shop: httpx2.Client) -> None:
    ann, body = log_in(shop, "ann"), {"bio": "x", "email": "ann@example.org", "username": "Anna"}
    body["current_password"] = "Password1"
    assert shop.patch(f"/users/{ANN}", json=body, headers=ann).status_code == 200
    assert shop.get("/users/me", headers=ann).json()["username"] == "Anna"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", f"/users/{ANN}", {"is_active": False}),
        ("DELETE", f"/users/{ANN}/soft", None),
        ("PATCH", "/users/bulk/deactivate?days=30", None),
    ],
)
def test_a_token_stays_dead_when_its_user_is_activated_again(
    shop: httpx2.Client, method: str, path: str, body: Json
) -> None:
    root, old = log_in(shop, "root"), log_in(shop, "ann")
    with db.database.writer.engine.begin() as connection:  # for the one that is about idle users
        long_ago = datetime(2020, 1, 1, tzinfo=UTC)
        connection.execute(sa.update(User).where(col(User.id) == ANN).values(updated_at=long_ago))
    assert shop.request(method, path, json=body, headers=root).status_code == 200
    assert_is_dead(shop, old)
    assert try_name(shop, "ann").status_code == 401
    again = shop.patch(f"/users/{ANN}", json={"is_active": True}, headers=root)
    assert again.status_code == 200
    assert_is_dead(shop, old)
    assert shop.get("/users/me", headers=log_in(shop, "ann")).status_code == 200


def test_the_token_of_a_deleted_user_is_refused(shop: httpx2.Client) -> None:
    root, bob = log_in(shop, "root"), log_in(shop, "bob")
    assert shop.delete(f"/users/{BOB}", headers=root).status_code == 204
    assert_is_dead(shop, bob)
    assert_is_dead(shop, bearer(claims_for(ANN) | {"sub": "99"}))


@pytest.mark.every_database
def test_who_is_promoted_may_act_at_once_and_who_is_demoted_no_more(shop: httpx2.Client) -> None:
    root, ann = log_in(shop, "root"), log_in(shop, "ann")
    item = {"title": "Lamp", "price": 1}
    for is_superuser, status in ((True, 201), (False, 403), (True, 201)):
        body = {"is_superuser": is_superuser}
        assert shop.patch(f"/users/{ANN}", json=body, headers=root).status_code == 200
        assert shop.post("/items/", json=item, headers=ann).status_code == status
        assert shop.get("/users/", headers=ann).status_code == (200 if is_superuser else 403)
    assert shop.get(f"/users/{BOB}", headers=ann).status_code == 200


def test_nobody_promotes_themselves(shop: httpx2.Client) -> None:
    ann, new = log_in(shop, "ann"), {"username": "eve", "email": "e@e.org", "password": "Password1"}
    for body in ({"is_superuser": True}, {"is_active": True}):
        assert shop.patch(f"/users/{ANN}", json=body, headers=ann).status_code == 403
    assert shop.post("/users/", json=new | {"is_superuser": True}).status_code == 422
    assert not stored(ANN).is_superuser


# The current password

NEEDED, WRONG = "Your current password is needed", "The current password is wrong"
REPLACEMENT = {"username": "Ann", "email": "ann@example.com", "password": "Password2"}


@pytest.mark.parametrize(
    ("who", "method", "body", "detail"),
    [
        ("ann", "PATCH", {"password": "Password2"}, NEEDED),
        ("ann", "PATCH", {"email": "new@example.com"}, NEEDED),
        ("ann", "PATCH", {"email": "new@example.com", "current_password": ""}, NEEDED),
        ("ann", "PATCH", {"email": "new@example.com", "current_password": "Password2"}, WRONG),
        ("ann", "PATCH", {"password": "Password2", "current_password": "Password2"}, WRONG),
        ("ann", "PUT", REPLACEMENT, NEEDED),
        ("ann", "PUT", REPLACEMENT | {"current_password": "Password2"}, WRONG),
        ("bob", "PATCH", {"password": "Password2", "current_password": "Password1"}, NOT_YOURS),
        ("ann", "PATCH", {"password": "Password2", "current_password": "Password1"}, None),
        ("ann", "PATCH", {"email": "new@example.com", "current_password": "Password1"}, None),
        ("ann", "PATCH", {"email": "ANN@example.com"}, None),
        ("ann", "PATCH", {"username": "anna", "bio": "New"}, None),
        ("ann", "PUT", REPLACEMENT | {"current_password": "Password1"}, None),
        ("root", "PATCH", {"password": "Password2", "email": "new@example.com"}, None),
        ("root", "PUT", REPLACEMENT, None),
    ],
)
def test_a_token_alone_changes_neither_the_password_nor_the_address(
    shop: httpx2.Client, who: str, method: str, body: Json, detail: str | None
) -> None:
    headers, before = log_in(shop, who), stored(ANN)
    answer = shop.request(method, f"/users/{ANN}", json=body, headers=headers)
    if detail is None:
        assert answer.status_code == 200, answer.text
        assert "current_password" not in answer.text
        return
    assert (answer.status_code, answer.json()["detail"]) == (403, detail)
    assert stored(ANN) == before
    assert len(failures()) == (2 if detail == WRONG else 0)  # for the name, and from the address


def test_a_superuser_needs_it_for_themself_too(shop: httpx2.Client) -> None:
    root, body = log_in(shop, "root"), {"password": "Password2"}
    refused = shop.patch(f"/users/{ROOT}", json=body, headers=root)
    assert (refused.status_code, refused.json()["detail"]) == (403, NEEDED)
    body["current_password"] = "Password1"
    assert shop.patch(f"/users/{ROOT}", json=body, headers=root).status_code == 200


def test_the_current_password_is_that_of_the_user_whoever_has_the_name_by_then(
    shop: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def bob(*_: Any) -> User:
        return stored(BOB)

    ann = log_in(shop, "ann")
    monkeypatch.setattr(db.log_ins, "user_of", bob)
    body = {"password": "Password2", "current_password": "Password1"}
    refused = shop.patch(f"/users/{ANN}", json=body, headers=ann)
    assert (refused.status_code, refused.json()["detail"]) == (403, WRONG)


def test_a_condition_comes_before_a_name_that_is_taken(shop: httpx2.Client) -> None:
    headers = log_in(shop, "root") | {"If-Match": '"99"'}
    for body in ({"email": "bob@example.com"}, {"username": "bob"}):
        assert shop.patch(f"/users/{ANN}", json=body, headers=headers).status_code == 412


def test_a_current_password_is_guessed_no_more_often_than_at_a_log_in(
    shop: httpx2.Client, client_at: At
) -> None:
    ann, body = log_in(shop, "ann"), {"email": "new@example.com"}
    for n in range(10):
        wrong = client_at(f"198.51.100.{n}").patch(
            f"/users/{ANN}", json=body | {"current_password": "Wrong1"}, headers=ann
        )
        assert (wrong.status_code, wrong.json()["detail"]) == (403, WRONG)
    right = body | {"current_password": "Password1"}
    locked = [
        client_at("198.51.100.99").patch(f"/users/{ANN}", json=right, headers=ann),
        try_name(client_at("198.51.100.99"), "ann"),
    ]
    for answer in locked:
        assert answer.status_code == 429
        assert 1 <= int(answer.headers["Retry-After"]) <= 300
    age_failures(301)
    assert shop.patch(f"/users/{ANN}", json=right, headers=ann).status_code == 200


def test_in_open_mode_nobody_is_asked_for_it(client: httpx2.Client, make: Make) -> None:
    make("users")
    for body in ({"password": "Password2"}, {"email": "new@example.com", "current_password": "x"}):
        assert client.patch("/users/1", json=body).status_code == 200
    new = {"username": "eve", "email": "eve@example.com", "password": "Password1"}
    refused = client.post("/users/", json=new | {"current_password": "x"})
    assert (refused.status_code, refused.json()["errors"][0]["loc"][-1]) == (
        422,
        "current_password",
    )


# Sign-ups


def sign_up(client: httpx2.Client, name: str, **headers: str) -> httpx2.Response:
    body = {"username": name, "email": f"{name}@example.com", "password": "Password1"}
    return client.post("/users/", json=body, headers=headers)


def test_after_twenty_sign_ups_from_an_address_it_has_to_wait(
    shop: httpx2.Client, client_at: At
) -> None:
    here, root, ann = client_at("198.51.100.7"), log_in(shop, "root"), log_in(shop, "ann")
    assert here.post("/users/", json={"username": "x"}).status_code == 422  # which do not count
    for n in range(10):
        assert sign_up(here, f"new{n}").status_code == 201
        assert sign_up(here, f"new{n}", **(ann if n % 2 else {})).status_code == 409
    for headers in ({}, ann):
        refused = sign_up(here, "eve", **headers)
        assert (refused.status_code, refused.headers["Content-Type"]) == (
            429,
            "application/problem+json",
        )
        assert refused.json()["detail"] == "Too many sign-ups from here. Please try again later"
        assert 1 <= int(refused.headers["Retry-After"]) <= 300
    assert sign_up(here, "eve", **root).status_code == 201
    assert sign_up(client_at("198.51.100.8"), "bea").status_code == 201
    log_in(here, "eve")
    age_failures(301)
    assert sign_up(here, "zoe").status_code == 201


def test_superusers_may_sign_up_any_number(shop: httpx2.Client) -> None:
    root = log_in(shop, "root")
    for n in range(25):
        assert sign_up(shop, f"new{n}", **root).status_code == 201
    assert failures() == []


@pytest.fixture
def _nothing_is_hashed() -> Iterator[None]:
    """All threads that hash are busy until the end of the test: an answer came without them."""
    done = threading.Event()
    for _ in range(max(1, (os.cpu_count() or 1) // 2)):
        passwords.hashing.submit(done.wait)
    passwords.storing.submit(done.wait)
    yield
    done.set()


NEW = {"username": "new", "email": "new@example.com", "password": "Password1"}
MINE = {"password": "Password2", "current_password": "Password1"}


@pytest.mark.parametrize(
    ("who", "method", "path", "body", "status", "detail"),
    [
        ("", "POST", "/users/", NEW | {"username": "ANN"}, 409, "username already"),
        ("", "POST", "/users/", NEW | {"email": "Bob@example.com"}, 409, "email already"),
        ("root", "POST", "/users/bulk", [NEW, NEW], 409, "username already"),
        (
            "root",
            "POST",
            "/users/bulk",
            [NEW, NEW | {"username": "a_b"}],
            409,
            "email already",
        ),
        (
            "root",
            "POST",
            "/users/bulk",
            [NEW | {"username": "bob"}],
            409,
            "username already",
        ),
        ("root", "PUT", f"/users/{ANN}", NEW | {"username": "bob"}, 409, "username already"),
        ("root", "PUT", "/users/99", NEW, 404, "User not found"),
        (
            "ann",
            "PATCH",
            f"/users/{ANN}",
            MINE | {"username": "bob"},
            409,
            "username already",
        ),
        ("ann", "PATCH", f"/users/{ANN}", {"password": "Password2"}, 403, NEEDED),
        ("ann", "PATCH", f"/users/{BOB}", MINE, 403, NOT_YOURS),
        ("ann", "PUT", f"/users/{BOB}", NEW, 403, NOT_YOURS),
        ("ann", "PATCH", "/users/99", MINE, 404, "User not found"),
        ("ann", "PATCH", f"/users/{ANN}", {"email": "ann@example.com"}, 200, None),
    ],
)
def test_what_can_be_told_without_hashing_is_told_before_it(
    shop: httpx2.Client,
    request: pytest.FixtureRequest,
    who: str,
    method: str,
    path: str,
    body: Json,
    status: int,
    detail: str | None,
) -> None:
    headers = log_in(shop, who) if who else {}
    request.getfixturevalue("_nothing_is_hashed")
    answer = shop.request(method, path, json=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert detail is None or answer.json()["detail"].startswith(detail)


def test_a_log_in_does_not_wait_for_the_sign_ups_that_wait(shop: httpx2.Client) -> None:
    done = threading.Event()
    passwords.storing.submit(done.wait)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(sign_up, shop, "eve")
        log_in(shop, "ann")
        assert not waiting.done()
        done.set()
        assert waiting.result().status_code == 201


# Secrets, caches and browsers


def test_no_answer_and_no_document_holds_a_secret(shop: httpx2.Client) -> None:
    root, ann = log_in(shop, "root"), log_in(shop, "ann")
    new = {"username": "eve", "email": "eve@example.com", "password": "Password1"}
    answers = [
        shop.post("/users/", json=new),
        shop.post("/users/", json=new),
        shop.post("/users/", json=new | {"username": "!", "password": "Password1" * 20}),
        shop.get("/users/me", headers=ann),
        shop.get(f"/users/{ANN}/with-posts", headers=ann),
        shop.get("/users/by-email/ann@example.com", headers=ann),
        shop.patch(f"/users/{BOB}", json={"bio": "x", "password": "Password1"}, headers=root),
        shop.get("/users/", headers=root),
        shop.get("/users/page", headers=root),
        shop.get("/users/search?q=a", headers=root),
        shop.get("/users/", headers=ann),
        try_name(shop, "ann", "Password1Wrong"),
        shop.get("/openapi.json"),
    ]
    users = [stored(id) for id in (ROOT, ANN, BOB)]
    secrets = [user.stamp for user in users] + [user.password_hash for user in users]
    secrets += [KEY, "Password1", "password_hash", "$argon2", *root.values(), *ann.values()]
    for answer in answers:
        told = answer.text + str(answer.headers)
        assert not [secret for secret in secrets if secret in told], answer.url
        assert '"stamp"' not in answer.text


def test_what_is_not_for_everybody_is_kept_out_of_caches(shop: httpx2.Client) -> None:
    ann, root = log_in(shop, "ann"), log_in(shop, "root")
    user = shop.get(f"/users/{ANN}", headers=ann)
    item = shop.get("/items/1")
    unchanged = ann | {"If-None-Match": user.headers["ETag"]}
    same_item = {"If-None-Match": item.headers["ETag"]}
    new = {"username": "eve", "email": "eve@example.com", "password": "Password1"}
    answers = {
        200: [user, shop.get("/users/", headers=root), shop.get("/items/1", headers=ann)],
        201: [shop.post("/users/", json=new)],
        304: [
            shop.get(f"/users/{ANN}", headers=unchanged),
            shop.get("/items/1", headers=ann | same_item),
        ],
        401: [shop.get("/users/"), shop.get("/users/me"), try_name(shop, "x")],
        403: [shop.get("/users/", headers=ann)],
        404: [shop.get("/orders/99", headers=ann), shop.get("/items/99", headers=ann)],
        409: [shop.post("/users/", json=new)],
        422: [shop.get("/users/x", headers=ann), shop.post("/token", data={})],
    }
    for status, those in answers.items():
        for answer in those:
            assert (answer.status_code, answer.headers["Cache-Control"]) == (status, "no-store")
    deleted = shop.delete(f"/users/{BOB}", headers=root)
    assert (deleted.status_code, deleted.headers["Cache-Control"]) == (204, "no-store")


def test_the_catalogue_may_be_cached_for_who_is_not_logged_in(shop: httpx2.Client) -> None:
    tag = {"If-None-Match": shop.get("/items/1").headers["ETag"]}
    answers = [shop.get("/items/"), shop.get("/items/1", headers=tag), shop.get("/items/?q=x")]
    assert [answer.status_code for answer in answers] == [200, 304, 200]
    assert not [answer for answer in answers if "Cache-Control" in answer.headers]


def test_what_differs_by_caller_says_so_to_caches(shop: httpx2.Client) -> None:
    ann, tag = log_in(shop, "ann"), {"If-None-Match": shop.get("/items/1").headers["ETag"]}
    answers = [shop.get("/items/"), shop.get("/items/1", headers=tag), shop.get("/users/me")]
    answers += [shop.get("/users/me", headers=ann), shop.get("/api/v1/users/9", headers=ann)]
    assert [answer.status_code for answer in answers] == [200, 304, 401, 200, 404]
    assert [answer.headers["Vary"] for answer in answers] == ["Authorization"] * 5
    assert shop.get("/").headers["Vary"] == "Accept"
    for path in ("/health", "/openapi.json", "/nowhere"):
        assert "Vary" not in shop.get(path).headers


def test_browsers_are_told_what_they_may_do(shop: httpx2.Client) -> None:
    answers = [shop.get(path) for path in ("/", "/items/", "/openapi.json", "/nowhere", "/users/")]
    answers += [try_name(shop, "ann"), shop.post("/items/"), shop.delete("/health")]
    answers += [shop.get("/static/swagger-ui.css")]
    for answer in answers:
        assert answer.headers.get_list("X-Content-Type-Options") == ["nosniff"], answer.url
        assert "X-Frame-Options" not in answer.headers
    for path in ("/docs", "/redoc", "/api/v1/docs", "/api/v1/redoc"):
        page = shop.get(path)
        assert page.status_code == 200
        assert page.headers["Content-Type"].startswith("text/html")
        policy = page.headers["Content-Security-Policy"].split("; ")
        assert {"default-src 'self'", "frame-ancestors 'none'"} <= set(policy)
        assert not re.search(r"https?:|\*", page.headers["Content-Security-Policy"])
        assert page.headers["X-Frame-Options"] == "DENY"
        assert page.headers["Referrer-Policy"]
        assert page.headers["X-Content-Type-Options"] == "nosniff"


def test_browsers_are_told_to_come_by_https_alone_where_they_did(
    client: httpx2.Client, close: Callable[[], None]
) -> None:
    def told(url: str) -> str | None:
        answer = client.get(url)
        return answer.headers.get("Strict-Transport-Security")

    assert told("https://testserver/items/") is None  # at localhost it would be for other programs
    close()
    for path in ("/", "/items/", "/nowhere", "/docs", "/admin/login"):
        assert told(f"https://testserver{path}") == "max-age=31536000"
        assert told(f"http://testserver{path}") is None


# The OpenAPI document


def test_the_document_says_how_to_log_in(client: httpx2.Client) -> None:
    document = client.get("/openapi.json").json()
    (scheme,) = document["components"]["securitySchemes"].values()
    assert scheme["type"] == "oauth2"
    assert scheme["flows"]["password"]["tokenUrl"].strip("/") == "token"
    token = document["paths"]["/token"]["post"]
    assert {"400", "401", "422", "429", "503"} <= set(token["responses"])
    form = token["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"]
    schema = document["components"]["schemas"][form["$ref"].rpartition("/")[2]]
    assert set(schema["required"]) == {"username", "password"}


def test_the_document_says_which_routes_need_a_log_in_and_they_do(shop: httpx2.Client) -> None:
    document = shop.get("/openapi.json").json()
    (scheme,) = document["components"]["securitySchemes"]
    needs = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            security = operation.get("security", [])
            required = bool(security) and {} not in security
            assert not required or security == [{scheme: []}]
            answer = shop.request(method, re.sub(r"\{\w+\}", "1", path))
            if path != "/token":
                assert required == (answer.status_code == 401), (method, path, answer.text)
            assert not required or {"401", "403"} <= set(operation["responses"])
            needs[method, path] = required
    limited = {
        (method.lower(), route.path_format): route.who in ("owner", "superuser")
        for route in main.app.routes
        if isinstance(route, kit.Route)
        for method in route.methods or ()
    }
    assert needs == limited


# CORS


def test_a_set_origin_may_send_a_token(closed_server: Process) -> None:
    client = closed_server.client
    preflight = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization,content-type,if-match",
    }
    answer = client.options("/users/1", headers=preflight)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "authorization" in answer.headers["Access-Control-Allow-Headers"].lower()
    assert "PATCH" in answer.headers["Access-Control-Allow-Methods"]
    refused = client.get("/users/1", headers={"Origin": ORIGIN})
    assert refused.status_code == 401
    assert refused.headers["Access-Control-Allow-Origin"] == ORIGIN
    other = client.options("/users/1", headers=preflight | {"Origin": "https://b.example"})
    assert other.status_code == 400
    assert "Access-Control-Allow-Origin" not in other.headers


# Servers


def failed(server: httpx2.Client, name: str, forwarded: str) -> httpx2.Response:
    data, headers = {"username": name, "password": "Wrong1"}, {"X-Forwarded-For": forwarded}
    return server.post("/token", data=data, headers=headers)


@pytest.mark.every_database
def test_tries_at_once_do_not_get_around_the_limit(closed_server: Process) -> None:
    server = closed_server.client
    create_user(server)
    assert statuses(at_once([lambda: try_name(server, "ann")] * 15)) == {200: 15}
    wrong = statuses(at_once([lambda: try_name(server, "ann", "Wrong1")] * 25))
    assert set(wrong) == {401, 429}
    assert wrong[401] <= 10
    assert try_name(server, "ann").status_code == 429


@pytest.mark.system
@pytest.mark.every_database
def test_sign_ups_at_once_do_not_get_around_the_limit(own_database: str) -> None:
    with serving(own_database, "--workers", "2", SECRET_KEY=KEY) as server:
        answers = at_once([functools.partial(sign_up, server, f"user{n}") for n in range(30)])
        assert statuses(answers) == {201: 20, 429: 10}


def test_failures_count_for_the_client_of_a_trusted_proxy(closed_server: Process) -> None:
    server = closed_server.client
    create_user(server)
    for n in range(10):
        assert failed(server, f"user{n}", f"192.0.2.{n}, 198.51.100.7").status_code == 401
    assert failed(server, "ann", "198.51.100.7").status_code == 429
    assert failed(server, "ann", "198.51.100.8").status_code == 401
    log_in(server, "ann")


@pytest.mark.system
def test_failures_count_for_a_client_that_nobody_trusts_to_say_for_whom_it_asks(
    any_database: str,
) -> None:
    with serving(any_database, SECRET_KEY=KEY, FORWARDED_ALLOW_IPS="192.0.2.1") as server:
        for n in range(10):
            assert failed(server, f"user{n}", f"198.51.100.{n}").status_code == 401
        assert failed(server, "ann", "198.51.100.77").status_code == 429


@pytest.mark.every_database
def test_the_log_holds_no_secret(closed_server: Process) -> None:
    before = len(closed_server.logged())
    secrets = use_log_ins(closed_server)
    logged = closed_server.logged()[before:]
    assert "INSERT INTO" in logged  # so the statements are there
    assert "POST /token" in logged
    assert not [secret for secret in secrets if secret in logged]


def use_log_ins(process: Process) -> list[str]:
    """Use all that has to do with passwords and tokens; what has to stay secret."""
    server, typed = process.client, "TypedWrong1"
    create_user(server)
    ann = log_in(server, "ann")
    assert try_name(server, "ann", typed).status_code == 401
    assert try_name(server, typed, "x").status_code == 401
    assert server.get("/users/me", headers=ann).status_code == 200
    assert server.get("/users/me", headers={"Authorization": f"Bearer {typed}"}).status_code == 401
    again = {"username": "ann", "email": "ann@example.com", "password": "Password1"}
    assert server.post("/users/", json=again).status_code == 409
    assert server.post("/users/", json=again | {"password": "Password1" * 20}).status_code == 422
    body = {"password": "Password2", "current_password": "Password1"}
    changed = server.patch("/users/1", json=body, headers=ann)
    assert changed.status_code == 200
    token = ann["Authorization"].removeprefix("Bearer ")
    return [KEY, token, token.rpartition(".")[2], typed, "Password1", "Password2", "$argon2"]
