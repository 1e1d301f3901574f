"""The two notebooks run from top to bottom in a folder of their own, on the embedded worlds."""

import os
from pathlib import Path
from unittest import mock

import nbformat
import pytest
from nbclient import NotebookClient

from .commands import environment

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "notebooks"
# What the cell tagged `parameters` says instead, so that a test takes seconds.
SMALL = {
    "five_recommenders": 'MODELS = "baseline/popular,linear/ease"\nSEEDS = "1"\nEPOCHS = 1\nOUTPUT = "outputs"',
    "from_run_to_predictions": None,
}


def outputs(notebook):
    """What the code cells printed or returned, in order."""
    return [
        "".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.fixture
def run(tmp_path, world_cache):
    def execute(name):
        notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
        if SMALL[name]:
            cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
            cell.source = SMALL[name]
        own = {**environment(tmp_path / "outputs", world_cache), "IPYTHONDIR": str(tmp_path / "ipython")}
        with mock.patch.dict(os.environ, own):
            NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
        return outputs(notebook)

    return execute


def test_the_comparison_of_recommenders_runs_and_shows_a_table_and_a_command(run):
    texts = run("five_recommenders")
    assert all(name in texts[2] for name in ("baseline/popular", "linear/ease", "ndcg@10", "full ranking of 400 items"))
    assert "marquee train" in texts[-1] and "model=linear/ease" in texts[-1]


def test_the_way_from_a_run_to_predictions_runs(run):
    texts = run("from_run_to_predictions")
    assert "rank" in texts[2] and "title" in texts[2]
    assert "positive" in texts[5] and "negative" in texts[5]
    assert "best possible" in texts[-1]


def test_every_notebook_is_run_and_none_is_stored_with_outputs():
    files = {file.stem: nbformat.read(file, as_version=4) for file in FOLDER.glob("*.ipynb")}
    assert set(files) == set(SMALL)
    for notebook in files.values():
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
