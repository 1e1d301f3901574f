"""The verb `serve`: a finished run as a service."""

import argparse
import os
from importlib.util import find_spec
from pathlib import Path

from marquee.cli.arguments import Verb, positive, runs_option
from marquee.errors import ConfigError

NEEDED = ("fastapi", "uvicorn", "prometheus_client")


def add_verbs(verb: Verb) -> None:
    parser = runs_option(verb(
        "serve", _serve, "marquee serve latest", "marquee serve ml1m --reload --shadow 3fa9c1d2",
        "marquee serve latest --host 0.0.0.0 --token-env MARQUEE_TOKEN",
        "curl localhost:8000/v1/recommend -H 'content-type: application/json' -d '{\"user\": 1, \"k\": 5}'",
        note="A page to try it is at /, all endpoints are at /docs. It is ready (/ready) when the golden requests\n"
             "come out as at training. Ctrl-C or SIGTERM: what is under way is answered; SIGHUP: reload.",
    ))  # fmt: skip
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: this machine alone)")
    parser.add_argument("--port", type=_port, default=8000, help="default 8000; 0: one that is free")
    parser.add_argument("--token-env", metavar="NAME", help="environment variable with the token that is asked for")
    parser.add_argument("--reload", action="store_true",
                        help="let newer finished runs that RUN names take over, if they are no worse")  # fmt: skip
    parser.add_argument("--force", action="store_true",
                        help="with --reload: also with another protocol, or significantly worse")  # fmt: skip
    parser.add_argument("--shadow", metavar="RUN", help="ask this run the same, and count how much the lists overlap")
    parser.add_argument("--recommender", metavar="RUN", help="for a run of data=world_requests: what it talks about")
    parser.add_argument("--catalogue", type=Path, metavar="FILE", help="likewise, a file of items")
    parser.add_argument("--engine", choices=("local", "ray"), default="local",
                        help="ray: replicas on a cluster (RAY_ADDRESS, else one on this machine)")  # fmt: skip
    parser.add_argument("--replicas", type=positive, default=None, help="ray: how many (default 1)")
    limits = parser.add_argument_group("limits")
    for name, default, kind, told in (
        ("batch-rows", 64, positive, "rows that the model is given at once, at most"),
        ("batch-wait", 2.0, _milliseconds, "milliseconds that a request waits for others on their way, at most"),
        ("queue", 256, positive, "requests that wait at most; others are told to come back (429)"),
        ("timeout", 30.0, _seconds, "seconds until a request is given up (503)"),
        ("drain", 30.0, _seconds, "seconds that answers may take when the service is stopped"),
        ("reload-seconds", 5.0, _seconds, "how often --reload looks for newer runs"),
        ("max-body", 8_000_000, positive, "bytes of a request"),
        ("max-rows", 256, positive, "users, histories, texts or images of a request"),
        ("max-k", 1000, positive, "items asked for"),
        ("max-list", 10_000, positive, "items of a history, of candidates, of exclusions"),
        ("max-text", 20_000, positive, "characters of a text"),
        ("max-pixels", 25_000_000, positive, "pixels of an image"),
        ("max-tokens", 2000, positive, "tokens or frames that a request may have written"),
    ):
        limits.add_argument(f"--{name}", type=kind, default=default, metavar="N", help=f"{told} (default {default:,})")


def _serve(parsed: argparse.Namespace) -> None:
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise ConfigError(f"serve needs {missing[0]}, which is not installed: pip install 'marquee[serve]'")
    if parsed.engine == "local" and parsed.replicas is not None:
        raise ConfigError("--replicas is for --engine ray: one process owns the model here.")
    if parsed.force and not parsed.reload:
        raise ConfigError("--force is for --reload, by which newer runs take over.\n  fix: add --reload")
    from marquee.runs.threads import set_threads
    from marquee.serving.settings import Settings

    limits = ("batch_rows", "batch_wait", "queue", "timeout", "drain", "reload_seconds", "max_body", "max_rows",
              "max_k", "max_list", "max_text", "max_pixels", "max_tokens")  # fmt: skip
    settings = Settings(
        parsed.run, parsed.runs, parsed.shadow, parsed.recommender, parsed.catalogue, _token(parsed.token_env),
        parsed.host, parsed.port, parsed.reload, parsed.force, **{name: getattr(parsed, name) for name in limits},
    )  # fmt: skip
    set_threads({})
    if parsed.engine == "ray":
        from marquee.serving.on_ray import serve
    else:
        from marquee.serving.server import serve
    serve(settings) if parsed.engine == "local" else serve(settings, parsed.replicas or 1)


def _token(name: str | None) -> str | None:
    """What stands in the environment. Raises ConfigError for nothing, or for what cannot stand in a header."""
    if name is None:
        return None
    token = os.environ.get(name, "")
    if not token.strip():
        raise ConfigError(
            f"--token-env {name}: the environment has no {name}.\n  fix: export {name}=$(openssl rand -hex 16)"
        )
    if not (token.isascii() and token.isprintable()) or token != token.strip():
        raise ConfigError(f"--token-env {name}: a token is printable ASCII without blanks at its ends.")
    return token


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text} is no port, 0 ... 65535")
    return int(text)


def _seconds(text: str) -> float:
    value = _milliseconds(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _milliseconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 86_400_000:
        raise argparse.ArgumentTypeError(f"{text} is no number of 0 or more")
    return value
