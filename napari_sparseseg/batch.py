"""A thousand volumes through one network: planned, read, segmented and written side by side, and told of."""

import hashlib
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from napari_sparseseg.atomic import check_folder
from napari_sparseseg.batch_case import BatchTask, choose_batch_precision, hash_settings, name_results
from napari_sparseseg.batch_inputs import find_inputs, hash_input
from napari_sparseseg.batch_ledger import hold_folder, is_done, read_record, remove_leftovers, write_record
from napari_sparseseg.batch_pipeline import run_here
from napari_sparseseg.batch_records import BatchInput, BatchRecord
from napari_sparseseg.batch_settings import RESULT_FORMATS, BatchConfig
from napari_sparseseg.checkpoint import Model, load_model
from napari_sparseseg.cohort_events import BatchCaseDone, BatchFinished
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Event, WorkDone
from napari_sparseseg.setting import split_several
from napari_sparseseg.settings import InferenceConfig

Runner = Callable[[Sequence[BatchInput], BatchTask], Generator[Event | BatchRecord, None, None]]
"""Segments volumes, in any order; yields each one's record as it is done, and events."""


@dataclass(frozen=True)
class BatchSummary:
    """What became of a batch.

    Attributes
    ----------
    out, report
        Folder of the results, and the HTML report in it.
    records
        Of all volumes, in the order of the inputs.
    done, skipped, failed
        How many were segmented, were up to date already, and could not be segmented.
    """

    out: str
    report: str
    records: tuple[BatchRecord, ...]
    done: int
    skipped: int
    failed: int

    def mask_of(self, record: BatchRecord) -> str:
        """Return the first mask of a volume, empty where there is none."""
        return _find_mask(self.out, record)


def _find_mask(out: str | Path, record: BatchRecord) -> str:
    masks = [file for kind, file in record.results.items() if kind in RESULT_FORMATS]
    return str(Path(out) / masks[0]) if masks and not record.error else ""


def run_batch(
    sources: Sequence[str],
    model_folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    config: BatchConfig | None = None,
    inference: InferenceConfig | None = None,
    *,
    frame: int | None = None,
    spacing: tuple[float, float, float] | None = None,
    runner: Runner | None = None,
) -> Generator[Event, None, BatchSummary]:
    """Segment all volumes that `sources` name; those that fail are told of, and the others go on.

    A volume is left as it is where an earlier run segmented it: its bytes, those of the network and the
    settings are the same, and all its results are there unchanged.  Whatever ends the process, the next run
    goes on, and the results are those of an undisturbed run.

    Parameters
    ----------
    sources
        As `batch_inputs.find_inputs` takes them.
    model_folder
        Of the network.
    out
        Folder for the results, the records of all volumes and the report.
    config, inference
        The settings.
    frame, spacing
        As `volume.load_volume` takes them.
    runner
        Who segments the volumes, and decides `BatchTask.precision`; None for this process.

    Returns
    -------
    The `BatchSummary`; on the way a `BatchCaseDone` for each volume, and at the end a `BatchFinished`.

    Raises
    ------
    InputError
        If there is nothing to segment, the network cannot be used, or the results cannot be written.
    """
    config, inference = config or BatchConfig(), inference or InferenceConfig()
    folder = Path(os.path.abspath(Path(out).expanduser()))
    if not split_several(config.formats):
        raise InputError("no format is given for the masks; name at least one, e.g. nii.gz.")
    check_folder(folder)
    model = load_model(model_folder)
    inputs = find_inputs(sources, folder)
    with hold_folder(folder):
        remove_leftovers(folder, [source.name for source in inputs])
        plan = _Plan(inputs, folder, config)
        model_hash = hash_model(model_folder)
        yield from plan.find_done(model_hash, hash_settings(config, inference, frame, spacing))
        yield from plan.refuse_overwriting(inputs)
        if plan.todo:
            task = BatchTask(
                str(Path(model_folder).absolute()), model_hash, str(folder), config, inference,
                None if runner else choose_batch_precision(model, inference), frame, spacing,
            )  # fmt: skip
            work = runner(plan.todo, task) if runner else run_here(plan.todo, task, model)
            with closing(work):
                for item in work:
                    yield plan.take(item) if isinstance(item, BatchRecord) else item
        report = _write_report(folder, plan.records(), model, Path(model_folder).resolve().name)
    summary = BatchSummary(str(folder), str(report), plan.records(), *plan.counts())
    yield BatchFinished(summary.report, summary.done, summary.skipped, summary.failed)
    return summary


def hash_model(folder: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a model's description, which holds that of its weights."""
    return hashlib.sha256((Path(folder) / "model.json").read_bytes()).hexdigest()


def _write_report(out: Path, records: tuple[BatchRecord, ...], model: Model, name: str) -> Path:
    from napari_sparseseg.batch_report import write_report

    return write_report(out, records, model.table, model=name, typical=model.summary.get("typical"))


class _Plan:
    """Which volumes are done, and which are to be."""

    def __init__(self, inputs: Sequence[BatchInput], out: Path, config: BatchConfig) -> None:
        self._todo = {source.name: source for source in inputs}
        self._inputs = tuple(inputs)
        self._out = out
        self._config = config
        self._records: dict[str, BatchRecord] = {}
        self._skipped: set[str] = set()

    @property
    def todo(self) -> tuple[BatchInput, ...]:
        """What is neither done nor known to fail, in its order."""
        return tuple(self._todo.values())

    def find_done(self, model_hash: str, settings_hash: str) -> Iterator[Event]:
        """Pass over what an earlier run did."""
        if self._config.overwrite:
            return
        for number, source in enumerate(self._inputs):
            record = read_record(self._out, source.name)
            if record is None or not is_done(self._out, record, model_hash, settings_hash):
                continue
            try:
                unchanged = hash_input(source.files) == record.input_hash
            except (InputError, OSError):
                unchanged = False  # reading it says why
            if unchanged:
                self._skipped.add(source.name)
                moved = replace(record, files=source.files)
                if moved != record:
                    write_record(self._out, moved)
                yield self.take(moved)
            else:
                yield WorkDone(number / len(self._inputs), "looking for what is done")

    def refuse_overwriting(self, inputs: Sequence[BatchInput]) -> Iterator[Event]:
        """Fail those volumes whose results would replace an input, of whichever volume."""
        files = {Path(file).resolve() for source in inputs for file in source.files}
        for source in self.todo:
            targets = [self._out / file for file in name_results(source.name, self._config).values()]
            if replaced := [target for target in targets if target.resolve() in files]:
                error = (
                    f"{replaced[0]} is an input and would be replaced by the result; choose another folder."
                )
                yield self.take(BatchRecord(source.name, source.files, error=error))

    def take(self, record: BatchRecord) -> BatchCaseDone:
        """Note that a volume is done, with or without success."""
        self._records[record.name] = record
        self._todo.pop(record.name, None)
        return BatchCaseDone(
            done=len(self._records),
            total=len(self._inputs),
            name=record.name,
            mask=_find_mask(self._out, record),
            error=record.error,
            warnings=record.warnings,
            skipped=record.name in self._skipped,
            volumes_ml=record.volumes_ml,
            uncertainty=record.uncertainty,
        )

    def records(self) -> tuple[BatchRecord, ...]:
        """Return what is known of the volumes, in their order."""
        return tuple(self._records[source.name] for source in self._inputs if source.name in self._records)

    def counts(self) -> tuple[int, int, int]:
        """Return how many were done, skipped, and failed."""
        failed = sum(bool(record.error) for record in self._records.values())
        return len(self._records) - len(self._skipped) - failed, len(self._skipped), failed
