"""The command line: exit codes, one clean message, nothing heavy imported for help and listings, and sweeps."""

import json
import os
import subprocess
import sys
import types

import pytest
import yaml

from marquee import runs
from marquee.cli import composing, train, use
from marquee.cli.main import main
from marquee.errors import DataError, JobError
from marquee.runs.record import Run
from marquee.runs.threads import set_threads

HEAVY = ("torch", "pytorch_lightning", "pandas", "wandb", "torchmetrics")


@pytest.fixture(autouse=True)
def same_environment_afterwards():
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def output(tmp_path):
    for number in (1, 2):
        run = Run.create(tmp_path, f"{number}" * 64, "world", {"config": {"seed": number}, "seed": number})
        run.finish("finished", metrics={"test/ndcg@10": 0.1})
    return tmp_path


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """A stand-in for training that records what it is asked for; models whose dim is 13 fail."""
    calls = []

    def train(config, overrides, resume=None):
        calls.append((config, overrides, resume))
        if config["model"].get("dim") == 13:
            raise JobError("the loss became NaN")
        return {
            "status": "finished",
            "config": config,
            "metrics": {"test/ndcg@10": config["seed"] / 10},
            "monitor": "ndcg@10",
        }

    module = types.ModuleType("marquee.runs.train")
    module.train = train
    monkeypatch.setitem(sys.modules, "marquee.runs.train", module)
    monkeypatch.setattr(runs, "train", module, raising=False)
    monkeypatch.setenv("MARQUEE_OUTPUT", str(tmp_path / "out"))
    return calls


