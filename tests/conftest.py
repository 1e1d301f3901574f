"""What all tests share: the published data where it stands, small interaction data where it need not."""

import os
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported, whatever the shell says: runs in this process and in others are compared bit by bit, and
# another number of threads gives other last digits.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["MARQUEE_PLOTS"] = "false"  # seconds a run; tests of plots ask for them

import pytest

from . import forked

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the published data sets, or a visible skip."""
    folder = Path(os.environ.get("MARQUEE_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "ml-100k" / "u.data").is_file():
        pytest.skip(f"the published data sets are not at {folder} (set MARQUEE_DATA)")
    return folder


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of one `pytest -n` have in common."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def world_cache(shared_folder: Path) -> Path:
    """One cache for all tests that use the embedded worlds."""
    return shared_folder / "world-cache"


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    """What a test has started ends with it, also where it fails or somebody presses Ctrl-C."""
    before = forked.count()
    yield
    forked.end_all(before)
