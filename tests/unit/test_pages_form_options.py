"""What the form sends is what options are made of."""

from __future__ import annotations

import pytest

from enforcer.api.overview import catalogue_reply
from enforcer.api.types import ProfileReply
from enforcer.model import Claim, LeaseState
from enforcer.quantities import CORE, GIB
from spawner.options import AMOUNTS, check_options, parse_form
from spawner.pages.form import render_form
from tests.fakes_operations import FakeOperations
from tests.unit.configs import VALID, parse
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
        # somebody types what the script puts there
        sent[name] = [radio[f"data-{name.replace('_', '-')}"] if filled else ""]
    wanted = check_options(parse_form(sent), offered)
    assert wanted.profile == chosen.name
    assert (wanted.mem_limit is None) is not filled
    if wanted.mem_limit is not None:
        assert chosen.mem_limit - (2 << 20) <= wanted.mem_limit <= chosen.mem_limit


@pytest.mark.asyncio
@pytest.mark.parametrize("mode", ["queue", "refuse"])
async def test_a_second_server_starts_as_its_card_says_though_the_first_holds_all_guarantees(
    mode: str,
) -> None:
    totals = 'cpu_total = 30\nmem_total = "110 GiB"\n'
    operations = FakeOperations(parse(f'{VALID}{totals}[admission]\nmode = "{mode}"\n'))
    first, _ = await operations.claim(Claim(user="alice", profile="Large"))
    assert (first.grant.cpu_guarantee, first.grant.mem_guarantee) == (5 * CORE, 10 * GIB)
    offered = catalogue_reply(operations.published(), await operations.rights("alice"), "more")
    stored: dict[str, object] = {"profile": "Large", "cpu_guarantee": 5.0, "mem_guarantee": 10}
    form = read(render_form(offered, chosen=stored))
    (radio,) = [one for one in form.named("profile") if "checked" in one]
    assert "Fits now, with 0 cores and 0 B guaranteed" in form.text
    sent = {one: [form.named(one)[0]["value"]] for one in AMOUNTS} | {"profile": [radio["value"]]}
    wanted = check_options(parse_form(sent), offered)
    second, _ = await operations.claim(wanted.claim("alice", "more", ()))
    assert second.state is LeaseState.PENDING
    assert (second.grant.cpu_guarantee, second.grant.mem_guarantee) == (0, 0)
