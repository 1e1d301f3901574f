"""Which classes a configuration may name, and which keys each of them takes: the signature is the schema."""

import importlib
import inspect
import os
import pkgutil
import sys
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal

from marquee.config.former import MOVED
from marquee.errors import ConfigError

PREFIXES = ("marquee", "torch", "pytorch_lightning", "torchmetrics")

# Packages whose classes Lightning offers as its own.
LENT = ("lightning_fabric", "lightning_utilities")

# Keys that the framework itself takes from the node of a foreign class, beside those of its signature.
OWN = {
    "torch.optim.lr_scheduler.LRScheduler": {"interval": (Literal["epoch", "step"], "epoch")},
    "torch.optim.lr_scheduler.ReduceLROnPlateau": {},  # it goes by validations
}

# Parameters of foreign classes that the framework supplies. Our own classes say it by position: what stands before
# `*` is supplied, what stands behind it is a key.
SUPPLIED = {
    "torch.optim.optimizer.Optimizer": ("params",),
    "torch.optim.lr_scheduler.LRScheduler": ("optimizer",),
    "torch.optim.lr_scheduler.ReduceLROnPlateau": ("optimizer", "mode"),
    "pytorch_lightning.trainer.trainer.Trainer": (
        "callbacks",
        "logger",
        "default_root_dir",
        "enable_checkpointing",
        "use_distributed_sampler",
    ),
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint": ("dirpath",),
}


@dataclass(frozen=True)
class Parameter:
    """One key that a class takes."""

    name: str
    annotation: Any
    required: bool
    default: Any = None


@dataclass(frozen=True)
class Signature:
    """What a class takes: `supplied` comes from the framework, `keys` from YAML; `open` means any key (**kwargs)."""

    supplied: Mapping[str, Any]
    keys: Mapping[str, Parameter]
    open: bool


def plugins() -> tuple[str, ...]:
    """The packages that MARQUEE_PLUGINS names (separated by commas); the working folder is on their path.

    Raises ConfigError for a name that is no package of the user's own.
    """
    names = tuple(name.strip() for name in os.environ.get("MARQUEE_PLUGINS", "").split(",") if name.strip())
    for name in names:
        top = name.split(".")[0]
        if not all(map(str.isidentifier, name.split("."))):
            raise ConfigError(f"MARQUEE_PLUGINS names {name!r}, which is no name of a package, such as mine.")
        if top in (*PREFIXES, *LENT, *sys.builtin_module_names) or top in sys.stdlib_module_names:
            raise ConfigError(f"MARQUEE_PLUGINS names {name}, which is no package of yours; leave it out.")
    if names and os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    return names


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that was probably meant, or None."""
    candidates = list(candidates)
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    near = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    if near:
        return by_lower[near[0]]
    leaves = {candidate.lower().split("/")[-1]: candidate for candidate in candidates}
    near = get_close_matches(name.lower().split("/")[-1], leaves, n=1, cutoff=0.6)
    return leaves[near[0]] if near else None


@cache
def resolve(target: str) -> type:
    """The class that a `_target_` names.

    Raises ConfigError where the name is outside the whitelist, cannot be imported or is not a class.
    """
    if not isinstance(target, str) or "." not in target:
        raise ConfigError(f"{target!r} is not the dotted name of a class, such as marquee.models.mf.bpr.BPR.")
    if target in MOVED:
        raise ConfigError(f"{target} is {MOVED[target]} now.")
    if not _allowed(target):
        lightning = target.replace("lightning.pytorch.", "pytorch_lightning.", 1)
        raise ConfigError(
            f"{target} may not be instantiated: a class must come from {', '.join(p + '.' for p in PREFIXES)} or from "
            f"a package of your own that MARQUEE_PLUGINS names (now {', '.join(plugins()) or 'none'})."
            + (f" Did you mean {lightning}?" if lightning != target else "")
        )
    if private := [part for part in target.split(".") if not part.isidentifier() or part.startswith("_")]:
        raise ConfigError(f"{target} may not be instantiated: {private[0] or 'a part of its name'} is private.")
    module_name, _, class_name = target.rpartition(".")
    module = _module(module_name, target)
    if not hasattr(module, class_name):
        classes = [name for name, value in vars(module).items() if inspect.isclass(value)]
        raise ConfigError(f"{module_name} has no class {class_name}.{_did_you_mean(class_name, classes)}")
    found = getattr(module, class_name)
    if not inspect.isclass(found):
        raise ConfigError(f"{target} is not a class but {type(found).__name__}; only classes can be built.")
    # A whitelisted module may have imported anything: `marquee.x.Popen` must not reach `subprocess.Popen`.
    if not _allowed(found.__module__ + ".", *LENT):
        raise ConfigError(f"{target} is {found.__module__}.{found.__qualname__}, which may not be instantiated.")
    return found


def is_own(target: type) -> bool:
    """Whether a class is Marquee's or a plug-in's, and not another package's."""
    return any(f"{target.__module__}.".startswith(f"{name}.") for name in (PREFIXES[0], *plugins()))


