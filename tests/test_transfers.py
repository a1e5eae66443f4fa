"""Transfers: money from one account to another, all of it or nothing."""

import httpx2
import pytest
from conftest import Json, Make
from document import columns_of, with_defaults

from models import Transfer

pytestmark = pytest.mark.every_database


def balances(client: httpx2.Client) -> list[float]:
    return [account["balance"] for account in client.get("/accounts/").json()]


def transfer(from_account_id: int, to_account_id: int, amount: Json) -> dict[str, Json]:
    return {"from_account_id": from_account_id, "to_account_id": to_account_id, "amount": amount}


def test_a_transfer_moves_the_amount_and_is_answered_with_its_location(
    client: httpx2.Client, make: Make
) -> None:
    make("users")
    make("users")
    make("accounts", user_id=1, balance=100)
    make("accounts", user_id=2, balance=5.5)
    response = client.post("/transfers/", json=transfer(1, 2, 30.25))
    assert response.status_code == 201
    assert response.headers["Location"] == "/transfers/1"
    told = {"id": 1, **transfer(1, 2, 30.25), "status": "completed"}
    told["created_at"] = response.json()["created_at"]
    expected = with_defaults(Transfer, told)
    for answer in (response, client.get("/transfers/1")):
        assert answer.json() == expected
        assert list(answer.json()) == columns_of(Transfer)
    assert client.get("/transfers/").json() == [expected]
    assert expected["created_at"].endswith("Z")
    assert balances(client) == [69.75, 35.75]


def test_the_last_cent_can_be_transferred(client: httpx2.Client, make: Make) -> None:
    make("users")
    make("accounts", user_id=1, balance=0.3)
    make("accounts", user_id=1)
    for _ in range(3):
        make("transfers", **transfer(1, 2, "0.10"))
    assert balances(client) == [0, 0.3]
    response = client.post("/transfers/", json=transfer(1, 2, 0.01))
    assert (response.status_code, response.json()["detail"]) == (400, "Insufficient funds")


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (transfer(7, 1, 1), 404, "Account 7 not found"),
        (transfer(1, 7, 1), 404, "Account 7 not found"),
        (transfer(1, 2, 10.01), 400, "Insufficient funds"),
        (transfer(2, 1, 99999999.99), 400, "Insufficient funds"),
        (transfer(1, 1, 1), 400, "Cannot transfer to the same account"),
    ],
)
def test_a_refused_transfer_says_why_and_changes_nothing(
    client: httpx2.Client, make: Make, body: dict[str, Json], status: int, detail: str
) -> None:
    make("users")
    make("accounts", user_id=1, balance=10)
    make("accounts", user_id=1, balance=20)
    response = client.post("/transfers/", json=body)
    assert (response.status_code, response.json()["detail"]) == (status, detail)
    assert balances(client) == [10, 20]
    assert client.get("/transfers/").json() == []


def test_a_balance_that_would_pass_ten_digits_is_refused(client: httpx2.Client, make: Make) -> None:
    make("users")
    make("accounts", user_id=1, balance=99999999.99)
    make("accounts", user_id=1, balance=0.01)
    response = client.post("/transfers/", json=transfer(2, 1, 0.01))
    assert response.status_code == 400
    assert response.json()["detail"] == "This transfer cannot be made"
    assert balances(client) == [99999999.99, 0.01]
    assert client.get("/transfers/").json() == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"amount": 0}, "amount"),
        ({"amount": -1}, "amount"),
        ({"amount": 0.001}, "amount"),
        ({"amount": 100000000}, "amount"),
        ({"amount": "inf"}, "amount"),
        ({"amount": None}, "amount"),
        ({"from_account_id": 0}, "from_account_id"),
        ({"from_account_id": "x"}, "from_account_id"),
        ({"to_account_id": 2**31}, "to_account_id"),
        ({"to_account_id": None}, "to_account_id"),
        ({"status": "completed"}, "status"),
        ({"note": "rent"}, "note"),
    ],
)
def test_a_bad_transfer_is_422_and_names_the_field(
    client: httpx2.Client, make: Make, change: dict[str, Json], field: str
) -> None:
    make("users")
    make("accounts", user_id=1, balance=10)
    make("accounts", user_id=1, balance=20)
    response = client.post("/transfers/", json=transfer(1, 2, 1) | change)
    assert response.status_code == 422
    assert [error["loc"] for error in response.json()["errors"]] == [["body", field]]
    assert balances(client) == [10, 20]


def test_an_unknown_transfer_is_404(client: httpx2.Client) -> None:
    response = client.get("/transfers/7")
    assert (response.status_code, response.json()["detail"]) == (404, "Transfer not found")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_transfer_cannot_be_changed(client: httpx2.Client, make: Make, method: str) -> None:
    make("users")
    make("accounts", user_id=1, balance=10)
    make("accounts", user_id=1)
    before = make("transfers", **transfer(1, 2, 1))
    assert client.request(method, "/transfers/1", json=transfer(2, 1, 5)).status_code == 405
    assert client.get("/transfers/1").json() == before


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", [1, 2, 3, 4]),
        ("account_id=1", [1, 2, 4]),
        ("account_id=2", [1, 2, 3]),
        ("account_id=3", [3, 4]),
        ("account_id=9", []),
        ("account_id=2&sort=-id", [3, 2, 1]),
        ("account_id=1&after=1", [2, 4]),
        ("skip=2", [3, 4]),
    ],
)
def test_transfers_are_filtered_by_where_they_come_from_or_go_to(
    client: httpx2.Client, make: Make, query: str, ids: list[int]
) -> None:
    make("users")
    for _ in range(3):
        make("accounts", user_id=1, balance=10)
    for from_id, to_id in ((1, 2), (2, 1), (2, 3), (3, 1)):
        make("transfers", **transfer(from_id, to_id, 1))
    assert [found["id"] for found in client.get(f"/transfers/?{query}").json()] == ids


@pytest.mark.parametrize("query", ["account_id=0", "sort=amount", "limit=0", "user_id=1"])
def test_a_bad_query_for_transfers_is_422(client: httpx2.Client, query: str) -> None:
    assert client.get(f"/transfers/?{query}").status_code == 422


def test_following_the_links_visits_every_transfer_once(client: httpx2.Client, make: Make) -> None:
    make("users")
    make("accounts", user_id=1, balance=10)
    make("accounts", user_id=1, balance=10)
    for from_id, to_id in ((1, 2), (2, 1), (1, 2), (2, 1), (1, 2)):
        make("transfers", **transfer(from_id, to_id, 1))
    seen, url = [], "/transfers/?account_id=1&limit=2"
    while url:
        response = client.get(url)
        seen.append([found["id"] for found in response.json()])
        url = response.links.get("next", {}).get("url", "")
    assert seen == [[1, 2], [3, 4], [5]]
