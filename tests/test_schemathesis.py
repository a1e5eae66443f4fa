"""What schemathesis makes up from the OpenAPI document, against all of its checks but one.

That one (`positive_data_acceptance`) wants all that the document allows to be taken. But that an
order asks for no more than there is, or that `after` goes only with `sort=id`, no schema can say.
What a field may hold is tried in detail by the corpus of test_hostile.py.
"""

from typing import Any

import pytest
import schemathesis
from conftest import Make
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

import main

pytestmark = pytest.mark.system

document = schemathesis.openapi.from_asgi("/openapi.json", main.app)
schema = document.exclude(path="/notifications/events")  # which has no end: see test_events.py


@schemathesis.serializer("application/jsonl")
def as_text(_: Any, value: Any) -> bytes:
    return str(value).encode("utf-8", "surrogatepass")


@schema.parametrize()
@settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_operation_keeps_to_its_document(case: schemathesis.Case[Any], make: Make) -> None:
    case.call_and_validate(excluded_checks=[positive_data_acceptance])
