"""A batch on Dask distributed: one task for each case, on workers that share the files with this machine."""

import functools
import importlib.util
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from napari_sparseseg.batch_inputs import hash_input
from napari_sparseseg.batch_records import BatchInput, BatchRecord, record_from_json
from napari_sparseseg.dask_case import choose_precision_on_worker, sees, segment_on_worker
from napari_sparseseg.dask_crew import GPU, LOCAL, Crew, connect
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Event, Noted, WorkDone
from napari_sparseseg.message_fields import Payload, codec_for

if TYPE_CHECKING:
    from distributed import Client, Future

    from napari_sparseseg.batch_case import BatchTask

_PER_WORKER = 2  # the case that is segmented and the next one, so that no worker waits for this process
_TRIES = 3  # how often a case may lose its worker
_EVENT_SECONDS = 0.2  # between two events while nothing happens
_ANSWER_SECONDS = 10.0  # for the record of a case that is done

Runner = Callable[[Sequence[BatchInput], "BatchTask"], Generator[Event | BatchRecord, None, None]]


def dask_runner(address: str, workers: int = 0) -> Runner:
    """Return what `batch.run_batch` takes as its runner: the workers of a Dask cluster.

    Each worker process takes one case at a time, with as many threads as it was started with.  A case whose
    worker is lost begins again on another one; one that loses three fails, and the others go on.  Where the
    cases are to be computed on the GPU, only workers with the resource ``GPU`` get any.

    Parameters
    ----------
    address
        Of the scheduler, as ``tcp://host:8786``; its scheduler file (``.json``); or ``local`` for processes
        on this machine, which end with the batch.
    workers
        How many processes ``local`` starts; 0 for one per core, or a single one that has the GPU.

    Raises
    ------
    InputError
        If Dask distributed is not installed, or the two do not go together.
    """
    if importlib.util.find_spec("distributed") is None:
        raise InputError(
            "Dask distributed is not installed; install it by: pip install 'napari-sparseseg[distributed]'"
        )
    if workers < 0 or (workers and address != LOCAL):
        raise InputError(
            f"{workers} workers cannot be started at {address!r}; a number from 1 on goes with the address "
            f"{LOCAL!r}, and a cluster that is reached by its address has its own."
        )
    return functools.partial(_run, address, workers)


def _run(
    address: str, workers: int, todo: Sequence[BatchInput], task: "BatchTask"
) -> Generator[Event | BatchRecord, None, None]:
    from napari_sparseseg.networks import choose_device

    if task.inference.device == "auto":  # or each worker would choose for itself
        device = choose_device("auto").type
        task = replace(task, inference=replace(task.inference, device=device))
    gpu = task.inference.device.startswith("cuda")
    with ExitStack() as stack:
        client = stack.enter_context(connect(address, workers, gpu))
        mark = stack.enter_context(_marked(Path(task.out)))
        batch = _Batch(client, gpu, todo, task, mark)
        stack.callback(batch.cancel)
        yield from batch.run()


@contextmanager
def _marked(out: Path) -> Iterator[str]:
    """Keep an empty folder in `out`, so that workers can tell whether they see it.

    It is called like those of `atomic.atomic_path`, which the next batch removes where one was killed.
    """
    mark = out / f".writing-{uuid.uuid4().hex}"
    try:
        mark.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror}); choose another place.") from error
    try:
        yield str(mark)
    finally:
        if mark.exists():
            mark.rmdir()


@dataclass(frozen=True, eq=False)
class _Sent:
    """A case that a worker has, or had before it was lost."""

    source: BatchInput
    future: "Future"
    worker: str


