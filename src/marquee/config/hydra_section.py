"""What may stand under `hydra`: settings of Hydra's, but nothing that would make it build, import or set anything else.

Hydra acts on its own section before any code of ours runs, so each composed configuration is looked at as it leaves
Hydra's loader:

  launcher, sweeper            one of ours or of Hydra's two basic ones, or of a package that MARQUEE_PLUGINS names
  launcher.shell_setup         only what is typed: lines of shell for a cluster's job; and launcher.additional, options
                               of sbatch, which may set its environment
  any other node (_target_)    none; so there are no `hydra.callbacks`
  job_logging, hydra_logging   handlers that print (logging.StreamHandler), plain formats; no class or factory (`()`) of
                               another kind, and no interpolation. Files are written by Marquee itself (log.txt)
  job.env_set                  nothing: the environment decides which programs and packages are found
  searchpath                   what --config-dir, MARQUEE_CONF and plug-ins add: a `pkg://` would import that package
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from marquee.config.targets import plugins
from marquee.errors import ConfigError

PLUGINS = {
    "launcher": (
        "hydra_plugins.marquee.launcher.LocalLauncher",
        "hydra_plugins.marquee.launcher.SlurmLauncher",
        "hydra_plugins.marquee.launcher.RayLauncher",
        "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
    ),
    "sweeper": (
        "hydra_plugins.marquee.sweepers.GridSweeper",
        "hydra_plugins.marquee.sweepers.OptunaSweeper",
        "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
    ),
}
HANDLER = "logging.StreamHandler"
STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
# Keys of launchers that make a job run what they say.
TYPED = ("shell_setup", "additional")


@contextmanager
def guarded() -> Iterator[None]:
    """While this lasts, Hydra gets no configuration to act on that has something foreign in its section."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    # Hydra has no hook between composing and acting: its callbacks are what a configuration could abuse. All its ways
    # (a run, a sweep, each job of a basic launcher, `compose`) lead through this one method.
    load = ConfigLoaderImpl.load_configuration

    def checked(self: Any, config_name: str | None, overrides: list[str], *args: Any, **kwargs: Any) -> Any:
        node = load(self, config_name, overrides, *args, **kwargs)
        refuse_foreign(node.hydra, overrides)
        return node

    ConfigLoaderImpl.load_configuration = checked
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = load


def refuse_foreign(section: Any, overrides: Sequence[str] = ()) -> None:
    """Raise ConfigError for what may not stand in a composed `hydra` section (see above); `overrides` were typed."""
    from omegaconf import OmegaConf

    # As it is written, interpolations and all: a node that is only referred to is none that we can see.
    raw = OmegaConf.to_container(section, resolve=False)
    for key, value in raw.items():
        path = f"hydra.{key}"
        if key in PLUGINS:
            _refuse_plugin(path, value, PLUGINS[key])
            resolved = OmegaConf.to_container(section[key], resolve=True, throw_on_missing=False)
            _refuse_nodes(path, {name: part for name, part in resolved.items() if name != "_target_"})
            for name in TYPED:
                if resolved.get(name) and not any(_sets(word, f"{path}.{name}") for word in overrides):
                    allowed = f"on the command line only, since a job runs what it says: '{path}.{name}=...'"
                    raise _refused(f"{path}.{name}", str(resolved[name]), allowed)
        elif key in ("job_logging", "hydra_logging"):
            _refuse_logging(path, value)
        elif key == "callbacks":
            if value:
                name = next(iter(value)) if isinstance(value, dict) else value
                raise _refused(f"{path}.{name}", "a callback", "Hydra's callbacks are not for configurations")
        else:
            _refuse_nodes(path, value)
    variables = raw["job"].get("env_set") or {}
    # What env_copy names stands here, too, as it is already.
    if not isinstance(variables, dict) or any(os.environ.get(name) != value for name, value in variables.items()):
        raise _refused("hydra.job.env_set", str(variables), "set variables in the shell: NAME=VALUE marquee train ...")


def refuse_search_path(name: str, value: str) -> None:
    """Raise ConfigError for a typed `hydra.searchpath`: Hydra imports what it names while it composes."""
    if name == "hydra.searchpath":
        raise _refused(name, value, "--config-dir FOLDER, or MARQUEE_CONF")


def _sets(word: str, key: str) -> bool:
    name = word.lstrip("+").partition("=")[0]
    return name == key or name.startswith(f"{key}.")


def _refuse_plugin(path: str, value: Any, names: tuple[str, ...]) -> None:
    target = value.get("_target_") if isinstance(value, dict) else value
    if target not in names and not (isinstance(target, str) and target.startswith(tuple(f"{p}." for p in plugins()))):
        raise _refused(f"{path}._target_", str(target), ", ".join(names))


def _refuse_nodes(path: str, value: Any) -> None:
    """No `_target_` anywhere below."""
    if isinstance(value, dict):
        if "_target_" in value:
            raise _refused(
                f"{path}._target_", str(value["_target_"]), "no class: of Hydra's, only a launcher and a sweeper"
            )
        for key, part in value.items():
            _refuse_nodes(f"{path}.{key}", part)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            _refuse_nodes(f"{path}.{index}", part)


def _refuse_logging(path: str, value: Any) -> None:
    """Nothing that `logging.config.dictConfig` would import or call, and no file."""
    if isinstance(value, dict):
        for key, part in value.items():
            inner = f"{path}.{key}"
            if key in ("()", ".", "_target_") or (key == "class" and part != HANDLER):
                raise _refused(inner, str(part), f"class: {HANDLER}; what a run logs is in its log.txt")
            _refuse_logging(inner, part)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            _refuse_logging(f"{path}.{index}", part)
    elif isinstance(value, str) and value not in STREAMS and ("://" in value or "${" in value):
        raise _refused(path, value, f"plain text, {' or '.join(STREAMS)}")


def _refused(path: str, found: str, allowed: str) -> ConfigError:
    return ConfigError(f"{path} may not be configured.\n  found:   {found}\n  allowed: {allowed}")
