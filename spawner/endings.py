"""Why a server ended, in words: from the daemon's receipt, or else from what Docker says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from enforcer.api.types import ReceiptReply
from enforcer.asyncclient import AsyncClient
from enforcer.errors import EnforcerError, NotFoundError
from enforcer.model import EndReason, LeaseState
from enforcer.quantities import format_bytes

_RECEIPTS: Final = 50


async def receipt_of(
    client: AsyncClient, user: str, lease_id: str, seconds: float
) -> ReceiptReply | None:
    """Return the receipt of a lease whose container has gone, if it comes within `seconds`.

    The daemon writes it a moment later than Docker reports the end: the container might come back.
    """
    try:
        try:
            await client.lease(lease_id, seconds, LeaseState.BOUND)
        except NotFoundError:
            receipts = await client.receipts(user, _RECEIPTS)
            return next((one for one in receipts if one.lease_id == lease_id), None)
    except EnforcerError:
        pass
    return None


def ending(receipt: ReceiptReply | None, state: Mapping[str, object] | None) -> str:
    """Say why a server ended. state: Docker's ``State``; None if the container is gone."""
    if receipt is not None:
        return _of_receipt(receipt, state)
    if state is None:
        return "your server is gone: its container was removed"
    if state.get("OOMKilled") is True:
        return "your server was stopped: it ran out of memory"
    return f"your server ended by itself{_code(state)}"


def _of_receipt(receipt: ReceiptReply, state: Mapping[str, object] | None) -> str:
    peak = format_bytes(receipt.memory_peak)
    match receipt.reason:
        case EndReason.OOM_LIMIT:
            limit = format_bytes(receipt.limit_at_kill or receipt.mem_limit)
            return f"your server was stopped: {limit} memory limit reached, peak {peak}"
        case EndReason.OOM_VICTIM:
            return (
                "your server was stopped: the machine ran out of memory, through no fault of its"
                f" own; it used at most {peak}"
            )
        case EndReason.EXITED:
            return f"your server ended by itself{_code(state)}; it used at most {peak} of memory"
        case EndReason.LOST:
            return "your server was gone when the machine's resource service came back"
        case _:
            return "your server was stopped"


def _code(state: Mapping[str, object] | None) -> str:
    code = None if state is None else state.get("ExitCode")
    return f" (exit code {code})" if isinstance(code, int) else ""
