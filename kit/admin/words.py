"""What forms say of a field: what may be in it and, by the rule that was broken, what is wrong.

A sentence for every rule that a type can have, and so for every entity. None quotes a pattern, or
is in the words of a library.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import EnumType
from typing import Any

from pydantic import AwareDatetime
from pydantic.fields import FieldInfo

from kit.fields import MEANINGS
from kit.problems import sentence_of

EMPTY = "Fill this in"
CHOICE = "Choose one of these"
NO_TEXT = "Has a character that cannot be stored"
TIMES = datetime, AwareDatetime  # kinds of fields
TIME = "A time such as 2026-01-31 12:00"
IN_UTC = "In UTC, such as 2026-01-31 12:00"
SENTENCES = {  # by how pydantic's types of errors begin, and those of `kit.fields`
    "blank": EMPTY,
    "bool": "Yes or no",
    "date_": "A date such as 2026-01-31",
    "datetime": TIME,
    "email": "An e-mail address such as ann@example.com",
    "enum": CHOICE,
    "greater_than_equal": "Has to be {ge} or more",
    "greater_than": "Has to be above {gt}",
    "less_than_equal": "Has to be {le} or less",
    "less_than": "Has to be below {lt}",
    "literal": CHOICE,
    "missing": EMPTY,
    "password": "At least 8 characters, with an upper-case letter and a digit",
    "string_too_long": "At most {max_length} characters",
    "string_too_short": "At least {min_length} characters",
    "string_unicode": NO_TEXT,
    "timezone": TIME,
    "too_long": "At most {max_length} of them",
    "too_short": "At least {min_length} of them",
}
NUMBERS = "decimal", "float", "int", "money"  # how errors about what is no such number begin
LIBRARY = re.compile(r"(Value error, )?([A-Z]\w+ should (be|have) )?")  # how it begins to speak
LETTERS = {int: "numeric", Decimal: "decimal", float: "decimal"}  # of a phone, for a number


def with_article(noun: str) -> str:
    """The noun, in small letters if it is no abbreviation, after "a" or "an"."""
    return f"{'an' if noun[:1] in 'AEIOaeio' else 'a'} {small(noun)}"


def small(label: str) -> str:
    return label if label.isupper() else label.lower()


def said(error: Mapping[str, Any], info: FieldInfo, kind: Any, label: str) -> str:
    """What one of pydantic's errors is about, of a field of this kind that is called so."""
    value, type_of_error, limits = error.get("input"), error["type"], error.get("ctx", {})
    schema = info.json_schema_extra
    most = schema.get("maxLength") if isinstance(schema, dict) else None
    if value is None or not str(value).strip():
        return CHOICE if isinstance(kind, EnumType) else EMPTY
    if "\0" in str(value):
        return NO_TEXT
    most = most or limit(info, "max_length")
    if isinstance(most, int) and isinstance(value, str) and len(value) > most:
        return told(SENTENCES["string_too_long"], max_length=most)
    if type_of_error.startswith(NUMBERS):
        return too_large(str(value), info, kind) or number(info, kind, label)
    if kind in TIMES:
        return TIME
    for begin, sentence in SENTENCES.items():
        if type_of_error.startswith(begin):
            return told(sentence, **limits)
    if limits.get("pattern", "") not in {"", *MEANINGS}:
        return "This is not spelled as it has to be"
    words = LIBRARY.sub("", sentence_of(error), count=1).replace("valid ", "")
    return words[:1].upper() + words[1:]


def told(sentence: str, **limits: Any) -> str:
    """The sentence with these limits, of which numbers have their thousands apart."""
    is_number = int, float, Decimal
    shown = {k: f"{v:,}" if isinstance(v, is_number) else v for k, v in limits.items()}
    return sentence.format_map(shown)


def number(info: FieldInfo, kind: Any, label: str) -> str:
    if kind is int:
        return "A whole number"
    places = limit(info, "decimal_places")
    such_as = f"{with_article(label)} such as 19.99"
    such_as = such_as[0].upper() + such_as[1:]
    return such_as if places is None else f"{such_as}, with at most {places} decimals"


def too_large(text: str, info: FieldInfo, kind: Any) -> str:
    """What to say of a number that has too many digits; nothing, of what is none."""
    digits, most = limit(info, "max_digits"), limit(info, "le")
    if kind is int and most is not None and re.fullmatch("[1-9][0-9]{15,}", text):
        return told(SENTENCES["less_than_equal"], le=most)
    if digits and re.fullmatch(r"[0-9]+(\.[0-9]{1,2})?", text):
        most = 10 ** (digits - (limit(info, "decimal_places") or 0))
        return told(SENTENCES["less_than"], lt=most) if Decimal(text) >= most else ""
    return ""


def limit(info: FieldInfo, name: str) -> Any:
    """What a field's type says of this limit, such as "max_length"; None for nothing."""
    found = (getattr(each, name, None) for each in info.metadata)
    return next((value for value in found if value is not None), None)


def attributes_of(info: FieldInfo, kind: Any, label: str) -> dict[str, Any]:
    """What a browser is told of a line to fill in. It says nothing by itself: see form.html."""
    if kind in TIMES:
        return {"placeholder": "2026-01-31 12:00"}
    if kind in LETTERS:
        places = limit(info, "decimal_places")
        step = Decimal(1) if kind is int else None if places is None else Decimal(10) ** -places
        above = limit(info, "gt")
        least = limit(info, "ge") if above is None else above + (step or 0)
        signs = {} if least is None or least < 0 else {"inputmode": LETTERS[kind]}
        limits = {"min": least, "max": limit(info, "le")}
        limits = {name: value for name, value in limits.items() if value is not None}
        said = {"data_wrong": number(info, kind, label)}
        return {"type": "number", "step": step or "any", **limits, **signs, **said}
    schemas = (getattr(each, "json_schema", None) or {} for each in info.metadata)
    is_email = any(schema.get("format") == "email" for schema in schemas)
    longest = {"maxlength": limit(info, "max_length")} if limit(info, "max_length") else {}
    return {**longest, **({"type": "email"} if is_email else {})}
