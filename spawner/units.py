"""What the units beside the hub have to know of its configuration: the proxy's, and the pages'.

The one place where addresses, certificates and tokens are set is jupyterhub_config.py. Each unit
runs this first, as root, and finds the rest in its environment::

    ExecStartPre=+… -m spawner.units proxy --into %t/jupyterhub-proxy --user jupyterhub-proxy
    EnvironmentFile=-%t/jupyterhub-proxy/environment

As root, because a certificate's key is often root's alone, and the configuration may name other
secrets. The proxy itself, which everybody talks to, is neither in the hub's groups nor of its user.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from traitlets.config import Config
from traitlets.config.loader import LazyConfigValue, PyFileConfigLoader

from enforcer.errors import EnforcerError, InvalidError, UnavailableError
from spawner.pages import SERVICE_NAME

CONFIG: Final = Path("/etc/jupyterhub/jupyterhub_config.py")
ENVIRONMENT: Final = "environment"
CERTIFICATE: Final = "certificate.pem"
KEY: Final = "key.pem"

_HUB_PORT: Final = 8081
_PUBLIC_PORT: Final = 8000
_API_URL: Final = "http://127.0.0.1:8001"
_EVERYWHERE: Final = frozenset({"", "0.0.0.0", "::", "*"})  # noqa: S104 - compared, not bound to


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What of the hub's configuration matters outside of the hub.

    host, port: where the proxy listens. base_url: the path below which everything is.
    hub_url: how this machine reaches the hub, with its path. pages: where their service listens.
    """

    host: str
    port: int
    base_url: str
    certificate: str
    key: str
    host_routing: bool
    hub_url: str
    proxy_api: str
    proxy_token: str
    log_level: str
    pages: str


def load(path: Path) -> Config:
    """Run the configuration as the hub does.

    Raises:
        UnavailableError: ``hub.config-unreadable``: it is not there, or it fails.
    """
    try:
        return PyFileConfigLoader(path.name, str(path.parent)).load_config()
    except Exception as error:
        # It is a program of the admin's: anything may come out of it.
        raise UnavailableError(
            "hub.config-unreadable",
            f"{path} does not run: {type(error).__name__}: {error}",
            "mend it; to have one made, type: enforcer hub-config",
        ) from error


def facts(config: Config) -> Facts:
    """Work out from a configuration what the hub itself would.

    Raises:
        InvalidError: ``hub.config-unusable``: an address that is none.
    """
    hub, proxy = config.JupyterHub, config.ConfigurableHTTPProxy
    host, port, base_url = _public(hub)
    services = _plain(hub, "services", [])
    pages = [one.get("url", "") for one in services if one.get("name") == SERVICE_NAME]
    return Facts(
        host=host,
        port=port,
        base_url=base_url,
        certificate=_plain(hub, "ssl_cert", ""),
        key=_plain(hub, "ssl_key", ""),
        host_routing=bool(_plain(hub, "subdomain_host", "")),
        hub_url=_hub_url(hub, base_url),
        proxy_api=_plain(proxy, "api_url", _API_URL),
        proxy_token=_plain(proxy, "auth_token", ""),
        log_level=_plain(proxy, "log_level", "info"),
        pages=pages[0] if pages else "",
    )


def proxy_environment(found: Facts, folder: Path) -> dict[str, str]:
    """Return the proxy's environment; the certificate and the key are in `folder` then.

    Raises:
        InvalidError: ``hub.config-unusable``: no token.
    """
    if not found.proxy_token:
        raise InvalidError(
            "hub.config-unusable",
            "c.ConfigurableHTTPProxy.auth_token is not set",
            "hub and proxy need to share one: see what `enforcer hub-config -o -` writes",
        )
    api_host, api_port = _place(found.proxy_api, "c.ConfigurableHTTPProxy.api_url")
    words = ["--ip", found.host or "*", "--port", str(found.port)]
    words += ["--api-ip", api_host, "--api-port", str(api_port)]
    words += ["--error-target", f"{found.hub_url}error", "--log-level", found.log_level]
    if found.host_routing:
        words.append("--host-routing")
    if found.certificate:
        words += ["--ssl-cert", str(folder / CERTIFICATE), "--ssl-key", str(folder / KEY)]
    return {"CONFIGPROXY_AUTH_TOKEN": found.proxy_token, "ARGUMENTS": " ".join(words)}


