"""The first half of worstday.py with three copies; all of it by hand."""

import pathlib
import shutil
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

# pylint: disable=wrong-import-position
from worstday import Day, need_faultfs


def test_fio_notices_nothing():
    need_faultfs()
    path = pathlib.Path(tempfile.mkdtemp(prefix="lsvd-worstday-"))
    day = Day(path, "r3")
    try:
        day.live(gentle=True)
    finally:
        day.end()
    shutil.rmtree(path)
