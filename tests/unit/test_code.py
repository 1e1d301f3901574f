"""Code identity: commit, uncommitted changes and plug-ins each change it; a README does not."""

import shutil
import subprocess
from pathlib import Path

import pytest

import marquee
from marquee.runs import code
from marquee.runs.environment import cores, environment

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(folder, *words):
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    package = tmp_path / "src" / "marquee"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("x = 1\n")
    (tmp_path / "README.md").write_text("one\n")
    git(tmp_path, "init", "-q")
    monkeypatch.setattr(marquee, "__file__", str(package / "__init__.py"))
    return tmp_path


def test_a_checkout_without_a_commit_is_all_uncommitted(checkout):
    identity = code.code_identity()
    assert identity["commit"] is None
    assert identity["diff_sha256"]


def test_commits_changes_and_new_files_count_and_the_readme_does_not(checkout):
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "one")
    clean = code.code_identity()
    assert len(clean["commit"]) == 40
    assert (clean["dirty"], clean["diff_sha256"]) == (False, None)
    (checkout / "README.md").write_text("two\n")
    assert code.code_identity() == clean
    source = checkout / "src" / "marquee"
    (source / "__init__.py").write_text("x = 2\n")
    changed = code.code_identity()
    (source / "new.py").write_text("y = 1\n")
    added = code.code_identity()
    (source / "new.py").write_text("y = 2\n")
    edited = code.code_identity()
    assert len({identity["sha256"] for identity in (clean, changed, added, edited)}) == 4
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "two")
    assert code.code_identity()["dirty"] is False


def test_an_installed_copy_inside_another_repository_is_not_its_code(tmp_path, monkeypatch):
    package = tmp_path / "project" / ".venv" / "marquee"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("x = 1\n")
    git(tmp_path / "project", "init", "-q")
    monkeypatch.setattr(marquee, "__file__", str(package / "__init__.py"))
    first = code.code_identity()
    assert first["commit"] is None
    assert first["source_sha256"]
    (package / "__init__.py").write_text("x = 2\n")
    assert code.code_identity()["sha256"] != first["sha256"]


def test_the_plugins_that_a_configuration_uses_count(tmp_path, monkeypatch):
    (tmp_path / "coded_plugin.py").write_text("class A: ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MARQUEE_PLUGINS", "coded_plugin")
    uses = {"model": {"_target_": "coded_plugin.A"}}
    first = code.code_identity(uses)
    assert first["plugins"]["coded_plugin"]
    assert code.code_identity({"model": {"_target_": "marquee.x.Y"}})["plugins"] == {}
    Path(tmp_path / "coded_plugin.py").write_text("class A: x = 1\n")
    assert code.code_identity(uses)["sha256"] != first["sha256"]


def test_without_git_the_source_itself_is_hashed(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert code.code_identity()["source_sha256"]


def test_the_environment_names_interpreter_packages_and_machine():
    found = environment()
    assert found["packages"]["hydra-core"]
    assert found["cores"] == cores() >= 1
    assert found["cpu"]
