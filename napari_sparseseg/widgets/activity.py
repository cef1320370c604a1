"""Progress in napari's activity dock."""

from napari.utils import progress

from napari_sparseseg.widgets.job_words import JOB_WORDS
from napari_sparseseg.widgets.session import Session
from napari_sparseseg.widgets.states import describe_learning

_WHOLE = 100


class Activity:
    """One line in the activity dock while something is being computed."""

    def __init__(self) -> None:
        self._bar: progress | None = None
        self._is_share = False

    def follow(self, session: Session) -> None:
        """Say what is being computed now, and how much of it is done."""
        learning, job = session.learning, session.job
        if job is not None:
            self.show(JOB_WORDS[job.running].title, job.progress)
            return
        known = session.running and learning.slices > 0 and learning.progress < 1
        words = describe_learning(session) if session.busy else ""
        self.show("Learning" if known and words else words, learning.progress if known else None)

    def show(self, words: str, share: float | None = None) -> None:
        """Say what is done, and which share of it (0–1) is done where that is known; nothing for no words."""
        if not words:
            self.close()
            return
        if self._bar is None or self._is_share != (share is not None):
            self.close()
            self._is_share = share is not None
            self._bar = progress(total=_WHOLE if self._is_share else 0, desc=words)
        if self._bar.desc != f"{words}: ":
            self._bar.set_description(words)
        if share is not None:
            done = round(share * _WHOLE)
            if done > self._bar.n:
                self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Take the line away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
