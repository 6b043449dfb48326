"""The scripts, and how what they need from npm gets there."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from enforcer.quantities import KIB, format_bytes
from spawner.pages.build import BuildError, build

PAGES: Final = Path(__file__).resolve().parents[2] / "spawner" / "pages"
SCRIPTS: Final = sorted((PAGES / "static").glob("*.js"))
NODE: Final = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")


@needs_node
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_a_module_that_parses(script: Path, tmp_path: Path) -> None:
    module = tmp_path / f"{script.stem}.mjs"
    shutil.copy(script, module)
    said = subprocess.run(
        [str(NODE), "--check", str(module)], capture_output=True, text=True, timeout=30, check=False
    )
    assert said.returncode == 0, said.stderr


@needs_node
def test_amounts_read_the_same_in_python_and_in_the_browser(tmp_path: Path) -> None:
    shutil.copy(PAGES / "static" / "words.js", tmp_path / "words.mjs")
    amounts = [0, 1, 999, 1000, KIB, 1536 * KIB**2, 999 * KIB**3, 1000 * KIB**3, 40 * KIB**3]
    program = (
        "import { memory } from './words.mjs';"
        f"console.log(JSON.stringify({json.dumps(amounts)}.map(memory)));"
    )
    said = subprocess.run(
        [str(NODE), "--input-type=module", "--eval", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert json.loads(said.stdout) == [format_bytes(one) for one in amounts]


def test_no_script_writes_markup_or_runs_text() -> None:
    for script in SCRIPTS:
        text = script.read_text()
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert word not in text, f"{word} in {script.name}"


def test_no_page_has_a_script_or_a_style_in_it_or_fetches_from_elsewhere() -> None:
    pages = [*(PAGES / "views").glob("*.html"), *(PAGES / "templates").rglob("*.html")]
    assert len(pages) >= 10
    for page in pages:
        text = page.read_text()
        assert "<script>" not in text
        assert " style=" not in text
        assert " onclick=" not in text
        assert "//" not in text.replace("http://www.w3.org", "").replace("{#", "")


def test_the_lock_pins_by_digest_and_names_no_registry() -> None:
    lock = json.loads((PAGES / "package-lock.json").read_text())
    packages = {name: one for name, one in lock["packages"].items() if name}
    assert packages
    assert all(one["integrity"].startswith("sha512-") for one in packages.values())
    assert not any("resolved" in one for one in packages.values())


def _made(tmp_path: Path) -> Path:
    """Pages whose vendor folder is as after a build."""
    shutil.copy(PAGES / "package-lock.json", tmp_path)
    vendor = tmp_path / "static" / "vendor"
    vendor.mkdir(parents=True)
    for name in ("uPlot.esm.js", "uPlot.min.css", "uPlot.LICENSE"):
        (vendor / name).write_text("")
    lock = (tmp_path / "package-lock.json").read_bytes()
    (vendor / "lock.sha256").write_text(hashlib.sha256(lock).hexdigest())
    return tmp_path


def test_what_was_built_from_the_same_lock_is_left_alone(tmp_path: Path) -> None:
    assert build(_made(tmp_path)) is False


def test_without_npm_it_says_what_to_install(tmp_path: Path) -> None:
    pages = _made(tmp_path)
    (pages / "package-lock.json").write_text("{}")
    with pytest.raises(BuildError, match="apt-get install npm"):
        build(pages, npm=None)
