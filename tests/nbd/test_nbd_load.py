"""The oracle of load.py notices what it is there for."""

import pytest

from load import SECTOR, Model, sector_bytes

CELL = 8 * SECTOR


def content(number, sector, count):
    return b"".join(sector_bytes(number, sector + i) for i in range(count))


@pytest.fixture
def model():
    """Cell 1 holds write 5, which was answered, with sector 10 of write 6."""
    m = Model(4 * CELL, CELL)
    m.end(m.begin(5, CELL, CELL))
    m.end(m.begin(6, CELL + 2 * SECTOR, SECTOR))
    return m


GOOD = content(5, 8, 2) + content(6, 10, 1) + content(5, 11, 5)


def test_accepts_what_was_answered(model):
    assert model.check(GOOD, CELL) is None
    assert model.check(GOOD[SECTOR:3 * SECTOR], CELL + SECTOR) is None
    assert model.check(bytes(CELL), 0) is None


@pytest.mark.parametrize("bad, what", [
    (content(5, 8, 8), "write 5"),            # the older one
    (bytes(CELL), "zeroes"),                  # lost
    (content(5, 16, 8), "of sector 16"),      # from elsewhere
    (GOOD[:CELL // 2] + bytes(CELL // 2), "zeroes"),  # torn
    (GOOD[:-1] + b"!", "damaged"),
    (content(7, 8, 8), "write 7"),            # never written
])
def test_notices_what_is_wrong(model, bad, what):
    wrong = model.check(bad, CELL)
    assert what in wrong
    assert model.check(GOOD, CELL) is None


def test_unanswered_writes_may_be_there_but_stay_as_read(model):
    model.begin(9, CELL, CELL)  # and no end
    new = content(9, 8, 8)
    assert model.check(new, CELL) is None
    assert model.check(GOOD, CELL) is not None  # it was read as new
    model.crashed()
    assert model.check(GOOD, CELL) is None
    model.crashed()
    after = model.begin(10, CELL, SECTOR)
    assert model.check(content(10, 8, 1) + new[SECTOR:], CELL) is None
    model.end(after)
    model.crashed()
    assert model.check(content(10, 8, 1) + GOOD[SECTOR:], CELL) is None
    assert model.check(GOOD, CELL) is not None  # 10 was answered


def test_a_mix_of_two_versions_is_none(model):
    model.begin(9, CELL, CELL)
    assert model.check(content(9, 8, 4) + GOOD[CELL // 2:], CELL)
