"""Where a live session keeps its network, so that a later one goes on with it."""

import time
from collections.abc import Generator
from pathlib import Path

from napari_sparseseg.checkpoint import delete_tensors, read_tensors
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Event, Noted
from napari_sparseseg.live_labels import LiveLabels
from napari_sparseseg.live_round import LiveRound
from napari_sparseseg.normalisation import Normalisation

_SAVE_SECONDS = 10.0
_ANEW = "The network begins anew: "


class LiveState:
    """Keeps the state of one session's network in a folder, once there is one."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._goes_on = False
        self._steps = 0
        self._saved = time.monotonic()

    def keep_in(self, folder: Path, *, begun: bool) -> None:
        """Keep it in `folder` from now on; go on with what is there, unless learning has `begun`."""
        self._folder = folder
        self._goes_on = not begun and (folder / "state.json").exists()

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._saved > _SAVE_SECONDS

    def save(self, learner: LiveRound | None) -> None:
        """Write the state, if there is anything new; raises `InputError` where that fails."""
        self._saved = time.monotonic()
        if self._folder is not None and learner is not None and learner.steps != self._steps:
            self._steps = learner.steps
            learner.save_state(self._folder)

    def save_quietly(self, learner: LiveRound | None) -> Generator[Event, None, None]:
        """Write the state as `save` does; a full disk must not end the session."""
        try:
            self.save(learner)
        except InputError as error:
            yield Noted(f"The network's state could not be kept: {error}")

    def forget(self) -> None:
        """Delete what was kept."""
        self._goes_on, self._steps = False, 0
        if self._folder is not None:
            delete_tensors(self._folder / "state")

    def read_normalisation(self) -> tuple[Normalisation | None, str]:
        """Return how intensities were normalised in the training to go on with, and what to tell the user."""
        if not self._goes_on or self._folder is None:
            return None, ""
        try:
            return _read_normalisation(self._folder), ""
        except InputError as error:
            self._goes_on = False
            return None, f"{_ANEW}{error}"

    def restore(self, learner: LiveRound, labels: LiveLabels) -> str:
        """Let the first network go on with what is kept; return what to tell the user, if anything."""
        goes_on, self._goes_on = self._goes_on, False
        if not goes_on or self._folder is None:
            return ""
        try:
            fits = learner.load_state(self._folder, labels.annotation, labels.sources)
        except InputError as error:
            return f"{_ANEW}{error}"
        self._steps = learner.steps
        return "" if fits else f"{_ANEW}the one kept was of other classes or settings."


def _read_normalisation(folder: Path) -> Normalisation:
    """Return how intensities were normalised in the training whose state is in `folder`.

    Raises
    ------
    InputError
        If there is no state, or it is damaged.
    """
    _, description = read_tensors(folder / "state")
    return Normalisation.from_json(description.get("normalisation"))
