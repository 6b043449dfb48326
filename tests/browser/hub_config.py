"""The hub's configuration: what the pages ask of it, and a login without accounts."""

from __future__ import annotations

import os
from typing import Any

from spawner.pages import OAUTH_SCOPES, TEMPLATES
from tests.browser.loads import HOSTILE

c: Any = get_config()  # type: ignore[name-defined]  # noqa: F821 - traitlets puts it there

port, hub_port, proxy_port, service_port = os.environ["ENFORCER_TEST_PORTS"].split()
users = {"ada", "alice", "bob", "carol", "gina", "kim", "tom", "zoe", HOSTILE}

c.JupyterHub.bind_url = f"http://127.0.0.1:{port}/"
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{hub_port}"
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{proxy_port}"
c.ConfigurableHTTPProxy.command = os.environ["ENFORCER_TEST_PROXY"].split("\n")
c.JupyterHub.db_url = "sqlite:///:memory:"
c.JupyterHub.cookie_secret = os.urandom(32)
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = "for tests"
c.Authenticator.allowed_users = users
c.Authenticator.admin_users = {"ada"}
c.JupyterHub.spawner_class = "tests.browser.leasing.LeasingSpawner"
c.JupyterHub.template_paths = [TEMPLATES]
c.JupyterHub.allow_named_servers = True
c.JupyterHub.services = [
    {
        "name": "enforcer",
        "url": f"http://127.0.0.1:{service_port}",
        "api_token": os.environ["ENFORCER_TEST_TOKEN"],
        "oauth_no_confirm": True,
        "oauth_client_allowed_scopes": list(OAUTH_SCOPES),
        "display": False,
    }
]
c.JupyterHub.load_roles = [
    {"name": "user", "scopes": ["self", "access:services!service=enforcer"]},
]
