"""The short way from a request to a route's function: all of FastAPI's private names are here.

FastAPI solves a graph of dependencies for each request, in several contexts, which takes as long as
a query. A route that has a session and no dependencies gets its arguments and its answer from
FastAPI's own functions too, but from nothing else.
"""

import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Annotated, Any, cast, get_args

from fastapi import Depends, Request, Response, params
from fastapi._compat import ModelField, field_annotation_is_sequence
from fastapi.datastructures import DefaultPlaceholder, QueryParams
from fastapi.dependencies.utils import (
    get_flat_params,
    request_body_to_args,
    request_params_to_args,
)
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined as Undefined
from sqlmodel import Session
from starlette.types import ASGIApp, Receive, Scope, Send

from kit.access import Gate
from kit.database import NewSession
from kit.json import sent_json
from kit.transactions import borrowed, transaction_of

LEAVE_OUT = "include", "exclude", "exclude_unset", "exclude_defaults", "exclude_none"
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def fields_of(field: ModelField) -> dict[str, FieldInfo] | None:
    """The fields of a model of several parameters; None for a parameter alone."""
    model: Any = field.field_info.annotation
    is_model = isinstance(model, type) and issubclass(model, BaseModel)
    return model.model_fields if is_model else None


def is_of_texts(field: ModelField) -> bool:
    """Whether a parameter is text, or texts, or a model of some; each with a fixed default."""
    fields = fields_of(field)
    return not any(
        info.default_factory
        or (fields and (info.alias or info.validation_alias))
        or (fields and field_annotation_is_sequence(info.annotation))
        for info in ([field.field_info] if fields is None else fields.values())
    )


class Parameter:
    """A parameter of a path or a query, or a model of several, as FastAPI would read it."""

    def __init__(self, field: ModelField) -> None:
        info = cast(params.Param, field.field_info)
        self.field, self.default = field, field.get_default()
        self.place = info.in_.value, field.validation_alias or field.alias
        self.names, self.several = fields_of(field), field_annotation_is_sequence(info.annotation)

    def read(self, sent: Mapping[str, Any], values: dict[str, Any], errors: list[Any]) -> None:
        name, wrong = self.field.name, list[Any]()
        if self.names is not None:
            value: Any = {name: sent[name] for name in self.names if name in sent}
            values[name], wrong = self.field.validate(value, loc=self.place[:1])
        elif (value := self.sent_in(sent)) is not None:
            values[name], wrong = self.field.validate(value, loc=self.place)
        elif self.default is Undefined:
            wrong = [{"type": "missing", "loc": self.place, "msg": "Field required"}]
        else:
            values[name] = self.field.get_default() if self.several else self.default
        errors += wrong

    def sent_in(self, sent: Mapping[str, Any]) -> Any:
        """What is sent under its name: one text, or a list of several."""
        if self.several and self.place[1] in sent:
            return cast(QueryParams, sent).getlist(self.place[1])
        return sent.get(self.place[1])


