"""The counts of a sweep's view, by hand."""

from marquee.sweeps.store import Job, Sweep
from marquee.sweeps.view import View


def job(index, status, run=None):
    return Job(index, [f"seed={index}"], "mf/bpr", f"print {index}", status, run)


def test_of_a_search_what_is_still_to_be_asked_for_is_left_and_takes_time():
    """Ten jobs at two a time and 6 s each: three are over, one runs since now, so six are left, after 7 x 6 / 2 s."""
    view = View("tune", later=True, total=10)
    view.jobs, view.capacity = [*(job(index, "finished") for index in range(3)), job(3, "running")], 2
    view.took = {"mf/bpr": [6.0, 6.0, 6.0]}
    head = view._lines([])[0].plain
    assert "3/10 done" in head and "6 left" in head
    assert view._left([]) == 6 * 6 / 2, "without the one that runs"


def test_jobs_that_an_earlier_launcher_left_on_a_cluster_are_no_doubles(tmp_path, capsys):
    jobs = [job(0, "running"), job(1, "running"), job(2, "waiting"), job(3, "waiting")]  # the last does what 2 does
    View("grid").begin(Sweep(tmp_path, "grid", [], "", jobs), jobs, [jobs[2]], 1)
    assert "4 jobs: 2 running still, 1 double, 1 to run" in capsys.readouterr().out
