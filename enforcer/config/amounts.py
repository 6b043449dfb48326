"""Amounts within what all containers have together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from enforcer.config.mistakes import Place, Review
from enforcer.quantities import (
    GIB,
    LEAST_CPU,
    LEAST_MEMORY,
    MIB,
    Bytes,
    Cpus,
    format_bytes,
    format_cpus,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What all containers together may use while there is one of them."""

    cpu: Cpus
    memory: Bytes
    swap: Bytes
    tasks: int | None


@dataclass(frozen=True, slots=True)
class Amounts:
    """Reads the amounts of one table, none of which may be more than the workload has."""

    review: Review
    place: Place
    whole: Workload

    def cpu(self, key: str, written: object, percent_of: Cpus | None = None) -> Cpus | None:
        """Read a CPU limit; a percentage is of one core unless told otherwise."""
        place = (*self.place, key)
        amount = self.review.cpus(place, written, percent_of)
        if amount is None:
            return None
        if amount < LEAST_CPU:
            self._too_small(place, written, format_cpus(LEAST_CPU))
            return None
        if amount > self.whole.cpu:
            self._too_large(place, written, f"{floor_cpus(self.whole.cpu)} cores")
            return None
        return amount

    def memory(self, key: str, written: object, percent_of: Bytes | None = None) -> Bytes | None:
        """Read a memory limit; a percentage is of the workload unless told otherwise."""
        place = (*self.place, key)
        amount = self.review.bytes(place, written, percent_of or self.whole.memory)
        if amount is None:
            return None
        if amount < LEAST_MEMORY:
            self._too_small(place, written, format_bytes(LEAST_MEMORY))
            return None
        if amount > self.whole.memory:
            self._too_large(place, written, floor_bytes(self.whole.memory))
            return None
        return amount

    def cpu_floor(self, key: str, written: object) -> Cpus | None:
        """Read a CPU guarantee; it may be nothing."""
        place = (*self.place, key)
        amount = self.review.cpus(place, written)
        if amount is not None and amount > self.whole.cpu:
            self._too_large(place, written, f"{floor_cpus(self.whole.cpu)} cores")
        return amount

    def memory_floor(self, key: str, written: object) -> Bytes | None:
        """Read a memory guarantee; it may be nothing, and a percentage is of the workload."""
        place = (*self.place, key)
        amount = self.review.bytes(place, written, self.whole.memory)
        if amount is not None and amount > self.whole.memory:
            self._too_large(place, written, floor_bytes(self.whole.memory))
        return amount

    def swap(self, key: str, written: object) -> Bytes | None:
        """Read a swap limit; it may be nothing, and a percentage is of Jupyter's swap."""
        place = (*self.place, key)
        amount = self.review.bytes(place, written, self.whole.swap)
        if amount is not None and amount > self.whole.swap:
            self._too_large(place, written, f"{floor_bytes(self.whole.swap)} of swap")
        return amount

    def tasks(self, key: str, written: int | None) -> int | None:
        """Check a number of processes and threads."""
        if written is not None and self.whole.tasks is not None and written > self.whole.tasks:
            self._too_large((*self.place, key), written, f"{self.whole.tasks} tasks")
        return written

    def missing(self, key: str, right: str) -> None:
        """Note that a key must be there."""
        self.review.missing((*self.place, key), right)

    def _too_small(self, place: Place, written: object, least: str) -> None:
        self.review.add(place, written, "is too small", f"write {least} or more")

    def _too_large(self, place: Place, written: object, most: str) -> None:
        self.review.add(
            place, written, "is more than the containers have together", f"write at most {most}"
        )


def check_total(
    review: Review, place: Place, total: int | None, limit: int, show: Callable[[int], str]
) -> None:
    """Check that all together may use what one of them may."""
    if total is not None and total < limit:
        review.note(
            place,
            show(total),
            f"{show(total)} for all together is less than the {show(limit)} that one may use",
            f"write {show(limit)} or more",
        )


def floor_bytes(amount: int) -> str:
    """Show an amount rounded down: what an admin is told to write must then be accepted."""
    if amount % GIB == 0:
        return f"{amount // GIB} GiB"
    return f"{amount // MIB} MiB" if amount >= MIB else f"{amount} B"


def floor_cpus(amount: int) -> str:
    """Show cores rounded down, for the same reason."""
    return format_cpus(amount // 10_000 * 10_000)