class TransactionRoute(APIRoute):
    """A route whose function, if it takes a `session`, runs as one transaction in a thread."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        self.own_endpoint = endpoint
        parameters = inspect.signature(endpoint).parameters.values()
        sessions = [p for p in parameters if get_args(p.annotation)[:1] == (Session,)]
        self.new_session: NewSession | None = None
        if sessions:
            if [p.name for p in sessions] != ["session"] or inspect.iscoroutinefunction(endpoint):
                raise TypeError(f"{endpoint.__name__} has to be a plain def with one `session`")
            new_session = self.new_session = get_args(sessions[0].annotation)[1].dependency
            endpoint = self.in_transaction(endpoint, cast(NewSession, new_session))
        super().__init__(path, endpoint, **options)
        self.is_plain = self.new_session is not None and self.needs_no_more()
        if self.is_plain:
            self.app = self.short_app(self.app)

    def in_transaction(
        self, endpoint: Callable[..., Any], new_session: NewSession
    ) -> Callable[..., Any]:
        """The function that FastAPI calls: it runs the route's own as the session's transaction."""

        async def noted(
            request: Request,
            response: Response,
            session: Annotated[Session, Depends(new_session)],  # or what it is overridden with
        ) -> Session:
            return borrowed(session, request, response, writes=new_session.writes)

        @functools.wraps(endpoint)
        async def call(**values: Any) -> Any:
            session = values["session"]
            work = functools.partial(self.work, endpoint, values)
            return await transaction_of(session).run(work, session)

        signature = inspect.signature(endpoint)
        taken = dict(signature.parameters)
        taken["session"] = taken["session"].replace(annotation=Annotated[Session, Depends(noted)])
        cast(Any, call).__signature__ = signature.replace(parameters=[*taken.values()])
        return call

    def work(self, endpoint: Callable[..., Any], values: dict[str, Any]) -> Any:
        """What is done in the transaction; a subclass may do more than call the function."""
        return endpoint(**values)

    def get_route_handler(self) -> Handler:
        """FastAPI's own, but for the gates: `around` asks them, which takes less time."""
        whole = self.dependant
        others = [d for d in whole.dependencies if not isinstance(d.call, Gate)]
        self.has_others = any(d.name != "session" for d in others)
        self.dependant = replace(whole, dependencies=others)
        handle = super().get_route_handler()
        self.dependant = whole
        return self.around(handle)

    def around(self, handle: Handler) -> Handler:
        """The handler, with what a subclass does before and after it."""
        return handle

    def short_app(self, fastapis_own: ASGIApp) -> ASGIApp:
        """What answers the short way; and FastAPI's, while dependencies are overridden.

        So too where OpenTelemetry is set up: FastAPI's tells of each step.
        """
        handle, provider = self.around(self.short_handler()), self.dependency_overrides_provider

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            is_overridden = provider and provider.dependency_overrides
            if is_overridden or "fastapi.telemetry" in scope:
                await fastapis_own(scope, receive, send)
            else:
                response = await handle(Request(scope, receive))
                await response(scope, receive, send)

        return app

    def needs_no_more(self) -> bool:
        """Whether the route needs nothing of FastAPI's that the short way has not."""
        dependant = self.dependant
        return not (
            self.has_others
            or dependant.cookie_params
            or dependant.background_tasks_param_name
            or dependant.security_scopes_param_name
            or dependant.http_connection_param_name
            or isinstance(self.body_field and self.body_field.field_info, params.Form)
            or not all(map(is_of_texts, dependant.path_params + dependant.query_params))
            or not isinstance(self.response_class, DefaultPlaceholder)
            or not (self.response_field or self.status_code == 204)
            or any(getattr(self, f"response_model_{leave_out}") for leave_out in LEAVE_OUT)
            or not self.response_model_by_alias
            or self.max_body_size is not None
        )

    def short_handler(self) -> Handler:
        dependant, answers_with = self.dependant, self.response_field
        call, new_session = cast(Any, dependant.call), cast(Any, self.new_session)
        (own,) = (d for d in dependant.dependencies if d.name == "session")
        of_session = get_flat_params(own)
        request_name, response_name = dependant.request_param_name, dependant.response_param_name
        read = self.reader()

        async def handle(request: Request) -> Response:
            response, key, errors = Response(), dict[str, Any](), list[Any]()
            headers = response.headers
            del headers["content-length"]
            if of_session:
                key, errors = request_params_to_args(of_session, request.headers)
            values = await read(request, errors)
            if request_name:
                values[request_name] = request
            if response_name:
                values[response_name] = response
            values["session"] = await new_session(request, response, **key)
            answer, content = await call(**values), b""
            if isinstance(answer, Response):
                return answer
            if answers_with:
                answer, errors = answers_with.validate(answer, loc=("response",))
                if errors:
                    raise ResponseValidationError(errors)
                content = answers_with.serialize_json(answer)
                headers["content-type"] = "application/json"
            return Response(content, self.status_code or 200, headers)

        return handle

    def reader(self) -> Callable[[Request, list[Any]], Coroutine[Any, Any, dict[str, Any]]]:
        """What reads a request's parameters and its body, and adds to the errors found so far."""
        dependant = self.dependant
        in_path = [Parameter(field) for field in dependant.path_params]
        in_query = [Parameter(field) for field in dependant.query_params]
        in_headers, in_body = dependant.header_params, dependant.body_params

        async def read(request: Request, errors: list[Any]) -> dict[str, Any]:
            values = dict[str, Any]()
            for parameter in in_path:
                parameter.read(request.path_params, values, errors)
            if in_query:
                sent = request.query_params if request.scope["query_string"] else {}
                for parameter in in_query:
                    parameter.read(sent, values, errors)
            if in_headers:
                more, wrong = request_params_to_args(in_headers, request.headers)
                values |= more
                errors += wrong
            if in_body:
                body, embed = await sent_json(request), self._embed_body_fields
                more, wrong = await request_body_to_args(in_body, body, embed)
                values |= more
                errors += wrong
            if errors:
                raise RequestValidationError(errors)
            return values

        return read