def pages_environment(found: Facts) -> dict[str, str]:
    """Return the environment of the pages' service.

    Raises:
        InvalidError: ``hub.config-unusable``: the hub does not know the service.
    """
    if not found.pages:
        raise InvalidError(
            "hub.config-unusable",
            f"the hub's configuration has no service called {SERVICE_NAME}",
            "put add_pages(…) at its end, as `enforcer hub-config -o -` writes it",
        )
    host, port = _place(found.pages, "the address of the pages")
    listen = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return {
        "JUPYTERHUB_API_URL": f"{found.hub_url}api",
        "JUPYTERHUB_BASE_URL": found.base_url,
        "ARGUMENTS": f"--listen {listen}",
    }


def format_environment(variables: Mapping[str, str]) -> str:
    """Write a file as systemd.exec(5) reads it under EnvironmentFile=.

    Raises:
        InvalidError: ``hub.config-unusable``: a value that no such file can hold.
    """
    lines: list[str] = []
    for name, value in variables.items():
        if not value.isprintable():
            raise InvalidError(
                "hub.config-unusable",
                f"{name} would hold a character that cannot be printed",
                "look at the addresses and the token in the hub's configuration",
            )
        quoted = "".join(f"\\{one}" if one in '"\\`$' else one for one in value)
        lines.append(f'{name}="{quoted}"\n')
    return "".join(lines)


def main(words: Sequence[str]) -> int:
    """Write one unit's files; 0, or 1 with the reason."""
    options = _parser().parse_args(words)
    try:
        found = facts(load(options.config))
        if options.unit == "proxy":
            variables = proxy_environment(found, options.into)
            _copy_certificate(found, options.into, options.user)
        else:
            variables = pages_environment(found)
        text = format_environment(variables)
        # systemd reads it as root; nobody else need.
        _put(options.into / ENVIRONMENT, text)
    except EnforcerError as error:
        sys.stderr.write(f"{error.message}\n  What to do: {error.hint}\n")
        return 1
    return 0


def _copy_certificate(found: Facts, folder: Path, user: str | None) -> None:
    if not found.certificate:
        return
    for name, source in ((CERTIFICATE, found.certificate), (KEY, found.key)):
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UnavailableError(
                "hub.certificate",
                f"the certificate's file {source!r} cannot be read: {error}",
                "c.JupyterHub.ssl_cert and ssl_key in the hub's configuration name both",
            ) from error
        _put(folder / name, text, user)


def _put(path: Path, text: str, user: str | None = None) -> None:
    """Write a file for one user alone. The folder is another's, who may have laid links in it."""
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
        if user is not None:
            shutil.chown(file.fileno(), user)
        file.write(text)


def _public(hub: Config) -> tuple[str, int, str]:
    """Return host, port and base URL; the hub still takes the older ip, port and base_url too."""
    url = _plain(hub, "bind_url", f"http://:{_PUBLIC_PORT}")
    host, port = _place(url, "c.JupyterHub.bind_url")
    path = urlsplit(url).path
    if any(name in hub for name in ("ip", "port", "base_url")):
        host = _plain(hub, "ip", host)
        port = _plain(hub, "port", port)
        path = _plain(hub, "base_url", path)
    inner = path.strip("/")
    return host, port, f"/{inner}/" if inner else "/"


def _hub_url(hub: Config, base_url: str) -> str:
    """Return how the hub is reached from here, with a slash at the end."""
    path = f"{base_url}hub/"
    given = _plain(hub, "hub_connect_url", "") or _plain(hub, "hub_bind_url", "")
    if given:
        host, port = _place(given, "c.JupyterHub.hub_bind_url")
    else:
        host, port = _plain(hub, "hub_ip", "127.0.0.1"), _plain(hub, "hub_port", _HUB_PORT)
        host = _plain(hub, "hub_connect_ip", "") or host
    if host in _EVERYWHERE:
        host = "127.0.0.1"
    return f"http://[{host}]:{port}{path}" if ":" in host else f"http://{host}:{port}{path}"


def _place(url: str, what: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    host = parts.hostname or ""
    if parts.scheme not in {"http", "https"} or any(one.isspace() for one in host):
        raise InvalidError(
            "hub.config-unusable",
            f"{what} is {url!r}, which is no address that these units can use",
            'write it such as "http://127.0.0.1:8000"',
        )
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    return host, port


def _plain(section: Config, name: str, default: Any) -> Any:  # noqa: ANN401 - traitlets' own
    value = section.get(name, default)
    return value.get_value(default) if isinstance(value, LazyConfigValue) else value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m spawner.units",
        description="Write what a unit beside the hub has to know of the hub's configuration.",
    )
    parser.add_argument("unit", choices=("proxy", "pages"))
    parser.add_argument("--config", type=Path, default=CONFIG, metavar="FILE", help=f"({CONFIG})")
    parser.add_argument("--into", type=Path, required=True, metavar="DIR", help="its folder")
    parser.add_argument("--user", metavar="USER", help="who is to read the certificate")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
