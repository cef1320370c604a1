"""What every test runs under: its own cache folder, and Hypothesis without deadlines."""

import pytest
from hypothesis import settings

settings.register_profile("tests", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("tests")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.getbasetemp() / "cache"  # one for the run: precision is measured once
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_: str(folder))


@pytest.fixture
def few_checks(monkeypatch):
    """Let a pre-training measure itself at its beginning and end alone, and its features by few views."""
    monkeypatch.setattr("napari_sparseseg.pretraining._CHECKS", 1)
    monkeypatch.setattr("napari_sparseseg.pretraining._VIEWS", 4)
