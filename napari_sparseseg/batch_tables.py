"""A batch as tables: one row per case, one row per case and class, and all of it as JSON."""

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.batch_records import BatchRecord, record_to_json
from napari_sparseseg.batch_settings import RESULT_FORMATS
from napari_sparseseg.case_checks import class_names

FORMAT = 1
"""Of the manifest; readers refuse a higher one."""

_FORMULA_STARTS = "=+-@\t\r'"  # what a spreadsheet takes for a formula, and the mark itself
_QUOTED = set('",;\t\r\n')
_BETWEEN = "; "


def case_status(record: BatchRecord) -> str:
    """Return "failed", "check" (there are warnings) or "done"."""
    return "failed" if record.error else "check" if record.warnings else "done"


def listed_classes(records: Iterable[BatchRecord], table: ClassTable) -> tuple[str, ...]:
    """Return the names of the table's classes, and of others that the records have volumes of."""
    names = [*class_names(table), *(name for record in records for name in record.volumes_ml)]
    return tuple(dict.fromkeys(names))


def manifest_csv(records: Sequence[BatchRecord], table: ClassTable) -> str:
    """Return one row per case.

    The columns ``name`` and ``image`` are those that a batch's own manifests are read by, so that the table,
    or some rows of it, can be given to another batch.  Cells with several entries part them by ``; ``,
    warnings and notes by a space, as they are sentences.
    """
    classes = listed_classes(records, table)
    head = [
        "name", "status", "image", "mask", "other_results", "input_sha256", "model_sha256", "settings_sha256",
        "seconds", "shape_zyx", "spacing_mm_zyx", "uncertainty", *(f"{name} ml" for name in classes),
        "warnings", "notes", "error",
    ]  # fmt: skip
    rows: list[list[str | float]] = []
    for record in records:
        masks = [file for kind, file in record.results.items() if kind in RESULT_FORMATS]
        others = [file for kind, file in record.results.items() if kind not in RESULT_FORMATS]
        known = not record.error
        rows.append([
            record.name, case_status(record), ";".join(record.files),
            _BETWEEN.join(masks), _BETWEEN.join(others),
            record.input_hash, record.model_hash, record.settings_hash, round(record.seconds, 3),
            " ".join(map(str, record.shape)), " ".join(f"{side:.6g}" for side in record.spacing),
            round(record.uncertainty, 4) if known else "",
            *(record.volumes_ml.get(name, "") if known else "" for name in classes),
            " ".join(record.warnings), " ".join(record.notes), record.error,
        ])  # fmt: skip
    return _write_csv(head, rows)


def measurements_csv(records: Sequence[BatchRecord], table: ClassTable) -> str:
    """Return one row per case and class, for those cases that were segmented (a long, or tidy, table)."""
    values = dict(zip(class_names(table), table.mask_values[1:], strict=True))
    rows: list[list[str | float]] = []
    for record in records:
        voxel_ml = math.prod(record.spacing) / 1000 if record.spacing else 0.0
        for name, ml in () if record.error else record.volumes_ml.items():
            count = ml / voxel_ml if voxel_ml > 0 else math.nan
            voxels = round(count) if math.isfinite(count) else ""
            rows.append([record.name, name, values.get(name, ""), ml, voxels])
    return _write_csv(["name", "class", "value", "volume_ml", "voxels"], rows)


def manifest_json(records: Sequence[BatchRecord], table: ClassTable, model: str) -> str:
    """Return all that is known of the batch as JSON; numbers that are none are null."""
    states = [case_status(record) for record in records]
    plain = {
        "format": FORMAT,
        "model": model,
        "classes": table.to_json(),
        "summary": {"cases": len(states), **{key: states.count(key) for key in ("done", "check", "failed")}},
        "cases": [
            {"status": state, **record_to_json(record)} for state, record in zip(states, records, strict=True)
        ],
    }
    return json.dumps(_without_gaps(plain), indent=1, allow_nan=False) + "\n"


def guard_cell(text: str) -> str:
    """Return a text as a cell that no spreadsheet takes for a formula: an apostrophe stands before it then.

    `unguard_cell` takes it away again.  Bytes of a file's name that are no text are written by their codes.
    """
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return f"'{text}" if text[:1] and text[0] in _FORMULA_STARTS else text


def unguard_cell(cell: str) -> str:
    """Return the text that `guard_cell` was given."""
    return cell.removeprefix("'")


def _write_csv(head: Sequence[str], rows: Iterable[Sequence[str | float]]) -> str:
    return "".join(",".join(map(_draw_cell, row)) + "\n" for row in (head, *rows))


def _draw_cell(content: str | float) -> str:
    # The csv module leaves a carriage return unquoted, at which its own reader then begins a row.
    cell = guard_cell(content) if isinstance(content, str) else _figure(content)
    return '"' + cell.replace('"', '""') + '"' if set(cell) & _QUOTED else cell


def _figure(number: float) -> str:
    """Return a number in a cell; nothing for one that is none."""
    return (str(number) if isinstance(number, int) else f"{number:.7g}") if math.isfinite(number) else ""


def _without_gaps(plain: Any) -> Any:
    """Return JSON with null for each number that JSON does not know."""
    if isinstance(plain, dict):
        return {key: _without_gaps(value) for key, value in plain.items()}
    if isinstance(plain, list | tuple):
        return [_without_gaps(value) for value in plain]
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
