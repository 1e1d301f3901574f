"""A configuration of somebody else's can run no command: each way that we know of is refused by name, and none ran."""

import json
import sys

import pytest
import torch
from safetensors.torch import save_file

from marquee.cli.main import main
from marquee.config.build import build
from marquee.config.check import check, problems
from marquee.config.compose import compose, compose_all
from marquee.config.kinds import misfit
from marquee.config.targets import resolve
from marquee.errors import ConfigError, DataError, MarqueeError
from marquee.inference.artefacts import load_model
from marquee.sweeps.clusters import SubmititPool
from marquee.sweeps.worker import run as run_frozen
from marquee.tracking.tracker import Tracker

BASE = ["data=world_ratings", "model=mf/bpr", "tracker=none"]
HANDLER = "torch.distributed.elastic.multiprocessing.subprocess_handler.SubprocessHandler"
SHELL = (  # a class of torch whose constructor starts a process
    f"{{_target_: {HANDLER}, entrypoint: /bin/sh, args: [-c, 'touch MARK'], env: {{}}, stdout: null, stderr: null, "
    "local_rank_id: 0, numa_options: null}"
)
DDP = "pytorch_lightning.strategies.DDPStrategy"
LOG = "hydra.job_logging.handlers"


def tracker(target, rest=""):
    return [f"+tracker.evil={{_target_: '{target}'{rest}}}"]


