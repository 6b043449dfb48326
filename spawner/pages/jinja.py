"""The templates that this package renders itself; every value is escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import jinja2

from enforcer.quantities import format_bytes
from spawner.pages import words

_VIEWS: Final = Path(__file__).with_name("views")


def environment() -> jinja2.Environment:
    """Return the environment: a name that is missing is a mistake, not an empty text."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_VIEWS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(cores=words.cores, number=words.number, memory=format_bytes)
    return made
