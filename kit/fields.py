"""The vocabulary of models: types that say the same to the API and to the database.

`Name` is at most 200 characters in JSON and in the column. So the limits of a field stand in its
type, and what only the database needs (`unique`, `foreign_key`, `index`) in its `Field(...)`.
Where a field may be null, the length stands outside the None, as in `OptionalText`, or around a
type with a check of its own: `Annotated[Email | None, Field(max_length=254)]`. `Email | None`
alone would lose it, and MariaDB needs one.
"""

import functools
import re
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, cast

import pydantic
from email_validator import EmailNotValidError, validate_email
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    PlainSerializer,
    SecretStr,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError
from sqlalchemy import Dialect, Enum, Integer, Numeric, Text, TypeDecorator
from sqlalchemy.dialects.mysql import MEDIUMTEXT
from sqlmodel import Field

INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")
POSITIVE = r"[0-9]{1,8}(\.[0-9]{1,2}0*)?"
AMOUNT = f"-?{POSITIVE}"
MAX_INT = 2**31 - 1  # the largest INTEGER that all three databases store
MAX_MONEY = Decimal("99999999.99")  # 10 digits: the most that a client may name


class MoneyType(TypeDecorator[Decimal]):
    """A column of money: NUMERIC(14, 2), and exact on every database.

    SQLite has no decimals: it would keep 0.30 as a float, and 0.30 - 3 * 0.10 would be
    below zero. So there it is a whole number of cents, in sums and comparisons too.
    """

    impl = Numeric(14, 2).with_variant(Integer(), "sqlite")
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        return int(value.scaleb(2)) if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        if value is None or dialect.name != "sqlite":
            return cast(Decimal | None, value)
        return Decimal(value).scaleb(-2)


def plain_integer(value: Any) -> Any:
    """Before pydantic, which would take true for 1, and "+1", " 1 " and "1_0" for numbers."""
    if isinstance(value, bool) or (isinstance(value, str) and not INTEGER.fullmatch(value)):
        raise PydanticCustomError("int_parsing", "Input should be a valid integer")
    return value


def plain_money(value: Any) -> Any:
    """Before pydantic, which would take "1_0", "1e2" and the digits of other alphabets."""
    if isinstance(value, str) and not re.fullmatch(AMOUNT, value):
        raise PydanticCustomError("money", "Input should be an amount such as 79.99")
    return value


def filled(value: str) -> str:
    """Text that is more than white space, which it may have around it."""
    if not value.strip():
        raise PydanticCustomError("blank", "Input should be more than white space")
    return value


def plain_moment(value: Any) -> Any:
    """Before pydantic, which would take a number for the seconds since 1970."""
    if not isinstance(value, datetime) and ":" not in str(value):
        message = "Input should be a date and time such as 2026-11-25T18:59:33Z"
        raise PydanticCustomError("datetime_parsing", message)
    return value


def in_cents(value: Decimal) -> Decimal:
    """With two decimals, however many zeros were sent, and never a negative zero."""
    return value.quantize(Decimal("0.01")) + 0


def email_address(value: str) -> str:
    """A valid address (RFC 5321, as email-validator reads it) in lower case.

    Lower case may be longer, so what is stored has to be valid, and to stay the same, too.
    """
    parsed = functools.partial(validate_email, check_deliverability=False, test_environment=True)
    try:
        address = parsed(value).normalized.lower()
        if parsed(address).normalized.lower() == address and len(address) <= 254:
            return address
    except EmailNotValidError:  # whose own message would quote the address
        pass
    raise PydanticCustomError("email", "Input should be a valid e-mail address")


def name_as_stored(value: str) -> str:
    """A username, or an e-mail address, as the database has it to look for."""
    try:
        return email_address(value)
    except PydanticCustomError:
        return value.lower()


def secret_text(value: SecretStr) -> SecretStr:
    """Text that can be encoded: no half of a surrogate pair, and no U+0000."""
    secret = value.get_secret_value()
    if "\0" in secret or secret.encode("utf-8", "ignore").decode() != secret:
        raise PydanticCustomError("string_unicode", "Input should be valid text")
    return value


def strong_password(value: SecretStr) -> SecretStr:
    """8 to 100 characters, with an upper-case letter and a digit."""
    secret = value.get_secret_value()
    has_both = any(map(str.isupper, secret)) and any(map(str.isdigit, secret))
    if not (has_both and 8 <= len(secret) <= 100):
        message = "Input should have 8 to 100 characters, an upper-case letter and a digit"
        raise PydanticCustomError("password", message)
    return value


