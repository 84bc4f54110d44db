import os

import pytest


@pytest.fixture
def no_sync(monkeypatch):
    """A killed process needs no sync to the disk, which takes most of the time."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
