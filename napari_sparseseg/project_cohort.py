"""The cases of a project as one list: what was added, what is labelled, and how good the network is there.

An *entry* is a volume that was added to the list; it may never have been opened.  A `CaseRecord` comes into
being with the first stroke.  Both are linked by the file, or else by the image's fingerprint; records
without an entry are in the list, too.  All that is kept here are settings of the project.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from napari_sparseseg.annotation import ClassTable, source_code
from napari_sparseseg.batch_records import BatchInput
from napari_sparseseg.cohort_records import CohortCase, Judgement, LabelCount, Quality, key_of
from napari_sparseseg.cohort_requests import LabelledCase
from napari_sparseseg.project import CaseRecord, Project
from napari_sparseseg.suggestion import labelled_slices

NETWORK = "network"
"""Name of the folder in a project's that holds the network of all its cases."""

_THUMBNAILS = "thumbnails"
_ENTRIES, _DONE, _COUNTS = "cohort", "cohort_done", "cohort_labels"
_QUALITY, _JUDGEMENTS = "cohort_quality", "cohort_judgements"


@dataclass(frozen=True)
class _Entry:
    name: str
    files: tuple[str, ...]
    fingerprint: str = ""

    @property
    def key(self) -> str:
        return key_of(self.files)


# -- the list --


def list_cases(project: Project) -> tuple[CohortCase, ...]:
    """Return all cases of a project: those that were added, in this order, then the others that are labelled.

    Takes a few milliseconds for a thousand; whether the files are there still is not looked at.
    """
    entries, records = _read_entries(project), project.cases()
    links = _link(entries, records)
    lines = [CohortCase(entry.key, entry.name, entry.files) for entry in entries]
    lines = [_with_record(line, links.get(line.key)) for line in lines]
    linked = {record.number for record in links.values()}
    alone = (record for record in records if record.number not in linked)
    lines += [
        _with_record(CohortCase(key_of_record(each), each.name, tuple(filter(None, [each.source]))), each)
        for each in alone
    ]
    return tuple(_with_what_is_kept(project, lines, {entry.key for entry in entries}))


def add_cases(project: Project, inputs: Sequence[BatchInput]) -> int:
    """Add volumes to the list; return how many were not in it."""
    entries = list(_read_entries(project))
    known = {tuple(map(Path, entry.files)) for entry in entries}
    before = len(entries)
    for each in inputs:
        files = tuple(str(Path(file).absolute()) for file in each.files)
        if files and (place := tuple(map(Path, files))) not in known:
            known.add(place)
            entries.append(_Entry(each.name, files))
    if len(entries) > before:
        _save_entries(project, entries)
    return len(entries) - before


def remove_cases(project: Project, keys: Collection[str]) -> int:
    """Take volumes from the list; return how many stay in it, because something is labelled in them.

    Nothing is deleted: neither a file nor a label.
    """
    entries = _read_entries(project)
    _save_entries(project, [entry for entry in entries if entry.key not in keys])
    return sum(line.key in keys for line in list_cases(project))


def mark_done(project: Project, keys: Collection[str], done: bool) -> None:
    """Note that cases are done, or that they are not."""
    before = _read_done(project)
    after = before | set(keys) if done else before - set(keys)
    if after != before:
        project.save_setting(_DONE, sorted(after))


def note_fingerprint(project: Project, key: str, fingerprint: str) -> None:
    """Keep what the image of an entry is known again by, so that its record is found whatever its file."""
    entries = _read_entries(project)
    after = [replace(each, fingerprint=fingerprint) if each.key == key else each for each in entries]
    if after != list(entries):
        _save_entries(project, after)


def key_of_record(record: CaseRecord) -> str:
    """Return what a labelled case that was not added to the list is known by."""
    return record.source or f"case-{record.number}"


def thumbnail_path(project: Project, key: str) -> Path:
    """Return where the small picture of a case is kept, if there is one."""
    name = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return project.folder / _THUMBNAILS / f"{name}.png"


def kept_image(project: Project, number: int) -> Path:
    """Return where the project keeps the image of a case that no file is behind."""
    return project.folder / "images" / f"case-{number}.npy"


# -- labels --


