"""What the written configuration gives the hub, and the units beside it."""

from __future__ import annotations

import importlib
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traitlets.config import Config
from traitlets.config.configurable import Configurable

from enforcer import hubconfig
from enforcer.errors import InvalidError, UnavailableError
from spawner import units
from spawner.hub import ACCESS, CULLER, add_culler, add_pages
from spawner.pages import SERVICE_NAME, TEMPLATES

BRIDGE = "172.17.0.1"

# Where each section of the written file is defined.
CLASSES = {
    "JupyterHub": "jupyterhub.app",
    "ConfigurableHTTPProxy": "jupyterhub.proxy",
    "Authenticator": "jupyterhub.auth",
    "PAMAuthenticator": "jupyterhub.auth",
    "DockerSpawner": "dockerspawner",
}


def write(folder: Path, *words: str) -> Path:
    config = folder / "etc" / "jupyterhub_config.py"
    where = ("--output", str(config), "--state", str(folder / "state"))
    assert hubconfig.main(["--defaults", "--hub-ip", BRIDGE, *where, *words]) == 0
    return config


@pytest.mark.parametrize("kind", ["local", "https", "proxy"])
def test_every_word_of_the_written_file_is_one_that_the_hub_knows(
    tmp_path: Path, kind: str
) -> None:
    more = ("--certificate", "/c.pem", "--key", "/k.pem", "--public-url", "https://lab.example.org")
    config = units.load(write(tmp_path, "--type", kind, "--named-servers", "2", *more))
    assert config.keys() == CLASSES.keys()
    for section, module in CLASSES.items():
        known: type[Configurable] = getattr(importlib.import_module(module), section)
        unknown = config[section].keys() - known.class_traits(config=True).keys()
        assert not unknown, section
        for name, value in config[section].items():
            if name == "spawner_class":
                continue  # an entry point, which a checkout need not have
            # what the trait itself would refuse
            known.class_traits()[name]._validate(known.__new__(known), value)  # noqa: SLF001


def test_the_written_file_keeps_servers_and_secrets_as_it_should(tmp_path: Path) -> None:
    config = units.load(write(tmp_path, "--admins", "memo,admin", "--allow", "ann,@lab"))
    assert config.JupyterHub.cleanup_servers is False
    assert config.JupyterHub.spawner_class == "enforcer"
    assert config.JupyterHub.hub_ip == BRIDGE
    assert config.DockerSpawner.remove is True
    assert config.Authenticator.admin_users == {"memo", "admin"}
    assert config.Authenticator.allow_all is False
    assert config.Authenticator.allowed_users == {"ann"}
    assert config.PAMAuthenticator.allowed_groups == {"lab"}
    assert config.PAMAuthenticator.open_sessions is False
    state = tmp_path / "state"
    assert config.JupyterHub.db_url == f"sqlite:///{state}/jupyterhub.sqlite"
    assert config.ConfigurableHTTPProxy.auth_token == (state / "proxy.token").read_text().strip()
    [pages] = [one for one in config.JupyterHub.services if one["name"] == SERVICE_NAME]
    assert pages["api_token"] == (state / "pages.token").read_text().strip()
    assert config.JupyterHub.template_paths[-2:] == [str(tmp_path / "etc/templates"), TEMPLATES]


def test_the_labs_own_services_roles_templates_and_logo_stay(tmp_path: Path) -> None:
    path = write(tmp_path)
    (path.parent / "logo.svg").write_text("<svg/>")
    (path.parent / "conf.d/10-first.py").write_text(
        "c.JupyterHub.services.append({'name': 'labs', 'url': 'http://127.0.0.1:9'})\n"
        "c.JupyterHub.template_paths.append('/srv/templates')\n"
        "c.JupyterHub.extra_user_scopes = {'access:services!service=labs'}\n"
    )
    (path.parent / "conf.d/20-second.py").write_text(
        "c.JupyterHub.load_roles = [{'name': 'labs', 'scopes': ['list:users']}]\n"
        "c.JupyterHub.hub_ip = '10.0.0.1'\n"
    )
    hub = units.load(path).JupyterHub
    assert [one["name"] for one in hub.services] == ["labs", SERVICE_NAME, CULLER]
    assert [one["name"] for one in hub.load_roles] == ["labs", CULLER]
    assert hub.extra_user_scopes == {"access:services!service=labs", ACCESS}
    assert "/srv/templates" in hub.template_paths
    assert hub.hub_ip == "10.0.0.1"
    assert hub.logo_file == str(path.parent / "logo.svg")


