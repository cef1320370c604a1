"""Both processes are killed at random moments, and nothing that had ended is lost."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from napari_sparseseg.project import Project, find_unfinished
from tests.widgets.painter import digest

PAINTER = Path(__file__).parent / "painter.py"
RUNS = (0, 1)
KILLS = 13  # of each process, over all runs
DEADLINE = 120


class Painter:
    """A painter process and what it has logged."""

    def __init__(self, folder, seed):
        self.log = folder / f"log-{seed}.jsonl"
        environment = {**os.environ, "SPARSESEG_PROJECTS": str(folder / "projects"), "OMP_NUM_THREADS": "1"}
        self.errors = (folder / f"errors-{seed}.txt").open("wb")
        command = [sys.executable, str(PAINTER), str(self.log), str(seed)]
        self.process = subprocess.Popen(command, env=environment, stderr=self.errors, stdout=self.errors)

    def lines(self, did=None):
        text = self.log.read_text() if self.log.exists() else ""
        lines = [json.loads(line) for line in text.splitlines(True) if line.endswith("\n")]
        return [line for line in lines if did in (None, line["did"])]

    def wait(self, did, number=1):
        end = time.monotonic() + DEADLINE
        while len(self.lines(did)) < number:
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"no {did!r}: {Path(self.errors.name).read_text()[-3000:]}")
            time.sleep(0.02)

    def worker(self):
        return [
            line.get("pid", line.get("worker"))
            for line in self.lines()
            if line["did"] in ("worker", "opened")
        ][-1]

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.errors.close()


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def check_project(folder, painter):
    """Every stroke that had ended is in the project, in its order."""
    summary = find_unfinished(folder / "projects")
    assert summary is not None
    # A copy: opening and closing the project itself would count as a clean end.
    copy = shutil.copytree(summary.folder, painter.log.with_suffix(".copy"))
    with Project.open(copy) as project:
        (case,) = project.cases()
        labels = np.zeros(case.shape, np.uint8)
        digests = [digest(labels)]
        for change in project.changes(case.number):
            labels.reshape(-1)[change.voxels] = change.after
            digests.append(digest(labels))
        assert digest(project.labels(case.number)) == digests[-1]
        painted = painter.lines("painted")
        for line in painted:
            assert digests[line["changes"]] == line["digest"]
        recorded = len(digests) - 1
        assert recorded - (painted[-1]["changes"] if painted else 0) <= 1
    return digests[-1]


@pytest.mark.parametrize("run", RUNS)
def test_nothing_that_had_ended_is_lost(run, tmp_path):
    chance = random.Random(run)
    kills = KILLS // len(RUNS) + (run < KILLS % len(RUNS))
    last = None
    for number in range(kills):
        painter = Painter(tmp_path, seed=100 * run + number)
        painter.wait("opened")
        if last is not None:
            assert painter.lines("opened")[0]["digest"] == last
        painter.wait("learning")
        if number:
            assert painter.lines("started")[0]["offer"]
        time.sleep(chance.uniform(0, 1.0))
        worker = painter.worker()
        os.kill(worker, signal.SIGKILL)
        painter.wait("worker died")
        painter.wait(chance.choice(["painting", "painted"]), len(painter.lines("painted")) + 1)
        if number % 2:
            painter.wait("learning", 2)  # training has resumed in the new worker
        time.sleep(chance.uniform(0, 0.5))
        worker = painter.worker()
        painter.kill()
        last = check_project(tmp_path, painter)
        end = time.monotonic() + 20
        while is_running(worker):
            assert time.monotonic() < end, "the worker outlived the window"
            time.sleep(0.05)
