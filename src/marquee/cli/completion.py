"""Tab completion in bash, zsh and fish: Hydra's own, told of our verbs and of the choices within a group."""

import contextlib
import io
import os
import sys
from collections.abc import Iterable

from marquee.cli.composing import run_hydra
from marquee.config.folders import groups, options


def complete(words: list[str], verbs: Iterable[str]) -> int:
    """Tab completion: the shell calls `marquee -sc query=bash` with the line so far in COMP_LINE."""
    line = os.environ.get("COMP_LINE", "")
    typed = line.split()
    asks = any(word.startswith("query=") for word in words)
    if asks:
        if len(typed) < 2 or (len(typed) == 2 and not line.endswith(" ")):
            print(" ".join(verbs))
            return 0
        if typed[1] not in ("train", "check"):
            return 0
        os.environ["COMP_LINE"] = line.replace(f" {typed[1]}", "", 1)  # Hydra knows no verbs
    argv = sys.argv
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            run_hydra([argv[0], *words], lambda node: None)
    finally:
        sys.argv = argv
    if not asks:
        print(printed.getvalue(), end="")
        return 0
    # Hydra takes model/mf for a group of its own (model/mf=bpr); ours are choices within a group (model=mf/bpr).
    word = "" if line.endswith(" ") else typed[-1]
    group, equals, _ = word.partition("=")
    ours = [f"{group}={option}" for option in options(group)] if equals and group in groups() else []
    ours += [f"{name}=" for name in groups() if not equals and name not in ("hydra", "search") and options(name)]
    theirs = [found for found in printed.getvalue().split() if equals or "/" not in found]
    print(" ".join(sorted({found for found in [*ours, *theirs] if found.startswith(word)})))
    return 0
