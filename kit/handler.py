"""The short way from a request to a route's function: all of FastAPI's private names are here.

FastAPI solves a graph of dependencies for each request, in several contexts, which takes as long as
a query. A route that has a session and no dependencies gets its arguments and its answer from
FastAPI's own functions too, but from nothing else.
"""

import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, cast, get_args

from fastapi import Request, Response, params
from fastapi._compat import ModelField, field_annotation_is_sequence
from fastapi.datastructures import DefaultPlaceholder
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_body_to_args, request_params_to_args
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic_core import PydanticUndefined as Undefined
from sqlmodel import Session
from starlette.types import ASGIApp, Receive, Scope, Send

from kit.database import NewSession
from kit.json import sent_json
from kit.transactions import borrowed, transaction_of

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def is_one_text(field: ModelField) -> bool:
    """Whether a parameter, or each of a model of them, is one text and has a fixed default."""
    model: Any = field.field_info.annotation
    if isinstance(model, type) and issubclass(model, BaseModel):
        infos = list(model.model_fields.values())
        simple = all(info.alias is None and info.validation_alias is None for info in infos)
    else:
        infos, simple = [field.field_info], True
    types = [info.annotation for info in infos]
    return simple and not any(
        field_annotation_is_sequence(type) or info.default_factory
        for type, info in zip(types, infos, strict=True)
    )


class Parameter:
    """A parameter of a path or a query, or a model of several, as FastAPI would read it."""

    def __init__(self, field: ModelField) -> None:
        info = cast(params.Param, field.field_info)
        self.field, self.default = field, field.get_default()
        self.place = info.in_.value, field.validation_alias or field.alias
        model: Any = info.annotation
        self.is_model = isinstance(model, type) and issubclass(model, BaseModel)
        self.names = list(model.model_fields) if self.is_model else []

    def read(self, sent: Mapping[str, Any], values: dict[str, Any], errors: list[Any]) -> None:
        name = self.field.name
        wrong: list[Any] = []
        if self.is_model:
            value: Any = {name: sent[name] for name in self.names if name in sent}
            values[name], wrong = self.field.validate(value, loc=self.place[:1])
        elif (value := sent.get(self.place[1])) is not None:
            values[name], wrong = self.field.validate(value, loc=self.place)
        elif self.default is Undefined:
            wrong = [{"type": "missing", "loc": self.place, "msg": "Field required"}]
        else:
            values[name] = self.default
        errors += wrong


