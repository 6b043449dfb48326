"""That the document the server serves describes the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from enforcer.api import openapi
from enforcer.api.routes import Api
from enforcer.api.types import ClaimRequest, LeaseReply, ResizeRequest
from enforcer.metrics import Metrics
from tests.fakes_operations import FakeOperations
from tests.unit.configs import parse

Json = dict[str, Any]


@pytest.fixture(scope="module")
def api() -> Api:
    operations = FakeOperations(parse())
    return Api(operations, Metrics(operations.published))


@pytest.fixture(scope="module")
def document(api: Api) -> Json:
    return dict(json.loads(openapi.document(api.routes)))


def references(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for below in part.values():
            yield from references(below)
    elif isinstance(part, list):
        for below in part:
            yield from references(below)


def operations(document: Json) -> Iterator[tuple[str, str, Any]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_every_route_is_in_the_document_and_nothing_else(api: Api, document: Json) -> None:
    told = {(path, method.upper()) for path, method, _ in operations(document)}
    assert told == {(route.path, route.method) for route in api.routes}


def test_the_document_has_the_form_that_openapi_asks_for(document: Json) -> None:
    assert document["openapi"] == "3.1.0"
    assert {"title", "version"} <= document["info"].keys()
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    for path, _, operation in operations(document):
        assert operation["responses"]
        for status, answer in operation["responses"].items():
            assert 200 <= int(status) < 600
            assert answer["description"]
        in_path = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"}
        assert in_path == ({"lease_id"} if "{lease_id}" in path else set())
        for one in operation.get("parameters", ()):
            assert one["schema"]
            assert one["required"] is (one["in"] == "path")


def test_every_reference_leads_somewhere_and_every_schema_is_used(document: Json) -> None:
    schemas = document["components"]["schemas"]
    found = {one.removeprefix("#/components/schemas/") for one in references(document)}
    assert found == schemas.keys()


def test_every_error_of_a_route_is_told_as_a_problem(document: Json) -> None:
    for _, _, operation in operations(document):
        for status, answer in operation["responses"].items():
            problem = "application/problem+json" in answer.get("content", {})
            assert problem is (int(status) >= 400)


def test_requests_are_closed_and_replies_may_grow(document: Json) -> None:
    schemas = document["components"]["schemas"]
    for name in ("ClaimRequest", "ResizeRequest"):
        assert schemas[name]["additionalProperties"] is False
    assert "additionalProperties" not in schemas["LeaseReply"]


def test_an_older_client_leaves_out_what_it_does_not_know() -> None:
    fields = {name: None for name, field in LeaseReply.model_fields.items() if field.is_required()}
    known = {
        "id": "1", "user": "a", "server": "", "profile": "p", "image": "i", "state": "bound",
        "unit": "u", "cpu_limit": 1, "mem_limit": 1, "cpu_guarantee": 0, "mem_guarantee": 0,
        "created_at": 1, "sentence": "", "notes": [], "invented_later": {"a": 1},
    }  # fmt: skip
    assert LeaseReply.model_validate_json(json.dumps({**fields, **known})).cpu_limit == 1.0


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), True, "60", 1e9])
def test_a_resize_lasts_a_time_that_makes_sense(seconds: object) -> None:
    with pytest.raises(ValidationError):
        ResizeRequest.model_validate({"seconds": seconds})


def test_amounts_are_read_as_people_and_programs_write_them() -> None:
    said = {"user": "a", "cpu_limit": "150%", "mem_limit": "1 GiB", "mem_guarantee": 5000}
    claim = ClaimRequest.model_validate(said).claim()
    assert claim.cpu_limit == 1_500_000
    assert claim.mem_limit == 2**30
    assert claim.mem_guarantee == 4096
    assert ClaimRequest.model_validate({"user": "a", "profile": None}).claim().profile is None