# name: (words of the command line, what the message names)
ATTACKS = {
    # A class that starts a process, in every place that holds a class
    "tracker": ([f"+tracker.evil={SHELL}"], "tracker.evil"),
    "callback": ([f"+callbacks.evil={SHELL}"], "callbacks.evil"),
    "known callback": ([f"callbacks.early_stopping={SHELL}"], "callbacks.early_stopping"),
    **{group: ([f"{group}._target_={HANDLER}"], group)
       for group in ("data", "split", "task", "model", "optimizer", "scheduler", "trainer")},
    # Nested: below an annotation, in a list, in a mapping, where anything may stand, and deeper
    "view of a model": ([f"model.view={SHELL}"], "model.view"),
    "plain value of a model": ([f"model.dim={SHELL}"], "model.dim"),
    "list of numbers": ([f"task.ks=[{SHELL}]"], "task.ks.0"),
    "root": ([f"seed={SHELL}"], "seed"),
    "list at the root": ([f"tags=[{SHELL}]"], "tags.0"),
    "path": ([f"paths.output={SHELL}"], "paths.output"),
    "strategy": ([f"trainer.strategy={SHELL}"], "trainer.strategy"),
    "list of plugins": ([f"trainer.plugins=[{SHELL}]"], "trainer.plugins.0"),
    "list in a list": ([f"trainer.plugins=[[{SHELL}]]"], "trainer.plugins.0.0"),
    "tensor of an optimizer": ([f"optimizer.lr={SHELL}"], "optimizer.lr"),
    "further argument": ([f"trainer.strategy={{_target_: {DDP}, further: {SHELL}}}"], "trainer.strategy.further"),
    "list in a further argument": (
        [f"trainer.strategy={{_target_: {DDP}, further: [1, {SHELL}]}}"], "trainer.strategy.further.1"),
    "callable": ([f"trainer.strategy={{_target_: {DDP}, ddp_comm_hook: {SHELL}}}"], "trainer.strategy.ddp_comm_hook"),
    "profiler's further argument": (
        [f"trainer.profiler={{_target_: pytorch_lightning.profilers.PyTorchProfiler, activities: [{SHELL}]}}"],
        "trainer.profiler.activities.0"),
    "two below": (
        [f"trainer.strategy={{_target_: {DDP}, checkpoint_io: {{_target_: "
         f"pytorch_lightning.plugins.io.AsyncCheckpointIO, checkpoint_io: {SHELL}}}}}"],
        "trainer.strategy.checkpoint_io.checkpoint_io"),
    # Hydra's instructions
    "_partial_": (["model._partial_=true"], "model._partial_"),
    "_args_": ([f"trainer.strategy={{_target_: {DDP}, _args_: [touch]}}"], "trainer.strategy._args_"),
    "_recursive_": ([f"trainer.strategy={{_target_: {DDP}, _recursive_: false}}"], "trainer.strategy._recursive_"),
    "_convert_": (["callbacks.early_stopping._convert_=all"], "callbacks.early_stopping._convert_"),
    # Names that are put together
    "interpolated": ([f"name={HANDLER}", f"+tracker.evil={SHELL.replace(HANDLER, '${name}')}"], "tracker.evil"),
    "in two halves": (
        [f"name={HANDLER[:20]}", f"sweep={HANDLER[20:]}", f"+tracker.evil={SHELL.replace(HANDLER, '${name}${sweep}')}"],
        "tracker.evil"),
    "interpolated node": ([f"+callbacks.evil={SHELL}", "+tracker.evil=${callbacks.evil}"], "tracker.evil"),
    "oc.env": (["+tracker.evil={_target_: '${oc.env:EVIL}'}"], "tracker.evil"),
    "oc.decode": (["experiment=decode"], "tracker.evil"),
    "oc.create": (["experiment=create"], "tracker.evil"),
    "resolver that evaluates": (["name=${eval:'__import__(\"os\").system(\"touch MARK\")'}"], "eval"),
    # What is no class, or another's class
    **{name: (tracker(name), name) for name in (
        "torch.load", "torch.hub.load", "torch.jit.load", "torch.utils.cpp_extension.load", "torch.compile",
        "torch.utils.model_zoo.load_url", "torch.package.PackageImporter", "torch.utils.data.DataLoader",
        "torch.jit.ScriptModule", "torch.distributed.nn.RemoteModule", "torch.utils.cpp_extension.BuildExtension",
        "pytorch_lightning.loggers.CSVLogger", "pytorch_lightning.loggers.TensorBoardLogger",
        "os.system", "builtins.eval", "subprocess.Popen", "mine_evil.Thing", "hydra.utils.instantiate",
        "lightning_fabric.utilities.cloud_io._load",
    )},
    "module where any may stand": (
        [f"trainer.strategy={{_target_: {DDP}, ddp_comm_hook: {{_target_: torch.fx.GraphModule}}}}"], "ddp_comm_hook"),
    "a file of ours": (tracker("marquee.runs.recording.LogFile", ", filename: MARK"), "tracker.evil"),
    # Through what our own modules have imported, through classes, private names
    "module of a module": (tracker("marquee.runs.code.subprocess.Popen"), "marquee.runs.code.subprocess"),
    "module in a module": (tracker("marquee.runs.code.subprocess"), "not a class"),
    "importlib": (tracker("marquee.config.targets.importlib.import_module"), "importlib"),
    "constructor": (tracker("marquee.models.mf.bpr.BPR.__init__"), "__init__ is private"),
    "class of a class": (tracker("marquee.models.mf.bpr.BPR.__class__"), "__class__ is private"),
    "class within a class": (tracker("marquee.models.mf.bpr.BPR.type"), "marquee.models.mf.bpr.BPR"),
    "loader": (tracker("marquee.models.mf.bpr.__loader__"), "__loader__ is private"),
    "private module": (tracker("torch._C.Node"), "_C is private"),
    "entry point": (tracker("marquee.__main__.Thing"), "__main__ is private"),
    "empty part": (tracker("marquee..Thing"), "marquee..Thing"),
    # Text where something callable is asked for
    "callable as text": (
        ["+callbacks.evil={_target_: pytorch_lightning.callbacks.LambdaCallback, on_fit_start: os.system}"],
        "on_fit_start"),
    "lambda as text": (["scheduler={_target_: torch.optim.lr_scheduler.LambdaLR, lr_lambda: 'lambda e: touch'}"],
                       "lr_lambda"),
    # What Hydra acts on before we do
    "hydra.callbacks": ([f"+hydra.callbacks.evil={SHELL}"], "hydra.callbacks.evil"),
    "hydra.callbacks by ++": ([f"++hydra.callbacks.evil={SHELL}"], "hydra.callbacks.evil"),
    "hydra.callbacks referred to": ([f"+callbacks.evil={SHELL}", "hydra.callbacks=${callbacks}"], "hydra.callbacks"),
    "hydra.launcher": ([f"hydra.launcher._target_={HANDLER}"], "hydra.launcher._target_"),
    "hydra.launcher interpolated": ([f"name={HANDLER}", "hydra.launcher._target_=${name}"], "hydra.launcher._target_"),
    "hydra.launcher nested": ([f"hydra.launcher.n_jobs={SHELL}"], "hydra.launcher.n_jobs"),
    "hydra.launcher nested and referred to": (
        ["experiment=launcher"], "hydra.launcher.n_jobs"),
    "hydra.sweeper": ([f"hydra.sweeper._target_={HANDLER}"], "hydra.sweeper._target_"),
    "hydra.sweeper nested": ([f"+hydra.sweeper.params.seed={SHELL}"], "hydra.sweeper.params.seed"),
    "logging factory": (["experiment=factory"], f"{LOG}.x.()"),
    "logging class": ([f"+{LOG}.x={{class: logging.FileHandler, filename: MARK}}"], f"{LOG}.x.class"),
    "logging class interpolated": (
        ["name=logging.FileHandler", f"+{LOG}.x={{class: '${{name}}', filename: MARK}}"], f"{LOG}.x.class"),
    "logging of Hydra": (["+hydra.hydra_logging.formatters.x={class: evil.X}"], "hydra.hydra_logging.formatters.x"),
    "logging that imports": (
        [f"+{LOG}.x={{class: logging.StreamHandler, stream: 'ext://evil.stream'}}"], f"{LOG}.x.stream"),
    "logging referred to": (["hydra.job_logging.root=${paths}"], "hydra.job_logging.root"),
    "environment": (["+hydra.job.env_set.PATH=/tmp/evil"], "hydra.job.env_set"),
    "search path that imports": (["hydra.searchpath=[pkg://evil]"], "hydra.searchpath"),
    "search path by ++": (["++hydra.searchpath=[pkg://evil]"], "hydra.searchpath"),
    # Files of a folder that came with the attack
    "experiment with callbacks": (["experiment=callbacks"], "hydra.callbacks.evil"),
    "lines of shell": (["experiment=shell"], "hydra.launcher.shell_setup"),
    "options of sbatch": (["hydra/launcher=mine"], "hydra.launcher.additional"),
    "launcher in the name of another": (["hydra/launcher=joblib"], "hydra.launcher._target_"),
    "YAML that makes objects": (["experiment=tagged"], "python/object/apply"),
}  # fmt: skip