def test_a_role_for_users_that_the_lab_wrote_down_whole_gets_the_pages_too(tmp_path: Path) -> None:
    config, token = Config(), tmp_path / "token"
    token.write_text("secret\n")
    config.JupyterHub.load_roles = [{"name": "user", "scopes": ["self"]}, {"name": "other"}]
    add_pages(config, token_file=token, templates=tmp_path)
    add_pages(config, token_file=token, templates=tmp_path)
    assert config.JupyterHub.load_roles == [
        {"name": "user", "scopes": ["self", ACCESS]},
        {"name": "other"},
    ]
    assert len(config.JupyterHub.services) == 1


def test_an_empty_token_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").touch()
    with pytest.raises(ValueError, match="is empty"):
        add_pages(Config(), token_file=tmp_path / "token", templates=tmp_path)


def test_no_culler_where_servers_may_be_idle_for_ever(tmp_path: Path) -> None:
    hub = units.load(write(tmp_path, "--idle-hours", "0")).JupyterHub
    assert [one["name"] for one in hub.services] == [SERVICE_NAME]
    config = Config()
    add_culler(config, idle_seconds=5400, busy_cores=0.2, socket="/s")
    [service] = config.JupyterHub.services
    assert service["command"][-3:] == ["--timeout=5400", "--busy-cores=0.2", "--socket=/s"]


# --- the units beside it ---


def facts(**hub: object) -> units.Facts:
    config = Config()
    config.JupyterHub.update(hub)
    config.ConfigurableHTTPProxy.auth_token = "secret"
    config.JupyterHub.services = [{"name": SERVICE_NAME, "url": "http://127.0.0.1:9754"}]
    return units.facts(config)


def arguments(found: units.Facts) -> str:
    return units.proxy_environment(found, Path("/run/p"))["ARGUMENTS"]


def test_the_proxy_is_told_what_the_hub_would_tell_it() -> None:
    found = facts(bind_url="http://10.0.0.1:8000/lab", hub_ip=BRIDGE)
    assert arguments(found) == (
        "--ip 10.0.0.1 --port 8000 --api-ip 127.0.0.1 --api-port 8001"
        f" --error-target http://{BRIDGE}:8081/lab/hub/error --log-level info"
    )
    assert units.proxy_environment(found, Path())["CONFIGPROXY_AUTH_TOKEN"] == "secret"
    assert units.pages_environment(found) == {
        "JUPYTERHUB_API_URL": f"http://{BRIDGE}:8081/lab/hub/api",
        "JUPYTERHUB_BASE_URL": "/lab/",
        "ARGUMENTS": "--listen 127.0.0.1:9754",
    }


