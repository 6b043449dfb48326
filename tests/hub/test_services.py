"""The real hub, its real proxy and the pages' service, each told by the written configuration."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit
from urllib.request import urlopen

import pytest

from enforcer import hubconfig
from enforcer.bootstrap import Console
from enforcer.errors import EnforcerError
from enforcer.install.host import Host
from enforcer.install.hub import Offline, install_proxy

CHECKOUT = Path(__file__).parents[2]
SECONDS = 60.0

OVERRIDES = """\
c.JupyterHub.bind_url = "{scheme}://127.0.0.1:{public}/lab"
c.JupyterHub.hub_ip = "127.0.0.1"
c.JupyterHub.hub_port = {hub}
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api}"
c.JupyterHub.authenticator_class = "dummy"
c.JupyterHub.spawner_class = "simple"
c.JupyterHub.services = [{{"name": "labs-own", "api_token": "a-token-of-the-labs-own"}}]
c.JupyterHub.load_roles = [
    {{"name": "labs-role", "scopes": ["list:services", "read:services"], "services": ["labs-own"]}}
]
"""


@pytest.fixture(scope="module")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The proxy, as `install --hub` puts it on a host."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed here")
    root = tmp_path_factory.mktemp("host")
    try:
        install_proxy(Host(console=Console(), root=root), CHECKOUT / "spawner/proxy", Offline())
    except EnforcerError as error:
        pytest.skip(f"npm cannot fetch the proxy: {error.message}")
    return root / "opt/enforcer/proxy/node_modules"


class Lab:
    """A hub on this machine's loopback, in a folder of its own."""

    def __init__(
        self, folder: Path, node_modules: Path, *flags: str, trusted: Path | None = None
    ) -> None:
        """Write the configuration with these flags. trusted: the certificate it is reached with."""
        self.folder = folder
        self._tls = None if trusted is None else ssl.create_default_context(cafile=trusted)
        self.ports = dict(zip(("public", "hub", "api"), _free_ports(3), strict=True))
        self._proxy = node_modules / ".bin/configurable-http-proxy"
        self._config = folder / "etc/jupyterhub_config.py"
        where = ("--output", str(self._config), "--state", str(folder / "state"))
        words = ["--defaults", "--hub-ip", "172.17.0.1", *where, *flags]
        assert hubconfig.main(words) == 0
        [pages] = _free_ports(1)
        text = self._config.read_text()
        assert text.count("templates=templates)") == 1
        address = f'templates=templates, address="http://127.0.0.1:{pages}")'
        self._config.write_text(text.replace("templates=templates)", address))
        overrides = self._config.parent / "conf.d/test.py"
        scheme = "http" if trusted is None else "https"
        overrides.write_text(OVERRIDES.format(scheme=scheme, **self.ports))

    @contextmanager
    def hub(self) -> Iterator[None]:
        with self._started("hub", ("-P", "-m", "jupyterhub", "--config", str(self._config))):
            yield

    @contextmanager
    def proxy(self) -> Iterator[None]:
        environment = self._environment("proxy")
        words = (str(self._proxy), *environment["ARGUMENTS"].split())
        with self._started("proxy", words, environment, program=()):
            yield

    @contextmanager
    def pages(self) -> Iterator[None]:
        environment = self._environment("pages")
        token = ("--token-file", str(self.folder / "state/pages.token"))
        words = ("-P", "-m", "spawner.pages", *environment["ARGUMENTS"].split(), *token)
        with self._started("pages", words, environment):
            yield

    def get(self, path: str, token: str = "", **headers: str) -> tuple[int, str, str]:
        """Status, where it redirects to, and body; 0 if nobody listens."""
        connection = (
            http.client.HTTPConnection("127.0.0.1", self.ports["public"], timeout=10)
            if self._tls is None
            else http.client.HTTPSConnection(
                "127.0.0.1", self.ports["public"], timeout=10, context=self._tls
            )
        )
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent |= {"Authorization": f"token {token}"} if token else {}
        try:
            connection.request("GET", path, headers=sent)
            answer = connection.getresponse()
            return answer.status, answer.getheader("Location", ""), answer.read().decode()
        except OSError:
            return 0, "", ""
        finally:
            connection.close()

    def until(self, path: str, status: int) -> tuple[int, str, str]:
        """Ask until it answers so."""
        deadline = time.monotonic() + SECONDS
        while True:
            answer = self.get(path)
            if answer[0] == status:
                return answer
            assert time.monotonic() < deadline, (answer, self.logs())
            time.sleep(0.2)

    def logs(self) -> str:
        return "\n".join(file.read_text() for file in self.folder.glob("*.log"))

    def _environment(self, unit: str) -> dict[str, str]:
        """What the unit's ExecStartPre leaves, read the way systemd does."""
        into = self.folder / unit
        into.mkdir(exist_ok=True)
        words = ("spawner.units", unit, "--config", str(self._config), "--into", str(into))
        subprocess.run(
            [sys.executable, "-P", "-m", *words], env=_environ(), check=True, timeout=SECONDS
        )
        pairs = (line.partition("=") for line in (into / "environment").read_text().splitlines())
        return {name: value.strip('"') for name, _, value in pairs}

    @contextmanager
    def _started(
        self,
        name: str,
        words: Sequence[str],
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = (sys.executable,),
    ) -> Iterator[None]:
        with (
            (self.folder / f"{name}.log").open("a") as log,
            subprocess.Popen(
                [*program, *words],
                cwd=self.folder,
                env=_environ(environment),
                stdout=log,
                stderr=subprocess.STDOUT,
            ) as process,
        ):
            try:
                yield
            finally:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(20)
                process.kill()


