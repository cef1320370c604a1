"""A batch in plain words: how long it will take, what came of a volume, which network it is."""

import os
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

from napari_sparseseg.cohort_events import BatchCaseDone
from napari_sparseseg.saved_networks import SavedNetwork

FORMAT_WORDS: Mapping[str, str] = {
    "nii.gz": "NIfTI, compressed (.nii.gz)",
    "nii": "NIfTI (.nii)",
    "nrrd": "NRRD, as 3D Slicer has it (.nrrd)",
    "mha": "MetaImage (.mha)",
    "dicom_seg": "DICOM segmentation, for the PACS",
}
"""By entry of `batch_settings.RESULT_FORMATS`."""

_MINUTE, _MINUTES = 60, 60
_MOST_CLASSES = 4


def describe_sources(sources: Sequence[str], found: int | None, looking: bool) -> str:
    """Return what is to be segmented, and how many volumes that is."""
    if not sources:
        return ""
    first = Path(sources[0]).name or sources[0]
    name = first if len(sources) == 1 else f"{first} and {len(sources) - 1} more"
    if looking:
        return f"{name} · looking…"
    return name if found is None else f"{name} · {count(found, 'volume')}"


def describe_network(network: SavedNetwork) -> str:
    """Return what is known of a saved network: its age, how good it is, what it finds."""
    made = network.made
    day = "today" if made.date() == date.today() else f"{made.day} {made:%B %Y}"
    dice = "not measured" if network.dice is None else f"{network.dice:.2f}"
    names = [entry.name for entry in network.table.classes[1:]]
    more = f" and {len(names) - _MOST_CLASSES} more" if len(names) > _MOST_CLASSES else ""
    images = "" if network.channels == 1 else f" Takes images of {network.channels} channels."
    classes = f" Finds: {', '.join(names[:_MOST_CLASSES])}{more}."
    return f"Saved {day} at {made:%H:%M}. Dice {dice}.{classes}{images}"


def describe_progress(done: int, total: int, left: float | None, failed: int) -> str:
    """Return how far a batch is."""
    parts = [f"{done:,} of {total:,} done"]
    if left is not None and done < total:
        parts.append(f"{describe_seconds(left)} left")
    if failed:
        parts.append(f"{failed:,} failed")
    return ", ".join(parts)


def describe_seconds(seconds: float) -> str:
    """Return about how long something takes: "about 2 h 10 min"."""
    if seconds < _MINUTE:
        return "less than a minute"
    hours, minutes = divmod(round(seconds / _MINUTE), _MINUTES)
    if not hours:
        return f"about {minutes} min"
    more, tens = divmod(round(minutes / 10) * 10, _MINUTES)
    hours += more
    return f"about {hours} h" + (f" {tens} min" if tens else "")


def describe_case(event: BatchCaseDone, sources: Sequence[str] = ()) -> str:
    """Return what came of a volume: its millilitres by class, or why there is no mask.

    Parameters
    ----------
    event
        The volume.
    sources
        Files and folders that were asked for: in a reason, only what is below them is named.
    """
    if event.error:
        text = event.error
        for source in sources:
            path = os.path.abspath(source)
            text = text.replace(f"{path}{os.sep}", "").replace(f"{os.path.dirname(path)}{os.sep}", "")
        return text[:1].upper() + text[1:] if text.split(" ")[0].isalpha() else text  # not a file's name
    if not event.volumes_ml:
        return "done"
    return ", ".join(f"{name} {_millilitres(volume)}" for name, volume in event.volumes_ml.items())


def describe_end(done: int, skipped: int, failed: int, warned: int) -> str:
    """Return what came of a batch."""
    good = done + skipped
    if not good:
        return f"{count(failed, 'volume')} could not be segmented: see below why."
    parts = [f"{count(good, 'volume')} {'is' if good == 1 else 'are'} segmented"]
    if skipped:
        parts[0] += f" ({skipped:,} of them before)" if done else " (all of them before)"
    if failed:
        parts.append(f"{failed:,} could not be")
    text = ", ".join(parts) + "."
    if warned:
        text += f" {warned:,} {'needs' if warned == 1 else 'need'} a look: see below."
    if failed:
        text += " Run again to try those that failed once more."
    return text


def describe_stop(done: int, total: int) -> str:
    """Return that a batch was stopped, and how to go on."""
    share = f" after {done:,} of {total:,}" if total else ""
    return f"Stopped{share}. With the same volumes, network and settings, Run goes on from here."


def describe_results(failed: int, warned: int, total: int) -> str:
    """Return how many volumes are in the list of results, and how many of them need a look."""
    parts = [count(total, "volume")]
    if failed:
        parts.append(f"{failed:,} failed")
    if warned:
        parts.append(f"{warned:,} to look at")
    return " · ".join(parts)


def count(number: int, thing: str) -> str:
    """Return a number of things: "1 volume", "1,000 volumes"."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


def _millilitres(volume: float) -> str:
    return f"{volume:.0f} ml" if volume >= 100 else f"{volume:.3g} ml"