class _Batch:
    """The cases of one batch: which wait, and which worker has which."""

    def __init__(
        self, client: "Client", gpu: bool, todo: Sequence[BatchInput], task: "BatchTask", mark: str
    ) -> None:
        from napari_sparseseg.batch_case import BatchTask

        self._client = client
        self._crew = Crew(client, gpu)
        self._resources = {GPU: 1} if gpu else None
        self._task = task
        self._codec = codec_for(BatchTask)
        self._plain_task = self._codec.write(task, "task", [])
        self._mark = mark
        self._total = len(todo)
        self._waiting = deque(todo)
        self._sent: dict[str, _Sent] = {}  # by key, in the order in which they were sent
        self._tries: Counter[str] = Counter()  # by the case's name, of those that failed
        self._numbers = 0
        self._run_name = uuid.uuid4().hex[:8]
        self._finished: SimpleQueue[str] = SimpleQueue()

    def run(self) -> Generator[Event | BatchRecord, None, None]:
        """Have all cases segmented; yield each one's record as it is done."""
        self._crew.check_scheduler()
        if self._task.precision is None:
            yield from self._ask_for_precision()
        while self._waiting or self._sent:
            lost, told = self._crew.look()
            yield from map(Noted, told)
            for worker in lost:
                yield from self._take_back(worker)
            self._send()
            try:
                key = self._finished.get(timeout=_EVENT_SECONDS)
            except Empty:
                self._check_connection()
                share = 1 - (len(self._waiting) + len(self._sent)) / self._total
                yield WorkDone(share, f"{len(self._sent)} cases on {len(self._crew.fit)} workers")
            else:
                yield from self._receive(key)

    def cancel(self) -> None:
        """Take back all cases that no worker has begun."""
        sent, self._sent = self._sent, {}
        if sent and self._client.status == "running":
            self._client.cancel([case.future for case in sent.values()])

    def _ask_for_precision(self) -> Generator[Event, None, None]:
        """Let one worker decide for all, since only workers are sure to have the device."""
        from napari_sparseseg.networks import Precision

        asked: tuple[str, Future] | None = None
        while True:
            _, told = self._crew.look()
            yield from map(Noted, told)
            if asked is None or asked[0] not in self._crew.fit:
                asked = self._ask(min(self._crew.fit)) if self._crew.fit else None
            if asked and asked[1].done():
                worker, future = asked
                try:
                    plain = future.result(timeout=_ANSWER_SECONDS)
                except Exception as error:  # noqa: BLE001 - whatever a worker raised
                    self._check_connection()
                    self._crew.note_failure(worker, _explain(error))
                    asked = None
                else:
                    self._crew.note_success(worker)
                    precision: Precision = codec_for(Precision).read(plain, "precision", Payload(bytearray()))
                    self._task = replace(self._task, precision=precision)
                    self._plain_task = self._codec.write(self._task, "task", [])
                    return
            self._check_connection()
            time.sleep(_EVENT_SECONDS)
            yield WorkDone(0.0, "choosing the number format")

    def _ask(self, worker: str) -> "tuple[str, Future]":
        question = self._client.submit(
            choose_precision_on_worker,
            self._plain_task,
            self._mark,
            pure=False,
            workers=[worker],
            resources=self._resources,
        )
        return worker, question

    def _send(self) -> None:
        held = Counter(case.worker for case in self._sent.values())
        for _ in range(_PER_WORKER):  # first one to each worker
            for worker in sorted(self._crew.fit, key=lambda worker: (held[worker], worker)):
                if self._waiting and held[worker] < _PER_WORKER:
                    self._submit(self._waiting.popleft(), worker)
                    held[worker] += 1

    def _submit(self, source: BatchInput, worker: str) -> None:
        self._numbers += 1
        key = f"sparseseg-{self._run_name}-{self._numbers}"
        future = self._client.submit(
            segment_on_worker,
            source.name,
            source.files,
            self._plain_task,
            self._mark,
            sees(source.files),
            key=key,
            pure=False,
            workers=[worker],
            resources=self._resources,
        )
        self._sent[key] = _Sent(source, future, worker)
        future.add_done_callback(lambda _: self._finished.put(key))

    def _receive(self, key: str) -> Iterator[Event | BatchRecord]:
        case = self._sent.pop(key, None)
        if case is None:  # it was taken back
            return
        if case.future.status == "cancelled":
            raise self._connection_lost()
        try:
            record = record_from_json(case.future.result(timeout=_ANSWER_SECONDS))
        except Exception as error:  # noqa: BLE001 - whatever a worker raised
            yield from self._fail(case, error)
        else:
            self._crew.note_success(case.worker)
            yield record

    def _take_back(self, worker: str) -> Iterator[Event | BatchRecord]:
        """Have the cases of a worker that was lost segmented by others; the first one was at work."""
        cases = {key: case for key, case in self._sent.items() if case.worker == worker}
        for number, (key, case) in enumerate(cases.items()):
            del self._sent[key]
            case.future.cancel()
            if number == 0:
                yield from self._retry(case.source, _explain_loss(case.source.name))
            else:
                self._waiting.appendleft(case.source)

    def _fail(self, case: _Sent, error: Exception) -> Iterator[Event | BatchRecord]:
        from distributed import KilledWorker

        from napari_sparseseg.batch_case import BatchStopped

        if isinstance(error, BatchStopped):
            raise error
        if isinstance(error, (KilledWorker, TimeoutError)):
            yield from self._retry(case.source, _explain_loss(case.source.name))
            return
        self._crew.note_failure(case.worker, _explain(error))
        yield from self._retry(case.source, _explain(error))

    def _retry(self, source: BatchInput, reason: str) -> Iterator[Event | BatchRecord]:
        from napari_sparseseg.batch_case import ReadCase, write_failure

        self._tries[source.name] += 1
        if self._tries[source.name] < _TRIES:
            self._waiting.append(source)
        else:
            read = ReadCase(source, None, _hash(source), 0.0, reason)
            yield write_failure(read, self._task, reason)

    def _check_connection(self) -> None:
        if self._client.status != "running":
            raise self._connection_lost()

    def _connection_lost(self) -> InputError:
        return InputError(
            "the connection to the Dask scheduler was lost; what was done is kept, and the same command goes "
            "on once there is a scheduler again."
        )


def _hash(source: BatchInput) -> str:
    try:
        return hash_input(source.files)
    except (InputError, OSError):
        return ""


def _explain(error: Exception) -> str:
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


def _explain_loss(name: str) -> str:
    return (
        f"{name} lost its Dask worker {_TRIES} times, as happens where memory runs out or a job's time ends; "
        "give the workers more of it, and run again."
    )
