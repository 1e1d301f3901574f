"""Sweeps: all planned first, each job in a process of its own, nothing done twice, nothing lost."""

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from ..forked import Forked, nursery
from .commands import FAST
from .conftest import SWEPT, manifest_of
from .sweeping import EASE, MOODY, jobs_of, runs_of, statuses

# Planning -------------------------------------------------------------------------------------------------------------


def test_one_mistake_stops_all_jobs_before_the_first(shell):
    done = shell("train", "-m", *EASE, "model.l2=100,-1,-2", "sweep=wrong")
    assert done.code == 2
    assert "No job of the sweep was started" in done.err and "model.l2" in done.err
    assert "model.l2=-1" in done.err and "model.l2=-2" in done.err
    assert runs_of() == []


def test_missing_data_stops_all_jobs_with_the_exit_code_of_data(shell):
    words = ["data=interactions", "data.path=nowhere.csv", "model=linear/ease,mf/bpr", "tracker=none"]
    done = shell("train", "-m", *words)
    assert done.code == 3 and "No job of the sweep was started" in done.err and "nowhere.csv" in done.err
    assert runs_of() == []


def test_doubles_are_run_once_and_both_get_the_result(shell):
    done = shell("train", "-m", *EASE, "model.l2=50,60,50", "sweep=double")
    assert done.code == 0, done.err
    jobs = jobs_of("double")
    assert [job["status"] for job in jobs] == ["finished"] * 3
    assert len(runs_of()) == 2 and jobs[0]["run"] == jobs[2]["run"]
    assert [job["attempts"] for job in jobs] == [1, 1, 0]


def test_the_same_command_is_the_same_sweep_and_runs_nothing_again(shell):
    first = shell("train", "-m", *EASE, "model.l2=50,60")
    again = shell("train", "-m", *EASE, "model.l2=50,60", "hydra.launcher.n_jobs=2")
    assert first.code == again.code == 0
    assert "2 stored, 0 to run" in again.out and "(2 of them stored before)" in again.out
    assert len(runs_of()) == 2 and len(list(Path("outputs/sweeps").iterdir())) == 1


def test_a_single_run_counts_as_stored_and_only_what_is_missing_runs(shell):
    assert shell("train", *EASE, "model.l2=50").code == 0
    done = shell("train", "-m", *EASE, "model.l2=50,60", "sweep=more")
    assert "2 jobs: 1 stored, 1 to run" in done.out and len(runs_of()) == 2


def test_a_default_that_changed_gives_a_new_run_and_no_stale_result(shell, moody):
    shell("train", "-m", *MOODY, "seed=1,2", "sweep=s")
    before = [job["run"] for job in jobs_of("s")]
    moody.write_text(moody.read_text().replace("lift: 1.0", "lift: 2.0"))
    done = shell("train", "-m", *MOODY, "seed=1,2", "sweep=s")
    assert "2 jobs: 2 to run" in done.out
    assert "2 jobs were finished before with other configuration: to be run again." in done.out
    jobs = jobs_of("s")
    assert len(jobs) == 2 and not set(before) & {job["run"] for job in jobs}
    assert all(manifest_of(Path("outputs/runs") / job["run"])["config"]["model"]["lift"] == 2.0 for job in jobs)


def test_yaml_edited_during_the_sweep_does_not_reach_queued_jobs(shell, moody):
    words = [*MOODY, f"model.note={moody}", "model.mood=edit,fine", "seed=1,2", "sweep=edited"]
    assert shell("train", "-m", *words).code == 0
    assert "lift: 7.0" in moody.read_text()
    assert {manifest_of(folder)["config"]["model"]["lift"] for folder in runs_of()} == {1.0}


def test_a_named_sweep_grows(shell):
    shell("train", "-m", *EASE, "model.l2=50,60", "sweep=grown")
    shell("train", "-m", *EASE, "model.l2=70", "sweep=grown")
    assert sorted(job["overrides"][-2] for job in jobs_of("grown")) == ["model.l2=50", "model.l2=60", "model.l2=70"]
    listed = shell("ls", "grown", "--json")
    assert [entry["status"] for entry in json.loads(listed.out)] == ["finished"] * 3


@pytest.mark.parametrize("name", ["a/b", "../up", "a,b", ".hidden"])
def test_a_name_that_is_no_folder_is_refused(shell, name):
    done = shell("train", "-m", *EASE, f"sweep={name}")
    assert done.code == 2 and "sweep=" in done.err and runs_of() == []


def test_launcher_settings_are_checked(shell):
    assert "hydra.launcher.n_jobs" in shell("train", "-m", *EASE, "hydra.launcher.n_jobs=0").err
    done = shell("train", "-m", *EASE, "hydra.launcher.on_failure=maybe")
    assert done.code == 2 and "continue" in done.err and "stop" in done.err
    done = shell("train", "-m", *EASE, "hydra.launcher.njobs=2")
    assert done.code == 2 and "did you mean: hydra.launcher.n_jobs" in done.err
    assert "hydra/launcher=local" in shell("train", "-m", *EASE, "hydra/launcher=locla").err
    done = shell("train", *EASE, "hydra.launcher.n_jobs=2")
    assert done.code == 2 and "marquee train -m" in done.err
    assert runs_of() == []


