"""What the form sends is what options are made of."""

from __future__ import annotations

import pytest

from enforcer.api.types import ProfileReply
from spawner.options import check_options, parse_form
from spawner.pages.form import render_form
from tests.unit.test_pages_form import LARGE, SMALL, catalogue, profile, read

ODD = profile("Odd", 1.3337, 33_714_130_944)


@pytest.mark.parametrize("chosen", [SMALL, LARGE, ODD], ids=lambda one: one.name)
@pytest.mark.parametrize("filled", [False, True])
def test_a_form_that_is_sent_as_it_is_asks_for_what_the_profile_has(
    chosen: ProfileReply, *, filled: bool
) -> None:
    offered = catalogue(SMALL, LARGE, ODD)
    form = read(render_form(offered, chosen={"profile": chosen.name}))
    (radio,) = [one for one in form.named("profile") if "checked" in one]
    sent: dict[str, list[object]] = {name: [form.chosen(name)[0]] for name in ("profile", "image")}
    for name in ("cpu_limit", "mem_limit", "cpu_guarantee", "mem_guarantee"):
        # the script puts the profile's own numbers there
        sent[name] = [radio[f"data-{name.replace('_', '-')}"] if filled else ""]
    wanted = check_options(parse_form(sent), offered)
    assert wanted.profile == chosen.name
    assert (wanted.mem_limit is None) is not filled
    if wanted.mem_limit is not None:
        assert chosen.mem_limit - (2 << 20) <= wanted.mem_limit <= chosen.mem_limit
