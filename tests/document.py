"""What the app says of itself, so that the tests of every route need no list of them.

Routes and bodies come from its OpenAPI document, who may call them from the routes. An entity of
your own is tried with the examples of its bodies: they have to work.
"""

import re
from typing import Any

import httpx2
from sqlmodel import SQLModel

import kit
import main
import models

Json = Any

DOCUMENT: dict[str, Any] = main.app.openapi()
PATHS: dict[str, dict[str, Any]] = DOCUMENT["paths"]
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
OPERATIONS = [(method.upper(), path) for path, methods in PATHS.items() for method in methods]
ROUTES = {
    (method, route.path_format): route
    for route in main.app.routes
    if isinstance(route, kit.Route)
    for method in route.methods or ()
}
LISTS = [
    path
    for path, methods in PATHS.items()
    if {"skip", "limit"} <= {p["name"] for p in methods.get("get", {}).get("parameters", [])}
]
SORTS = [
    (path, sign + column)
    for path in LISTS
    for p in PATHS[path]["get"]["parameters"]
    if p["name"] == "sort"
    for column in re.findall(r"\w+", p["schema"]["pattern"].partition("(")[2])
    for sign in ("", "-")
]
ENDLESS = [p for m, p in OPERATIONS if "text/event-stream" in str(PATHS[p][m.lower()]["responses"])]


def filled(path: str) -> str:
    """The path with an example for each of its parameters."""
    path = path.replace("{email}", "user1@example.com").replace("{sku}", "SKU-1")
    return re.sub(r"{\w+}", "1", path.replace("{slug}", "product-1"))


def parameters(method: str, path: str, where: str = "query") -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = PATHS[path][method.lower()].get("parameters", [])
    return [parameter for parameter in listed if parameter["in"] == where]


def asked(path: str, query: str = "", method: str = "GET") -> str:
    """The path with this query, and an example for each parameter that is needed."""
    needed = [p["name"] for p in parameters(method, path) if p.get("required")]
    queries = [f"{name}={'user' if name == 'q' else 1}" for name in needed]
    return "?".join(filter(None, (filled(path), "&".join([*filter(None, [query]), *queries]))))


def is_tagged(method: str, path: str) -> bool:
    """Whether the answer is one row that counts its changes."""
    model = ROUTES[method, path].response_model
    return isinstance(model, type) and issubclass(model, kit.Versioned)


# Bodies


def media_of(method: str, path: str) -> Json:
    """The description of the body in JSON, or None."""
    body = PATHS[path].get(method.lower(), {}).get("requestBody", {"content": {}})
    return body["content"].get("application/json")


def resolved(schema: Json) -> Json:
    return SCHEMAS[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def fields_of(method: str, path: str) -> list[str]:
    """The names of all fields of a body; in a list, of one."""
    schema = resolved((media_of(method, path) or {"schema": {}})["schema"])
    return [*resolved(schema.get("items", schema)).get("properties", {})]


def example_of(media: Json) -> Json:
    """What /docs fills in: the example of a body or its schema; in a list, that of one."""
    if "example" in media:
        return media["example"]
    schema = media["schema"]
    if "items" in schema:
        return [example_of({"schema": schema["items"]})]
    return resolved(schema)["examples"][0]


def another(body: dict[str, Json]) -> dict[str, Json]:
    """The same with other texts, of the same kind: what is unique is not taken then."""
    return {
        name: re.sub(r"[A-Za-z0-9]", next_one, value, count=1) if isinstance(value, str) else value
        for name, value in body.items()
    }


def with_defaults(model: type[SQLModel], row: dict[str, Json]) -> dict[str, Json]:
    """The row, and the defaults of fields that it does not name: of a column of your own."""
    fields = {n: f for n, f in model.model_fields.items() if not (f.exclude or f.is_required())}
    return {name: field.default for name, field in fields.items()} | row


def columns_of(model: type[SQLModel]) -> list[str]:
    """The keys of its rows, in the order in which they are declared."""
    return [name for name, field in model.model_fields.items() if not field.exclude]


def model_of(name: str) -> type[SQLModel]:
    """The class of models.py; where it has been taken out, one without fields of its own."""
    return getattr(models, name, SQLModel)


def next_one(found: re.Match[str]) -> str:
    old = found[0]
    new = chr(ord(old) + 1)
    return new if new.isalnum() else {"Z": "A", "z": "a", "9": "0"}[old]


# Entities


COLLECTIONS = [
    path
    for path in LISTS
    if "{" not in path and path.endswith("/") and media_of("POST", path) is not None
]


def path_of_row(collection: str) -> str:
    """The path of one of its rows: /items/{item_id} for /items/."""
    found = [path for path in PATHS if re.fullmatch(rf"{collection}{{\w+_id}}", path)]
    return found[0] if found else ""


def complete(client: httpx2.Client) -> None:
    """Make one row in each collection that has none yet: what the shop itself does not have."""
    for collection in COLLECTIONS:
        if not client.get(collection).json():
            body = another(example_of(media_of("POST", collection)))
            response = client.post(collection, json=body)
            assert response.status_code == 201, f"the example of {collection}: {response.text}"


def relate(client: httpx2.Client) -> None:
    """Give the first row of each parent a child, where a list of its children is empty."""
    for path in LISTS:
        found = re.fullmatch(r"/\w+/{(\w+_id)}(/[\w-]+)", path)
        child = path_of_row(f"{found[2]}/") if found else ""
        if found and child and found[1] in fields_of("PATCH", child) and is_empty(client, path):
            response = client.patch(filled(child), json={found[1]: 1})
            assert response.status_code == 200, f"{child}: {response.text}"


def is_empty(client: httpx2.Client, path: str) -> bool:
    return not rows_of(client.get(asked(path)))


def rows_of(response: httpx2.Response) -> list[dict[str, Json]]:
    """The rows of a list, which in a few answers stand inside an object."""
    assert response.status_code == 200, response.text
    body = response.json()
    if isinstance(body, list):
        return body
    (rows,) = (value for value in body.values() if isinstance(value, list))
    return rows
