"""One volume of a batch, from its file to its results: read, predicted, written, each step told apart."""

import errno
import hashlib
import json
import math
import shutil
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_sparseseg.annotation import mask_from_channels
from napari_sparseseg.atomic import atomic_path, check_folder
from napari_sparseseg.batch_inputs import MAP_SUFFIXES, hash_input
from napari_sparseseg.batch_ledger import hash_file, read_record, thumbnail_path, write_record
from napari_sparseseg.batch_records import BatchInput, BatchRecord
from napari_sparseseg.batch_settings import BatchConfig
from napari_sparseseg.checkpoint import Model
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Event, finish
from napari_sparseseg.inference import PlacedNetwork, Prediction, place_model, predict_volume
from napari_sparseseg.networks import Precision, choose_device
from napari_sparseseg.placed_network import MOST_THREADS, one_thread_per_window
from napari_sparseseg.setting import split_several
from napari_sparseseg.settings import InferenceConfig
from napari_sparseseg.volume import Volume, load_volume, save_labels, save_map, save_segmentation

_RESULTS_VERSION = 1  # another one, and all is done again: raise it when results change
_WITHOUT_EFFECT = ("device",)  # a batch goes on where another machine left it
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


class BatchStopped(InputError):
    """No volume can be written any more: the disk is full, or the folder is gone."""


@dataclass(frozen=True)
class BatchTask:
    """What is the same for all volumes of a batch; plain, so that it can be sent to another process.

    Attributes
    ----------
    model_folder, model_hash
        The network.
    out
        Folder for the results, absolute.
    config, inference
        The settings.
    precision
        Number and memory format of the network, decided once, so that all who work on it compute alike; None
        where that is left to the runner, since this machine may not have the device.
    frame, spacing
        As `volume.load_volume` takes them.
    """

    model_folder: str
    model_hash: str
    out: str
    config: BatchConfig
    inference: InferenceConfig
    precision: Precision | None
    frame: int | None = None
    spacing: tuple[float, float, float] | None = None

    @property
    def settings_hash(self) -> str:
        """SHA-256 of what else the results depend on."""
        return hash_settings(self.config, self.inference, self.frame, self.spacing)


@dataclass(frozen=True, eq=False)
class ReadCase:
    """A volume that was read, or why it could not be.

    Attributes
    ----------
    source
        What was to be read.
    volume
        None where it could not be.
    input_hash
        SHA-256 of its files; empty where there are none.
    seconds
        What that took.
    error
        Why there is no volume, in a sentence.
    """

    source: BatchInput
    volume: Volume | None
    input_hash: str
    seconds: float
    error: str = ""


def hash_settings(
    config: BatchConfig,
    inference: InferenceConfig,
    frame: int | None = None,
    spacing: tuple[float, float, float] | None = None,
) -> str:
    """Return the SHA-256 of the settings that results depend on."""
    plain = {
        "version": _RESULTS_VERSION,
        "inference": _effective(inference),
        "formats": sorted(set(split_several(config.formats))),
        "maps": [config.uncertainty, config.probabilities],
        "frame": frame,
        "spacing": spacing,
    }
    return _hash_json(plain)


@contextmanager
def windows_at_once(device_name: str) -> Iterator[int]:
    """Yield how many windows should be predicted at once; on a CPU each has one thread while in here.

    Then the answers are the same, bit for bit, on any number of cores.
    """
    if choose_device(device_name).type == "cpu":
        with one_thread_per_window() as threads:
            yield threads
    else:
        yield 1


def choose_batch_precision(model: Model, inference: InferenceConfig) -> Precision:
    """Return the number and memory format that is fastest here for the windows of `model`."""
    with windows_at_once(inference.device):
        return place_model(model, inference.device).precision


def place_for(task: BatchTask, model: Model, threads: int = 1) -> PlacedNetwork:
    """Put `model` on the device, in the batch's precision, to predict `threads` windows at once."""
    return place_model(model, task.inference.device, precision=task.precision, threads=threads)


def memory_of(read: ReadCase, task: BatchTask, model: Model) -> int:
    """Return how many bytes a volume takes until it is written: image, a copy in the making, the answer."""
    if read.volume is None:
        return 0
    per_voxel = 3 + 2 * len(model.table) * task.config.probabilities
    return 2 * read.volume.data.nbytes + per_voxel * math.prod(read.volume.shape)


