"""From conf/ and the command line to one plain, resolved configuration that knows where each key came from."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from marquee.config.complaints import first_lines, hydra_errors
from marquee.config.folders import ROOT, conf_folder, conf_folders, find, options, read_yaml, user_folders
from marquee.config.hydra_section import guarded, refuse_search_path
from marquee.errors import ConfigError

_OVERRIDE = re.compile(r"^(\+\+|\+|~)?([^=]*?)(=.*)?$", re.DOTALL)


@dataclass(frozen=True)
class Composed:
    """A configuration with its history.

    config     plain dicts, lists and values; interpolations resolved; a missing value is the text `???`
    overrides  the words of the command line, as they were typed
    choices    the option chosen in each group, e.g. {"model": "mf/bpr"}
    """

    config: dict[str, Any]
    overrides: tuple[str, ...]
    choices: dict[str, str]

    def origin(self, key: str) -> str:
        """Where a key's value was written: "command line", or the YAML file (the file to look into if it is absent)."""
        for override in self.overrides:
            _, name, _ = _parse(override)
            if not _is_group(name) and (key == name or key.startswith(name + ".")):
                return "command line"
        return _file_of(key, self.overrides)


def normalised(overrides: Sequence[str]) -> list[str]:
    """Overrides as Hydra should see them: `key=value` may add a key, because the check judges keys, not Hydra.

    So all mistakes are found in one go, and a key that the signature knows needs no `+`. Raises ConfigError for a group
    set to nothing, which Hydra would refuse without naming it, and for a search path of Hydra's.
    """
    result = []
    for override in overrides:
        sign, name, value = _parse(override)
        refuse_search_path(name, value.removeprefix("="))
        if value in ("=null", "=") and not sign and _is_group(name):
            raise ConfigError(
                f"{name}{value} on the command line: a group needs one of its choices.\n"
                f"  allowed: {', '.join(options(name)) or 'none yet'}"
            )
        plain = sign in ("", "+") and value and not _is_group(name) and not name.startswith(("hydra", "@"))
        result.append(f"++{name}{value}" if plain else override)
    return result


def typed(overrides: Sequence[str]) -> list[str]:
    """The inverse of `normalised`, for the record."""
    return [override.removeprefix("++") for override in overrides]


def search_path_override() -> list[str]:
    """The word that tells Hydra of the users' folders (empty without any)."""
    places = ",".join(f"'file://{folder.as_posix()}'" for folder in user_folders())
    return [f"hydra.searchpath=[{places}]"] if places else []


@contextmanager
def _hydra() -> Iterator[None]:
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    # While `marquee train` runs a job, Hydra's own main holds the one place that there is.
    outer, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with guarded(), initialize_config_dir(str(conf_folder()), version_base="1.3", job_name="marquee"):
            yield
    finally:
        GlobalHydra.instance().hydra = outer


def compose(overrides: Sequence[str] = ()) -> Composed:
    """Compose the root configuration. Raises ConfigError for what Hydra itself cannot put together."""
    return compose_all([overrides])[0]


def compose_all(jobs: Sequence[Sequence[str]]) -> list[Composed]:
    """Compose many jobs. Raises ConfigError for the first that cannot be composed.

    Jobs that choose the same groups differ in values only, which Hydra sets on the composed node in its last step. So
    Hydra composes once for each choice of groups (0.1 s) and takes that last step for each job (a few ms).
    """
    import hydra
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    with hydra_errors(), _hydra():
        composed: dict[tuple[str, ...], Any] = {}
        parse = _override_parser()
        result = []
        for overrides in jobs:
            words = [*search_path_override(), *normalised(overrides)]
            values = [word for word in words if word.startswith("++") and not word.startswith("++hydra")]
            if any(word.startswith("~") for word in words):
                values = []  # what is set and taken away again depends on the order
            chosen = tuple(word for word in words if word not in values)
            if chosen not in composed:
                node = hydra.compose(ROOT, list(chosen), return_hydra_config=True)
                composed[chosen] = _without_hydra(node), dict(node.hydra.runtime.choices)
            node, choices = composed[chosen]
            if values:
                node = node.copy()
                ConfigLoaderImpl._apply_overrides_to_config([parse(word) for word in values], node)
            result.append(plain(node, overrides, choices))
        return result


