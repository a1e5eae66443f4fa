"""JSON as a shop needs it (RFC 8259): numbers stay exact, and what is too large is refused."""

import json
import re
from datetime import datetime
from decimal import Decimal
from typing import Any

from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic_core import PydanticUndefined as Undefined
from starlette.requests import ClientDisconnect

MOST_KEYS = 50  # of an object
JSON_LIKE = re.compile(r"application/([^/]+\+)?json")


class ExactRequest(Request):
    """A request whose JSON keeps its decimals: 0.1 is a tenth, not the float next to it."""

    async def json(self) -> Any:
        return exact_json(await self.body())


def exact_json(sent: str | bytes) -> Any:
    """What it says; JSONDecodeError, with a sentence about it, where it is no JSON of ours."""
    try:
        return json.loads(
            sent.decode() if isinstance(sent, bytes) else sent,
            parse_float=exact_number,
            parse_constant=exact_number,
            object_pairs_hook=small_object,
        )
    except json.JSONDecodeError as error:
        where = error.pos
        wrong = f"This is not JSON from line {error.lineno}, column {error.colno} on"
        if error.doc.startswith("\ufeff"):
            wrong = "This begins with a byte order mark (BOM): send the JSON without it"
    except UnicodeDecodeError as error:
        where, wrong = error.start, f"This is not UTF-8 from byte {error.start + 1} on"
    except RecursionError:
        where, wrong = 0, "This has too many lists or objects inside each other"
    except (ValueError, ArithmeticError):
        where, wrong = 0, f"A number is out of bounds, or an object has over {MOST_KEYS} keys"
    raise json.JSONDecodeError(wrong, "", where)


def exact_number(text: str) -> Decimal:
    number = Decimal(text)
    if not number.is_finite() or abs(number.adjusted()) > 30:
        raise ValueError("out of bounds")
    return number


def small_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse objects that no schema of ours has: each unknown key would be an error to list."""
    if len(pairs) > MOST_KEYS:
        raise ValueError("out of bounds")
    return dict(pairs)


async def sent_json(request: Request) -> Any:
    """The body, which is text in JSON; as it is, if it is said to be something else.

    Raises RequestValidationError for one that is no JSON, and 400 when the client goes away.
    """
    try:
        body = await request.body()
        sent_as = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if body and JSON_LIKE.fullmatch(sent_as):
            return await request.json()
    except json.JSONDecodeError as error:
        wrong = {"type": "json_invalid", "loc": ("body", error.pos), "msg": "JSON decode error"}
        raise RequestValidationError([wrong | {"ctx": {"error": error.msg}}]) from None
    except ClientDisconnect:
        raise HTTPException(400, "The body did not come whole") from None
    return body or Undefined


def json_value(value: Any) -> float | str:
    """A value as it is in the JSON of every answer, where JSON has no such type."""
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)
