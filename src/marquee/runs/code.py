"""Which code made a run: a hash of the sources that it used. Version and commit stand beside it, for the reader."""

import hashlib
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import marquee
from marquee.config.targets import plugins


def code_identity(config: Mapping[str, Any], package: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """version, commit, dirty, source_sha256, plugins, sha256.

    `sha256` goes into the fingerprint. It stands for the contents of the package's sources and of the plug-in packages
    (MARQUEE_PLUGINS) that the configuration instantiates from, and for nothing else: the same content, committed or
    not, is the same code, and a changed README or conf/ is none (what conf/ says is in the resolved configuration).
    `package` is what `package_identity` returns, where it has been asked already.
    """
    identity = dict(package or package_identity())
    targets = set(_targets(config))
    used = [name for name in plugins() if any(target.startswith(f"{name}.") for target in targets)]
    identity["plugins"] = {name: _plugin_sha256(name) for name in used}
    content = [identity["source_sha256"], *sorted(identity["plugins"].items())]
    identity["sha256"] = hashlib.sha256(repr(content).encode()).hexdigest()
    return identity


def package_identity() -> dict[str, Any]:
    """The part of the identity that all runs share: version, commit, dirty, source_sha256.

    `dirty` tells whether the sources differ from the commit; outside a checkout, or without git, both are unknown.
    """
    package = Path(marquee.__file__).resolve().parent
    root = _checkout(package)
    commit, dirty = None, None
    if root is not None:
        commit = (_git(root, "rev-parse", "--verify", "-q", "HEAD") or b"").decode().strip() or None
        dirty = commit is None or _git(root, "status", "--porcelain", "--", str(package)) != b""
    return {
        "version": marquee.__version__,
        "commit": commit,
        "dirty": dirty,
        "source_sha256": hash_files(package, package.rglob("*.py")),
    }


def hash_files(folder: Path, files: Iterable[Path]) -> str:
    """sha256 over the relative names and contents of files, in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _targets(node: Any) -> Iterator[str]:
    """Every `_target_` of a configuration."""
    if isinstance(node, Mapping):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        for part in node.values():
            yield from _targets(part)
    elif isinstance(node, (list, tuple)):
        for part in node:
            yield from _targets(part)


def _checkout(package: Path) -> Path | None:
    """The git checkout that the package is the source of; an installed copy inside somebody's repository is not one."""
    top = _git(package, "rev-parse", "--show-toplevel")
    if not top:
        return None
    root = Path(top.decode().strip()).resolve()
    return root if root / "src" / "marquee" == package else None


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
