"""Marquee's sweepers as Hydra finds them. Hydra imports this file at every start, so it holds names and no work."""

from typing import Annotated, Any, Literal

from annotated_types import Ge, MinLen
from hydra.plugins.sweeper import Sweeper


class _MarqueeSweeper(Sweeper):
    """What both sweepers share: a launcher that composes, checks and runs what it is given."""

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        from hydra.core.plugins import Plugins
        from omegaconf import OmegaConf

        from marquee.sweeps.settings import check_settings

        self.config = config
        self.settings = check_settings(type(self), OmegaConf.to_container(config.hydra.sweeper))
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )


class GridSweeper(_MarqueeSweeper):
    """Every combination, all of them in one batch."""

    def __init__(self, *, zip: list[Any] | None = None, params: dict[str, Any] | None = None):
        pass  # `setup` checks and keeps what stands in the configuration

    def sweep(self, arguments: list[str]) -> Any:
        from marquee.sweeps.grid import expand

        return self.launcher.launch(expand(arguments, self.settings["zip"] or (), self.settings["params"]), 0)


class OptunaSweeper(_MarqueeSweeper):
    """Trials that Optuna proposes, a batch at a time."""

    def __init__(
        self,
        *,
        n_trials: Annotated[int, Ge(1)] = 20,
        space: Annotated[str, MinLen(1)] | None = None,
        sampler: Literal["tpe", "cmaes", "random", "grid"] = "tpe",
        seed: Annotated[int, Ge(0)] = 1,
        objectives: Annotated[list[str], MinLen(1)] | str | None = None,
        pruner: Literal["none", "median", "hyperband"] = "none",
        storage: Annotated[str, MinLen(1)] | None = None,
        study: Annotated[str, MinLen(1)] | None = None,
    ):
        pass  # as above

    def sweep(self, arguments: list[str]) -> Any:
        from marquee.search.search import search

        return search(arguments, self.settings, self.config, self.launcher)
