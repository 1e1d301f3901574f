"""The session between `marquee train -m` and the launcher that Hydra makes: what is handed on, what comes back."""

import json
from types import SimpleNamespace

import pytest
from hydra.core.utils import JobStatus
from omegaconf import OmegaConf

from hydra_plugins.marquee.launcher import LocalLauncher
from marquee.errors import ConfigError, DataError
from marquee.runs.record import Run
from marquee.sweeps import session
from marquee.sweeps.store import Job, Sweep, note_run


@pytest.fixture
def output(tmp_path):
    return tmp_path / "outputs"


@pytest.fixture
def launcher(output, monkeypatch):
    """A launcher as Hydra makes it for a sweep in `outputs/sweeps/tune`, without a place to run."""

    def make(**settings):
        made = LocalLauncher(**settings)
        config = OmegaConf.create({"hydra": {"sweep": {"dir": str(output / "sweeps" / "tune")}}})
        made.setup(hydra_context=None, task_function=None, config=config)
        return made

    monkeypatch.setattr(LocalLauncher, "pool", lambda self, folder: "a pool")
    return make


@pytest.fixture
def batches(monkeypatch):
    """Stands in for the work of a batch: `ends` are the jobs to return; what it was given is kept."""
    given = SimpleNamespace(calls=[], ends=[])

    def run_batch(folder, command, batch, first, settings, pool, view):
        given.calls.append(SimpleNamespace(**locals()))
        return given.ends.pop(0)

    monkeypatch.setattr(session, "run_batch", run_batch)
    return given


def test_the_session_that_was_begun_last_is_the_one_that_a_launcher_finds():
    first = session.begin(["marquee", "train", "-m", "seed=1,2"])
    assert session.current() is first
    second = session.begin(["marquee", "train", "-m", "seed=3"])
    assert session.current() is second
    assert (second.command, second.jobs, second.places) == (["marquee", "train", "-m", "seed=3"], [], [])


def test_batches_follow_each_other_under_one_command(launcher, batches, output):
    """The plugin hands on what Hydra gives it; the second batch is told that it is not the first."""
    jobs = [Job(number, [f"seed={number}"], status="failed") for number in range(3)]
    batches.ends = [jobs[:2], jobs[2:]]
    now = session.begin(["marquee", "train", "-m"])
    made = launcher(time_limit=2.5, retries=1, on_failure="stop")
    made.launch([["seed=0"], ["seed=1"]], 0)
    made.launch([["++seed=2"]], 2)
    one, other = batches.calls
    assert (one.batch, one.first, one.view.later) == ([["seed=0"], ["seed=1"]], 0, False)
    assert (other.batch, other.first, other.view.later) == ([["seed=2"]], 2, True)
    assert (one.command, one.pool) == (["marquee", "train", "-m"], "a pool")
    assert (one.settings.time_limit, one.settings.retries, one.settings.on_failure) == (2.5, 1, "stop")
    assert now.jobs == jobs and now.places == [output / "sweeps" / "tune"] * 2


def test_a_finished_job_returns_the_validation_metric_that_it_was_watched_by(launcher, batches, output):
    run = Run.create(output, "a" * 64, "world", {"config": {}, "monitor": "ndcg@10"})
    run.finish("finished", metrics={"validation/ndcg@10": 0.25, "test/ndcg@10": 0.5})
    batches.ends = [[Job(0, ["seed=1"], status="finished", run=run.folder.name)]]
    session.begin([])
    (found,) = launcher().launch([["seed=1"]], 0)
    assert (found.status, found.return_value, found.working_dir) == (JobStatus.COMPLETED, 0.25, str(run.folder))


def test_a_failed_job_raises_its_error_where_its_result_is_asked_for(launcher, batches):
    batches.ends = [[Job(0, ["seed=1"], status="failed", error="no such file", exit_code=3)]]
    session.begin([])
    (found,) = launcher().launch([["seed=1"]], 0)
    assert found.status is JobStatus.FAILED
    with pytest.raises(DataError, match="no such file"):
        _ = found.return_value


def test_wrong_settings_and_words_of_hydras_own_are_refused_before_anything_is_launched(launcher, batches):
    now = session.begin([])
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.n_jobs\n  found:   0\n.*\n\nhydra\.launcher\.on_failure"):
        launcher(n_jobs=0, on_failure="later").launch([["seed=1"]], 0)
    with pytest.raises(ConfigError, match=r"hydra\.run\.dir=x: what is Hydra's own"):
        launcher().launch([["seed=1", "hydra.run.dir=x"]], 0)
    assert (batches.calls, now.jobs) == ([], [])


def test_lists_of_hydras_configuration_reach_the_pool_as_plain_ones(launcher, batches):
    batches.ends = [[]]
    made = launcher(gpus=OmegaConf.create([0, 1]))
    session.begin([])
    made.launch([], 0)
    assert type(made.gpus) is list


@pytest.mark.parametrize("key, value", [
    ("jobs", "x"), ("jobs.index", "0"), ("jobs.overrides", 5), ("jobs.overrides", [5]), ("jobs.status", []),
    ("jobs.run", 5), ("command", 5), ("began", "yesterday"),
])  # fmt: skip
def test_a_sweeps_record_of_another_shape_is_told_and_not_a_traceback(output, key, value):
    """Edited by hand or somebody else's."""
    sweep = Sweep.begin(output / "sweeps" / "tune", ["marquee", "train", "-m"])
    sweep.add([Job(0, ["seed=1"])])
    sweep.save()
    file = sweep.folder / "sweep.json"
    content = json.loads(file.read_text())
    parent, _, leaf = key.rpartition(".")
    (content["jobs"][0] if parent else content)[leaf] = value
    file.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="sweep.json cannot be read"):
        Sweep.open(sweep.folder)


def test_the_run_of_a_job_lies_among_the_runs_whatever_a_record_says(output):
    sweep = Sweep.begin(output / "sweeps" / "tune", [])
    job = Job(0, ["seed=1"], run="../../elsewhere/run")
    assert sweep.run_folder(job) == output / "runs" / "run"
    note_run(sweep.folder, job.stem, "/etc/run")
    assert sweep.run_folder(job) == output / "runs" / "run"
