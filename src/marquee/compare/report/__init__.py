"""A comparison drawn: the figures, and the page that holds them beside the tables."""

from importlib.util import find_spec

from marquee.errors import ConfigError

PACKAGES = ("altair", "jinja2", "vl_convert")


def need_report() -> None:
    """Check that the extra `report` is installed. Raises ConfigError that says what to type where it is not."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"Pages and figures need packages that are not installed: {', '.join(missing)}.\n"
            "  fix:     pip install 'marquee[report]'"
        )
