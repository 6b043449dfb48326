"""Amounts and sentences as people read them on the pages."""

from __future__ import annotations

import math

from enforcer.quantities import GIB, format_bytes

"""Numbers in a form have three decimals, rounded down: no more than what there is."""


def cores(amount: float) -> str:
    """Say an amount of CPU with its unit: ``"1 core"``, ``"2.5 cores"``."""
    said = number(amount)
    return f"{said} core" if said == "1" else f"{said} cores"


def number(amount: float) -> str:
    """Write a number of cores: two decimals at most, one from ten on."""
    said = f"{amount:.2f}" if amount < 10 else f"{amount:.1f}"
    return said.rstrip("0").rstrip(".")


def capital(sentence: str) -> str:
    """Begin a sentence as sentences do."""
    return sentence[:1].upper() + sentence[1:]


def both(cpu: float, memory: int) -> str:
    """Say an amount of both: ``"2 cores and 8 GiB"``."""
    return f"{cores(cpu)} and {format_bytes(memory)}"


def field(amount: float) -> str:
    """Write what goes into a form's number field: never more than the amount.

    Below one, three decimals would take a megabyte from somebody who has few.
    """
    decimals = 3 if amount >= 1 else 6
    most = math.floor(amount * 10**decimals + 1e-6) / 10**decimals
    return f"{most:.{decimals}f}".rstrip("0").rstrip(".")


def gib(amount: int) -> float:
    """Return bytes as GiB."""
    return amount / GIB


def percent(share: float) -> str:
    """Write a share of 0 to 1."""
    return f"{share * 100:.0f} %"