FILES = {
    "experiment/callbacks.yaml": f"# @package _global_\nhydra:\n  callbacks:\n    evil: {SHELL}\n",
    "experiment/launcher.yaml": f"# @package _global_\ncallbacks:\n  evil: {SHELL}\n"
    "hydra:\n  launcher:\n    n_jobs: ${callbacks.evil}\n",
    "experiment/factory.yaml": "# @package _global_\nhydra:\n  job_logging:\n    handlers:\n      x:\n"
    "        (): os.system\n        command: touch MARK\n",
    "experiment/decode.yaml": "# @package _global_\ntracker:\n  evil: \"${oc.decode:'{_target_: ${oc.env:EVIL}}'}\"\n",
    "experiment/create.yaml": "# @package _global_\ntracker:\n  evil: ${oc.create:{_target_:os.system}}\n",
    "experiment/tagged.yaml": "# @package _global_\nname: !!python/object/apply:os.system ['touch MARK']\n",
    "experiment/shell.yaml": "# @package _global_\ndefaults:\n  - override /hydra/launcher: slurm\n"
    "hydra:\n  launcher:\n    shell_setup: ['touch MARK']\n",
    "hydra/launcher/mine.yaml": "defaults: [slurm]\nadditional: {export: 'PYTHONPATH=/tmp/evil'}\n",
    "hydra/launcher/joblib.yaml": SHELL + "\n",
}