def count_labels(project: Project, number: int, apart: Sequence[str] = ()) -> LabelCount:
    """Count what is labelled in a case; its journal is replayed if it was not.

    Labels of the sources `apart` make no slice a labelled one.
    """
    labels, hints = project.labels(number), project.hints
    marks = sum(project.voxel_counts(number).values())
    marks += sum(len(find(number)) for find in (hints.boxes, hints.points, hints.image_labels))
    derived = np.isin(project.sources(number), [source_code(source) for source in apart])
    own = np.where(derived, np.uint8(0), labels) if derived.any() else labels
    return LabelCount(sum(map(len, labelled_slices(own))), marks)


def keep_count(project: Project, number: int, count: LabelCount | None) -> None:
    """Keep what `count_labels` found, so that the next look at the list need not count; None forgets it."""
    counts = _read_dict(project, _COUNTS)
    before = counts.pop(str(number), None)
    after = None if count is None else [count.slices, count.marks]
    if after != before:
        project.save_setting(_COUNTS, counts if after is None else {**counts, str(number): after})


def case_names(project: Project) -> dict[int, str]:
    """Return by number what each case is called in `labelled_cases`: no two alike."""
    records = project.cases()
    often = Counter(record.name for record in records)
    return {
        each.number: each.name if often[each.name] == 1 else f"{each.name} (case {each.number})"
        for each in records
    }


def labelled_cases(
    project: Project, table: ClassTable, *, without: int | None = None, in_work: int | None = None
) -> Iterator[LabelledCase]:
    """Yield the cases with labels, each with its labels; memory for the labels of one is held at a time.

    Parameters
    ----------
    project
        Where they are; it must stay open, and its labels the same, from one to the next.
    table
        The classes; labels of others are left out.
    without
        Number of a case to be left out.
    in_work
        Number of the case in work, whose labels stay in memory.
    """
    values = np.array([1, *table.mask_values[1:]], np.uint8)
    names = case_names(project)
    for record in project.cases():
        if record.number == without:
            continue
        labels, sources = project.labels(record.number).reshape(-1), project.sources(record.number)
        voxels = np.flatnonzero(labels)
        voxels = voxels[np.isin(labels[voxels], values)]
        found = labels[voxels], sources.reshape(-1)[voxels]
        if record.number != in_work:
            project.forget_labels(record.number)
        if not len(voxels):
            continue
        source, fingerprint = record.source, record.fingerprint
        if not source:  # what the project keeps has no voxel size, by which images are known
            source, fingerprint = str(kept_image(project, record.number)), ""
        yield LabelledCase(
            names[record.number], source, record.spacing, voxels, *found, fingerprint=fingerprint
        )


def last_dice(project: Project, number: int) -> float | None:
    """Return the Dice of the last round of training on a case that was measured; None where none was."""
    figures = (each.figures.get("dice") for each in reversed(project.rounds(number)))
    return next((float(dice) for dice in figures if _is_share(dice)), None)


# -- the network of all cases --


def network_folder(project: Project) -> Path:
    """Return the folder of the network that has learnt from all cases; it need not exist yet."""
    return project.folder / NETWORK


def network_hash(project: Project) -> str:
    """Return what tells this network from another one; empty where there is none."""
    folder = network_folder(project)
    try:
        description = (folder / "model.json").read_bytes()
    except OSError:
        return ""
    # The description names the checksum of the weights.
    return hashlib.sha256(description).hexdigest() if (folder / "model.safetensors").is_file() else ""


def keep_quality(project: Project, by_case: Mapping[str, float], overall: float) -> None:
    """Keep how well the network that is there now does, by key and overall; NaN is left out."""
    measured = {key: dice for key, dice in by_case.items() if math.isfinite(dice)}
    value = overall if math.isfinite(overall) else None
    project.save_setting(_QUALITY, {"model": network_hash(project), "cases": measured, "overall": value})


def read_quality(project: Project) -> Quality:
    """Return what `keep_quality` kept of the network that is there now."""
    kept = _read_dict(project, _QUALITY)
    if not (model := network_hash(project)) or kept.get("model") != model:
        return Quality({})
    cases, overall = kept.get("cases"), kept.get("overall")
    found = {key: float(dice) for key, dice in cases.items() if _is_share(dice)} if _is_dict(cases) else {}
    return Quality(found, float(overall) if _is_share(overall) else None)


