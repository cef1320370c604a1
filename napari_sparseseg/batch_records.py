"""What is known of one volume of a batch; kept beside its results, so that a later run need not redo it."""

from dataclasses import dataclass, field
from typing import Any

from napari_sparseseg.message_fields import Payload, codec_for


@dataclass(frozen=True)
class BatchInput:
    """A volume to be segmented.

    Attributes
    ----------
    name
        Unlike that of every other volume of the batch; its results are called by it.  May hold ``/``: then
        they lie in folders, as the inputs did.
    files
        As `volume.load_volume` takes them: one file or folder, or several that are the channels.
    """

    name: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class BatchRecord:
    """What became of a volume.

    Attributes
    ----------
    name, files
        As `BatchInput` has them.
    input_hash, model_hash, settings_hash
        SHA-256 of all bytes of the input, of the model, and of what else the results depend on.
    results
        Files written, relative to the batch's folder, by what they are: a key of
        `batch_settings.RESULT_FORMATS`, "uncertainty" or "probabilities"; and the SHA-256 of each, in the
        same order.
    seconds
        What reading, predicting and writing took together.
    shape, spacing
        Voxels and mm ``(Z, Y, X)``.
    volumes_ml
        Millilitres by the class's name.
    uncertainty
        Mean uncertainty, 0 to 1, as `case_checks.CaseMeasures` has it.
    warnings
        Why somebody should look at it, in sentences.
    notes
        What was noticed in reading, in sentences.
    error
        Why it failed, in a sentence; empty where it did not.
    written
        All files that any run wrote, or began to write, for this volume, relative to the batch's folder:
        those that may be replaced.
    """

    name: str
    files: tuple[str, ...]
    input_hash: str = ""
    model_hash: str = ""
    settings_hash: str = ""
    results: dict[str, str] = field(default_factory=dict)
    result_hashes: tuple[str, ...] = ()
    seconds: float = 0.0
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    volumes_ml: dict[str, float] = field(default_factory=dict)
    uncertainty: float = 0.0
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    error: str = ""
    written: tuple[str, ...] = ()


def record_to_json(record: BatchRecord) -> Any:
    """Return a plain dict for JSON."""
    return codec_for(BatchRecord).write(record, "record", [])


def record_from_json(plain: Any) -> BatchRecord:
    """Read what `record_to_json` made; raise `InputError` for anything else."""
    record: BatchRecord = codec_for(BatchRecord).read(plain, "record", Payload(bytearray()))
    return record
