"""A few seconds of powercut.py for each policy; LSVD_THRASH_SECONDS says how
long else for all of them, and LSVD_THRASH_SEED which one."""

import os
import pathlib
import random
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

# pylint: disable=wrong-import-position
from powercut import need_faultfs, powercut

SECONDS = float(os.environ.get("LSVD_THRASH_SECONDS", "60"))
WORLDS = [("r1", False), ("r3", False), ("r2", True), ("ec42", False),
          ("ec21", True)]


@pytest.mark.parametrize("policy,mirror", WORLDS)
def test_nothing_that_was_flushed_is_lost(policy, mirror):
    need_faultfs()
    seed = int(os.environ.get("LSVD_THRASH_SEED",
                              random.SystemRandom().randrange(1 << 32)))
    path = pathlib.Path(tempfile.mkdtemp(prefix="lsvd-powercut-"))
    failure = powercut(path, policy, seed, SECONDS / len(WORLDS), mirror)
    if failure:
        pytest.fail(failure, pytrace=False)
    shutil.rmtree(path)
