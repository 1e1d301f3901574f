"""Where configuration lies: the shipped folder, those that users add, and the choices in them."""

import os
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from marquee.config.targets import plugins
from marquee.errors import ConfigError

ROOT = "train"  # conf/train.yaml, the one root


def conf_folder() -> Path:
    """The shipped configuration: inside the installed package, else the checkout's conf/."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "conf", package.parents[1] / "conf"):
        if (folder / f"{ROOT}.yaml").is_file():
            return folder
    raise ConfigError(f"conf/{ROOT}.yaml was not found beside the package in {package}. Reinstall marquee.")


def conf_folders() -> list[Path]:
    """All folders that are searched: the shipped one, those of MARQUEE_CONF, `conf/` in each plug-in package."""
    return [conf_folder(), *user_folders()]


def user_folders() -> list[Path]:
    """The folders that users add. Raises ConfigError for one that MARQUEE_CONF names and that is none."""
    folders = []
    for name in filter(None, os.environ.get("MARQUEE_CONF", "").split(os.pathsep)):
        folder = Path(name).expanduser().resolve()
        if not folder.is_dir():
            raise ConfigError(f"The configuration folder {name} (--config-dir or MARQUEE_CONF) does not exist.")
        folders.append(folder)
    for name in plugins():
        spec = find_spec(name.split(".")[0])
        for place in (spec.submodule_search_locations or []) if spec else []:
            if (Path(place) / "conf").is_dir():
                folders.append((Path(place) / "conf").resolve())
    return folders


def options(group: str) -> list[str]:
    """All choices of a group, families included: ["cnn/poster", "mf/bpr", ...]."""
    found = set()
    for folder in conf_folders():
        for file in (folder / group).rglob("*.yaml"):
            found.add(file.relative_to(folder / group).with_suffix("").as_posix())
    return sorted(found)


def groups() -> list[str]:
    """The names of all groups."""
    return sorted({entry.name for folder in conf_folders() for entry in folder.iterdir() if entry.is_dir()})


def file_of_option(group: str, option: str) -> Path | None:
    """The YAML file of a choice."""
    return find(f"{group}/{option}")


def choice_of(group: str, node: Any) -> str | None:
    """The option of a group that a resolved node most likely came from ("mf/bpr"), else the name of its class.

    Several options may name one class (the sizes of MovieLens); the one with the most equal values is meant.
    """
    if not isinstance(node, dict) or not isinstance(node.get("_target_"), str):
        return None
    best = (-1, node["_target_"].rpartition(".")[2])
    for option in options(group):
        content = read_yaml(find(f"{group}/{option}"))
        if isinstance(content, dict) and content.get("_target_") == node["_target_"]:
            equal = sum(node.get(key) == value for key, value in content.items())
            best = max(best, (equal, option), key=lambda candidate: candidate[0])
    return best[1]


def find(path: str) -> Path | None:
    for folder in conf_folders():
        if (folder / f"{path}.yaml").is_file():
            return folder / f"{path}.yaml"
    return None


@lru_cache(maxsize=256)
def read_yaml(file: Path) -> Any:
    import yaml

    return yaml.safe_load(file.read_text(encoding="utf-8")) or {}
