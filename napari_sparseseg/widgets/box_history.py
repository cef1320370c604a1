"""What the boxes of an image were before each change, so that the last one can be taken back."""

from dataclasses import replace

from napari_sparseseg.project import BoxRecord
from napari_sparseseg.project_hints import ProjectHints

_MOST_REMEMBERED = 100  # as many as napari remembers strokes

Records = tuple[BoxRecord, ...]


class BoxHistory:
    """A stack of the boxes as they were."""

    def __init__(self) -> None:
        self._before: list[Records] = []

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to take back."""
        return not self._before

    def remember(self, records: Records) -> None:
        """Put the boxes before a change on the stack."""
        self._before.append(records)
        del self._before[:-_MOST_REMEMBERED]

    def forget(self) -> None:
        """Forget all of it."""
        self._before.clear()

    def undo(self, hints: ProjectHints, case: int) -> dict[int, int] | None:
        """Bring the project's boxes back to what they were before the last change that still shows.

        Parameters
        ----------
        hints, case
            Where they are kept.

        Returns
        -------
        New numbers of boxes that came back by their old ones; None where there is nothing to take back.

        Raises
        ------
        InputError
            If the project cannot be written.
        """
        now = {record.number: record for record in hints.boxes(case)}
        while self._before and set(self._before[-1]) == set(now.values()):
            self._before.pop()
        if not self._before:
            return None
        wanted = {record.number: record for record in self._before.pop()}
        renamed = {}
        for number in now.keys() - wanted.keys():
            hints.remove_box(case, number)
        for number, old in wanted.items():
            if number not in now:
                renamed[number] = hints.add_box(case, old.value, old.start, old.stop)
            elif now[number] != old:
                hints.change_box(case, number, value=old.value, start=old.start, stop=old.stop)
        self._before = [
            tuple(replace(record, number=renamed.get(record.number, record.number)) for record in records)
            for records in self._before
        ]
        return renamed
