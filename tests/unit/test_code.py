"""Code identity: the content of the sources that a run uses, however git stands to it, and nothing else."""

import shutil
import subprocess

import pytest

import marquee
from marquee.runs import code
from marquee.runs.environment import cores, environment

NOTHING = {}


def git(folder, *words):
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    if shutil.which("git") is None:
        pytest.skip("needs git")
    package = tmp_path / "src" / "marquee"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("x = 1\n")
    (tmp_path / "README.md").write_text("one\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    monkeypatch.setattr(marquee, "__file__", str(package / "__init__.py"))
    return tmp_path


def test_a_commit_that_touches_only_the_readme_changes_no_identity(checkout):
    before = code.code_identity(NOTHING)
    (checkout / "README.md").write_text("two\n")
    git(checkout, "commit", "-qam", "two")
    after = code.code_identity(NOTHING)
    assert after["sha256"] == before["sha256"]
    assert after["commit"] != before["commit"] and len(after["commit"]) == 40


def test_the_same_content_dirty_and_committed_is_the_same_code(checkout):
    clean = code.code_identity(NOTHING)
    (checkout / "src" / "marquee" / "__init__.py").write_text("x = 2\n")
    dirty = code.code_identity(NOTHING)
    git(checkout, "commit", "-qam", "two")
    committed = code.code_identity(NOTHING)
    assert (clean["dirty"], dirty["dirty"], committed["dirty"]) == (False, True, False)
    assert dirty["sha256"] == committed["sha256"] != clean["sha256"]


def test_every_source_file_counts_whatever_git_is_told_to_ignore(checkout):
    """A folder named build, which a global .gitignore often holds."""
    (checkout / ".gitignore").write_text("build/\n")
    module = checkout / "src" / "marquee" / "build" / "new.py"
    module.parent.mkdir()
    seen = [code.code_identity(NOTHING)["sha256"]]
    for content in ("y = 1\n", "y = 2\n"):
        module.write_text(content)
        seen.append(code.code_identity(NOTHING)["sha256"])
    assert len(set(seen)) == 3


def test_settings_of_git_change_nothing(checkout):
    (checkout / "src" / "marquee" / "__init__.py").write_text("x = 2\n")
    before = code.code_identity(NOTHING)
    for setting in ("diff.noprefix=true", "core.abbrev=40", "diff.algorithm=histogram", "status.short=true"):
        git(checkout, "config", *setting.split("="))
    assert code.code_identity(NOTHING) == before


def test_a_checkout_without_a_commit_is_uncommitted(checkout):
    shutil.rmtree(checkout / ".git")
    git(checkout, "init", "-q")
    identity = code.code_identity(NOTHING)
    assert (identity["commit"], identity["dirty"]) == (None, True)


def test_an_installed_copy_inside_another_repository_has_no_commit(checkout, monkeypatch):
    package = checkout / ".venv" / "marquee"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("x = 1\n")
    here = code.code_identity(NOTHING)
    monkeypatch.setattr(marquee, "__file__", str(package / "__init__.py"))
    copy = code.code_identity(NOTHING)
    assert (copy["commit"], copy["dirty"]) == (None, None)
    assert copy["sha256"] == here["sha256"]


def test_without_git_the_identity_is_the_same(checkout, monkeypatch):
    before = code.code_identity(NOTHING)
    monkeypatch.setenv("PATH", "")
    assert code.code_identity(NOTHING)["sha256"] == before["sha256"]


def test_only_plugins_that_a_configuration_uses_count(tmp_path, monkeypatch):
    (tmp_path / "coded_plugin.py").write_text("class A: ...\n")
    (tmp_path / "coded_plugin_two.py").write_text("class A: ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    uses = {"callbacks": [{"_target_": "coded_plugin_two.A"}], "model": {"inner": {"_target_": "coded_plugin.A"}}}
    other = {"name": "'coded_plugin.", "model": {"_target_": "marquee.x.Y"}}
    without = code.code_identity(other)
    monkeypatch.setenv("MARQUEE_PLUGINS", "coded_plugin")
    assert code.code_identity(other) == without
    first = code.code_identity(uses)
    assert list(first["plugins"]) == ["coded_plugin"]
    (tmp_path / "coded_plugin.py").write_text("class A: x = 1\n")
    assert code.code_identity(uses)["sha256"] != first["sha256"]


def test_the_environment_names_interpreter_packages_and_machine():
    found = environment()
    assert found["packages"]["hydra-core"]
    assert found["cores"] == cores() >= 1
    assert found["cpu"]