@pytest.mark.parametrize(
    ("hub", "said"),
    [
        ({}, "--ip * --port 8000 "),
        ({"bind_url": "http://lab.example.org"}, "--ip lab.example.org --port 80 "),
        ({"bind_url": "https://0.0.0.0"}, "--ip 0.0.0.0 --port 443 "),
        ({"ip": "10.0.0.3", "base_url": "lab"}, "--ip 10.0.0.3 --port 8000 "),
        ({"base_url": "lab"}, "http://127.0.0.1:8081/lab/hub/error"),
        ({"hub_ip": "::", "hub_port": 9000}, "http://127.0.0.1:9000/hub/error"),
        ({"hub_ip": "", "hub_connect_ip": "fd00::1"}, "http://[fd00::1]:8081/hub/error"),
        ({"hub_bind_url": "http://10.0.0.2:8082"}, "http://10.0.0.2:8082/hub/error"),
        ({"subdomain_host": "http://lab"}, "--host-routing"),
        ({"ssl_cert": "/c", "ssl_key": "/k"}, "--ssl-cert /run/p/certificate.pem --ssl-key /run/p"),
    ],
)
def test_addresses_are_worked_out_as_the_hub_does(hub: dict[str, object], said: str) -> None:
    assert said in arguments(facts(**hub))


@pytest.mark.parametrize(
    "hub",
    [{"bind_url": "http+unix://%2Fsock"}, {"bind_url": "http://[::"}, {"bind_url": "http://a b"}],
)
def test_an_address_that_is_none_is_refused(hub: dict[str, object]) -> None:
    with pytest.raises(InvalidError) as raised:
        facts(**hub)
    assert raised.value.code == "hub.config-unusable"


def test_what_is_missing_is_named() -> None:
    found = units.facts(Config())
    with pytest.raises(InvalidError, match="auth_token"):
        units.proxy_environment(found, Path())
    with pytest.raises(InvalidError, match=f"no service called {SERVICE_NAME}"):
        units.pages_environment(found)


@given(st.text(max_size=20).filter(str.isprintable))
def test_any_value_survives_systemds_quoting(value: str) -> None:
    line = units.format_environment({"NAME": value})
    assert line.count("\n") == 1
    inner = line.removeprefix('NAME="').removesuffix('"\n')
    unquoted, rest = "", iter(inner)
    for one in rest:
        assert one != '"'
        unquoted += next(rest) if one == "\\" else one
    assert unquoted == value


def test_a_value_with_a_line_of_its_own_is_refused() -> None:
    with pytest.raises(InvalidError, match="cannot be printed"):
        units.format_environment({"TOKEN": "a\nARGUMENTS=--evil"})


def test_the_files_are_for_those_who_need_them(tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    certificate.write_text("certificate")
    key.write_text("key")
    more = ("--type", "https", "--certificate", str(certificate), "--key", str(key))
    config = write(tmp_path, *more)
    into = tmp_path / "run"
    into.mkdir()
    (into / "key.pem").symlink_to(tmp_path / "elsewhere")
    for unit in ("proxy", "pages", "proxy"):
        assert units.main([unit, "--config", str(config), "--into", str(into)]) == 0
    assert (into / "key.pem").read_text() == "key"
    assert not (tmp_path / "elsewhere").exists()
    assert "--port 443" in (into / "environment").read_text()
    for file in into.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_configuration_that_fails_is_said_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "broken.py"
    config.write_text("raise RuntimeError('no such luck')\n")
    with pytest.raises(UnavailableError, match="RuntimeError: no such luck"):
        units.load(config)
    words = ["proxy", "--config", str(tmp_path / "none.py"), "--into", str(tmp_path)]
    assert units.main(words) == 1
    assert "enforcer hub-config" in capsys.readouterr().err


def test_a_certificate_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path, "--type", "https", "--certificate", "/no/c.pem", "--key", "/no/k.pem")
    assert units.main(["proxy", "--config", str(config), "--into", str(tmp_path)]) == 1
    assert "'/no/c.pem' cannot be read" in capsys.readouterr().err


def test_a_shell_reads_the_environment_as_it_was_written(tmp_path: Path) -> None:
    text = units.format_environment({"NAME": 'a "b" $HOME `id` \\ c\'d'})
    (tmp_path / "environment").write_text(text)
    shown = subprocess.run(
        ["sh", "-c", '. "$0"; printf %s "$NAME"', str(tmp_path / "environment")],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    assert shown.stdout == 'a "b" $HOME `id` \\ c\'d'
