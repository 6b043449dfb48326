"""`hub-config`: what it writes, whatever it is told, and what it leaves alone."""

from __future__ import annotations

import ast
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enforcer import hubconfig
from enforcer.__main__ import main as enforcer
from enforcer.errors import InvalidError, UnavailableError
from enforcer.hubconfig import found
from enforcer.hubconfig.answers import (
    Allowed,
    Answers,
    ServerType,
    parse_address,
    parse_allowed,
    parse_count,
    parse_file,
    parse_hours,
    parse_names,
    parse_server_type,
    parse_url,
)
from enforcer.hubconfig.ask import Defaults, collect
from enforcer.hubconfig.text import render

BRIDGE = "172.17.0.1"
FOUND = Defaults(bridge=BRIDGE, admins=("ann",))


class Person:
    """Gives these answers, one after the other; keeps what they were told."""

    def __init__(self, *lines: str) -> None:
        self._lines = iter(lines)
        self.told = ""

    def say(self, line: str) -> None:
        self.told += f"{line}\n"

    def read(self, prompt: str) -> str:
        self.told += f"{prompt}\n"
        try:
            return next(self._lines)
        except StopIteration:
            raise EOFError from None


class Place:
    """Where a hub is configured in a test."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "etc" / "jupyterhub_config.py"
        self.state = folder / "state"

    def write(self, *words: str) -> int:
        where = ("--output", str(self.config), "--state", str(self.state))
        return hubconfig.main(["--defaults", "--hub-ip", BRIDGE, *where, *words])

    def token(self, name: str) -> str:
        return (self.state / f"{name}.token").read_text()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# --- the text ---


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
HOSTILE = st.sampled_from(
    ["'", '"', '"""', "\\", "\n", "'); evil() #", '"\nevil()\n#', "\\'", "{evil()}", "\u2028"]
)
WORDS = st.lists(TEXTS | HOSTILE, max_size=3).map("".join)


@given(
    st.builds(
        Answers,
        server_type=st.sampled_from(ServerType),
        bind_url=WORDS,
        hub_ip=WORDS,
        admins=st.lists(WORDS, max_size=2).map(tuple),
        allowed=st.builds(Allowed, everybody=st.booleans(), users=st.tuples(WORDS)),
        certificate=WORDS,
        key=WORDS,
        public_url=WORDS,
        named_servers=st.integers(0, 9),
        idle_hours=st.sampled_from([0.0, 0.5, 12.0]),
    )
)
def test_no_answer_breaks_out_of_its_quotes(answers: Answers) -> None:
    plain = Answers(server_type=answers.server_type, bind_url="x", hub_ip="x")
    tree, expected = ast.parse(render(answers)), ast.parse(render(plain))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    told = {one.id for one in calls if isinstance(one, ast.Name)}
    assert told <= {*("get_config", "Path", "str", "sorted", "load_subconfig", "set")} | {
        *("add_pages", "add_culler", "ValueError")
    }
    assert len(ast.dump(tree).split("Call(")) <= len(ast.dump(expected).split("Call(")) + 1
    values = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert {answers.hub_ip, answers.bind_url, *answers.admins, *answers.allowed.users} <= values


# --- the answers ---


def test_without_anybody_to_ask_the_defaults_hold() -> None:
    answers = collect({}, FOUND, None)
    assert answers.server_type is ServerType.LOCAL
    assert answers.bind_url == "http://127.0.0.1:8000"
    assert answers.hub_ip == BRIDGE
    assert answers.admins == ("ann",)
    assert answers.allowed == Allowed(everybody=True)


def test_a_person_is_asked_what_no_flag_says_and_again_where_an_answer_makes_no_sense() -> None:
    person = Person(
        *("httsp", "https", ""),
        *("cert.pem", "/etc/cert.pem", "/etc/key.pem"),
        *("127.0.0.1", "10.0.0.1"),
        *("memo, admin", "@lab,ann", "many", "3", ""),
    )
    answers = collect({}, Defaults(bridge=None), person)
    assert answers.server_type is ServerType.HTTPS
    assert answers.bind_url == "https://0.0.0.0:443"
    assert (answers.certificate, answers.key) == ("/etc/cert.pem", "/etc/key.pem")
    assert answers.hub_ip == "10.0.0.1"
    assert answers.admins == ("memo", "admin")
    assert answers.allowed == Allowed(users=("ann",), groups=("lab",))
    assert answers.named_servers == 3
    assert answers.idle_hours == 12
    assert "systemctl start docker" in person.told.lower()
    assert "'httsp' is no type of server" in person.told
    assert "'127.0.0.1' is no address that a container reaches" in person.told


def test_flags_are_not_asked_for() -> None:
    given_flags = {"type": "proxy", "allow": "all", "admins": "", "named-servers": "0"}
    person = Person("http://10.1.2.3:8000/lab", "https://lab.example.org/lab", "", "0")
    answers = collect(given_flags, FOUND, person)
    assert answers.server_type is ServerType.PROXY
    assert answers.bind_url == "http://10.1.2.3:8000/lab"
    assert answers.public_url == "https://lab.example.org/lab"
    assert answers.admins == ()
    assert answers.idle_hours == 0


def test_without_docker0_it_says_what_to_do() -> None:
    with pytest.raises(InvalidError, match="no docker0") as raised:
        collect({}, Defaults(bridge=None), None)
    assert "systemctl start docker" in raised.value.hint
    assert "--hub-ip" in raised.value.hint


