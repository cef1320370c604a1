import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from batch_models import contents, write_image, write_model

from napari_sparseseg.volume import load_volume

SERVER = Path(__file__).parent / "batch_server.py"
KILLS = 20
VOLUMES = 6


@pytest.fixture
def batches(tmp_path):
    """Return a function that runs a batch for some seconds and tells its exit code and how long it lived."""
    for number in range(VOLUMES):
        write_image(tmp_path / "data" / f"p{number % 2}" / f"scan{number}.nii.gz", number)
    model = write_model(tmp_path / "model")
    command = [sys.executable, "-W", "error", str(SERVER), str(tmp_path / "data"), str(model)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as server:

        def run(out, seconds=60.0):
            server.stdin.write(f"{out} {seconds}\n")
            server.stdin.flush()
            code, lived = server.stdout.readline().split()
            return int(code), float(lived)

        yield run
        server.stdin.close()


def check_each_is_whole(out):
    """Whatever has its final name can be read to its end."""
    for path in out.rglob("*"):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(out).parts):
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix in (".gz", ".mha"):
                assert load_volume(path).data.size == 1000
            else:
                assert path.stat().st_size > 100


def test_a_batch_that_is_killed_again_and_again_ends_with_the_same_files(batches, tmp_path):
    code, seconds = batches(tmp_path / "whole")
    assert code == 0
    expected = contents(tmp_path / "whole")
    assert (
        len(expected) == 5 * VOLUMES + 5
    )  # three results, record and picture each; four of the report, the lock
    draw = random.Random(0)
    kills, at_work, number = 0, 0, 0
    while kills < KILLS:
        out = tmp_path / f"out{number}"
        code, _ = batches(out, draw.uniform(0, seconds))
        if code == -signal.SIGKILL:
            kills += 1
            at_work += any(out.rglob("*.gz"))
        else:
            assert code == 0
            assert contents(out) == expected
            number += 1
        if out.exists():
            check_each_is_whole(out)
    assert at_work >= KILLS / 4  # not all before the first volume
    assert batches(out)[0] == 0
    assert contents(out) == expected
    assert not [*tmp_path.glob("out*/**/.writing-*")]
