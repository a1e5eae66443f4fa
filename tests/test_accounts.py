"""Accounts: opened with a balance, after that changed by transfers and payments only."""

import httpx2
import pytest
from conftest import Json, Make
from document import columns_of, with_defaults

from models import Account

pytestmark = pytest.mark.every_database


def test_an_opened_account_is_answered_with_its_defaults_and_location(
    client: httpx2.Client, make: Make
) -> None:
    make("users")
    response = client.post("/accounts/", json={"user_id": 1})
    assert response.status_code == 201
    assert response.headers["Location"] == "/accounts/1"
    account = response.json()
    expected = {"id": 1, "user_id": 1, "balance": 0, "created_at": account["created_at"]}
    assert account == with_defaults(Account, expected)
    assert list(account) == columns_of(Account)
    assert account["created_at"].endswith("Z")
    read = client.get("/accounts/1").json()
    assert (read, list(read)) == (account, columns_of(Account))


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (0, 0.0),
        (0.01, 0.01),
        ("79.99", 79.99),
        (79.9, 79.9),
        (99999999.99, 99999999.99),
        ("99999999.99", 99999999.99),
    ],
)
def test_an_opening_balance_is_kept_to_the_cent(
    client: httpx2.Client, make: Make, sent: object, kept: float
) -> None:
    make("users")
    account = make("accounts", user_id=1, balance=sent)
    assert account["balance"] == kept
    assert client.get("/accounts/1").json() == account


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"balance": -0.01}, "balance"),
        ({"balance": "-1"}, "balance"),
        ({"balance": 89.999}, "balance"),
        ({"balance": 100000000}, "balance"),
        ({"balance": "1e9"}, "balance"),
        ({"balance": "nan"}, "balance"),
        ({"balance": None}, "balance"),
        ({"balance": "much"}, "balance"),
        ({"user_id": None}, "user_id"),
        ({"user_id": 0}, "user_id"),
        ({"user_id": 2**31}, "user_id"),
        ({"currency": "EUR"}, "currency"),
        ({"id": 7}, "id"),
    ],
)
def test_a_bad_account_is_422_and_names_the_field(
    client: httpx2.Client, make: Make, change: dict[str, Json], field: str
) -> None:
    make("users")
    response = client.post("/accounts/", json={"user_id": 1, "balance": 1} | change)
    assert response.status_code == 422
    assert [error["loc"] for error in response.json()["errors"]] == [["body", field]]
    assert client.get("/accounts/").json() == []


def test_an_account_of_nobody_is_refused(client: httpx2.Client) -> None:
    response = client.post("/accounts/", json={"user_id": 9})
    assert response.status_code == 409
    assert response.json()["detail"] == "user_id refers to nothing"
    assert client.get("/accounts/").json() == []


def test_an_unknown_account_is_404(client: httpx2.Client) -> None:
    response = client.get("/accounts/7")
    assert (response.status_code, response.json()["detail"]) == (404, "Account not found")


@pytest.mark.parametrize("id", ["0", "2147483648", "x"])
def test_an_id_out_of_range_is_422(client: httpx2.Client, id: str) -> None:
    assert client.get(f"/accounts/{id}").status_code == 422


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_an_account_cannot_be_changed_by_hand(
    client: httpx2.Client, make: Make, method: str
) -> None:
    make("users")
    before = make("accounts", user_id=1, balance=5)
    response = client.request(method, "/accounts/1", json={"user_id": 1, "balance": 9})
    assert response.status_code == 405
    assert client.get("/accounts/1").json() == before


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", [1, 2, 3]),
        ("user_id=1", [1, 3]),
        ("user_id=2", [2]),
        ("user_id=9", []),
        ("sort=-id", [3, 2, 1]),
        ("after=1", [2, 3]),
        ("user_id=1&skip=1", [3]),
    ],
)
def test_accounts_are_filtered_and_a_user_may_have_several(
    client: httpx2.Client, make: Make, query: str, ids: list[int]
) -> None:
    make("users")
    make("users")
    accounts = {id: make("accounts", user_id=user) for id, user in ((1, 1), (2, 2), (3, 1))}
    assert client.get(f"/accounts/?{query}").json() == [accounts[id] for id in ids]


@pytest.mark.parametrize("query", ["user_id=0", "sort=balance", "limit=101", "owner=1"])
def test_a_bad_query_for_accounts_is_422(client: httpx2.Client, query: str) -> None:
    assert client.get(f"/accounts/?{query}").status_code == 422


def test_following_the_links_visits_every_account_once(client: httpx2.Client, make: Make) -> None:
    make("users")
    for _ in range(5):
        make("accounts", user_id=1)
    seen, url = [], "/accounts/?user_id=1&limit=2&count=true"
    while url:
        response = client.get(url)
        assert response.headers["X-Total-Count"] == "5"
        seen.append([account["id"] for account in response.json()])
        url = response.links.get("next", {}).get("url", "")
    assert seen == [[1, 2], [3, 4], [5]]


def test_a_user_with_an_account_cannot_be_deleted(client: httpx2.Client, make: Make) -> None:
    make("users")
    account = make("accounts", user_id=1)
    assert client.delete("/users/1").status_code == 409
    assert client.get("/accounts/1").json() == account
    assert client.get("/users/1").status_code == 200
