"""Forks processes that find all they need imported; a new Python takes seconds of computing for that.

    python fork_server.py ADDRESS MODULE...

The server imports the modules, waits at a socket for what to run, and ends when its stdin does.
"""

import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

SECONDS = 120


class ForkServer:
    """A server, and what asks it for processes: all but the first two arguments are modules to import."""

    def __init__(self, address, environment, *modules):
        self.address = str(address)
        command = [sys.executable, __file__, self.address, *modules]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout.readline() == b"ready\n"

    def close(self):
        self.process.stdin.close()
        self.process.wait(SECONDS)
        self.process.stdout.close()


class ForkedWorker:
    """A worker that a server has forked: what `worker_client` needs to know of a process."""

    def __init__(self, address):
        theirs_in, requests = os.pipe()
        events, theirs_out = os.pipe()
        streams = (theirs_in, theirs_out, 2)
        self.pid = fork(address, "napari_sparseseg.worker:run_worker", [], {}, streams)
        for end in (theirs_in, theirs_out):
            os.close(end)
        self.requests, self.events = os.fdopen(requests, "wb"), os.fdopen(events, "rb")

    @property
    def alive(self):
        return is_there(self.pid)

    def kill(self):
        if self.alive:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout):
        end = time.monotonic() + timeout
        while self.alive:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def finish(self):
        self.wait(SECONDS)
        self.events.close()
        return "it was ended"


def fork(address, entry, arguments, environment, streams):
    """Run a function ``module:name`` in a process of its own with these three streams; return its number."""
    request = {"entry": entry, "arguments": arguments, "environment": environment}
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(SECONDS)
        line.connect(address)
        socket.send_fds(line, [json.dumps(request).encode() + b"\n"], streams)
        return int(line.recv(100))


def is_there(pid):
    """Tell whether a process is there, be it as one that has ended and that nobody has asked about."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def is_running(pid):
    """Tell whether a process does anything yet; its locks and memory may go a moment later."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def serve(address):
    """Fork until stdin ends."""
    gc.collect()
    gc.freeze()  # what is never looked at by the collector stays shared with the children
    tasks = os.listdir("/proc/self/task")
    assert len(tasks) == 1, "a thread was started, and forks would lack it"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.bind(address)
        door.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            readable, _, _ = select.select([door, sys.stdin], [], [])
            if door not in readable:
                return
            line, _ = door.accept()
            text, streams, _, _ = socket.recv_fds(line, 65536, 3)
            while not text.endswith(b"\n"):
                text += line.recv(65536)
            pid = os.fork()
            if pid == 0:
                door.close()
                line.close()
                run(json.loads(text), streams)
            for stream in streams:
                os.close(stream)
            line.sendall(str(pid).encode())
            line.close()


def run(request, streams):
    """Be the child: never returns."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        for stream in streams:
            os.close(stream)
        os.environ.update(request["environment"])
        module, name = request["entry"].split(":")
        getattr(importlib.import_module(module), name)(*request["arguments"])
        code = 0
    except Exception:  # noqa: BLE001 - said where the test looks for it
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    for module in sys.argv[2:]:
        importlib.import_module(module)
    serve(sys.argv[1])
