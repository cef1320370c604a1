"""A Dask cluster and its workers: reached or started, checked, counted while they come and go."""

import importlib.metadata
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sparseseg.dask_case import clear_bench, dask_setup, resources_of
from napari_sparseseg.errors import InputError

if TYPE_CHECKING:
    from distributed import Client

LOCAL = "local"
"""The address that stands for processes on this machine."""

GPU = "GPU"
"""The resource of a worker that has a graphics card (``dask worker --resources GPU=1``)."""

_PACKAGE = "napari-sparseseg"
_CONNECT_SECONDS = 10.0
_LOOK_SECONDS = 1.0  # between two counts of the workers
_PATIENCE_SECONDS = 10.0  # until somebody is told why nothing happens
_FAILURES = 3  # that a worker may have in a row


@contextmanager
def connect(address: str, workers: int, gpu: bool) -> Iterator["Client"]:
    """Connect to a Dask cluster, or start one on this machine for as long as the block lasts.

    Parameters
    ----------
    address
        As `batch_dask.dask_runner` takes it.
    workers
        How many processes to start here; 0 for one per core, or a single one that has the GPU.
    gpu
        Whether they use the GPU.

    Raises
    ------
    InputError
        If it cannot be reached or started.
    """
    from distributed import Client
    from distributed.utils import silence_logging_cmgr

    with ExitStack() as stack:
        for name in ("distributed", "distributed.client"):  # what matters is told in sentences
            stack.enter_context(silence_logging_cmgr(logging.CRITICAL, name))
        if address == LOCAL:
            where = stack.enter_context(_start_cluster(workers, gpu))
        else:
            where = _read_scheduler_file(address) if address.endswith(".json") else address
        _check_credentials(where)
        try:
            client = Client(where, timeout=_CONNECT_SECONDS, set_as_default=False, name="sparseseg")
        except (OSError, ValueError, TypeError, ImportError, RuntimeError) as error:
            raise InputError(
                f"no Dask scheduler can be reached at {where} ({_first_line(error)}); check that it runs, "
                "and that the address is like tcp://host:8786."
            ) from error
        stack.callback(_leave, client, address != LOCAL)
        yield client


def _leave(client: "Client", stays: bool) -> None:
    with suppress(Exception):  # the cluster may be gone, and its memory with it
        if stays and client.status == "running":
            client.run(clear_bench, on_error="ignore")
    with suppress(OSError, RuntimeError):
        client.close(timeout=5)


def _check_credentials(address: str) -> None:
    from distributed.security import Security

    if address.startswith("tls://") and Security().get_connection_args("client")["ssl_context"] is None:
        raise InputError(
            f"{address} needs a certificate, and Dask's configuration names none; set distributed.comm.tls, "
            "or ask whoever started the scheduler."
        )


def _read_scheduler_file(file: str) -> str:
    try:
        return str(json.loads(Path(file).read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file} is no scheduler file ({_first_line(error)}); dask scheduler --scheduler-file writes one."
        ) from error


@contextmanager
def _start_cluster(workers: int, gpu: bool) -> Iterator[str]:
    """Start processes on this machine, each with one thread, and end them."""
    from distributed import LocalCluster

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    number = workers or (1 if gpu else cores)
    try:
        cluster = LocalCluster(
            n_workers=number,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # else the port of somebody's dashboard
            silence_logs=logging.CRITICAL,
            memory_limit=None,  # Dask would pause a worker for good whose memory is the allocator's
            resources={GPU: 1} if gpu else None,
            preload=[dask_setup.__module__],
        )
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{number} Dask workers could not be started on this machine ({_first_line(error)}); start fewer."
        ) from error
    try:
        yield str(cluster.scheduler_address)
    finally:
        cluster.close(timeout=10)


