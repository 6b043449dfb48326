"""The OpenAPI 3.1 document, made from the same table of routes that the server runs on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from enforcer import __version__
from enforcer.api.problems import CONTENT_TYPE as PROBLEM_TYPE
from enforcer.api.table import Parameter, Route
from enforcer.api.types import Problem, Reply, Request

CONTENT_TYPE: Final = "application/json"
_REF: Final = "#/components/schemas/{model}"
_ALWAYS: Final = (400, 403, 500, 503)
"""Any request may be malformed, from the wrong peer, or come when something is broken."""

_ABOUT: Final = (
    "HTTP on a Unix socket; who calls is known by the socket's peer credentials. root and the hub's"
    " users act for anyone, any other user sees and changes what is their own. CPU is in cores,"
    " memory in bytes, times in Unix seconds."
)


def document(routes: Sequence[Route]) -> bytes:
    """Return the document as JSON."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    told = {
        "openapi": "3.1.0",
        "info": {"title": "The Enforcer", "version": __version__, "description": _ABOUT},
        "paths": paths,
        "components": {"schemas": _schemas(routes)},
    }
    return json.dumps(told).encode()


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "responses": {
            **{str(status): _answer(status, what) for status, what in route.answers.items()},
            **{
                str(status): _said(status, PROBLEM_TYPE, Problem)
                for status in sorted({*_ALWAYS, *route.problems, *_of_body(route)})
            },
        },
    }
    parameters = [
        *(_in_path(name, schema) for name, schema in route.path_parameters.items()),
        *(_in_query(one) for one in route.query),
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": _body(route.body)}
    return operation


def _of_body(route: Route) -> tuple[int, ...]:
    return () if route.body is None else (HTTPStatus.REQUEST_ENTITY_TOO_LARGE.value,)


def _body(body: type[Request | str]) -> dict[str, Any]:
    if issubclass(body, Request):
        return {CONTENT_TYPE: {"schema": _ref(body)}}
    return {"text/plain": {"schema": {"type": "string"}}}


def _answer(status: int, what: type[Reply] | str | None) -> dict[str, Any]:
    if what is None:
        return {"description": HTTPStatus(status).phrase}
    if isinstance(what, str):
        return {"description": HTTPStatus(status).phrase, "content": {what: {}}}
    return _said(status, CONTENT_TYPE, what)


def _said(status: int, content_type: str, model: type[Reply]) -> dict[str, Any]:
    return {
        "description": HTTPStatus(status).phrase,
        "content": {content_type: {"schema": _ref(model)}},
    }


def _in_path(name: str, schema: Any) -> dict[str, Any]:  # noqa: ANN401 - a JSON Schema
    return {"name": name, "in": "path", "required": True, "schema": dict(schema)}


def _in_query(parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = dict(parameter.schema)
    if parameter.many:
        schema = {"type": "array", "items": schema}
    return {
        "name": parameter.name,
        "in": "query",
        "required": False,
        "description": parameter.description,
        "schema": schema,
    }


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def _schemas(routes: Sequence[Route]) -> dict[str, Any]:
    """Return the schema of every model that a route names, and of what those hold."""
    wanted: dict[type[BaseModel], Literal["validation", "serialization"]] = {
        Problem: "serialization"
    }
    for route in routes:
        if route.body is not None and issubclass(route.body, Request):
            wanted[route.body] = "validation"
        for what in route.answers.values():
            if isinstance(what, type):
                wanted[what] = "serialization"
    _, found = models_json_schema(list(wanted.items()), ref_template=_REF)
    schemas: dict[str, Any] = found["$defs"]
    return schemas