@pytest.fixture
def mark(tmp_path, monkeypatch):
    """The file that an attack leaves behind where it succeeds; `evil` is a package that leaves it when imported."""
    mark = tmp_path / "MARK"  # as the attacks name it, in the working folder
    for name, text in FILES.items():
        file = tmp_path / "conf" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "__init__.py").write_text(f"open({str(mark)!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MARQUEE_CONF", str(tmp_path / "conf"))
    monkeypatch.setenv("EVIL", HANDLER)
    yield mark
    sys.modules.pop("evil", None)


def node(mark):
    return {"_target_": HANDLER, "entrypoint": "/bin/sh", "args": ("-c", f"touch {mark}"), "env": {}, "stdout": None,
            "stderr": None, "local_rank_id": 0, "numa_options": None}  # fmt: skip


def test_the_class_that_most_attacks_use_would_run_the_command(mark):
    from torch.distributed.elastic.multiprocessing.subprocess_handler import SubprocessHandler

    SubprocessHandler(**{key: value for key, value in node(mark).items() if key != "_target_"}).proc.wait()
    assert mark.exists()


@pytest.fixture(scope="module")
def composed():
    """What composes and sets values only, all at once: Hydra composes the groups once for them."""
    odd = ("hydra", "experiment=", "scheduler=", "eval")
    plain = {name: words for name, (words, _) in ATTACKS.items() if not any(part in str(words) for part in odd)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVIL", HANDLER)
        return dict(zip(plain, compose_all([[*BASE, *words] for words in plain.values()])))


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_by_name_and_nothing_runs(mark, composed, name):
    words, named = ATTACKS[name]
    with pytest.raises(ConfigError) as caught:
        check(composed[name] if name in composed else compose([*BASE, *words]))
    assert named in str(caught.value)
    assert not mark.exists() and "evil" not in sys.modules


@pytest.mark.parametrize(
    ("verb", "attack"),
    [
        *[(["train"], name) for name in ("hydra.callbacks", "experiment with callbacks", "logging class", "environment",
                                         "search path that imports")],
        (["train", "-m"], "hydra.callbacks"),
        (["train", "-m", "hydra/launcher=basic", "seed=1,2"], "experiment with callbacks"),
    ],
)  # fmt: skip
def test_hydra_acts_on_nothing_foreign_before_the_check(mark, capsys, verb, attack):
    words, named = ATTACKS[attack]
    assert main([*verb, *BASE, "paths.output=outputs", *words]) == 2
    assert named in capsys.readouterr().err
    assert not mark.exists() and "evil" not in sys.modules


def test_a_swept_choice_brings_nothing_into_hydras_section(mark, capsys):
    """Under Hydra's own launcher each job's section is composed anew, and acted on."""
    (mark.parent / "conf/experiment/quiet.yaml").write_text("# @package _global_\nname: quiet\n")
    (mark.parent / "conf/experiment/logs.yaml").write_text(
        "# @package _global_\nhydra:\n  job_logging:\n    handlers:\n      x:\n"
        f"        class: logging.FileHandler\n        filename: {mark}\n"
    )
    words = ["train", "-m", *BASE, "hydra/launcher=basic", "experiment=logs,quiet", f"paths.output={mark.parent}"]
    assert main(words) == 2
    assert f"{LOG}.x.class" in capsys.readouterr().err and not mark.exists()


def test_what_is_typed_for_a_cluster_is_the_users_own():
    compose([*BASE, "hydra/launcher=slurm", "hydra.launcher.shell_setup=[module load cuda]",
             "hydra.launcher.additional={constraint: a100}"])  # fmt: skip


@pytest.mark.parametrize("name", ["slurm_partition", "slurm_account", "name"])
def test_no_word_for_a_cluster_becomes_a_line_of_its_script(tmp_path, name):
    pytest.importorskip("submitit")
    with pytest.raises(ConfigError, match=name.removeprefix("slurm_")):
        SubmititPool(tmp_path, "local", 1, 1, {"timeout_min": 1, name: "x\ntouch MARK\n#"})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--experimental-rerun", "pickle"], "marquee rerun"),
        (["--config-name", "other"], "--config-dir FOLDER experiment=other"),
        (["--config-path", "/tmp/other"], "experiment=other"),
        (["-cn", "other"], "conf/train.yaml"),
    ],
)
def test_there_is_one_root_and_no_pickle(mark, capsys, words, said):
    for verb in ("train", "check") if words[0] != "--experimental-rerun" else ("train",):
        assert main([verb, *BASE, *words]) == 2
        assert said in capsys.readouterr().err


