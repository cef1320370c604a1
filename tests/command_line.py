"""Running the command line as the console script does, shared by its tests."""

import sys

from napari_sparseseg import cli


def make_runner(monkeypatch, capsys, command=None):
    """Return a function that runs the words it is given; it returns exit code, standard output and error.

    With a `command` the words are those behind it, and ``command=`` names another one.
    """

    def run_command(*words, command=command):
        words = words if command is None else (command, *words)
        monkeypatch.setattr(sys, "argv", ["sparseseg", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_command
