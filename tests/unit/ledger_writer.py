"""Stores leases in a loop and prints the number of each that was acknowledged: to be killed."""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path

from enforcer.adapters.ledger import SqliteLedger
from enforcer.errors import UnavailableError
from enforcer.model import Claim, Grant, Lease, LeaseState
from enforcer.quantities import CORE, GIB, Bytes


def lease(number: int, *, notes: tuple[str, ...] = ()) -> Lease:
    return Lease(
        id=f"{number:032x}",
        claim=Claim(user=f"user{number}"),
        profile="small",
        image="base:latest",
        grant=Grant(cpu_limit=CORE, mem_limit=Bytes(GIB)),
        state=LeaseState.PENDING,
        created_at=float(number),
        notes=notes,
    )


async def _write_until_killed(path: Path, first: int) -> None:
    ledger = await SqliteLedger.open(path)
    for number in range(first, first + 1_000_000):
        # Two in one transaction: a half of a pair must never be found.
        await ledger.store([lease(2 * number), lease(2 * number + 1)])
        print(number, flush=True)  # noqa: T201  # the acknowledgement


async def _write_until_full(path: Path, limit: int) -> None:
    """Print how many were acknowledged, the error's code, and what is there then and afterwards."""
    ledger = await SqliteLedger.open(path)
    soft = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, soft[1]))
    number, code = 0, ""
    while not code:
        try:
            await ledger.store([lease(number, notes=("x" * 2000,))])
            number += 1
        except UnavailableError as error:
            code = error.code
    there = len(await ledger.load())
    resource.setrlimit(resource.RLIMIT_FSIZE, soft)
    await ledger.store([lease(number)])
    print(number, code, there, len(await ledger.load()))  # noqa: T201  # read by the test
    await ledger.close()


if __name__ == "__main__":
    if sys.argv[1] == "kill":
        asyncio.run(_write_until_killed(Path(sys.argv[2]), int(sys.argv[3])))
    else:
        asyncio.run(_write_until_full(Path(sys.argv[2]), int(sys.argv[3])))