def run(*words, **environment):
    script = (
        "import sys, json; from marquee.cli.main import main; code = main(sys.argv[1:]);"
        f"print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]), file=sys.stderr); sys.exit(code)"
    )
    return subprocess.run(
        [sys.executable, "-c", script, *words],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.parametrize(
    "words",
    [["--help"], ["train", "--help"], ["train", "--cfg", "job"], ["train", "--info", "defaults"], ["ls"],
     ["show", "latest"], ["diff", "1", "2"], ["recommend", "--help"], ["--version"]],
)  # fmt: skip
def test_help_and_listings_import_nothing_heavy(words, output):
    done = run(*words, MARQUEE_OUTPUT=str(output))
    if words[-1] in ("--help", "--version") and words[0] != "train":
        script = "import sys; from marquee.cli.main import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        script += f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
        done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().splitlines()[-1] == "[]"
    assert done.stdout


def test_train_help_names_choices_as_they_are_typed(capsys):
    assert main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    assert "mf/bpr" in text
    assert "max_epochs:" in text


def test_cfg_shows_the_composed_configuration(capsys):
    assert main(["train", "--cfg", "job", "data=imdb", "seed=7", "trainer=smoke"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert (config["seed"], config["trainer"]["max_epochs"]) == (7, 1)


def test_a_mistake_is_one_message_and_exit_code_2(capsys):
    assert main(["train", "model=mf/bprr"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: model=mf/bprr")
    assert "Traceback" not in captured.err


def test_check_and_train_report_the_same(capsys, trained):
    words = ["data=movielens_100k", "model=mf/bpr", "model.dmi=3", "trainer.max_epochs=abc"]
    assert main(["check", *words]) == 2
    told = capsys.readouterr().err
    assert main(["train", *words]) == 2
    assert capsys.readouterr().err == told
    assert trained == []


def test_exit_codes_of_data_job_interrupt_and_debugging(monkeypatch, capsys):
    def failing(error):
        def act(words):
            raise error

        return act

    for error, code in ((DataError("no file"), 3), (JobError("NaN"), 4), (KeyboardInterrupt(), 130)):
        monkeypatch.setattr(train, "train", failing(error))
        assert main(["train"]) == code
    assert "no file" in capsys.readouterr().err
    monkeypatch.setenv("MARQUEE_DEBUG", "1")
    monkeypatch.setattr(train, "train", failing(JobError("NaN")))
    with pytest.raises(JobError):
        main(["train"])


def test_an_unknown_verb_names_the_closest(capsys):
    assert main(["trian"]) == 2
    assert "marquee train" in capsys.readouterr().err


def test_train_gets_the_resolved_configuration_and_the_words_as_typed(trained):
    assert main(["train", "model=mf/bpr", "model.dim=3", "+trainer.max_steps=5"]) == 0
    ((config, overrides, resume),) = trained
    assert (config["model"]["dim"], config["trainer"]["max_steps"], resume) == (3, 5, None)
    assert overrides == ["model=mf/bpr", "model.dim=3", "trainer.max_steps=5"]
    assert "hydra" not in config


def test_training_leaves_none_of_hydras_files(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train"]) == 0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_sweep_checks_every_job_before_the_first_starts(trained, capsys):
    assert main(["train", "-m", "data=movielens_100k", "model=mf/bpr,cnn/poster", "seed=1,-2"]) == 2
    told = capsys.readouterr().err
    assert "No job of the sweep was started" in told
    assert "cnn/poster" in told
    assert "integer >= 0" in told
    assert trained == []


def test_each_job_of_a_sweep_can_be_repeated_by_its_own_words(trained, monkeypatch):
    seen = []
    original = composing.run_job
    monkeypatch.setattr(composing, "run_job", lambda composed: (seen.append(sys.argv[1:]), original(composed))[1])
    before = list(sys.argv)
    assert main(["train", "-m", "seed=1,2", "hydra/launcher=basic"]) == 0
    assert seen == [["train", "seed=1"], ["train", "seed=2"]]
    assert sys.argv == before


def test_resume_takes_the_runs_configuration_and_few_changes(trained, tmp_path, capsys):
    from marquee.config.compose import compose

    config = compose(["model=mf/bpr", "model.dim=5", "trainer.max_epochs=2", "tracker=none"]).config
    run = Run.create(tmp_path / "out", "a" * 64, "world", {"config": config})
    assert main(["train", "resume=aaaa", "trainer.max_epochs=9", "tracker=tensorboard"]) == 0
    ((config, _, folder),) = trained
    assert folder == run.folder.resolve()
    assert (config["model"]["dim"], config["trainer"]["max_epochs"], list(config["tracker"])) == (5, 9, ["tensorboard"])
    assert config["resume"] is None
    assert main(["train", "resume=aaaa", "model.dim=6", "seed=3"]) == 2
    assert "model.dim=6, seed=3" in capsys.readouterr().err
    assert main(["train", "resume=bbbb"]) == 2
    assert "no run bbbb" in capsys.readouterr().err


def test_a_folder_of_ones_own_is_searched(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("MARQUEE_CONF", "")
    (tmp_path / "own" / "trainer").mkdir(parents=True)
    (tmp_path / "own" / "trainer" / "short.yaml").write_text("defaults:\n  - default\n  - _self_\nmax_epochs: 3\n")
    assert main(["train", "--config-dir", str(tmp_path / "own"), "trainer=short"]) == 0
    assert trained[0][0]["trainer"]["max_epochs"] == 3
    assert main(["train", "--config-dir", "/no/such", "trainer=short"]) == 2


def test_threads_are_set_before_torch_is_imported():
    script = (
        "import os, sys\n"
        "from marquee.runs.threads import set_threads\n"
        "set_threads({'threads': 3})\n"
        "assert 'torch' not in sys.modules\n"
        "print(os.environ['OMP_NUM_THREADS'], os.environ['OMP_WAIT_POLICY'], os.environ['GOMP_SPINCOUNT'])\n"
    )
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OMP", "MKL", "GOMP"))}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=clean, check=True)
    assert done.stdout.split() == ["3", "PASSIVE", "0"]


def test_matrix_products_get_the_same_number_of_threads_as_all_else(monkeypatch):
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    set_threads({"threads": None})
    assert os.environ["MKL_NUM_THREADS"] == "1"


def test_the_users_own_thread_settings_stand(monkeypatch):
    for name, value in (
        ("OMP_NUM_THREADS", "5"),
        ("MKL_NUM_THREADS", "5"),
        ("OMP_WAIT_POLICY", "ACTIVE"),
        ("GOMP_SPINCOUNT", "9"),
    ):
        monkeypatch.setenv(name, value)
    set_threads({"threads": None})
    assert (os.environ["OMP_NUM_THREADS"], os.environ["OMP_WAIT_POLICY"], os.environ["GOMP_SPINCOUNT"]) == (
        "5",
        "ACTIVE",
        "9",
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [("marquee tr", "train"), ("marquee train optim", "optimizer="), ("marquee train optimizer=ad", "optimizer=adam"),
     ("marquee check trainer.max_ep", "trainer.max_epochs="), ("marquee train model=mf/", "model=mf/bpr"),
     ("marquee train mod", "model="), ("marquee train model=mf/bpr trainer=s", "trainer=smoke")],
)  # fmt: skip
def test_tab_completion(line, expected, monkeypatch, capsys):
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setattr(sys, "argv", ["marquee", "-sc", "query=bash"])
    assert main(["-sc", "query=bash"]) == 0
    assert expected in capsys.readouterr().out.split()


def test_recommend_and_predict_parse_their_arguments(output, monkeypatch):
    seen = []
    for verb in ("recommend", "predict"):
        monkeypatch.setattr(use, verb, seen.append)
    runs = ["--runs", str(output)]
    assert main(["recommend", "latest", "--history", "Heat (1995)", "Toy Story (1995)", "-k", "5", *runs]) == 0
    assert (seen[-1].history, seen[-1].k, seen[-1].folder.name) == (
        ["Heat (1995)", "Toy Story (1995)"],
        5,
        "22222222-world",
    )
    assert main(["recommend", "1", "--user", "7", *runs]) == 0
    assert (seen[-1].user, seen[-1].like, seen[-1].folder.name) == (["7"], None, "11111111-world")
    assert main(["predict", "latest", "--input", "a.csv", "--output", "b.parquet", *runs]) == 0
    assert (str(seen[-1].input), str(seen[-1].output), seen[-1].text) == ("a.csv", "b.parquet", None)
    for words in (["recommend", "latest"], ["recommend", "latest", "--user", "1", "--like-text", "a"]):
        assert main(words) == 2
    for words in (
        ["recommend", "latest", "--user", "1", "--like", "a.txt"],
        ["predict", "latest", "--text", "a", "--image", "b"],
        ["recommend", "latest", "--user", "1", "-k", "0"],
    ):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2


def test_ls_show_and_diff_print_json(output, capsys):
    for words in (["ls"], ["show", "latest"], ["diff", "1", "2"]):
        assert main([*words, "--json", "--runs", str(output)]) == 0
        json.loads(capsys.readouterr().out)
