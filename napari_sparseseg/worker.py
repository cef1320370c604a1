"""The worker process, ``python -m napari_sparseseg.worker``: requests come on stdin, events go to stdout.

One thread reads requests; the main thread hands them to a `worker_desk.Desk` and advances the job there event
by event.  When stdin ends the process ends at once, also in the middle of computing: a front end that was
killed leaves nothing.
"""

import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO, NoReturn, TypeGuard

from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Event, Failed, WorkerReady
from napari_sparseseg.messages import NO_SESSION, Message, StreamError, encode, read_message
from napari_sparseseg.requests import CloseImage, Look
from napari_sparseseg.worker_desk import JOBS, Desk, JobKind
from napari_sparseseg.worker_process import count_threads

_LOGGER = logging.getLogger(__name__)
_FAREWELL_SECONDS = 5.0
_PARENT_SECONDS = 1.0
_NICENESS = 5

_Waiting = Message | InputError | None  # a request, what was wrong with one, or the end after a goodbye
_Inbox = queue.SimpleQueue[_Waiting]


def serve(
    requests: IO[bytes],
    events: IO[bytes],
    *,
    warm_up: Callable[[], str],
    jobs: Mapping[type, JobKind] = JOBS,
) -> int:
    """Serve one front end until it says goodbye, and return the process's exit code.

    If it just goes away, the process is ended without returning.

    Parameters
    ----------
    requests, events
        Streams of messages, to read and to write.
    warm_up
        Loads what takes long, and returns the name of the device to compute on.
    jobs
        What can be asked for.
    """
    inbox: _Inbox = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests, inbox), name="requests", daemon=True).start()

    def send(event: Event, generation: int) -> None:
        try:
            message = encode(event, generation)
        except InputError as error:  # a mistake in the program: this event cannot travel
            _LOGGER.exception("An event could not be sent")
            message = encode(Failed(str(error)), generation)
        try:
            events.write(message)
            events.flush()
        except OSError:  # nobody is there any more
            os._exit(0)

    try:
        device = warm_up()
    except Exception as error:
        _LOGGER.exception("Warming up failed")
        text = f"the background worker cannot start ({type(error).__name__}: {error}); install it anew."
        send(Failed(text, fatal=True), NO_SESSION)
        return 1
    send(WorkerReady(device), NO_SESSION)
    desk = Desk(jobs, send)
    while True:
        for item in _take_waiting(inbox, block=desk.idle):
            if item is None:
                desk.close()
                return 0
            if isinstance(item, InputError):
                fatal = isinstance(item, StreamError)
                send(Failed(str(item), fatal), NO_SESSION)
                if fatal:
                    return 2
            else:
                desk.take(item)
        desk.advance()


def _read_requests(stream: IO[bytes], inbox: _Inbox) -> NoReturn:
    """Put requests into the inbox; at the end of the stream end the process.

    Only after a goodbye (the last request closed the image) there is a moment for what was asked before.
    """
    farewell, code = False, 0
    while True:
        try:
            message = read_message(stream)
        except StreamError as error:
            inbox.put(error)
            farewell, code = True, 2
            break
        except InputError as error:
            inbox.put(error)
            continue
        except (EOFError, OSError):
            farewell = False
            break
        if message is None:
            inbox.put(None)
            break
        farewell = isinstance(message.item, CloseImage)
        inbox.put(message)
    if farewell:
        time.sleep(_FAREWELL_SECONDS)
    os._exit(code)


def _take_waiting(inbox: _Inbox, *, block: bool) -> list[_Waiting]:
    """Return all that waits, at least one if `block`; of several looks at one image only the last."""
    items = [inbox.get()] if block else []
    with suppress(queue.Empty):
        while True:
            items.append(inbox.get_nowait())
    last = {item.generation: item for item in items if _is_look(item)}
    return [item for item in items if not _is_look(item) or last[item.generation] is item]


def _is_look(item: _Waiting) -> TypeGuard[Message]:
    return isinstance(item, Message) and isinstance(item.item, Look)


def load_libraries() -> str:
    """Import what takes seconds, run a tiny network once, and return the device to compute on."""
    import torch

    # With all cores busy here the window stutters, and learning is slower too.
    torch.set_num_threads(min(torch.get_num_threads(), count_threads()))
    import napari_sparseseg.live  # noqa: F401
    from napari_sparseseg.networks import build_network, choose_device, plan_network
    from napari_sparseseg.settings import NetworkConfig

    config = NetworkConfig()
    plan = plan_network((16, 16, 16), (1.0, 1.0, 1.0), config, 16**3)

    def try_device(device: torch.device) -> str:
        network = build_network(config, plan, 1, 2).to(device)
        network(torch.zeros(1, 1, *plan.patch, device=device)).sum().backward()
        return str(device)

    try:
        return try_device(choose_device("auto"))
    except torch.cuda.OutOfMemoryError:  # somebody else fills the GPU
        return try_device(torch.device("cpu"))


def run_worker(
    *,
    warm_up: Callable[[], str] = load_libraries,
    jobs: Mapping[type, JobKind] = JOBS,
) -> NoReturn:
    """Be a worker process: `serve` on stdin and stdout, and end."""
    code = 1
    try:
        requests, events = _take_pipes()
        _settle_down()
        code = serve(requests, events, warm_up=warm_up, jobs=jobs)
    except Exception:
        _LOGGER.exception("The background worker ended by an error")
    sys.stderr.flush()
    os._exit(code)  # a thread still reads, and the libraries take seconds to leave


def _take_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Take stdin and stdout away from everybody else, so that a stray print ends up on stderr.

    On Windows the new stdin matters too: libraries that look at it while it is being read would hang.
    """
    requests, events = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return requests, events


def _settle_down() -> None:
    """Be a good neighbour: yield to the window, leave Ctrl-C to it, and do not outlive it."""
    logging.basicConfig(stream=sys.stderr)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    if os.name == "posix":
        # The pipe alone does not tell when a fork of the front end still holds its other end.
        threading.Thread(target=_watch_parent, args=(os.getppid(),), name="parent", daemon=True).start()


def _watch_parent(parent: int) -> NoReturn:
    while os.getppid() == parent:
        time.sleep(_PARENT_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    run_worker()
