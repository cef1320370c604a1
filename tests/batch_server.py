"""Runs batches in processes that it forks and kills; a program, which tests start.

``python batch_server.py DATA MODEL`` reads lines ``OUT SECONDS``.  For each it segments DATA into OUT in a
process of its own, kills that after SECONDS (``kill -9``), and tells its exit code and how long it lived.
"""

import os
import signal
import sys
import time

import pytest
import torch
from batch_models import CONFIG, stop_the_clock

from napari_sparseseg.batch import run_batch
from napari_sparseseg.events import finish
from napari_sparseseg.settings import InferenceConfig


def segment(data, model, out):
    code = 1
    try:
        summary = finish(run_batch([data], model, out, CONFIG, InferenceConfig(device="cpu", overlap=0)))
        code = int(summary.failed > 0)
    finally:  # whatever it was, the loop is not the child's
        os._exit(code)


def main(data, model):
    torch.set_num_threads(1)
    stop_the_clock(pytest.MonkeyPatch())
    for line in sys.stdin:
        out, seconds = line.rsplit(" ", 1)
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            segment(data, model, out)
        ended, status = 0, 0
        while not ended:
            if time.monotonic() - began > float(seconds):
                os.kill(child, signal.SIGKILL)  # it is not reaped yet, so this cannot be another process
            ended, status = os.waitpid(child, os.WNOHANG)
            time.sleep(0.0005)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)} {time.monotonic() - began}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