def test_https_asks_for_a_certificate() -> None:
    with pytest.raises(InvalidError, match="certificate"):
        collect({"type": "https"}, FOUND, None)


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_server_type, "ftp"),
        (parse_names, "a b"),
        (parse_names, "a/b"),
        (parse_names, "ok,\x1b[1m"),
        (parse_allowed, ""),
        (parse_allowed, "all,@"),
        (parse_address, "localhost"),
        (parse_address, "127.0.0.1"),
        (parse_address, "::1"),
        (parse_count, "-1"),
        (parse_count, "101"),
        (parse_count, "²"),
        (parse_hours, "nan"),
        (parse_hours, "-1"),
        (parse_hours, "9999"),
        *[
            (lambda text: parse_url(text, "the hub"), url)
            for url in (
                *("", "lab.example.org", "ftp://a", "http://a:0", "http://a:99999", "http://a b"),
                *("http://[::1", "http://a/?q", "http://u:p@a", "http://a/b c", "http://"),
            )
        ],
        (lambda text: parse_file(text, "a key"), "key.pem"),
        (lambda text: parse_file(text, "a key"), "/a\nb"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would_be_right(parse: object, text: str) -> None:
    assert callable(parse)
    with pytest.raises(InvalidError) as raised:
        parse(text)
    assert raised.value.hint


@pytest.mark.parametrize("url", ["http://a_b:8000", "https://lab.example.org/a/b/", "http://[::1]"])
def test_an_address_is_taken_as_it_is(url: str) -> None:
    assert parse_url(f" {url} ", "the hub") == url


def test_the_words_for_who_may_log_in_read_back() -> None:
    for text in ("all", "ann,bob,@lab"):
        assert parse_allowed(text).words() == text
    assert parse_address(" fd00::1 ") == "fd00::1"


# --- the files ---


def test_it_writes_the_file_the_tokens_and_the_labs_own_folders(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.write() == 0
    assert stat.S_IMODE(place.config.stat().st_mode) == 0o640
    for name in ("pages", "proxy"):
        token = place.token(name).strip()
        assert len(token) == 64
        assert token not in place.config.read_text()
        assert stat.S_IMODE((place.state / f"{name}.token").stat().st_mode) == 0o600
    assert place.token("pages") != place.token("proxy")
    assert stat.S_IMODE(place.state.stat().st_mode) == 0o700
    assert (place.config.parent / "templates").is_dir()
    assert (place.config.parent / "conf.d").is_dir()
    assert f"{place.config}: written" in capsys.readouterr().err


def test_what_an_admin_changed_is_kept_and_the_new_one_lies_beside_it(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.write()
    tokens = place.token("pages"), place.token("proxy")
    place.config.write_text("# mine\n")
    assert place.write("--admins", "eve") == 0
    assert place.config.read_text() == "# mine\n"
    assert '"eve"' in place.config.with_name("jupyterhub_config.py.new").read_text()
    assert f"diff {place.config}" in capsys.readouterr().err
    assert place.write("--admins", "eve", "--force") == 0
    assert '"eve"' in place.config.read_text()
    assert (place.token("pages"), place.token("proxy")) == tokens


def test_writing_the_same_again_changes_nothing(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.write()
    capsys.readouterr()
    before = place.config.stat()
    assert place.write() == 0
    assert place.config.stat().st_mtime_ns == before.st_mtime_ns
    assert capsys.readouterr().err == f"  {place.config}: as it was\n"


def test_an_empty_token_is_made_anew(place: Place) -> None:
    place.write()
    (place.state / "pages.token").write_text("\n")
    place.write()
    assert len(place.token("pages").strip()) == 64


def test_a_link_in_the_states_folder_is_not_followed(place: Place, tmp_path: Path) -> None:
    place.state.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("")
    (place.state / ".pages.token.new").symlink_to(victim)
    (place.state / "pages.token").symlink_to(victim)
    place.write()
    assert victim.read_text() == ""
    assert not (place.state / "pages.token").is_symlink()


def test_printing_touches_nothing(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.write("--output", "-") == 0
    ast.parse(capsys.readouterr().out)
    assert not place.config.exists()
    assert not place.state.exists()


def test_a_place_that_cannot_be_written_is_said(place: Place) -> None:
    place.config.parent.parent.mkdir(exist_ok=True)
    place.config.parent.write_text("a file")
    with pytest.raises(UnavailableError, match="cannot write"):
        place.write()


def test_a_missing_certificate_is_pointed_out(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.write("--type", "https", "--certificate", "/no/cert.pem", "--key", "/no/key.pem")
    assert "/no/key.pem: not there yet" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["--no-such-flag"], 2)])
def test_wrong_words_have_their_exit_code(words: Sequence[str], code: int) -> None:
    assert enforcer(["hub-config", *words]) == code


def test_what_becomes_of_a_configuration_that_is_there_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert enforcer(["hub-config", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "the new one put beside it as .new, unless --force is given" in said


def test_a_mistake_is_an_exit_code_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert enforcer(["hub-config", "--defaults", "-o", "-", "--hub-ip", "nowhere"]) == 1
    assert "'nowhere' is no address" in capsys.readouterr().err


# --- the machine ---


def test_an_interfaces_address_is_found_and_a_missing_one_is_none() -> None:
    assert found.bridge_address("lo") == "127.0.0.1"
    assert found.bridge_address("no-such0") is None


def test_who_became_root_is_the_admin() -> None:
    assert found.admins({"SUDO_USER": "ann"}) == ("ann",)
    assert "root" not in found.admins({"SUDO_USER": "root"})
