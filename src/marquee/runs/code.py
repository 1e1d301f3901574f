"""Which code made a run: package version, git commit, and a hash of everything that was not committed."""

import hashlib
import subprocess
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import marquee
from marquee.config.targets import plugins

_EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # git's name for "nothing": a repository without a commit


def code_identity(config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """version, commit, dirty, diff_sha256 (None when clean), source_sha256 (only outside a checkout), plugins, sha256.

    `plugins` has a hash of each plug-in package (MARQUEE_PLUGINS) that the configuration instantiates from; of all of
    them without a configuration. `sha256` stands for all of it and goes into the fingerprint. Only `src/` counts in a
    checkout: a changed README is no other experiment, and conf/ is in the resolved configuration already.
    """
    package = Path(marquee.__file__).resolve().parent
    identity: dict[str, Any] = {"version": marquee.__version__, "commit": None, "dirty": False, "diff_sha256": None}
    root = _checkout(package)
    if root is None:
        identity["source_sha256"] = hash_files(package, package.rglob("*.py"))
    else:
        identity["commit"] = (_git(root, "rev-parse", "--verify", "-q", "HEAD") or b"").decode().strip() or None
        identity["diff_sha256"] = _uncommitted(root, identity["commit"])
        identity["dirty"] = identity["diff_sha256"] is not None
    identity["plugins"] = {
        name: _plugin_sha256(name) for name in plugins() if config is None or f"'{name}." in repr(config)
    }
    identity["sha256"] = hashlib.sha256(repr(sorted(identity.items(), key=str)).encode()).hexdigest()
    return identity


def hash_files(folder: Path, files: Iterable[Path]) -> str:
    """sha256 over the relative names and contents of files, in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _checkout(package: Path) -> Path | None:
    """The git checkout that the package is the source of; an installed copy inside somebody's repository is not one."""
    top = _git(package, "rev-parse", "--show-toplevel")
    if not top:
        return None
    root = Path(top.decode().strip()).resolve()
    return root if root / "src" / "marquee" == package else None


def _uncommitted(root: Path, commit: str | None) -> str | None:
    diff = _git(root, "diff", "--no-ext-diff", "--no-color", "--binary", commit or _EMPTY_TREE, "--", "src") or b""
    listed = _git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", "src") or b""
    untracked = [root / name.decode() for name in listed.split(b"\0") if name]
    if not diff and not untracked:
        return None
    return hashlib.sha256(diff + hash_files(root, (file for file in untracked if file.is_file())).encode()).hexdigest()


def _git(folder: Path, *arguments: str) -> bytes | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _plugin_sha256(name: str) -> str | None:
    spec = find_spec(name.split(".")[0])
    if spec is None:
        return None
    if spec.submodule_search_locations:
        folder = Path(next(iter(spec.submodule_search_locations)))
        return hash_files(folder, folder.rglob("*.py"))
    return hash_files(Path(spec.origin).parent, [Path(spec.origin)]) if spec.origin else None
