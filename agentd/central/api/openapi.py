"""The OpenAPI 3.1 document, made from the table of routes and the typed structs.

Rules: nothing is written down twice; a struct's docstring is its description.
"""

from __future__ import annotations

__all__ = ("document",)

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import msgspec

from agentd.central.api.errors import status_of
from agentd.central.api.routes import Route
from libstaragent import codes
from libstaragent.errors import Code
from libstaragent.model.api import ErrorBody

_REF = "#/components/schemas/{name}"
_AUTHORITY = {
    "anybody": "Public.",
    "reader": "Needs a bearer token of `opsconsole login`.",
    "envelope": "Carries an operator's signed envelope; no bearer token.",
    "proof": "Carries its own proof in the body; no bearer token.",
}
# What any path may answer.
_ALWAYS = (codes.REQUEST_MALFORMED, codes.TOO_MANY_REQUESTS, codes.CENTRAL_BUG)


def document(routes: Iterable[Route], *, version: str) -> bytes:
    """The document as JSON."""
    listed = list(routes)
    kinds: list[Any] = [ErrorBody]
    for route in listed:
        kinds.extend(kind for kind in (*route.takes, route.gives) if kind is not None and kind not in kinds)
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    schema_of = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in listed:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    described = {
        "openapi": "3.1.0",
        "info": {
            "title": "opsconsole",
            "version": version,
            "description": "Run anything on a fleet. Acts carry a signed envelope; reads need a bearer token.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }
    return msgspec.json.encode(described)


def _operation(route: Route, schema_of: dict[Any, Any]) -> dict[str, Any]:
    name = re.sub(r"[^a-z0-9]+", "_", f"{route.method} {route.path}".lower()).strip("_")
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": route.summary,
        "description": _AUTHORITY[route.authority],
        "security": [{"bearer": []}] if route.authority == "reader" else [],
        "responses": _responses(route, schema_of),
    }
    parameters = [
        {"name": part, "in": "path", "required": True, "schema": {"type": "string"}}
        for part in re.findall(r"\{(\w+)\}", route.path)
    ]
    parameters += [
        {
            "name": parameter.name,
            "in": "query",
            "required": parameter.required,
            "description": parameter.meaning,
            "schema": {"type": parameter.kind},
        }
        for parameter in route.parameters
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.takes:
        schemas = [schema_of[kind] for kind in route.takes]
        schema = schemas[0] if len(schemas) == 1 else {"oneOf": schemas}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _responses(route: Route, schema_of: dict[Any, Any]) -> dict[str, Any]:
    media: dict[str, Any] = {} if route.gives is None else {"schema": schema_of[route.gives]}
    responses: dict[str, Any] = {}
    # A job that has ended already is answered with 200.
    for status in sorted({route.status, 200} if route.status == 202 else {route.status}):
        responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": {route.media: media}}
    refusals: dict[int, list[Code]] = {}
    reader = (codes.BEARER_MISSING, codes.BEARER_UNKNOWN, codes.LOGIN_EXPIRED) if route.authority == "reader" else ()
    for code in (*route.refusals, *reader, *_ALWAYS):
        refusals.setdefault(status_of(code.error()), []).append(code)
    for status, some in sorted(refusals.items()):
        responses[str(status)] = {
            "description": "; ".join(f"{code.code} {code.sentence}" for code in some),
            "content": {"application/json": {"schema": schema_of[ErrorBody]}},
        }
    return responses