def _environ(more: Mapping[str, str] | None = None) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(CHECKOUT), **(more or {})}


def _free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def test_hub_proxy_and_pages_find_one_another_and_the_labs_own_service_is_there_too(
    tmp_path: Path, node_modules: Path
) -> None:
    lab = Lab(tmp_path, node_modules)
    with lab.proxy(), lab.pages():
        with lab.hub():
            assert '"version": "6.' in lab.until("/lab/hub/api/", 200)[2]
            status, _, listed = lab.get("/lab/hub/api/services", "a-token-of-the-labs-own")
            assert status == 200, lab.logs()
            for service in ("labs-own", "enforcer", "enforcer-culler"):
                assert f'"{service}": ' in listed
            # The pages ask the hub who one is.
            status, place, _ = lab.get("/lab/services/enforcer/")
            assert status == 302, lab.logs()
            assert "/lab/hub/api/oauth2/authorize" in place
            assert "client_id=service-enforcer" in place
        # Without the hub the way to the pages, as to people's servers, is still there.
        assert lab.get("/lab/hub/api/")[0] == 503
        assert lab.get("/lab/services/enforcer/")[0] == 302
        with lab.hub():
            lab.until("/lab/hub/api/", 200)
    for name in ("pages", "proxy"):
        secret = (tmp_path / f"state/{name}.token").read_text().strip()
        assert secret not in lab.logs()


def test_with_a_certificate_of_its_own_everything_goes_over_https(
    tmp_path: Path, node_modules: Path
) -> None:
    certificate, key = _certificate(tmp_path)
    flags = ("--type", "https", "--certificate", str(certificate), "--key", str(key))
    lab = Lab(tmp_path, node_modules, *flags, trusted=certificate)
    with lab.proxy(), lab.pages(), lab.hub():
        assert '"version": "6.' in lab.until("/lab/hub/api/", 200)[2]
        assert lab.get("/lab/hub/login")[0] == 200, lab.logs()
        status, place, _ = lab.get("/lab/services/enforcer/")
        assert status == 302, lab.logs()
        assert "/lab/hub/api/oauth2/authorize" in place
        # and nothing goes without it
        with pytest.raises(OSError, match=r"closed connection|reset"):
            urlopen(f"http://127.0.0.1:{lab.ports['public']}/lab/hub/api/", timeout=10)
    assert "BEGIN" not in lab.logs()


def test_behind_another_machines_web_server_people_are_sent_to_that(
    tmp_path: Path, node_modules: Path
) -> None:
    flags = ("--type", "proxy", "--public-url", "https://hub.example.org/lab/")
    lab = Lab(tmp_path, node_modules, *flags)
    forwarded = {
        "Host": "hub.example.org",
        "X_Forwarded_Proto": "https",
        "X_Forwarded_Port": "443",
        "X_Forwarded_For": "192.0.2.7",
    }
    with lab.proxy(), lab.pages(), lab.hub():
        lab.until("/lab/hub/api/", 200)
        assert lab.get("/lab/hub/login", **forwarded)[0] == 200, lab.logs()
        status, place, _ = lab.get("/lab/services/enforcer/", **forwarded)
        assert status == 302, lab.logs()
        asked = urlsplit(urljoin("https://hub.example.org/lab/services/enforcer/", place))
        assert (asked.scheme, asked.netloc) == ("https", "hub.example.org")
        [back] = parse_qs(asked.query)["redirect_uri"]
        assert urljoin(asked.geturl(), back).startswith("https://hub.example.org/lab/services/")


def _certificate(folder: Path) -> tuple[Path, Path]:
    """Make one for 127.0.0.1, for a day, signed by itself."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    words = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1")
    names = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    files = ("-keyout", str(key), "-out", str(certificate))
    subprocess.run([*words, *names, *files], check=True, timeout=SECONDS, capture_output=True)
    return certificate, key
