"""Both processes are killed at random moments, and nothing that had ended is lost."""

import json
import os
import random
import shutil
import signal
import time
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

from napari_sparseseg.project import Project, find_unfinished
from tests.widgets.fork_server import ForkServer, fork, is_running, is_there
from tests.widgets.painter import digest

WINDOW_MODULES = (
    "napari._qt.qt_viewer",
    "napari.viewer",
    "napari_sparseseg.widgets.dock",
    "tests.robot",
    "tests.widgets.painter",
)
WORKER_MODULES = ("torch", "napari_sparseseg.worker", "napari_sparseseg.live")
RUNS = (0, 1)
KILLS = 13  # of each process, over all runs
DEADLINE = 120


class Painter:
    """A painter process and what it has logged."""

    def __init__(self, folder, seed, servers, *, forks_workers):
        self.log = folder / f"log-{seed}.jsonl"
        self.errors = folder / f"errors-{seed}.txt"
        painters, workers = servers
        arguments = [str(self.log), seed, workers.address if forks_workers else ""]
        environment = {"SPARSESEG_PROJECTS": str(folder / "projects")}
        with self.errors.open("wb") as errors, open(os.devnull, "rb") as nothing:
            streams = (nothing.fileno(), errors.fileno(), errors.fileno())
            self.pid = fork(painters.address, "tests.widgets.painter:main", arguments, environment, streams)

    def lines(self, did=None):
        text = self.log.read_text() if self.log.exists() else ""
        lines = [json.loads(line) for line in text.splitlines(True) if line.endswith("\n")]
        return [line for line in lines if did in (None, line["did"])]

    def wait(self, did, number=1):
        end = time.monotonic() + DEADLINE
        while len(self.lines(did)) < number:
            if not is_running(self.pid) or time.monotonic() > end:
                raise AssertionError(f"no {did!r}: {self.errors.read_text()[-3000:]}")
            time.sleep(0.02)

    def worker(self):
        return [
            line.get("pid", line.get("worker"))
            for line in self.lines()
            if line["did"] in ("worker", "opened")
        ][-1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if is_there(self.pid):
            os.kill(self.pid, signal.SIGKILL)
        wait_until(lambda: not is_there(self.pid), "the window outlived its kill")


def wait_until(condition, otherwise):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, otherwise
        time.sleep(0.02)


@pytest.fixture(scope="module")
def servers(tmp_path_factory, _screen):
    """Two processes that fork windows and workers: they have imported what those need, and done nothing."""
    folder = tmp_path_factory.mktemp("servers")
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    with ExitStack() as stack:
        made = [
            stack.enter_context(closing(ForkServer(folder / name, environment, *modules)))
            for name, modules in (("windows", WINDOW_MODULES), ("workers", WORKER_MODULES))
        ]
        yield made


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
def test_nothing_that_had_ended_is_lost(run, tmp_path, servers):
    chance = random.Random(run)
    kills = KILLS // len(RUNS) + (run < KILLS % len(RUNS))
    last = None
    for number in range(kills):
        with Painter(tmp_path, 100 * run + number, servers, forks_workers=number > 0) as painter:
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
        last = check_project(tmp_path, painter)
        wait_until(lambda worker=worker: not is_running(worker), "the worker outlived the window")
