"""What a Dask worker does: one case of a batch after the other, with a network that it loads once.

Nothing of torch is imported with this module, for Dask's scheduler imports it, too.
"""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sparseseg.batch_records import BatchInput, record_to_json
from napari_sparseseg.errors import InputError
from napari_sparseseg.message_fields import Payload, codec_for

if TYPE_CHECKING:
    from distributed import Worker

    from napari_sparseseg.batch_case import BatchTask
    from napari_sparseseg.checkpoint import Model
    from napari_sparseseg.inference import PlacedNetwork

_PLACE = "napari_sparseseg_bench"  # the attribute of a Dask worker that holds its `Bench`


class Bench:
    """Where a worker keeps the network of the batch it works on; takes one case at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: tuple[Any, BatchTask, Model, PlacedNetwork] | None = None

    def segment(self, source: BatchInput, plain_task: Any, threads: int) -> Any:
        """Segment a case with so many threads; return its record for JSON.

        Raises
        ------
        InputError
            If the model cannot be used, or nothing can be written any more.
        """
        from napari_sparseseg.batch_case import run_case

        with self._lock, _torch_threads(threads):
            if self._known is None or self._known[0] != plain_task:
                self._known = None  # never two networks in a graphics card's memory
                self._known = (plain_task, *_load(plain_task))
            _, task, model, placed = self._known
            return record_to_json(run_case(source, task, model, placed))


def segment_on_worker(name: str, files: Sequence[str], plain_task: Any, mark: str, there: bool) -> Any:
    """Segment a case on the Dask worker that this runs on; the task of the cluster.

    Parameters
    ----------
    name, files
        Of the `BatchInput`.
    plain_task
        The `BatchTask` as `codec_for` writes it.
    mark
        A folder that is there in the results' folder for as long as the batch runs.
    there
        Whether the machine that sent this sees the case's files.

    Returns
    -------
    The record for JSON.

    Raises
    ------
    InputError
        If this worker does not see the files, or cannot write the results.
    """
    worker = _find_worker(plain_task, mark)
    if there and not sees(files):
        raise InputError(_describe_blind(worker.address, files[0]))
    bench: Bench = worker.__dict__.setdefault(_PLACE, Bench())
    return bench.segment(BatchInput(name, tuple(files)), plain_task, worker.state.nthreads)


def choose_precision_on_worker(plain_task: Any, mark: str) -> Any:
    """Return the `Precision` that is fastest on the Dask worker that this runs on, for JSON.

    Parameters
    ----------
    plain_task, mark
        As `segment_on_worker` takes them.

    Raises
    ------
    InputError
        If this worker does not see the files, the model cannot be used, or the device is not there.
    """
    from napari_sparseseg.batch_case import choose_batch_precision
    from napari_sparseseg.networks import Precision

    _find_worker(plain_task, mark)
    task, model = _load_model(plain_task)
    return codec_for(Precision).write(choose_batch_precision(model, task.inference), "precision", [])


def dask_setup(worker: "Worker") -> None:
    """Let Ctrl-C be dealt with by the process that started this worker; for the option ``preload``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def clear_bench(dask_worker: "Worker") -> None:
    """Let go of the network that a worker keeps; for ``Client.run``."""
    dask_worker.__dict__.pop(_PLACE, None)


def resources_of(dask_worker: "Worker") -> dict[str, float]:
    """Return the resources that a worker was started with; for ``Client.run``."""
    return dict(dask_worker.state.total_resources)


def sees(files: Sequence[str]) -> bool:
    """Tell whether all files of a case are there for this process."""
    from napari_sparseseg.volume import source_files

    try:
        return all(
            Path(text).exists() or any(file.exists() for file in source_files(Path(text))) for text in files
        )
    except (InputError, OSError):
        return False


def _find_worker(plain_task: Any, mark: str) -> "Worker":
    """Return the worker that this runs on; raise `InputError` where it does not see results and model."""
    from distributed import get_worker

    worker = get_worker()
    for place in (mark, plain_task["model_folder"]):
        if not Path(place).exists():
            folder = Path(mark).parent if place == mark else place
            raise InputError(_describe_blind(worker.address, str(folder)))
    return worker


def _describe_blind(worker: str, path: str) -> str:
    return (
        f"the Dask worker {worker} does not see {path}; inputs, model and results must lie on a file system "
        "that all machines of the cluster share, under the same path."
    )


def _load(plain_task: Any) -> "tuple[BatchTask, Model, PlacedNetwork]":
    from napari_sparseseg.batch_case import place_for

    task, model = _load_model(plain_task)
    return task, model, place_for(task, model)


def _load_model(plain_task: Any) -> "tuple[BatchTask, Model]":
    from napari_sparseseg.batch import hash_model
    from napari_sparseseg.batch_case import BatchTask
    from napari_sparseseg.checkpoint import load_model

    task: BatchTask = codec_for(BatchTask).read(plain_task, "task", Payload(bytearray()))
    model = load_model(task.model_folder)
    if hash_model(task.model_folder) != task.model_hash:
        raise InputError(f"{task.model_folder} was changed while the batch ran; run it again.")
    return task, model


@contextmanager
def _torch_threads(number: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
