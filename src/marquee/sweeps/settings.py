"""The settings of Hydra's launchers and sweepers, checked: a plugin's signature is their schema, too."""

from typing import Any

from marquee.config.targets import signature
from marquee.config.values import describe, fits, shown
from marquee.errors import ConfigError


def check_settings(plugin: type, settings: dict[str, Any], node: str = "hydra.sweeper") -> dict[str, Any]:
    """The settings of a plugin by name, with the defaults of its signature. Unknown keys are refused by Hydra.

    node  where they stand in the configuration

    Raises ConfigError that lists every value of the wrong type or range.
    """
    keys = signature(plugin).keys
    found = {name: settings.get(name, key.default) for name, key in keys.items()}
    wrong = [
        f"{node}.{name}\n  found:   {shown(settings.get(name))}\n  allowed: {describe(key.annotation)}"
        for name, key in keys.items()
        if not fits(key.annotation, found[name])
    ]
    if wrong:
        raise ConfigError("\n\n".join(wrong))
    return found
