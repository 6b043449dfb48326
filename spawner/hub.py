"""For jupyterhub_config.py: the Enforcer's pages and culler, added to what the lab has of its own.

Called last, so that services, roles and scopes set before are kept, however they were set. A config
object (traitlets) goes in and is changed; nothing else is.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from traitlets.config import Config
from traitlets.config.loader import LazyConfigValue

from spawner.pages import DEFAULT_PORT, OAUTH_SCOPES, SERVICE_NAME, TEMPLATES

CULLER: Final = "enforcer-culler"
PAGES_ADDRESS: Final = f"http://127.0.0.1:{DEFAULT_PORT}"
ACCESS: Final = f"access:services!service={SERVICE_NAME}"

_CULLER_SCOPES: Final = (
    "list:users",
    "read:users:activity",
    "read:servers",
    "delete:servers",
    "users:activity",
)


def add_pages(
    config: Config, *, token_file: Path, templates: Path, address: str = PAGES_ADDRESS
) -> None:
    """Add the pages' service, everybody's right to use it, and the templates.

    token_file: what the hub knows the service by; the service's unit is given the same file.
    templates: the lab's own, which go before ours.
    address: where the service listens.

    Raises:
        ValueError: there is no token in the file.
        OSError: it cannot be read.
    """
    token = token_file.read_text(encoding="ascii").strip()
    if not token:
        raise ValueError(f"{token_file} is empty: remove it, and type: enforcer hub-config")
    hub = config.JupyterHub
    service = {
        "name": SERVICE_NAME,
        "url": address,
        "api_token": token,
        "oauth_client_id": f"service-{SERVICE_NAME}",
        "oauth_no_confirm": True,
        "oauth_client_allowed_scopes": list(OAUTH_SCOPES),
        # the pages link to it themselves
        "display": False,
        # the hub waits so long for it before it lets anybody in
        "timeout": 5,
    }
    hub.services = _with(_list(hub, "services"), service)
    hub.template_paths = [str(templates), TEMPLATES, *_list(hub, "template_paths")]
    _allow_everybody(hub, ACCESS)


def add_culler(
    config: Config, *, idle_seconds: float, busy_cores: float, socket: str | None = None
) -> None:
    """Add the service that stops idle servers, with the rights it needs.

    idle_seconds: how long a server has to be idle.
    busy_cores: more CPU than that, on average over a minute, counts as use.
    socket: the daemon's, where it is not the usual one.
    """
    # -P: a module called spawner in the folder that the hub happens to run in is not it
    command = [sys.executable, "-P", "-m", "spawner.culler"]
    command += [f"--timeout={round(idle_seconds)}", f"--busy-cores={busy_cores}"]
    if socket is not None:
        command.append(f"--socket={socket}")
    hub = config.JupyterHub
    hub.services = _with(_list(hub, "services"), {"name": CULLER, "command": command})
    role = {"name": CULLER, "services": [CULLER], "scopes": list(_CULLER_SCOPES)}
    hub.load_roles = _with(_list(hub, "load_roles"), role)


def _allow_everybody(hub: Config, scope: str) -> None:
    """Let all users of the hub have a scope, beside what else they have."""
    roles = _list(hub, "load_roles")
    for place, role in enumerate(roles):
        if role.get("name") == "user" and "scopes" in role:
            # who writes down the whole role "user" gets no extra scopes from the hub
            scopes = list(dict.fromkeys([*role["scopes"], scope]))
            hub.load_roles = [*roles[:place], {**role, "scopes": scopes}, *roles[place + 1 :]]
    hub.extra_user_scopes = _value(hub, "extra_user_scopes", set()) | {scope}


def _with(entries: list[dict[str, Any]], ours: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the entries and ours at their end, in place of an earlier one of that name."""
    return [*(one for one in entries if one.get("name") != ours["name"]), dict(ours)]


def _list(hub: Config, name: str) -> list[Any]:
    return list(_value(hub, name, []))


def _value(hub: Config, name: str, initial: Any) -> Any:  # noqa: ANN401 - traitlets' own
    """Return what was set or appended so far."""
    value = hub.get(name, initial)
    if isinstance(value, LazyConfigValue):
        return value.get_value(initial)
    return type(initial)(value)
