"""The whole picture: machine, slices, leases, what an operator must mend."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from enforcer.api.types import (
    Amount,
    DriftReply,
    LeaseReply,
    MachineReply,
    ReceiptReply,
    RepairReply,
    SlicesReply,
    StatusReply,
)
from enforcer.model import LeaseState
from enforcer.show.slices import slices_table
from enforcer.show.text import (
    BAD,
    QUIET,
    WARNING,
    ago,
    clock,
    cores,
    left,
    memory,
    name_of,
    percent,
    right,
    safe,
    span,
    table,
    word,
)


def status_view(
    status: StatusReply, slices: SlicesReply, leases: Sequence[LeaseReply]
) -> RenderableType:
    """Put together what `enforcer status` prints."""
    parts: list[RenderableType] = [*_head(status), Text(), slices_table(slices.slices)]
    if any(one.cpu_cap is not None for one in slices.slices):
        parts.append(Text("* capped for now, so that guaranteed CPU is there", style=QUIET))
    parts += [
        word(f"{one.title} has all its {one.tasks_limit} tasks: no further one can start", WARNING)
        for one in slices.slices
        if one.tasks_limit is not None and one.tasks >= one.tasks_limit
    ]
    if leases:
        parts += [Text(), leases_table(leases, status.at)]
    if status.repairs:
        parts += [Text(), repairs_table(status.repairs[-5:])]
    parts += drift_lines(status.drift or ())
    return Group(*parts)


def _head(status: StatusReply) -> list[Text]:
    services = [("systemd", status.systemd_ok), ("dockerd", status.docker_ok)]
    lines = [Text(f"Enforcer {safe(status.version)}, tick {status.ticks}", style="bold")]
    lines += machine_lines(status.machine)
    lines.append(Text(f"leases    {counts(status.leases)}"))
    lines += [
        Text(f"{name} does not answer; what stands is held, nothing new is known", style=BAD)
        for name, well in services
        if not well
    ]
    if status.config_error:
        lines.append(word(f"the configuration was not reloaded: {status.config_error}", BAD))
    return lines


def machine_lines(machine: MachineReply) -> list[Text]:
    """Tell what there is, what is promised, and how hard it is fought over."""
    used, capacity = _amount(machine.used), _amount(machine.capacity)
    promised, workload = _amount(machine.promised), _amount(machine.workload)
    kept, free, pressure = _amount(machine.reserved), _amount(machine.free), machine.pressure
    return [
        Text(f"machine   {used} used of {capacity}; {kept} kept for the host"),
        Text(f"promised  {promised} of {workload}; {free} free to promise"),
        Text(
            f"waiting   {percent(pressure.cpu)} of the time for CPU,"
            f" {percent(pressure.memory)} for memory, {percent(pressure.io)} for disks"
        ),
    ]


def counts(leases: dict[LeaseState, int]) -> str:
    """Count leases by state; "none" where there are none."""
    told = [f"{leases[state]} {state}" for state in LeaseState if leases.get(state)]
    return ", ".join(told) or "none"


def leases_table(leases: Sequence[LeaseReply], now: float) -> Table:
    """Make the table of leases, with what each waits for."""
    made = table(*left("lease of", "profile", "image", "state"), *right("since"), *left("note"))
    for lease in leases:
        since = lease.created_at if lease.bound_at is None else lease.bound_at
        waits = f"place {lease.queue.place}: {lease.queue.sentence}" if lease.queue else ""
        made.add_row(
            word(name_of(lease.user, lease.server)),
            word(lease.profile),
            word(lease.image),
            word(lease.state, WARNING if lease.state is LeaseState.QUEUED else ""),
            Text(ago(since, now)),
            word("; ".join(filter(None, (waits, *lease.notes))), QUIET),
        )
    return made


def repairs_table(repairs: Sequence[RepairReply]) -> Table:
    """Make the table of drift that was found, the newest last."""
    made = table(*left("at", "what was changed", "found", "put back to"), *right("in"))
    for repair in repairs:
        undone = repair.seconds is not None
        made.add_row(
            Text(clock(repair.at)),
            word(f"{repair.what} of {repair.subject}"),
            word(repair.found),
            word(repair.wanted),
            Text(
                f"{(repair.seconds or 0) * 1000:.0f} ms" if undone else "not yet",
                style="" if undone else WARNING,
            ),
        )
    return made


def receipts_table(receipts: Sequence[ReceiptReply]) -> Table:
    """Make the table of what finished leases left, the newest first."""
    made = table(
        *left("ended", "lease of", "why"),
        *right("ran", "CPU", "held back", "peak", "OOM own", "OOM victim"),
    )
    for receipt in receipts:
        made.add_row(
            Text(clock(receipt.ended_at)),
            word(name_of(receipt.user, receipt.server)),
            word(receipt.reason, BAD if receipt.oom_kills else ""),
            Text(span(receipt.ended_at - receipt.started_at)),
            Text(span(receipt.cpu_seconds)),
            Text(span(receipt.throttled_seconds)),
            Text(memory(receipt.memory_peak)),
            Text(str(receipt.oom_kills)),
            Text(str(receipt.oom_kills_as_victim)),
        )
    return made


def drift_lines(drift: Sequence[DriftReply]) -> list[Text]:
    """Tell what only an operator can mend, and what to type for it; then what is to be known."""
    mendable = [one for one in drift if one.command]
    lines = []
    if mendable:
        lines += [Text(), Text("For you to mend:", style=BAD)]
        for one in mendable:
            lines += [word(f"  {one.message}"), word(f"    {one.command}", WARNING)]
    known = [word(f"  {one.message}") for one in drift if not one.command]
    if known:
        lines += [Text(), Text("For you to know:", style=WARNING), *known]
    return lines


def _amount(both: Amount) -> str:
    return f"{cores(both.cpu)} CPU + {memory(both.memory)}"
