"""A worker process on this machine, and the pipes to it.

`WorkerProcess` is all that `worker_client` knows of where the worker runs: a class with the same methods,
over a connection to another machine, takes its place (arrays would then have to travel, too).
"""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import IO

from napari_sparseseg.errors import InputError

_LINES_KEPT = 100
_LINE_BYTES = 10_000
_ENDING_SECONDS = 5.0
_LARGEST_PLAIN_CODE = 255  # what Windows says of a crash is larger, and known by its hexadecimal form
_SIGNALS_MEAN: Mapping[str, str] = {
    "SIGKILL": ", sent by the system or a person; the memory may have been full",
    "SIGSEGV": ", a crash in a library",
    "SIGABRT": ", a crash in a library",
    "SIGBUS": ", no room left in shared memory",
}


class WorkerProcess:
    """Starts ``python -m napari_sparseseg.worker``.

    Parameters
    ----------
    command
        Another program that speaks as `worker` does, and its arguments.

    Raises
    ------
    InputError
        If it cannot be started.
    """

    def __init__(self, command: Sequence[str] | None = None) -> None:
        try:
            self._process = subprocess.Popen(
                _default_command() if command is None else command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(),
                creationflags=_creation_flags(),
            )
        except OSError as error:
            raise InputError(
                f"the background worker cannot be started ({error.strerror or error}); "
                "close other programs, or install Python and napari-sparseseg anew."
            ) from error
        self._last_words: deque[str] = deque(maxlen=_LINES_KEPT)
        self._listener = threading.Thread(target=self._listen, name="worker stderr", daemon=True)
        self._listener.start()

    @property
    def requests(self) -> IO[bytes]:
        """Stream to write requests to; closing it lets the worker end."""
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def events(self) -> IO[bytes]:
        """Stream to read events from."""
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    @property
    def last_words(self) -> tuple[str, ...]:
        """The last lines that it wrote on stderr."""
        return tuple(self._last_words)

    def kill(self) -> None:
        """End the process at once; does not wait for it."""
        self._process.kill()

    def wait(self, timeout: float) -> bool:
        """Wait `timeout` seconds for it to end; tell whether it has."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def finish(self) -> str:
        """Clean up after the events have ended, and return in words how the process ended."""
        if not self.wait(_ENDING_SECONDS):
            self.kill()
            self._process.wait()
        self._listener.join(_ENDING_SECONDS)
        self.events.close()
        return self._describe_end()

    def _listen(self) -> None:
        stream = self._process.stderr
        assert stream is not None
        with stream:
            while line := stream.readline(_LINE_BYTES):
                self._last_words.append(line.decode("utf-8", "replace").rstrip())

    def _describe_end(self) -> str:
        code = self._process.returncode
        spoken = [line.strip() for line in self.last_words if line.strip()]
        last = f"; it last said: {spoken[-1]:.200}" if spoken else ""
        if code >= 0:
            return f"exit code {code:#x}{last}" if code > _LARGEST_PLAIN_CODE else f"exit code {code}{last}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return name + _SIGNALS_MEAN.get(name, last)


def count_threads() -> int:
    """Return how many threads a worker should compute with: one core is the window's."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1)


def _default_command() -> list[str]:
    if not sys.executable:
        raise InputError("the background worker cannot be started: this program does not know its Python.")
    # -P: a file of the user's in the current folder must not be taken for a library.
    return [sys.executable, "-P", "-m", "napari_sparseseg.worker"]


def _environment() -> dict[str, str]:
    """Return the environment, with thread pools that leave a core to the window and do not spin."""
    gentle = {
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": str(count_threads()),
        "PYTHONIOENCODING": "utf-8:backslashreplace",
    }
    return gentle | dict(os.environ)


def _creation_flags() -> int:
    """On Windows: no console window, and lower priority than the window's."""
    if sys.platform == "win32":
        return subprocess.CREATE_NO_WINDOW | subprocess.BELOW_NORMAL_PRIORITY_CLASS
    return 0
