"""Rows that a tiny model learns in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import up_and_down, write_csv

from edgeft.data.prepare import run as prepare
from edgeft.data.read import sources
from edgeft.recipe import DataConfig


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-data")
    file = write_csv(folder / "rows.csv", up_and_down(), ("text", "label"))
    config = DataConfig(file=str(file), validation_fraction=0.25, test_fraction=0.25, seed=0)
    prepare(config, sources.local_files(config), folder / "data")
    return folder / "data"