def name_results(name: str, config: BatchConfig) -> dict[str, str]:
    """Return the files that a volume's results are written to, relative to the batch's folder."""
    results = {
        kind: f"{name}.dcm" if kind == "dicom_seg" else f"{name}.{kind}"
        for kind in dict.fromkeys(split_several(config.formats))
    }
    for wanted, end in zip((config.uncertainty, config.probabilities), MAP_SUFFIXES, strict=True):
        if wanted:
            results[end.removeprefix("_")] = f"{name}{end}.nii.gz"
    return results


def read_case(source: BatchInput, task: BatchTask) -> ReadCase:
    """Read a volume and hash its files; never raises for what is wrong with it."""
    began = time.perf_counter()
    input_hash = ""
    with suppress(InputError, OSError):  # reading says why
        input_hash = hash_input(source.files)
    files = source.files[0] if len(source.files) == 1 else source.files
    try:
        volume = load_volume(files, frame=task.frame, spacing=task.spacing)
    except Exception as error:  # noqa: BLE001 - whatever a library does with a damaged file, the others go on
        return ReadCase(source, None, input_hash, time.perf_counter() - began, explain(error, source.name))
    return ReadCase(source, volume, input_hash, time.perf_counter() - began)


def predict_case(
    read: ReadCase, task: BatchTask, model: Model, placed: PlacedNetwork
) -> Generator[Event, None, Prediction]:
    """Segment a volume that was read.

    Raises
    ------
    InputError
        If it cannot be segmented.
    """
    if read.volume is None:
        raise InputError(read.error)
    return (
        yield from predict_volume(
            model,
            read.volume.data,
            read.volume.spacing,
            task.inference,
            probabilities=task.config.probabilities,
            placed=placed,
        )
    )


def write_case(
    read: ReadCase, prediction: Prediction, task: BatchTask, model: Model, seconds: float = 0.0
) -> BatchRecord:
    """Write the results of a volume, and at last its record.

    Parameters
    ----------
    read, prediction
        What the steps before made.
    task, model
        What is the same for all.
    seconds
        What the prediction took.

    Raises
    ------
    BatchStopped
        If nothing can be written any more.
    """
    began = time.perf_counter()
    try:
        record = _write_results(read, prediction, task, model)
    except Exception as error:  # noqa: BLE001 - as in `read_case`
        stop_where_hopeless(error, task, prediction.channels.nbytes)
        return write_failure(read, task, explain(error, read.source.name), seconds)
    seconds += read.seconds + time.perf_counter() - began
    return _record(replace(record, seconds=round(seconds, 3)), task)


def write_failure(read: ReadCase, task: BatchTask, error: str, seconds: float = 0.0) -> BatchRecord:
    """Write the record of a volume that could not be segmented; it is tried again in the next run.

    Raises
    ------
    BatchStopped
        If not even that can be written.
    """
    before = read_record(Path(task.out), read.source.name)
    record = replace(
        _begin(read, task),
        seconds=round(seconds + read.seconds, 3),
        error=error,
        written=before.written if before else (),
    )
    return _record(record, task)


def run_case(source: BatchInput, task: BatchTask, model: Model, placed: PlacedNetwork) -> BatchRecord:
    """Read, segment and write one volume; whatever is wrong with it is in the record.

    Raises
    ------
    BatchStopped
        If nothing can be written any more.
    """
    read = read_case(source, task)
    began = time.perf_counter()
    try:
        with windows_at_once(task.inference.device) as threads:
            side_by_side = replace(placed, threads=min(threads, MOST_THREADS))
            prediction = finish(predict_case(read, task, model, side_by_side))
    except Exception as error:  # noqa: BLE001 - as in `read_case`
        return write_failure(read, task, explain(error, source.name), time.perf_counter() - began)
    return write_case(read, prediction, task, model, time.perf_counter() - began)


