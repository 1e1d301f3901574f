"""The same application on a Ray cluster: replicas behind Ray Serve, each with a model and a queue of its own."""

import logging
import os
import signal
import threading
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from marquee.errors import ConfigError, JobError
from marquee.runs.finding import find_run
from marquee.serving.served import open_served
from marquee.serving.server import bound
from marquee.serving.settings import LOOPBACK, Settings

NAME = "marquee"


def serve(settings: Settings, replicas: int) -> None:
    """Serve on the cluster of RAY_ADDRESS, or on one of this machine that is begun and ended here.

    Replicas read the run's folder, so they must see it. With `reload` each of them looks for newer runs by itself.
    Raises ConfigError, DataError and JobError as a service of one process does, and JobError where Ray fails.
    """
    if any(find_spec(name) is None for name in ("ray", "grpc_reflection")):
        raise ConfigError("--engine ray needs Ray Serve, which is not installed: pip install 'marquee[serve-ray]'")
    settings = _anywhere(settings)
    if settings.port == 0:
        with bound(settings.host, 0) as free:
            settings = replace(settings, port=free.getsockname()[1])
    bound(settings.host, settings.port).close()
    served = open_served(find_run(settings.run, settings.runs), settings.recommender, settings.catalogue, settings.runs)
    print(f"{served.folder.name} {served.predictor.does}: starting {replicas} replicas on Ray", flush=True)
    ended = threading.Event()
    import ray
    from ray import serve as ray_serve

    cluster = os.environ.get("RAY_ADDRESS")
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    try:
        ray.init(address=cluster, include_dashboard=None if cluster else False, log_to_driver=False,
                 logging_level="ERROR")  # fmt: skip
        for number in (signal.SIGINT, signal.SIGTERM):  # now, because Ray has put handlers of its own in their place
            signal.signal(number, lambda *_: ended.set())
        ray_serve.start(http_options={"host": settings.host, "port": settings.port,
                                      "request_timeout_s": 2 * settings.timeout},
                        logging_config={"log_level": "WARNING", "enable_access_log": False})  # fmt: skip
        ray_serve.run(application(settings, replicas), name=NAME, route_prefix="/")
    except Exception as error:
        _end()
        raise JobError(f"Ray could not serve {served.folder.name}: {str(error)[:500]}") from error
    address = f"http://{settings.host}:{settings.port}"
    print(f"  a page to try it: {address}/   endpoints: {address}/docs   stop: Ctrl-C", flush=True)
    try:
        while not ended.wait(0.5):  # a wait without end would keep the signals away
            pass
    finally:
        _end()
    print("stopped", flush=True)


def application(settings: Settings, replicas: int) -> Any:
    """What Ray Serve runs: each replica builds the service for itself."""
    from ray import serve as ray_serve

    def build_here() -> Any:
        from marquee.serving.app import build
        from marquee.serving.service import Service

        return build(Service(settings))

    class Replica:
        """Nothing of its own: the application has all of it."""

    return ray_serve.deployment(
        ray_serve.ingress(build_here)(Replica),
        name=NAME,
        num_replicas=replicas,
        max_ongoing_requests=settings.queue,
        graceful_shutdown_timeout_s=settings.drain,
        ray_actor_options={"num_cpus": 1},
    ).bind()


def _anywhere(settings: Settings) -> Settings:
    """The same with paths that hold in every process."""
    runs = settings.runs.resolve()
    if settings.host == "localhost":
        settings = replace(settings, host=LOOPBACK[0])
    if settings.reload:
        return replace(settings, runs=runs)
    return replace(settings, runs=runs, run=str(find_run(settings.run, runs)))


def _end() -> None:
    import ray
    from ray import serve as ray_serve

    if ray.is_initialized():
        ray_serve.delete(NAME, _blocking=True) if os.environ.get("RAY_ADDRESS") else ray_serve.shutdown()
        ray.shutdown()
