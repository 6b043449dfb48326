"""dockerd's daemon.json: our keys put in, and taken out again, with the rest left as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from enforcer.errors import InvalidError
from enforcer.names import ADOPTED

_HINT = "mend it first: dockerd does not start with it either"

WANTED: Mapping[str, object] = {
    "cgroup-parent": str(ADOPTED),
    # Containers then outlive a restart of dockerd, which its move into the engine's slice takes.
    "live-restore": True,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """The new text, None where nothing changes; what was added; what an admin has otherwise."""

    text: str | None
    added: Mapping[str, object]
    conflicts: Mapping[str, object]


def merge(text: str | None) -> Merge:
    """Put our keys into a daemon.json; a key that is there with another value is left alone.

    Raises:
        InvalidError: ``docker.config-invalid``: the file is no JSON object.
    """
    settings = _parse(text)
    added = {key: value for key, value in WANTED.items() if key not in settings}
    conflicts = {
        key: settings[key]
        for key, value in WANTED.items()
        if key in settings and settings[key] != value
    }
    changed = _format({**settings, **added}) if added else None
    return Merge(text=changed, added=added, conflicts=conflicts)


def unmerge(text: str | None, added: Mapping[str, object], before: str | None) -> str | None:
    """Take out what merge() added, where it still has our value; None where nothing changes.

    before: the file as merge() found it, None if there was none. Where the same comes out, it comes
    out word for word; nothing at all, "", where there was nothing.
    """
    settings = _parse(text)
    kept = {key: value for key, value in settings.items() if added.get(key, _ABSENT) != value}
    if kept == settings:
        return None
    if before is None:
        return _format(kept) if kept else ""
    try:
        return before if kept == _parse(before) else _format(kept)
    except InvalidError:  # somebody wrote in it
        return _format(kept)


_ABSENT = object()


def _parse(text: str | None) -> dict[str, object]:
    if text is None or not text.strip():
        return {}
    try:
        settings = json.loads(text)
    except ValueError as error:
        raise InvalidError(
            "docker.config-invalid", f"/etc/docker/daemon.json is no JSON: {error}", _HINT
        ) from error
    if not isinstance(settings, dict):
        raise InvalidError(
            "docker.config-invalid", "/etc/docker/daemon.json holds no JSON object", _HINT
        )
    return settings


def _format(settings: Mapping[str, object]) -> str:
    return json.dumps(settings, indent=4) + "\n"