def _override_parser() -> Callable[[str], Any]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return lru_cache(maxsize=4096)(OverridesParser.create().parse_override)


def _without_hydra(node: Any) -> Any:
    from omegaconf import open_dict

    node = node.copy()
    with open_dict(node):
        node.pop("hydra", None)
    return node


def plain(node: Any, overrides: Sequence[str], choices: dict[str, str]) -> Composed:
    """A composed OmegaConf node, without Hydra's part, as plain data."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    node = _without_hydra(node) if "hydra" in node else node
    if (plots := os.environ.get("MARQUEE_PLOTS", "true")).lower() not in ("true", "false"):  # conf/train.yaml reads it
        raise ConfigError(f"MARQUEE_PLOTS={plots!r} is neither true nor false. Set it to one of them, or unset it.")
    try:
        config = OmegaConf.to_container(node, resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as error:
        raise ConfigError(f"The configuration cannot be resolved: {first_lines(error)}") from error
    return Composed(config, tuple(overrides), {k: v for k, v in choices.items() if v and not k.startswith("hydra")})


def yaml_text(overrides: Sequence[str] = ()) -> str:
    """The composed configuration as YAML, interpolations as they are written."""
    import hydra
    from omegaconf import OmegaConf

    with hydra_errors(), _hydra():
        return OmegaConf.to_yaml(hydra.compose(ROOT, [*search_path_override(), *normalised(overrides)]))


# Where keys come from ------------------------------------------------------------------------------------------------


def _parse(override: str) -> tuple[str, str, str]:
    """("+", "model.dim", "=3") of `+model.dim=3`."""
    match = _OVERRIDE.match(override)
    return match[1] or "", match[2].strip(), match[3] or ""


def _is_group(name: str) -> bool:
    group = name.split("@")[0]
    return bool(group) and "." not in group and any((folder / group).is_dir() for folder in conf_folders())


def _file_of(key: str, overrides: Sequence[str]) -> str:
    """The last YAML file in merge order that holds the key; else the one where it would belong."""
    fallback = f"conf/{ROOT}.yaml"
    for path, package in reversed(_defaults(tuple(overrides))):
        parts = key.split(".")
        prefix = package.split(".") if package else []
        if parts[: len(prefix)] != prefix:
            continue
        file = find(path)
        if file is None:
            continue
        if _holds(read_yaml(file), parts[len(prefix) :]):
            return _display(file)
        if prefix and fallback == f"conf/{ROOT}.yaml":
            fallback = _display(file)
    return fallback


@lru_cache(maxsize=64)
def _defaults(overrides: tuple[str, ...]) -> list[tuple[str, str]]:
    """(config path, package) of every file that was merged, in order."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    with hydra_errors(), _hydra():
        loader = GlobalHydra.instance().config_loader()
        words = [*search_path_override(), *normalised(overrides)]
        merged = loader.compute_defaults_list(ROOT, words, RunMode.RUN).defaults
    return [(entry.config_path, entry.package or "") for entry in merged if entry.config_path]


def _holds(content: Any, parts: Sequence[str]) -> bool:
    for part in parts:
        if isinstance(content, list) and part.isdigit() and int(part) < len(content):
            content = content[int(part)]
        elif isinstance(content, dict) and part in content:
            content = content[part]
        else:
            return False
    return True


def _display(file: Path) -> str:
    """A path as a person would look for it: conf/... for shipped files, else relative to the working folder."""
    try:
        return (Path("conf") / file.relative_to(conf_folder())).as_posix()
    except ValueError:
        return os.path.relpath(file) if file.is_relative_to(Path.cwd()) else str(file)
