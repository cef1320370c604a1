"""A long session does not make the window grow."""

import json
import os
import subprocess
import sys
from pathlib import Path


def test_half_an_hour_of_work_and_twenty_volumes_leave_the_window_as_small_as_it_was(tmp_path):
    script = Path(__file__).parent / "long_session.py"
    environment = {**os.environ, "SPARSESEG_PROJECTS": str(tmp_path), "MALLOC_ARENA_MAX": "2"}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    sizes = json.loads(done.stdout.splitlines()[-1])
    assert sizes["after the loop"] <= 1.1 * sizes["first"]
    assert sizes["after the volumes"] <= 1.1 * sizes["first"]
    assert not sizes["torch"]  # the window's process never loads it, whatever is done in it