def _allowed(name: str, *further: str) -> bool:
    return any(name.startswith(prefix + ".") for prefix in (*PREFIXES, *plugins(), *further))


def _module(name: str, target: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name != missing and not name.startswith(missing + "."):
            raise ConfigError(
                f"{target} cannot be imported: it needs the package {missing}, which is not installed "
                f"(pip install {missing.split('.')[0]})."
            ) from error
        parent_name, _, leaf = missing.rpartition(".")
        try:
            parent = importlib.import_module(parent_name) if parent_name else None
            siblings = [module.name for module in pkgutil.iter_modules(getattr(parent, "__path__", []))]
        except ImportError:
            siblings = []
        raise ConfigError(
            f"{target} cannot be imported: there is no module {missing}.{_did_you_mean(leaf, siblings)}"
        ) from error
    except Exception as error:  # a plug-in's own mistake, reported as the configuration's
        raise ConfigError(f"{target} cannot be imported: {type(error).__name__}: {error}") from error


def _did_you_mean(name: str, candidates: list[str]) -> str:
    near = closest(name, candidates)
    return f" Did you mean {near}?" if near else ""


@cache
def signature(target: type) -> Signature:
    """The keys of a class by the rules at the top of this file."""
    own = is_own(target)
    names = {name for base in target.__mro__ for name in SUPPLIED.get(f"{base.__module__}.{base.__qualname__}", ())}
    hints = _hints(target)
    supplied: dict[str, Any] = {}
    keys: dict[str, Parameter] = {}
    is_open = False
    for parameter in inspect.signature(target).parameters.values():
        annotation = hints.get(parameter.name, Any)
        if parameter.kind is parameter.VAR_KEYWORD:
            is_open = True
        elif parameter.kind is parameter.VAR_POSITIONAL:
            continue
        elif parameter.name in names or (own and parameter.kind is not parameter.KEYWORD_ONLY):
            supplied[parameter.name] = annotation
        else:
            required = parameter.default is parameter.empty
            keys[parameter.name] = Parameter(
                parameter.name, annotation, required, None if required else parameter.default
            )
    own_keys = (OWN[name] for base in target.__mro__ if (name := f"{base.__module__}.{base.__qualname__}") in OWN)
    for name, (annotation, default) in next(own_keys, {}).items():
        keys[name] = Parameter(name, annotation, required=False, default=default)
    # The task says what a callback watches where YAML is silent, so `monitor` is never missing.
    if not own and "monitor" in keys:
        keys["monitor"] = Parameter("monitor", keys["monitor"].annotation, required=False)
    return Signature(supplied, keys, is_open)


def _hints(target: type) -> dict[str, Any]:
    """Resolved annotations of the constructor; a foreign one that cannot be resolved counts as Any."""
    for source in (target.__init__, target):
        try:
            hints = typing.get_type_hints(source, include_extras=True)
        except Exception:  # names under TYPE_CHECKING, or a metaclass that hides the signature
            continue
        if set(hints) - {"return"}:
            return hints
    return {}
