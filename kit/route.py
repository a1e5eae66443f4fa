"""A route: who may call it, its transaction, its conditions, and what OpenAPI says of it."""

import functools
from collections.abc import Callable
from typing import Any, get_args

import fastapi
from fastapi import Request, Response
from fastapi.dependencies.utils import get_flat_params
from fastapi.exceptions import RequestValidationError
from starlette.routing import Match
from starlette.types import Scope

from kit.access import Gate
from kit.conditions import check_conditions, entity_tag, on_condition
from kit.context import Who, caching, context_of
from kit.handler import Handler, TransactionRoute
from kit.idempotency import answer_once
from kit.json import ExactRequest
from kit.problems import invalid
from kit.tables import Versioned
from kit.transactions import transaction_of

LEVELS = get_args(Who)  # from those that all may call to those that few may


class Route(TransactionRoute):
    """A route that says who may call it, and refuses unknown query parameters.

    Where it answers with one row that counts its changes, it sends the row's ETag.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        section = path.split("/")[1]
        self.section = None if "{" in section else section
        # What other dependencies do takes time, so who calls is looked up before them.
        self.admits_first = not self.new_session or self.has_others
        self.writes = bool(self.new_session and self.new_session.writes)
        model = self.response_model
        self.tagged = isinstance(model, type) and issubclass(model, Versioned)
        if service := self.dependency_overrides_provider:
            service.note(self)

    @property
    def who(self) -> Who:
        return self.gate.who if self.gate else "superuser"

    def work(self, endpoint: Callable[..., Any], values: dict[str, Any]) -> Any:
        session, transaction = values["session"], transaction_of(values["session"])
        if self.gate:
            self.gate.access.admit(session)  # again: a replica may be behind
        answer = functools.partial(self.answer, endpoint, values)
        return answer_once(self, answer, values) if transaction.key else answer()

    def answer(self, endpoint: Callable[..., Any], values: dict[str, Any]) -> Any:
        """What the function returns, with its ETag in the headers."""
        session = values["session"]
        answer = on_condition(session, functools.partial(endpoint, **values))
        if self.tagged:
            session.flush()  # which counts the version up, if there was a change
            if not self.writes:
                check_conditions(session, type(answer), entity_tag(answer))
            transaction_of(session).response.headers["ETag"] = entity_tag(answer) or ""
        return answer

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As it is, but quick for the many requests that are about another section.

        /users/page is not about a user called "page": what has a route of its own is no parameter.
        """
        context = context_of(scope)
        is_about_this = self.section in (None, context.section)
        if is_about_this and not (context.is_fixed and self.param_convertors):
            match, found = super().matches(scope)
            if match is Match.FULL:
                context.route = self.path_format
            return match, found
        return Match.NONE, {}

    @functools.cached_property
    def gate(self) -> Gate | None:
        """Of the route's own and those of the routers that it is in, the strictest."""
        gates = [d.call for d in self.dependant.dependencies if isinstance(d.call, Gate)]
        return max(gates, key=lambda gate: LEVELS.index(gate.who), default=None)

    def around(self, handle: Handler) -> Handler:
        elsewhere = self.dependant.path_params + self.dependant.header_params
        known = {field.alias for field in get_flat_params(self.dependant)}
        known -= {field.alias for field in elsewhere}

        async def handle_exactly(request: Request) -> Response:
            if not self.gate:
                raise RuntimeError(undeclared(self))
            context = await self.gate.check(request, now=self.admits_first)
            try:
                sent = request.query_params if request.scope["query_string"] else ()
                if unknown := sorted(set(sent) - known):
                    reason = "Unknown parameter", "extra_forbidden"
                    raise RequestValidationError([invalid(("query", n), *reason) for n in unknown])
                response = await handle(ExactRequest(request.scope, request.receive))
            except RequestValidationError:
                if not context.caller.id:
                    await self.gate.check(request, now=True)  # 401 and 403 come before 422
                raise
            response.headers.update(caching(request))
            return response

        return handle_exactly


class APIRouter(fastapi.APIRouter):
    """FastAPI's, with routes of this kind; of any other, routes become so when it is included."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"route_class": Route, **options})


def undeclared(route: Any) -> str:
    """What to tell who forgot to say who may call a route."""
    name = getattr(route, "name", None) or type(route).__name__
    return f"{name} has to say once who may call it: dependencies=[Anyone]"