def keep_judgement(project: Project, key: str, judgement: Judgement) -> None:
    """Keep how sure the network that is there now is of a case."""
    kept = _read_dict(project, _JUDGEMENTS)
    value = [network_hash(project), judgement.uncertainty, list(judgement.warnings)]
    project.save_setting(_JUDGEMENTS, {**kept, key: value})


# -- inside --


def _link(entries: Sequence[_Entry], records: Sequence[CaseRecord]) -> dict[str, CaseRecord]:
    """Return the record of each entry that has one, by the entry's key."""
    by_file = {Path(record.source): record for record in records if record.source}
    by_print = {record.fingerprint: record for record in records if record.fingerprint}
    links: dict[str, CaseRecord] = {}
    for entry in entries:
        record = by_file.get(Path(entry.files[0])) if len(entry.files) == 1 else None
        record = record or by_print.get(entry.fingerprint)
        if record is not None:
            links[entry.key] = record
    return links


def _with_record(line: CohortCase, record: CaseRecord | None) -> CohortCase:
    return line if record is None else replace(line, number=record.number, labels=None)


def _with_what_is_kept(
    project: Project, lines: Sequence[CohortCase], added: Collection[str]
) -> Iterator[CohortCase]:
    """Yield the lines with all that earlier sessions found out."""
    done, quality = _read_done(project), read_quality(project)
    counts, judgements = _read_dict(project, _COUNTS), _read_dict(project, _JUDGEMENTS)
    model = network_hash(project)
    try:
        pictures = {file.name for file in (project.folder / _THUMBNAILS).iterdir()}
    except OSError:
        pictures = set()
    for line in lines:
        picture = thumbnail_path(project, line.key)
        dice = quality.by_case.get(line.key)
        by_project = dice is not None
        if dice is None and line.number is not None:
            dice = last_dice(project, line.number)
        yield replace(
            line,
            labels=_to_count(counts.get(str(line.number))) if line.number is not None else line.labels,
            done=line.key in done,
            added=line.key in added,
            dice=dice,
            by_project=by_project,
            judgement=_to_judgement(judgements.get(line.key), model),
            thumbnail=str(picture) if picture.name in pictures else "",
        )


def _to_count(kept: object) -> LabelCount | None:
    if not isinstance(kept, list) or len(kept) != 2 or not all(type(n) is int and n >= 0 for n in kept):
        return None
    return LabelCount(*kept)


def _to_judgement(kept: object, model: str) -> Judgement | None:
    if not isinstance(kept, list) or len(kept) != 3 or not _is_share(kept[1]):
        return None
    warnings = kept[2] if isinstance(kept[2], list) else []
    return Judgement(float(kept[1]), tuple(map(str, warnings)), bool(model) and kept[0] == model)


def _read_entries(project: Project) -> tuple[_Entry, ...]:
    """Return the entries; what another version may have kept otherwise is passed over."""
    kept = project.setting(_ENTRIES, [])
    entries = []
    for each in kept if isinstance(kept, list) else []:
        files = each.get("files") if isinstance(each, dict) else None
        if isinstance(files, list) and files and all(isinstance(file, str) for file in files):
            name, fingerprint = str(each.get("name") or Path(files[0]).name), each.get("fingerprint", "")
            entries.append(_Entry(name, tuple(files), str(fingerprint)))
    return tuple(entries)


def _save_entries(project: Project, entries: Sequence[_Entry]) -> None:
    plain = [{"name": e.name, "files": list(e.files), "fingerprint": e.fingerprint} for e in entries]
    project.save_setting(_ENTRIES, plain)


def _read_done(project: Project) -> set[str]:
    kept = project.setting(_DONE, [])
    return {key for key in kept if isinstance(key, str)} if isinstance(kept, list) else set()


def _read_dict(project: Project, key: str) -> dict[str, Any]:
    kept = project.setting(key, {})
    return kept if _is_dict(kept) else {}


def _is_dict(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_share(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
