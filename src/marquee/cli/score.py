"""The verb `score`."""

from marquee.cli.arguments import Verb


def add_verbs(verb: Verb) -> None:
    verb("score", None, "marquee score latest --input in --output out")
