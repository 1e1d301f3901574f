"""How a service is set: what it serves, where it listens, how it batches, and what it takes at most."""

from dataclasses import dataclass
from pathlib import Path

from marquee.errors import ConfigError

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Settings:
    """The options of `marquee serve`; each is checked where it is read from the command line.

    run, runs    what is served, by name, and the folder in which names are looked for
    shadow       a second run that is asked the same, and not answered with
    recommender  for a run that reads requests: the run whose items are talked about
    catalogue    or a file of items
    token        what `Authorization: Bearer` must say; None: nobody is asked
    host, port   where it listens
    reload       look for a newer run every `reload_seconds`
    force        which takes over also with another protocol, or where it is significantly worse
    batch_rows   rows (users, texts, images) that the model is given at once, at most
    batch_wait   milliseconds that a request waits for others that are on their way, at most
    queue        requests that wait at most; further ones are told to come back (429)
    timeout      seconds until a request is given up (503)
    drain        seconds that answers may take when the service is stopped
    max_body     bytes of a request
    max_rows     users, histories, texts or images in a request
    max_k        items asked for
    max_list     items in a history, of candidates, of exclusions
    max_text     characters of a text
    max_pixels   of an image, before it is decoded
    max_tokens   tokens or frames that a request may have written
    """

    run: str
    runs: Path
    shadow: str | None = None
    recommender: str | None = None
    catalogue: Path | None = None
    token: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    reload: bool = False
    force: bool = False
    reload_seconds: float = 5.0
    batch_rows: int = 64
    batch_wait: float = 2.0
    queue: int = 256
    timeout: float = 30.0
    drain: float = 30.0
    max_body: int = 8_000_000
    max_rows: int = 256
    max_k: int = 1000
    max_list: int = 10_000
    max_text: int = 20_000
    max_pixels: int = 25_000_000
    max_tokens: int = 2000

    def __post_init__(self):
        if self.host not in LOOPBACK and self.token is None:
            raise ConfigError(
                f"--host {self.host}: others than this machine could ask, so a token is needed.\n"
                "  fix: export MARQUEE_TOKEN=$(openssl rand -hex 16), then add --token-env MARQUEE_TOKEN\n"
                "  or leave --host out, which listens to this machine alone"
            )
