import sys

import pytest

from napari_sparseseg import worker_process
from napari_sparseseg.errors import InputError
from napari_sparseseg.worker_process import WorkerProcess, count_threads


def run(code):
    """Run a program as a worker to its end; return what is said of that, and its last words."""
    process = WorkerProcess((sys.executable, "-c", f"import os, sys, signal; {code}"))
    process.requests.close()
    return process.finish(), process.last_words


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("pass", "exit code 0"),
        ("sys.exit(3)", "exit code 3"),
        ("sys.exit('no torch')", "exit code 1; it last said: no torch"),
        ("print('α\\n\\n', file=sys.stderr); sys.exit(2)", "exit code 2; it last said: α"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV, a crash in a library"),
        ("os.kill(os.getpid(), signal.SIGTERM)", "SIGTERM"),
        (
            "print('bye', file=sys.stderr, flush=True); os.kill(os.getpid(), 40)",
            "signal 40; it last said: bye",
        ),
    ],
)
def test_how_it_ended_is_told_in_words(code, words):
    assert run(code)[0].replace("SIGRTMIN+6", "signal 40") == words


def test_a_killed_process_is_told_as_such():
    process = WorkerProcess((sys.executable, "-c", "input()"))
    assert process.alive
    assert not process.wait(0)
    process.kill()
    assert process.wait(60)
    assert not process.alive
    process.requests.close()
    assert process.finish().startswith("SIGKILL, sent by the system or a person")


def test_a_process_that_does_not_go_is_ended(monkeypatch):
    monkeypatch.setattr(worker_process, "_ENDING_SECONDS", 0.1)
    assert run("import time; time.sleep(600)")[0].startswith("SIGKILL")


def test_the_last_words_are_the_last_hundred_lines():
    words = run("[print(n, file=sys.stderr) for n in range(1000)]")[1]
    assert words == tuple(str(n) for n in range(900, 1000))


def test_words_that_are_no_text_do_no_harm():
    assert run("os.write(2, b'\\xff' * 30_000)")[0].startswith("exit code 0; it last said: �")


def test_its_thread_pools_leave_a_core_to_the_window(monkeypatch):
    code = "print(os.environ['OMP_WAIT_POLICY'], os.environ['OMP_NUM_THREADS'], file=sys.stderr)"
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert run(code)[1] == (f"PASSIVE {count_threads()}",)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert run(code)[1] == ("PASSIVE 3",)


def test_what_cannot_be_started_is_told_in_a_sentence(monkeypatch, tmp_path):
    with pytest.raises(InputError, match="cannot be started"):
        WorkerProcess((str(tmp_path / "missing"),))
    monkeypatch.setattr("sys.executable", "")
    with pytest.raises(InputError, match="does not know its Python"):
        WorkerProcess()


def test_files_of_the_current_folder_are_not_taken_for_libraries(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit(77)")
    monkeypatch.chdir(tmp_path)
    process = WorkerProcess()
    process.requests.close()
    assert process.finish() == "exit code 0"
