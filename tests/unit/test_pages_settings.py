"""The service's flags and its token."""

from __future__ import annotations

from pathlib import Path

import pytest

from enforcer.errors import InvalidError
from spawner.pages.settings import parse

TOKEN = {"JUPYTERHUB_API_TOKEN": "from the environment"}


def test_every_flag_has_a_default() -> None:
    found = parse([], TOKEN)
    assert found.listen == ("127.0.0.1", 9754)
    assert found.prefix == "/services/enforcer/"
    assert found.hub_prefix == "/hub/"
    assert found.api_url == "http://127.0.0.1:8081/hub/api"
    assert found.token == "from the environment"


def test_the_hub_may_live_below_a_path() -> None:
    found = parse([], {**TOKEN, "JUPYTERHUB_BASE_URL": "/lab"})
    assert (found.prefix, found.hub_prefix) == ("/lab/services/enforcer/", "/lab/hub/")
    found = parse([], {**TOKEN, "JUPYTERHUB_SERVICE_PREFIX": "/x/"})
    assert found.prefix == "/x/"


def test_a_file_goes_before_systemds_credential_and_that_before_the_environment(
    tmp_path: Path,
) -> None:
    (tmp_path / "token").write_text("credential\n")
    (tmp_path / "mine").write_text("mine\n")
    environ = {**TOKEN, "CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert parse([], environ).token == "credential"
    assert parse(["--token-file", str(tmp_path / "mine")], environ).token == "mine"


@pytest.mark.parametrize("content", [None, "", "\xff"])
def test_without_a_token_it_says_where_one_belongs(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content, encoding="latin-1")
    with pytest.raises(InvalidError) as caught:
        parse(["--token-file", str(path)], {})
    assert caught.value.code == "pages.token"
    with pytest.raises(InvalidError):
        parse([], {})


def test_it_listens_on_an_address_or_a_socket() -> None:
    assert parse(["--listen", "unix:/run/x.sock"], TOKEN).listen == "/run/x.sock"
    assert parse(["--listen", "[::1]:80"], TOKEN).listen == ("::1", 80)
    for wrong in ("80", "host:x", "host:70000", "host:²"):
        with pytest.raises(InvalidError) as caught:
            parse(["--listen", wrong if ":" in wrong else f"{wrong}:"], TOKEN)
        assert caught.value.code == "pages.listen"


@pytest.mark.parametrize("seconds", ["0", "nan", "1e9"])
def test_it_looks_neither_all_the_time_nor_never(
    seconds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(["--poll-seconds", seconds], TOKEN)
    assert "is not between" in capsys.readouterr().err
