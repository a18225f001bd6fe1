"""Ids of version 7, one or many in a statement."""

from uuid import RFC_4122, UUID

import pytest
from django.db import connection

from config.ids import uuid7, uuid7_series

MANY = 70_000  # Past what four hexadecimal digits count.


def series(seed: UUID, count: int) -> list[UUID]:
    expression = uuid7_series("n", seed="%(seed)s")
    with connection.cursor() as cursor:
        cursor.execute(
            f"select {expression} from generate_series(1, %(count)s) n",
            {"seed": seed.hex, "count": count},
        )
        return [id for (id,) in cursor.fetchall()]


@pytest.mark.usefixtures("database")
def test_a_series_is_of_different_ids_in_its_order():
    ids = series(uuid7(), MANY)
    assert len(set(ids)) == MANY
    assert ids == sorted(ids)


@pytest.mark.usefixtures("database")
def test_each_of_a_series_is_of_version_7_and_of_its_moment():
    seed = uuid7()
    for id in series(seed, 300):
        assert (id.version, id.variant) == (7, RFC_4122)
        assert id.int >> 80 == seed.int >> 80  # Milliseconds since 1970.


@pytest.mark.usefixtures("database")
def test_two_series_of_one_moment_share_none():
    one, other = uuid7(), uuid7()
    assert set(series(one, 1000)).isdisjoint(series(other, 1000))