def test_flags_may_stand_behind_the_words(shell):
    assert shell("train", *EASE, "seed=1,2", "-m", "hydra.launcher.n_jobs=2").code == 0
    assert len(runs_of()) == 2


def test_swept_output_folders_are_refused(shell):
    done = shell("train", "-m", *EASE, "seed=1,2", "paths.output=one,two")
    assert done.code == 2 and "all runs of a sweep lie in one folder" in done.err
    assert runs_of(Path("one")) == runs_of(Path("two")) == []


def test_a_finished_run_that_is_to_be_resumed_is_taken_as_it_is(shell):
    shell("train", *EASE)
    done = shell("train", "-m", "resume=latest", "sweep=s")
    assert done.code == 0 and "1 stored, 0 to run" in done.out
    assert len(runs_of()) == 1 and jobs_of("s")[0]["run"] == runs_of()[0].name


# Jobs that end badly --------------------------------------------------------------------------------------------------


def test_a_job_that_raises_is_told_at_once_with_its_last_words_and_harms_no_other(shell, moody):
    done = shell("train", "-m", *MOODY, "model.mood=raise,fine", "sweep=s")
    assert done.code == 4
    assert statuses("s") == ["failed", "finished"]
    assert "ArithmeticError: the model has had enough" in done.out
    assert done.out.index("the model has had enough") < done.out.index("finished")
    assert "the last words of this job" in Path("outputs/sweeps/s/jobs/0000.log").read_text()


@pytest.mark.parametrize(("mood", "told"), [("segfault", "SIGSEGV"), ("killed", "SIGKILL")])
def test_a_job_that_crashes_harms_no_other(shell, moody, mood, told):
    done = shell("train", "-m", *MOODY, f"model.mood={mood},fine", "sweep=s", "hydra.launcher.n_jobs=2")
    assert done.code == 4
    assert statuses("s") == ["failed", "finished"] and told in jobs_of("s")[0]["error"]
    if mood == "segfault":  # where it happened stands in the log's end
        assert "be_segfault" in done.out


def test_a_job_that_hangs_is_stopped_at_the_time_limit(shell, moody):
    done = shell("train", "-m", *MOODY, "model.mood=hang,fine", "sweep=s", "hydra.launcher.time_limit=0.05")
    assert done.code == 4 and statuses("s") == ["failed", "finished"]
    assert "time limit of 0.05 min" in jobs_of("s")[0]["error"]


def test_a_full_disk_says_so(shell, moody):
    done = shell("train", "-m", *MOODY, "model.mood=disk,fine", "sweep=s")
    assert done.code == 4 and statuses("s") == ["failed", "finished"]
    assert "No space left" in done.out and "Free some space" in done.out


def test_a_failed_job_is_tried_again_as_often_as_asked(shell, moody, tmp_path):
    words = [*MOODY, "model.mood=once", f"model.note={tmp_path / 'mark'}", "seed=1,2", "sweep=s"]
    done = shell("train", "-m", *words, "hydra.launcher.retries=1")
    assert done.code == 0, done.err
    assert [job["attempts"] for job in jobs_of("s")] == [2, 1] and "trying again" in done.out


def test_on_failure_stop_starts_nothing_more_and_the_same_command_goes_on(shell, moody, tmp_path):
    words = [*MOODY, "model.mood=once", f"model.note={tmp_path / 'mark'}", "seed=1,2,3", "sweep=s"]
    done = shell("train", "-m", *words, "hydra.launcher.on_failure=stop")
    assert done.code == 4 and statuses("s") == ["failed", "waiting", "waiting"]
    assert shell("train", "-m", *words).code == 0
    assert statuses("s") == ["finished"] * 3 and len(runs_of()) == 3


def test_failed_jobs_are_run_again_and_finished_ones_are_not(shell, moody):
    shell("train", "-m", *MOODY, "model.mood=fine,raise", "sweep=s")
    done = shell("train", "-m", *MOODY, "model.mood=fine,raise", "sweep=s")
    assert "1 stored, 1 to continue, 0 to run" in done.out and done.code == 4


# One at a time; what was lost; elsewhere ------------------------------------------------------------------------------


def _hold(folder: str, held, go) -> None:
    from marquee.sweeps.store import hold

    hold(Path(folder))
    held.set()
    go.wait(300)


def test_two_sweeps_of_one_name_at_once_the_second_is_refused(shell):
    held, go = nursery().Event(), nursery().Event()
    other = Forked(_hold, str(Path("outputs/sweeps/s").resolve()), held, go)
    try:
        assert held.wait(300)
        done = shell("train", "-m", *EASE, "seed=1,2", "sweep=s")
        assert done.code == 2 and f"process {other.pid}" in done.err and "sweep=NAME" in done.err
    finally:
        go.set()
        other.wait()
    assert shell("train", "-m", *EASE, "seed=1,2", "sweep=s").code == 0