VISIBLE = r"^[\x21-\x7e]+$"
MEANINGS = {VISIBLE: "Visible ASCII characters only"}  # by pattern: what to say of another text


def spelled(pattern: str, meaning: str) -> Any:
    """The pattern of a text, and what they are told who sent another."""
    MEANINGS[pattern] = meaning
    return pydantic.Field(pattern=pattern)


# PostgreSQL stores no U+0000 in a text (its manual, section 8.3), so none is let in.
NO_NUL = spelled(r"^[^\x00]*$", "Input should be text without U+0000")
# For text that may not be empty.
FILLED: tuple[Any, ...] = (
    NO_NUL,
    AfterValidator(filled),
    pydantic.Field(json_schema_extra={"pattern": r"^\s*[^\s\x00][^\x00]*$"}),
)
SLUG = spelled(r"^[a-z0-9]+(-[a-z0-9]+)*$", "Small letters, digits and single hyphens only")
# Money is a Decimal in Python and a number in JSON: two decimals fit a float exactly enough
# to read back the same digits.
NUMBER = PlainSerializer(float, return_type=float, when_used="json")

PLAIN = BeforeValidator(plain_integer)
Id = Annotated[int, Field(ge=1, le=MAX_INT), PLAIN]
OptionalId = Annotated[int | None, Field(ge=1, le=MAX_INT), PLAIN]
Count = Annotated[int, Field(ge=0, le=MAX_INT), PLAIN]
Name = Annotated[str, Field(min_length=1, max_length=200), *FILLED]
Slug = Annotated[str, Field(max_length=200), SLUG]
OptionalSlug = Annotated[str | None, Field(max_length=200), SLUG]
OptionalText = Annotated[str | None, Field(max_length=10_000), NO_NUL]
Search = Annotated[str, Field(max_length=200), NO_NUL]
SearchFor = Annotated[str, Field(min_length=1, max_length=200), *FILLED]
Username = Annotated[
    str,
    Field(min_length=3, max_length=50),
    spelled(r"^[A-Za-z0-9_]+$", "Letters, digits and _ only"),
]
Email = Annotated[
    str,
    Field(max_length=254),
    AfterValidator(email_address),
    WithJsonSchema({"type": "string", "format": "email", "maxLength": 254}),
]
Secret = Annotated[SecretStr, AfterValidator(secret_text)]


def amount(pattern: str, least: dict[str, float], **limit: Any) -> tuple[Any, ...]:
    """What money has to be, and how OpenAPI describes it: a number, or the same as a string."""
    number = {"type": "number", "maximum": float(MAX_MONEY), **least}
    text = {"type": "string", "pattern": f"^{pattern}$"}
    return (
        Field(max_digits=10, decimal_places=2, sa_type=MoneyType, **limit),
        BeforeValidator(plain_money),
        AfterValidator(in_cents),
        NUMBER,
        WithJsonSchema({"anyOf": [number, text]}, "validation"),
    )


Money = Annotated[Decimal, *amount(AMOUNT, {"minimum": -float(MAX_MONEY)})]
Price = Annotated[Decimal, *amount(rf"(?=.*[1-9]){POSITIVE}", {"exclusiveMinimum": 0}, gt=0)]
Balance = Annotated[Decimal, *amount(POSITIVE, {"minimum": 0}, ge=0)]
Password = Annotated[
    Secret,
    AfterValidator(strong_password),
    pydantic.Field(
        json_schema_extra={
            "minLength": 8,
            "maxLength": 100,
            "pattern": r"^(?=[^\x00]*[A-Z])(?=[^\x00]*[0-9])[^\x00]*$",
        }
    ),
]
Moment = Annotated[
    AwareDatetime,
    Field(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(9999, 12, 31, tzinfo=UTC)),
    BeforeValidator(plain_moment),
]
Sum = Annotated[Decimal, NUMBER]  # of many rows, so of any size


def now() -> datetime:
    return datetime.now(UTC)


# More than the 65,535 bytes that a TEXT of MariaDB and MySQL holds.
LongText: Any = Text().with_variant(MEDIUMTEXT(), "mysql", "mariadb")


def choice(values: type[StrEnum]) -> Any:
    """The column of an enum: a plain string, since a native PostgreSQL enum outlives its table."""
    return Enum(values, native_enum=False, length=20)
