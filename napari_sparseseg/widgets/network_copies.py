"""Folders in which the live session leaves copies of its network, to be asked where they look."""

import shutil
import tempfile
from pathlib import Path


class NetworkCopies:
    """Hands out folders that nobody else uses, and leaves none behind."""

    def __init__(self) -> None:
        self._root: tempfile.TemporaryDirectory[str] | None = None
        self._count = 0

    def make(self) -> str:
        """Return a folder that does not exist yet."""
        if self._root is None:
            self._root = tempfile.TemporaryDirectory(prefix="sparseseg-", ignore_cleanup_errors=True)
        self._count += 1
        return str(Path(self._root.name, f"network-{self._count}"))

    def hold(self, folder: str) -> bool:
        """Tell whether a folder is one of these."""
        return self._root is not None and Path(folder).is_relative_to(self._root.name)

    def remove(self, folder: str) -> None:
        """Delete a folder, if it is one of these."""
        if self.hold(folder):
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Delete all of them."""
        root, self._root = self._root, None
        if root is not None:
            root.cleanup()