@pytest.mark.parametrize("damage", ["deleted", "garbage"])
def test_the_ledger_may_be_lost_and_stored_results_are_found(swept, damage):
    assert swept("ls").code == 0
    ledger = Path("outputs/ledger.sqlite")
    ledger.unlink() if damage == "deleted" else ledger.write_bytes(b"no database at all" * 100)
    assert "2 stored, 0 to run" in swept("train", "-m", *SWEPT).out


def test_stored_results_of_other_versions_are_taken_and_told(swept):
    for folder in runs_of():
        manifest = manifest_of(folder)
        manifest["environment"]["packages"]["torch"] = "1.0"
        (folder / "manifest.json").write_text(json.dumps(manifest))
    done = swept("train", "-m", *SWEPT)
    assert "2 stored, 0 to run" in done.out
    assert f"2 jobs were stored with torch 1.0 (now {version('torch')}): taken as they are." in done.out


def test_a_truncated_manifest_costs_its_own_run_only(swept):
    file = runs_of()[0] / "manifest.json"
    file.write_text(file.read_text()[:100])
    done = swept("train", "-m", *SWEPT)
    assert done.code == 0 and "2 jobs: 1 stored, 1 to run" in done.out
    assert swept("compare", "outputs/sweeps/s").code == 0


@pytest.mark.parametrize("content", ["", "{", '{"schema_version": 1}'])
def test_a_sweep_record_that_cannot_be_read_is_put_aside(swept, content):
    Path("outputs/sweeps/s/sweep.json").write_text(content)
    assert "unreadable" in swept("sweeps").out
    done = swept("train", "-m", *SWEPT)
    assert "2 stored, 0 to run" in done.out
    assert Path("outputs/sweeps/s/sweep.json.unreadable").read_text() == content


def test_a_clock_that_was_set_back_changes_nothing(swept):
    for folder in runs_of():
        file = folder / "manifest.json"
        file.write_text(file.read_text().replace('"started": "20', '"started": "21'))
    assert "2 stored, 0 to run" in swept("train", "-m", *SWEPT).out


def test_outputs_moved_elsewhere_are_compared_and_continued_there(swept):
    for folder in runs_of():  # as if another machine had made them
        file = folder / "manifest.json"
        manifest = json.loads(file.read_text())
        manifest["process"]["host"] = "elsewhere"
        file.write_text(json.dumps(manifest))
    Path("outputs").rename("moved")
    assert swept("compare", "moved/sweeps/s").code == 0 and swept("compare", "s").code == 2
    done = swept("train", "-m", *SWEPT[:-2], "model.l2=50,60,70", "sweep=s", "paths.output=moved")
    assert "3 jobs: 2 stored, 1 to run" in done.out


# Other ways to run ----------------------------------------------------------------------------------------------------


def test_a_job_may_be_distributed(shell):
    words = [*FAST["bpr"], "tracker=none", "trainer=ddp", "trainer.devices=2", "trainer.max_epochs=1", "sweep=s"]
    done = shell("train", "-m", *words)
    assert done.code == 0, done.err + Path("outputs/sweeps/s/jobs/0000.log").read_text()
    assert statuses("s") == ["finished"]


def test_cards_are_shared_out_one_a_job(shell, moody, tmp_path):
    note = tmp_path / "cards"
    words = [*MOODY, "model.mood=card", f"model.note={note}", "seed=1,2,3,4", "hydra.launcher.n_jobs=2"]
    assert shell("train", "-m", *words, "hydra.launcher.gpus=[3,5]").code == 0
    assert set(note.read_text().split()) == {"3", "5"}


def test_hydras_own_launcher_still_works(shell):
    done = shell("train", "-m", *EASE, "seed=1,2", "hydra/launcher=basic")
    assert done.code == 0 and len(runs_of()) == 2


def test_rerun_of_a_sweeps_run_is_identical(shell):
    shell("train", "-m", *FAST["bpr"], "tracker=none", "trainer.max_epochs=2", "seed=1,2", "hydra.launcher.n_jobs=2")
    done = shell("rerun", runs_of()[0])
    assert done.code == 0 and "identical" in done.out


def test_sweeps_are_listed_and_compared_by_name(shell):
    assert "No sweeps" in shell("sweeps").out
    shell("train", "-m", *EASE, "seed=1,2", "sweep=first")
    assert shell("compare", "first").out == shell("compare", "outputs/sweeps/first").out != ""
    assert shell("best", "first").code == 0
    assert "2/2" in shell("sweeps").out
    (entry,) = json.loads(shell("sweeps", "--json").out)
    assert entry["name"] == "first" and entry["counts"] == {"finished": 2} and "sweep=first" in entry["command"]
    done = shell("ls", "frist")
    assert done.code == 2 and "Did you mean first" in done.err