class TransactionRoute(APIRoute):
    """A route whose function, if it takes a `session`, runs as one transaction in a thread."""

    def __init__(
        self, path: str, endpoint: Callable[..., Any], *, overridden: bool = False, **options: Any
    ) -> None:
        self.made_of, self.overridden = (endpoint, options), overridden
        parameters = inspect.signature(endpoint).parameters.values()
        sessions = [p for p in parameters if get_args(p.annotation)[:1] == (Session,)]
        self.new_session: NewSession | None = None
        if sessions:
            if [p.name for p in sessions] != ["session"] or inspect.iscoroutinefunction(endpoint):
                raise TypeError(f"{endpoint.__name__} has to be a plain def with one `session`")
            self.new_session = get_args(sessions[0].annotation)[1].dependency
            endpoint = self.in_transaction(endpoint, cast(NewSession, self.new_session))
        super().__init__(path, endpoint, **options)
        if self.new_session and not overridden:
            self.app = self.session_app(self.app)

    def in_transaction(
        self, endpoint: Callable[..., Any], new_session: NewSession
    ) -> Callable[..., Any]:
        """The function that FastAPI calls: it takes what the session is made of, not the session.

        As a dependency the session would cost FastAPI more time than most queries take. It is one
        where dependencies are overridden.
        """
        signature = inspect.signature(endpoint)
        made_of = dict(inspect.signature(new_session).parameters)
        if self.overridden:
            made_of = {p.name: p for p in made_of.values() if p.annotation in (Request, Response)}
        # A request and a response are there already, whatever the function calls them.
        known = {p.annotation: p.name for p in made_of.values()}
        taken = [p for p in signature.parameters.values() if p.name != "session"]
        own = {p.name: known.get(p.annotation, p.name) for p in taken}

        @functools.wraps(endpoint)
        async def call(**values: Any) -> Any:
            first = {name: values[name] for name in made_of}
            if self.overridden:
                session = borrowed(values["session"], writes=new_session.writes, **first)
            else:
                session = await new_session(**first)
            values = {name: values[sent_as] for name, sent_as in own.items()}
            values["session"] = session
            work = functools.partial(self.work, endpoint, values)
            return await transaction_of(session).run(work, session)

        more = [p for p in taken if p.annotation not in known]
        if self.overridden:
            more.append(signature.parameters["session"])
        by_name = [p.replace(kind=p.KEYWORD_ONLY) for p in [*made_of.values(), *more]]
        whole: Any = call
        whole.__signature__ = signature.replace(parameters=by_name)
        return call

    def session_app(self, fastapis_own: ASGIApp) -> ASGIApp:
        """What answers: the short way where there is one, and FastAPI's where it is needed."""
        handle = self.get_route_handler() if self.is_plain else None
        provider = self.dependency_overrides_provider

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if provider and provider.dependency_overrides:
                await self.when_overridden.app(scope, receive, send)
            elif handle:
                response = await handle(Request(scope, receive))
                await response(scope, receive, send)
            else:
                await fastapis_own(scope, receive, send)

        return app

    @functools.cached_property
    def when_overridden(self) -> APIRoute:
        """The same route with its session as a dependency, for `app.dependency_overrides`."""
        endpoint, options = self.made_of
        return type(self)(self.path, endpoint, overridden=True, **options)

    def get_route_handler(self) -> Handler:
        """FastAPI's own handler or, for a route that needs no more of it, a shorter way."""
        dependant = self.dependant
        self.is_plain = not (
            self.new_session is None
            or self.overridden
            or dependant.dependencies
            or dependant.cookie_params
            or dependant.background_tasks_param_name
            or dependant.security_scopes_param_name
            or dependant.http_connection_param_name
            or isinstance(self.body_field and self.body_field.field_info, params.Form)
            or not all(map(is_one_text, dependant.path_params + dependant.query_params))
            or not isinstance(self.response_class, DefaultPlaceholder)
            or not (self.response_field or self.status_code == 204)
            or self.response_model_include
            or self.response_model_exclude
            or self.response_model_exclude_unset
            or self.response_model_exclude_defaults
            or self.response_model_exclude_none
            or not self.response_model_by_alias
            or self.max_body_size is not None
        )
        return self.short_handler(dependant) if self.is_plain else super().get_route_handler()

    def short_handler(self, dependant: Dependant) -> Handler:
        call, answers_with = cast(Any, dependant.call), self.response_field
        read = self.reader_of(dependant)

        async def handle(request: Request) -> Response:
            response = Response()
            headers = response.headers
            del headers["content-length"]
            values: dict[str, Any] = {"request": request, "response": response}
            await read(request, values)
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

    def reader_of(
        self, dependant: Dependant
    ) -> Callable[[Request, Any], Coroutine[Any, Any, None]]:
        """What puts a request's parameters and its body into the values for the function."""
        in_path = [Parameter(field) for field in dependant.path_params]
        in_query = [Parameter(field) for field in dependant.query_params]
        in_headers, in_body = dependant.header_params, dependant.body_params

        async def read(request: Request, values: dict[str, Any]) -> None:
            errors = list[Any]()
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

        return read

    def work(self, endpoint: Callable[..., Any], values: dict[str, Any]) -> Any:
        """What is done in the transaction; a subclass may do more than call the function."""
        return endpoint(**values)