# Plug-ins: what the user trusts, and no more ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["os", "subprocess", "torch", "marquee", "lightning_fabric", "builtins", "mine evil"])
def test_a_plugin_is_a_package_of_ones_own(mark, monkeypatch, name):
    monkeypatch.setenv("MARQUEE_PLUGINS", f"mine,{name}")
    with pytest.raises(ConfigError, match=f"MARQUEE_PLUGINS names .?{name}"):
        resolve("subprocess.Popen")


MINE = """
import subprocess
import typing
from collections.abc import Callable
from subprocess import Popen

from marquee.models.base import Model
from marquee.tracking.tracker import Tracker


class Open(Model):
    def __init__(self, *, thing, things: list, other: typing.Any = None, call: Callable = print, **further): ...


class Pretender:
    def __init__(self):
        raise SystemExit("built")


class Says(type(Tracker)):
    def __subclasscheck__(cls, other):
        return True

    def __instancecheck__(cls, other):
        return True


class Judge(metaclass=Says): ...


class Asks(Model):
    def __init__(self, *, judge: Judge): ...


Tracker.register(Pretender)
"""


@pytest.fixture
def mine(mark, monkeypatch):
    """A plug-in that the user trusts and that is careless."""
    for name in ("mine_careless", "mine_careless_evil"):
        (mark.parent / name).mkdir()
        (mark.parent / name / "__init__.py").write_text(MINE)
    monkeypatch.setenv("MARQUEE_PLUGINS", "mine_careless")
    yield "mine_careless"
    for name in ("mine_careless", "mine_careless_evil"):
        sys.modules.pop(name, None)
    resolve.cache_clear()


@pytest.mark.parametrize("key", ["thing", "other", "call", "further", "things"])
def test_where_anything_may_stand_only_known_kinds_stand(mark, mine, key):
    """On Python 3.10 `typing.Any` is no class, and from 3.11 on it is one: neither may decide."""
    good = {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1}
    words = [*BASE[:2], "tracker=none", f"model._target_={mine}.Open"]
    composed = compose(words)
    for inner, right in ((good, True), (node(mark), False), ({"_target_": f"{mine}.Pretender"}, False)):
        value = [inner] if key == "things" else inner
        composed.config["model"] = {"_target_": f"{mine}.Open", "thing": good, "things": [], key: value}
        path = f"model.{key}" + (".0" if key == "things" else "")
        assert any(problem.key.startswith(path) for problem in problems(composed)) != right
        if not right:
            with pytest.raises(ConfigError):
                build(composed.config["model"])
    assert not mark.exists()


def test_neither_register_nor_a_metaclass_says_what_a_class_is(mark, mine):
    pretender = resolve(f"{mine}.Pretender")
    assert issubclass(pretender, Tracker) and misfit(pretender, Tracker)
    judged = {"_target_": f"{mine}.Asks", "judge": node(mark)}
    with pytest.raises(ConfigError, match="a sub-class of mine_careless.Judge"):
        build(judged)
    assert not mark.exists()


def test_a_package_of_a_similar_name_and_what_a_plugin_imports_are_not_trusted(mine):
    for target in (f"{mine}_evil.Pretender", f"{mine}.subprocess.Popen", f"{mine}.Popen"):
        with pytest.raises(ConfigError):
            resolve(target)
    assert "mine_careless_evil" not in sys.modules


# Past the check: what was recorded or frozen elsewhere ---------------------------------------------------------------


