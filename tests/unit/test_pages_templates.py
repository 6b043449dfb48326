"""The hub's templates, ours over them, and a lab's over ours: looked up as the hub does it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import jinja2
import pytest

from spawner.pages import TEMPLATES

HUBS: Final = Path(sys.prefix) / "share" / "jupyterhub" / "templates"
OURS: Final = sorted(path.name for path in Path(TEMPLATES).glob("*.html"))


def environment(*folders: str) -> jinja2.Environment:
    hubs = jinja2.FileSystemLoader(HUBS)
    loader = jinja2.ChoiceLoader(
        [
            jinja2.PrefixLoader({"templates": hubs}, "/"),
            jinja2.FileSystemLoader([*folders, str(HUBS)]),
        ]
    )
    return jinja2.Environment(loader=loader, autoescape=True)


def render(made: jinja2.Environment, name: str) -> str:
    return made.get_template(name).render(
        base_url="/lab/hub/",
        prefix="/lab/",
        static_url=lambda path, **_: f"/lab/hub/static/{path}",
        parsed_scopes={},
        services=[],
        user=None,
        xsrf_token="x",
    )


def test_ours_extend_the_hubs() -> None:
    page = render(environment(TEMPLATES), "page.html")
    assert '<link rel="stylesheet" href="/lab/services/enforcer/static/enforcer.css">' in page
    assert "jupyterhub-logo" in page


def test_a_labs_template_extends_ours(tmp_path: Path) -> None:
    lab = '{% extends "enforcer/page.html" %}{% block footer %}<p>Our lab</p>{% endblock footer %}'
    (tmp_path / "page.html").write_text(lab)
    page = render(environment(str(tmp_path), TEMPLATES), "page.html")
    assert "<p>Our lab</p>" in page
    assert "enforcer.css" in page


@pytest.mark.parametrize("name", OURS)
def test_each_has_the_name_by_which_the_hub_and_one_by_which_a_lab_finds_it(name: str) -> None:
    made = environment(TEMPLATES)
    for known in (name, f"enforcer/{name}", f"templates/{name}"):
        assert made.get_template(known).name in {known, name}
