"""Going on with learning that was stopped, or beginning it anew where what was kept is of no use."""

from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Event, Noted, StepDone

Result = TypeVar("Result")


def go_on_or_begin(
    learn: Callable[[bool], Generator[Event, None, Result]], folder: Path
) -> Generator[Event, None, Result]:
    """Go on from the state in `folder` if there is one that fits, else begin, and tell why.

    Parameters
    ----------
    learn
        Makes the work: going on if it is given True, from the beginning if False.
    folder
        Where it keeps its state.

    Returns
    -------
    The work's result; its events on the way.  What the attempt to go on has noted is not noted again.

    Raises
    ------
    InputError
        As the work does.
    """
    told: set[str] = set()
    learns = False

    def tell(work: Generator[Event, None, Result]) -> Generator[Event, None, Result]:
        nonlocal learns
        with closing(work):
            while True:
                try:
                    event = next(work)
                except StopIteration as end:
                    result: Result = end.value
                    return result
                learns |= isinstance(event, StepDone)
                if not isinstance(event, Noted) or event.text not in told:
                    if isinstance(event, Noted):
                        told.add(event.text)
                    yield event

    if (folder / "state.json").exists():
        try:
            return (yield from tell(learn(True)))
        except InputError as error:
            if learns:
                raise
            yield Noted(f"Learning begins anew, for what was kept of it is of no use: {error}")
    return (yield from tell(learn(False)))