def test_building_refuses_what_the_check_refuses(mark):
    nested = {"_target_": DDP, "checkpoint_io": node(mark)}
    for evil in (
        node(mark), nested, {"_target_": DDP, "further": {"deep": [node(mark)]}}, {"_target_": DDP, "_args_": ["x"]},
        {"_target_": "marquee.runs.recording.LogFile", "filename": str(mark)},
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            build(evil)
    assert not mark.exists()


@pytest.mark.parametrize("place", ["data", "split"])
def test_a_frozen_job_of_somebody_elses_runs_nothing(mark, capsys, place):
    config = compose([*BASE, f"paths.cache={mark.parent}"]).config
    file = mark.parent / "jobs" / "0000.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"config": {**config, place: node(mark)}, "overrides": [], "code": None}))
    assert run_frozen(file) == 2
    assert HANDLER in capsys.readouterr().err and not mark.exists()


@pytest.mark.parametrize("key, value", [("dim", -1), ("init_std", -1.0), ("dim", "x")])
def test_a_model_that_cannot_be_built_is_told_with_its_file(tmp_path, key, value):
    view = {"_target_": "marquee.data.interactions.views.Pairs", "batch_size": 8}
    spec = {"kind": "InteractionSpec", "n_users": 2, "n_items": 3}
    model = {"_target_": "marquee.models.mf.bpr.BPR", "view": view, key: value}
    (tmp_path / "model.json").write_text(json.dumps({"format": 2, "model": model, "spec": spec}))
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=r"model\.json: marquee\.models\.mf\.bpr\.BPR cannot be built"):
        load_model(tmp_path)


def test_an_inference_folder_of_somebody_elses_runs_nothing(mark):
    content = {"format": 2, "model": node(mark), "spec": {"kind": "TextSpec"}, "predictor": HANDLER}
    (mark.parent / "model.json").write_text(json.dumps(content))
    save_file({"x": torch.zeros(1)}, mark.parent / "model.safetensors")
    with pytest.raises(MarqueeError):
        load_model(mark.parent)
    assert not mark.exists()


# What remains -------------------------------------------------------------------------------------------------------

PLUGINS = "pytorch_lightning.plugins"
GOOD = {
    "strategy": [f"trainer.strategy={{_target_: {DDP}, find_unused_parameters: true, static_graph: true}}"],
    "arguments of a strategy": [
        f"trainer.strategy={{_target_: {DDP}, cluster_environment: {{_target_: "
        f"{PLUGINS}.environments.LightningEnvironment}}, checkpoint_io: {{_target_: {PLUGINS}.io.TorchCheckpointIO}}}}"
    ],
    "plugins of the Trainer": [f"trainer.plugins=[{{_target_: {PLUGINS}.environments.SLURMEnvironment}}]"],
    "profiler": ["trainer.profiler={_target_: pytorch_lightning.profilers.SimpleProfiler, filename: times}"],
    "profiler with further arguments": [
        "trainer.profiler={_target_: pytorch_lightning.profilers.PyTorchProfiler, with_stack: true}"
    ],
    "callbacks of Lightning": [
        "+callbacks.mean={_target_: pytorch_lightning.callbacks.StochasticWeightAveraging, swa_lrs: 0.01}",
        "+callbacks.bar={_target_: pytorch_lightning.callbacks.RichProgressBar, theme: {_target_: "
        "pytorch_lightning.callbacks.progress.rich_progress.RichProgressBarTheme, description: red}}",
    ],
    "settings of Hydra": ["hydra.launcher.n_jobs=2", "hydra/job_logging=stdout", "+hydra.job.env_copy=[PATH]"],
    "Hydra's own launcher": ["hydra/launcher=basic", "hydra/sweeper=basic"],
    "interpolations": ["tags=['${oc.env:EVIL}','${split._target_}']", "name=${oc.decode:text}"],
}


@pytest.mark.parametrize("words", GOOD.values(), ids=GOOD.keys())
def test_what_is_harmless_is_sound(mark, words):
    check(compose([*BASE, *words]))
