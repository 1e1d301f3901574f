"""Addresses of run folders and logs, as seen from the folder that the page lies in."""

import os
from pathlib import Path
from urllib.parse import quote


class Link:
    """Relative addresses from the folder of the page, where both lie on one drive."""

    def __init__(self, page: Path | None):
        self.page = page

    def to(self, target: Path | None) -> str | None:
        """None for what does not exist."""
        if target is None or not target.exists():
            return None
        try:
            relative = os.path.relpath(target.resolve(), (self.page or Path.cwd()).resolve())
        except ValueError:  # another drive
            return target.resolve().as_uri()
        return quote(Path(relative).as_posix() + ("/" if target.is_dir() else ""))