class Crew:
    """The workers of a cluster that cases can be given to.

    Attributes
    ----------
    fit
        Addresses of the workers that are there, have what it takes, and have not failed.
    """

    def __init__(self, client: "Client", gpu: bool) -> None:
        self.fit: set[str] = set()
        self._client = client
        self._gpu = gpu
        self._versions = versions_here()
        self._unfit: dict[str, str] = {}  # the others, with the reason
        self._failures: Counter[str] = Counter()
        self._looked = -_LOOK_SECONDS
        self._idle_since = time.monotonic()
        self._begun = False
        self._complained = False

    def check_scheduler(self) -> None:
        """Raise `InputError` where the scheduler lacks this package, without which it takes no task."""
        try:
            version = self._client.run_on_scheduler(importlib.metadata.version, _PACKAGE)
        except importlib.metadata.PackageNotFoundError as error:
            version = error
        if reason := _compare(_PACKAGE, self._versions[_PACKAGE], version):
            raise InputError(f"the Dask scheduler {self._client.scheduler.address} {reason}")

    def look(self) -> tuple[set[str], list[str]]:
        """Count the workers, at most once a second; return those that were lost, and what is to be told.

        Raises
        ------
        InputError
            If there are workers, but none of them can be used.
        """
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return set(), []
        self._looked = now
        present = set(self._client.nthreads())
        lost = self.fit - present
        self._unfit = {worker: why for worker, why in self._unfit.items() if worker in present}
        joined, refused = self._examine(present - self.fit - self._unfit.keys())
        self.fit = self.fit - lost | joined
        self._unfit |= refused
        told = self._describe(lost, joined)
        if self._begun or self.fit:
            told += [f"It is left out: {why}" for why in refused.values()]
        if self.fit:
            self._begun, self._idle_since, self._complained = True, now, False
        else:
            told += self._complain(now - self._idle_since)
        return lost, told

    def note_failure(self, worker: str, reason: str) -> None:
        """Count a failure that is not the case's own; a worker with several in a row gets no more."""
        self._failures[worker] += 1
        if self._failures[worker] >= _FAILURES and worker in self.fit:
            self.fit.discard(worker)
            self._unfit[worker] = reason

    def note_success(self, worker: str) -> None:
        """Forget the failures of a worker."""
        self._failures.pop(worker, None)

    def _examine(self, workers: Collection[str]) -> tuple[set[str], dict[str, str]]:
        """Return which of them are fit, and why others are not; those that are gone again are neither."""
        refused: dict[str, str] = {}
        for package, here in self._versions.items():
            for worker, there in self._ask(workers - refused.keys(), importlib.metadata.version, package):
                if reason := _compare(package, here, there):
                    refused[worker] = f"the Dask worker {worker} {reason}"
        fit = set()
        for worker, resources in self._ask(workers - refused.keys(), resources_of):
            if self._gpu and resources.get(GPU, 0) < 1:
                refused[worker] = (
                    f"the Dask worker {worker} offers no GPU; start GPU workers by dask worker --resources "
                    "GPU=1, or choose --device cpu."
                )
            else:
                fit.add(worker)
        return fit, refused

    def _ask(self, workers: Collection[str], question: Any, *arguments: Any) -> Iterator[tuple[str, Any]]:
        if not workers:
            return
        answers = self._client.run(question, *arguments, workers=sorted(workers), on_error="return")
        for worker, answer in answers.items():
            if not isinstance(answer, OSError):  # it left in between
                yield worker, answer

    def _describe(self, lost: Collection[str], joined: Collection[str]) -> list[str]:
        if not lost and not joined:
            return []
        words = [
            f"{_count(len(workers), 'Dask worker was', 'Dask workers were')} {what}"
            for workers, what in ((lost, "lost"), (joined, "found"))
            if workers
        ]
        return [f"{', '.join(words)}; {len(self.fit)} at work."]

    def _complain(self, waited: float) -> list[str]:
        """Say why nothing happens; raise `InputError` where waiting will not help."""
        if self._unfit and waited > (_PATIENCE_SECONDS / 2 if self._gpu else 0):
            others = len(self._unfit) - 1
            more = f" ({_count(others, 'other', 'others')} cannot be used either)" if others else ""
            raise InputError(self._unfit[min(self._unfit)] + more)
        if waited > _PATIENCE_SECONDS and not self._complained:
            self._complained = True
            return ["No worker has joined the Dask cluster so far; waiting for one."]
        return []


def versions_here() -> dict[str, str]:
    """Return the versions, by package, that must be alike on all machines for their results to be alike."""
    return {package: importlib.metadata.version(package) for package in (_PACKAGE, "torch")}


def _compare(package: str, here: str, there: Any) -> str:
    """Return why a version elsewhere will not do; empty where it will."""
    if isinstance(there, importlib.metadata.PackageNotFoundError):
        return f"has no {package}; install {package} {here} there."
    if not isinstance(there, str):
        return f"cannot be asked for its version of {package} ({_first_line(there)})."
    if there.split("+")[0] != here.split("+")[0]:  # behind + is what torch was built for
        return f"has {package} {there}, this machine {here}; install the same, or results would differ."
    return ""


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
