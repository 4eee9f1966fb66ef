"""A minute of the thrasher; LSVD_THRASH_SECONDS says how long else, and
LSVD_THRASH_SEED which one. What it found is found again by hand: the message
has the command."""

import os
import pathlib
import random
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

# pylint: disable=wrong-import-position
from thrash import BEARS, thrash

SECONDS = float(os.environ.get("LSVD_THRASH_SECONDS", "60"))
POLICIES = ["r2", "r3", "ec21", "ec42"]


@pytest.mark.parametrize("policy", POLICIES)
def test_bears_what_its_policy_promises(policy):
    assert BEARS[policy] > 0
    seed = int(os.environ.get("LSVD_THRASH_SEED",
                              random.SystemRandom().randrange(1 << 32)))
    # Not pytest's own: it stays when there is something to look at.
    path = pathlib.Path(tempfile.mkdtemp(prefix="lsvd-thrash-"))
    failure = thrash(path, policy, seed, SECONDS / len(POLICIES))
    if failure:
        pytest.fail(failure, pytrace=False)
    shutil.rmtree(path)
