"""Fixtures of the tests of lsvd, lsvd-repair and demo."""
import pytest

from tools import World


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)