def explain(error: Exception, name: str) -> str:
    """Return one sentence on why a volume could not be segmented."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, MemoryError) or "allocate memory" in str(error):  # torch's is a RuntimeError
        return f"{name} needs more memory than there is; free some, or segment it on a larger machine."
    reason = " ".join(str(error).split())[:300].rstrip(".")
    return f"{name} could not be segmented ({type(error).__name__}: {reason}); check the file."


def stop_where_hopeless(error: BaseException, task: BatchTask, needed: int = 0) -> None:
    """Raise `BatchStopped` where writing failed for a reason that all other volumes will meet, too.

    That is a full or broken disk, or a folder that is gone or takes no files any more; one attempt after the
    other would only cost hours, while the next run goes on when that is mended.

    Parameters
    ----------
    error
        What was raised.
    task
        The batch.
    needed
        Bytes to be written; libraries that do not say why they fail are taken to need that many.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            raise BatchStopped(str(error)) from error
        cause = cause.__cause__
    out = Path(task.out)
    if not out.is_dir():
        raise BatchStopped(f"{out} is gone; make it again, or choose another place.") from error
    try:
        check_folder(out)
    except InputError as reason:
        raise BatchStopped(str(reason)) from error
    if shutil.disk_usage(out).free < needed:
        raise BatchStopped(f"the disk of {out} is full; free some space, and run it again.") from error


def _begin(read: ReadCase, task: BatchTask) -> BatchRecord:
    volume = read.volume
    return BatchRecord(
        name=read.source.name,
        files=read.source.files,
        input_hash=read.input_hash,
        model_hash=task.model_hash,
        settings_hash=task.settings_hash,
        shape=volume.shape if volume else (),
        spacing=volume.spacing if volume else (),
        notes=volume.notes if volume else (),
    )


def _record(record: BatchRecord, task: BatchTask) -> BatchRecord:
    try:
        write_record(Path(task.out), record)
    except InputError as error:
        raise BatchStopped(str(error)) from error
    return record


def _write_results(read: ReadCase, prediction: Prediction, task: BatchTask, model: Model) -> BatchRecord:
    from napari_sparseseg.batch_report import draw_thumbnail
    from napari_sparseseg.case_checks import measure_case

    volume, out = read.volume, Path(task.out)
    assert volume is not None
    results = name_results(read.source.name, task.config)
    record = _claim(_begin(read, task), results, task)
    measures = measure_case(
        prediction.channels,
        prediction.uncertainty,
        volume.spacing,
        model.table,
        model.summary.get("typical"),
    )
    mask = mask_from_channels(prediction.channels, model.table)
    for kind, file in sorted(results.items(), key=lambda result: result[0] != "dicom_seg"):  # that may fail
        if kind == "uncertainty":
            save_map(out / file, prediction.uncertainty, volume)
        elif kind == "probabilities":
            assert prediction.probabilities is not None
            save_map(out / file, prediction.probabilities, volume)
        elif kind == "dicom_seg":
            notes = save_segmentation(
                out / file, mask, model.table, volume,
                model=Path(task.model_folder).name, identity=_hash_origin(task),
            )  # fmt: skip
            record = replace(record, notes=(*record.notes, *notes))
        else:
            save_labels(out / file, mask, volume)
    picture = draw_thumbnail(volume.data, prediction.channels, volume.spacing, model.table)
    with atomic_path(thumbnail_path(out, read.source.name)) as temporary:
        temporary.write_bytes(picture)
    return replace(
        record,
        error="",
        results=results,
        result_hashes=tuple(hash_file(out / file) for file in results.values()),
        volumes_ml=measures.volumes_ml,
        uncertainty=measures.uncertainty,
        warnings=measures.warnings,
    )


def _hash_origin(task: BatchTask) -> str:
    """Return the SHA-256 of the network and of the settings that change a mask."""
    return _hash_json([task.model_hash, _effective(task.inference)])


def _effective(inference: InferenceConfig) -> dict[str, Any]:
    return {name: value for name, value in inference.to_json().items() if name not in _WITHOUT_EFFECT}


def _hash_json(plain: Any) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _claim(record: BatchRecord, results: dict[str, str], task: BatchTask) -> BatchRecord:
    """Note on disk which files are about to be written, and refuse to replace any that no run wrote."""
    out = Path(task.out)
    before = read_record(out, record.name)
    known = before.written if before else ()
    if not task.config.overwrite:
        for file in results.values():
            if file not in known and (out / file).exists():
                raise InputError(
                    f"{out / file} is there already and of no earlier run; choose another folder for the "
                    "results, or let it be replaced by --overwrite."
                )
    record = replace(record, written=tuple(sorted({*known, *results.values()})))
    if not (before and set(results.values()) <= set(known)):
        write_record(out, replace(record, error="It was interrupted while it was written; run it again."))
    return record
