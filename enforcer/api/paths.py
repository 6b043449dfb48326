"""The table of routes: what the server serves and the OpenAPI document tells of."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from enforcer.api import types
from enforcer.api.openapi import CONTENT_TYPE as OPENAPI_TYPE
from enforcer.api.table import MOST_WAIT_SECONDS, Parameter, Route
from enforcer.model import LeaseState

if TYPE_CHECKING:
    from enforcer.api.routes import Api

MOST_RECEIPTS: Final = 1000

_NAME: Final = MappingProxyType({"type": "string", "maxLength": 255})
_USER: Final = Parameter(
    name="user", schema=_NAME, description="Whom it is about; you, if nobody is named."
)
_SERVER: Final = Parameter(
    name="server", schema=_NAME, description="The named server; the default one, if none is named."
)
_GROUP: Final = Parameter(
    name="group",
    schema=_NAME,
    description="A group the hub has the user in; for root and the hub only.",
    many=True,
)
_LEASE: Final = MappingProxyType(
    {"lease_id": MappingProxyType({"type": "string", "pattern": "^[0-9a-f]{32}$"})}
)


def _number(name: str, most: float, description: str) -> Parameter:
    schema: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": most}
    return Parameter(name=name, schema=schema, description=description)


def routes(api: Api) -> tuple[Route, ...]:
    """Return every route there is."""
    return (*_looking(api), *_leasing(api), *_administering(api))


def _looking(api: Api) -> tuple[Route, ...]:
    return (
        Route(
            method="GET", path="/v1/openapi.json", name="openapi", run=api.openapi,
            summary="This document.", answers={200: OPENAPI_TYPE},
        ),
        Route(
            method="GET", path="/metrics", name="metrics", run=api.metrics,
            summary="The metrics, as Prometheus reads them. For root and the hub.",
            answers={200: "text/plain"},
        ),
        Route(
            method="GET", path="/v1/status", name="status", run=api.status,
            summary="How the machine and the daemon are, and your own leases.",
            answers={200: types.StatusReply},
        ),
        Route(
            method="GET", path="/v1/slices", name="slices", run=api.slices,
            summary="The slice tree with limits and use; your own part of it.",
            answers={200: types.SlicesReply},
        ),
        Route(
            method="GET", path="/v1/catalogue", name="catalogue", run=api.catalogue,
            summary="What a user may choose from, and what fits now.",
            answers={200: types.CatalogueReply}, query=(_USER, _SERVER, _GROUP),
        ),
        Route(
            method="GET", path="/v1/explain", name="explain", run=api.explain,
            summary="Why a server has what it has, and what holds it back now.",
            answers={200: types.ExplainReply}, query=(_USER, _SERVER, _GROUP),
        ),
        Route(
            method="GET", path="/v1/receipts", name="receipts", run=api.receipts,
            summary="What finished leases left, the newest first.",
            answers={200: types.ReceiptsReply}, problems=(503,),
            query=(_USER, _number("limit", MOST_RECEIPTS, "How many at most.")),
        ),
    )  # fmt: skip


def _leasing(api: Api) -> tuple[Route, ...]:
    one = "/v1/leases/{lease_id}"
    return (
        Route(
            method="POST", path="/v1/leases", name="claim", run=api.claim,
            summary="Claim a lease: 201 if it is new, 200 if it was there, 202 if it has to wait.",
            answers={200: types.LeaseReply, 201: types.LeaseReply, 202: types.LeaseReply},
            problems=(404, 409, 503), body=types.ClaimRequest, changes=True,
        ),
        Route(
            method="GET", path="/v1/leases", name="leases", run=api.leases,
            summary="The leases that are not finished, the oldest first.",
            answers={200: types.LeasesReply}, query=(_USER,),
        ),
        Route(
            method="GET", path=one, name="lease", run=api.lease,
            summary="One lease; with wait_seconds, as soon as it is in another state.",
            answers={200: types.LeaseReply}, problems=(404,), path_parameters=_LEASE,
            query=(
                _number("wait_seconds", MOST_WAIT_SECONDS, "How long to wait for a change."),
                Parameter(
                    name="state",
                    schema={"type": "string", "enum": [str(state) for state in LeaseState]},
                    description="The state to wait for the end of; the present one if not given.",
                ),
            ),
            seconds=MOST_WAIT_SECONDS + 30.0,
        ),
        Route(
            method="PATCH", path=one, name="resize", run=api.resize,
            summary="Give a live lease other numbers, for good or for some seconds.",
            answers={200: types.LeaseReply}, problems=(404, 409, 503), path_parameters=_LEASE,
            body=types.ResizeRequest, changes=True,
        ),
        Route(
            method="DELETE", path=one, name="release", run=api.release,
            summary="End a lease, your own once its server is stopped; again is no mistake.",
            answers={204: None}, problems=(404, 409, 503), path_parameters=_LEASE, changes=True,
        ),
        Route(
            method="GET", path=one + "/bounds", name="bounds", run=api.bounds,
            summary="The most that a resize of a lease may ask for.",
            answers={200: types.BoundsReply}, problems=(404,), path_parameters=_LEASE,
        ),
        Route(
            method="GET", path=one + "/history", name="history", run=api.history,
            summary="The last samples of a lease, the oldest first; for a while after its end too.",
            answers={200: types.HistoryReply}, problems=(404,), path_parameters=_LEASE,
        ),
    )  # fmt: skip


def _administering(api: Api) -> tuple[Route, ...]:
    return (
        Route(
            method="POST", path="/v1/reload", name="reload", run=api.reload,
            summary="Read the configuration again; a bad file changes nothing. For root.",
            answers={200: types.ReloadReply}, problems=(503,), changes=True,
        ),
        Route(
            method="POST", path="/v1/plan", name="plan", run=api.plan,
            summary="Say what a configuration would change, and whom it puts at risk. For root.",
            answers={200: types.PlanReply}, body=str,
        ),
    )  # fmt: skip
