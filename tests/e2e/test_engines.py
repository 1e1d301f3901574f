"""The engines themselves, where they are found: a Slurm, a PostgreSQL and a Ray cluster of two nodes.

Each is started, tried and stopped by a script that can do more than the suite has time for: scripts/try_*.sh.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ..forked import REPOSITORY

SBIN = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
HERE = {
    "slurm": all(shutil.which(name, path=SBIN) for name in ("munged", "slurmctld", "slurmd", "sbatch")),
    "postgres": bool(shutil.which("initdb") or list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))),
}


def found(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def tried(engine: str, cache: Path) -> None:
    env = {**os.environ, "PYTHON": sys.executable, "MARQUEE_CACHE": str(cache)}
    process = subprocess.Popen(["bash", str(REPOSITORY / "scripts" / f"try_{engine}.sh"), "--quick"], env=env,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               start_new_session=True)  # fmt: skip
    try:
        told, _ = process.communicate(timeout=600)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)  # what it waits for ends, and it stops its engine
            process.wait(60)
    assert process.returncode == 0, told
    assert "all of it held" in told and "DOES NOT HOLD" not in told


@pytest.mark.skipif(not HERE["slurm"], reason="no Slurm here: apt-get install slurm-wlm munge")
@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root may start Slurm's daemons")
@pytest.mark.skipif(not found("submitit"), reason="pip install 'marquee[slurm]'")
def test_slurm_jobs_are_adopted_and_go_on_after_a_requeue(world_cache):
    tried("slurm", world_cache)


@pytest.mark.skipif(not HERE["postgres"], reason="no PostgreSQL here: apt-get install postgresql")
@pytest.mark.skipif(not found("psycopg"), reason="no driver for PostgreSQL: pip install 'psycopg[binary]'")
@pytest.mark.skipif(not found("optuna"), reason="pip install 'marquee[search]'")
def test_two_searches_share_a_study_in_postgresql_and_one_is_killed(world_cache):
    tried("postgres", world_cache)


@pytest.mark.skipif(not found("ray"), reason="pip install 'marquee[ray]'")
def test_jobs_of_a_ray_node_that_dies_go_on_at_another_and_give_what_a_local_sweep_gives(world_cache):
    tried("ray", world_cache)
