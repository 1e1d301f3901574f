"""A mistake as a message that names it, what is allowed and what to type; also what Hydra and OmegaConf complain of."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from marquee.config.folders import file_of_option, groups, options
from marquee.config.targets import closest
from marquee.errors import ConfigError


@dataclass(frozen=True)
class Problem:
    """One mistake: the key, what was found there, what is allowed, and what to type instead."""

    key: str
    found: str
    allowed: str
    origin: str
    fix: str = ""
    missing: bool = False

    def __str__(self) -> str:
        lines = [f"{self.key}", f"  found:   {self.found}", f"  where:   {self.origin}", f"  allowed: {self.allowed}"]
        if self.fix:
            lines.append(f"  fix:     {self.fix}")
        return "\n".join(lines)


@contextmanager
def hydra_errors() -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise into a ConfigError that names the mistake and the closest valid name."""
    from hydra.errors import HydraException, MissingConfigException, OverrideParseException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        yield
    except YAMLError as error:
        raise ConfigError(f"A configuration file is no plain YAML: {first_lines(error)}") from error
    except MissingConfigException as error:
        raise ConfigError(_unknown_option(error)) from error
    except OverrideParseException as error:
        raise ConfigError(
            f"{error.override.removeprefix('++')!r} on the command line cannot be read: {first_lines(error)}\n"
            "  Write key=value or group=choice; quote a value with special characters: 'key=\"a, b\"'"
        ) from error
    except (HydraException, OmegaConfBaseException) as error:
        if told := _unknown_setting(error):
            raise ConfigError(told) from error
        raise ConfigError(f"The configuration cannot be composed: {first_lines(error)}") from error
    except ValueError as error:
        if "override" not in str(error):
            raise
        raise ConfigError(
            f"The configuration cannot be composed: {first_lines(error)}\n"
            "  A group=choice needs one of its choices (marquee train --help lists them); null is none."
        ) from error


def _unknown_option(error: Any) -> str:
    """The message for `model=mf/bprr`, or for a defaults list that names a file that does not exist."""
    path = (error.missing_cfg_file or "").removesuffix(".yaml")
    inner = "/".join(path.split("/")[:2]) if path.startswith("hydra/") else ""
    group, option = (inner, path[len(inner) + 1 :]) if inner else path.partition("/")[::2]
    allowed = options(group) if option else groups()
    if not allowed:
        return first_lines(error)
    near = closest(option or path, allowed)
    lines = [f"{group}={option}: there is no {group} of that name."]
    source = re.match(r"In '([^']+)'", str(error))
    if source and source[1] not in ("train", "hydra/config"):
        lines.append(f"  it is named in: conf/{source[1]}.yaml")
    if near:
        lines.append(f"  did you mean:   {group}={near}")
    lines.append(f"  allowed:        {', '.join(allowed)}")
    return "\n".join(lines)


def _unknown_setting(error: Exception) -> str | None:
    """The message for `hydra.launcher.njobs=2`: the keys that launchers, or sweepers, have."""
    match = re.search(r"Could not override '\+*hydra\.(launcher|sweeper)\.([^'.]+)'", str(error))
    if match is None:
        return None
    import yaml

    group, key = f"hydra/{match[1]}", match[2]
    keys = {option: list(yaml.safe_load(file_of_option(group, option).read_text(encoding="utf-8")))[1:]
            for option in options(group)}  # fmt: skip
    near = closest(key, {name for names in keys.values() for name in names})
    owners = [option for option, names in keys.items() if near in names]
    lines = [f"hydra.{match[1]}.{key}: the chosen {match[1]} has no such key."]
    if near:
        lines.append(f"  did you mean: hydra.{match[1]}.{near} (of {' and '.join(owners)})")
    lines += [f"  {group}={option}: {', '.join(names)}" for option, names in keys.items()]
    return "\n".join(lines)


def first_lines(error: Exception, count: int = 4) -> str:
    told = str(error) or str(error.__cause__ or type(error).__name__)
    lines = [line for line in told.splitlines() if line.strip() and "full_key" not in line]
    lines = [line for line in lines if "object_type" not in line and "HYDRA_FULL_ERROR" not in line]
    return "\n  ".join(lines[:count])
