"""Everything outside the process that the controller works with."""

from __future__ import annotations

from dataclasses import dataclass

from enforcer.ports import Clock, Docker, Host, Kernel, Ledger, Systemd


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One adapter for each foreign thing: the real ones, or the fakes."""

    systemd: Systemd
    kernel: Kernel
    docker: Docker
    host: Host
    ledger: Ledger
    clock: Clock
