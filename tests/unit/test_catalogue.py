"""What a user may choose from, and the most that a lease may ask for."""

from __future__ import annotations

import dataclasses

from enforcer.catalogue import Bounds, catalogue, resize_bounds
from enforcer.quantities import CORE, GIB, Bytes, Cpus
from tests.unit.configs import parse
from tests.unit.lab import a_lease
from tests.unit.userrights import LAB, rights


def test_the_catalogue_has_what_a_user_may_choose_and_its_bounds() -> None:
    offered = catalogue(parse(LAB), rights("alice", "students", "strict"))
    assert [one.name for one in offered.profiles] == ["Tiny"]
    assert list(offered.images) == ["SingleUser", "DataScience"]
    assert offered.images["SingleUser"] == "quay.io/jupyterhub/singleuser:main"
    assert offered.home == "/srv/students/alice"
    assert offered.volumes_ro == ("/media/references",)
    assert offered.bounds == Bounds(
        cpu_limit=Cpus(CORE),
        mem_limit=Bytes(2 * GIB),
        cpu_guarantee=Cpus(CORE),
        mem_guarantee=Bytes(2 * GIB),
    )


def test_the_bounds_end_at_the_users_total() -> None:
    small = dataclasses.replace(rights(), cpu_total=Cpus(3 * CORE), mem_total=Bytes(GIB))
    bounds = catalogue(parse(LAB), small).bounds
    assert (bounds.cpu_limit, bounds.cpu_guarantee) == (3 * CORE, 3 * CORE)
    assert (bounds.mem_limit, bounds.mem_guarantee) == (GIB, GIB)


def test_a_resize_may_ask_for_what_the_profile_and_the_rights_allow() -> None:
    lease = a_lease("a", limit=(2, 16), guarantee=(1, 12))
    assert resize_bounds(parse(LAB), rights(), lease) == Bounds(
        cpu_limit=Cpus(10 * CORE),
        mem_limit=Bytes(40 * GIB),
        cpu_guarantee=Cpus(5 * CORE),
        mem_guarantee=Bytes(12 * GIB),  # more than the 10 that it would get now
    )


def test_a_lease_whose_profile_is_not_its_users_any_more_keeps_what_it_has() -> None:
    lease = a_lease("a", limit=(2, 8), guarantee=(1, 4))
    assert resize_bounds(parse(LAB), rights("alice", "students"), lease) == Bounds(
        cpu_limit=Cpus(2 * CORE),
        mem_limit=Bytes(8 * GIB),
        cpu_guarantee=Cpus(CORE),
        mem_guarantee=Bytes(4 * GIB),
    )
