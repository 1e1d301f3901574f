"""Search: plans, objectives, studies that end at their total however often they are interrupted."""

import dataclasses
import sys
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from optuna.storages import InMemoryStorage

from marquee.errors import ConfigError, JobError
from marquee.search.objectives import Objective, objectives_of, values_of
from marquee.search.planning import plan_studies
from marquee.search.report import command, lines
from marquee.search.search import next_trials, search, tell
from marquee.search.space import Range, named_space
from marquee.search.study import Plan, Study, open_storage
from marquee.sweeps.store import release

from ..finished_runs import write_run

SETTINGS = {"n_trials": 3, "space": None, "sampler": "tpe", "seed": 1, "objectives": None, "pruner": "none",
            "storage": None, "study": None}  # fmt: skip
LOSS = (Objective("loss", "minimize", watched=True),)
SQUARE = {key: Range(key, "here", -1.0, 1.0) for key in ("x", "y")}


# From words to studies -----------------------------------------------------------------------------------------------


def test_each_choice_of_groups_is_a_study_with_its_own_space_and_all_seeds():
    words = ["data=world_ratings", "model=mf/bpr,linear/ease", "split=leave_one_out,ratio", "++seed=1,2",
             "tracker=none"]  # fmt: skip
    plans = plan_studies(words, SETTINGS, "tune")
    assert [plan.name for plan in plans] == [
        f"tune/{model}+{split}" for model in ("mf/bpr", "linear/ease") for split in ("leave_one_out", "ratio")
    ]
    assert list(plans[0].space) == list(named_space("mf/bpr")) and list(plans[2].space) == ["model.l2"]
    assert all(plan.seeds == (1, 2) for plan in plans)
    assert plans[0].objectives == (Objective("ndcg@10", "maximize", watched=True),)


def test_a_typed_value_is_fixed_and_a_typed_range_wins():
    words = ["data=world_ratings", "model=mf/bpr", "++model.dim=8", "++model.l2=0.1,0.2"]
    (plan,) = plan_studies(words, SETTINGS, "tune")
    assert "model.dim" not in plan.space and plan.space["model.l2"].choices == (0.1, 0.2)
    (only,) = plan_studies(words, {**SETTINGS, "space": "none"}, "tune")
    assert list(only.space) == ["model.l2"]


@pytest.mark.parametrize(
    ("words", "settings", "parts"),
    [
        (["model=baseline/popular"], {}, ["There is no search space baseline/popular", "hydra.sweeper.space=none"]),
        (["model=linear/ease", "++model.l2=3"], {}, ["nothing to search"]),
        (["model=mf/bpr"], {"space": "mf/bprr"}, ["did you mean: hydra.sweeper.space=mf/bpr"]),
        (["model=mf/bpr", "++model.dmi=choice(1,2)"], {}, ["model.dmi", "command line (model.dmi=choice(1,2))"]),
        (["model=mf/bpr,linear/ease", "++model.dim=8"], {}, ["model=linear/ease", "takes"]),
        (["model=mf/bpr", "seed=1,2"], {"pruner": "median"}, ["2 seeds a trial", "hydra.sweeper.pruner=none"]),
        (["model=mf/bpr"], {"pruner": "median", "objectives": ["ndcg@10", "epochs"]}, ["2 objectives"]),
        (["model=mf/bpr"], {"sampler": "grid"}, ["optimizer.lr", "no step"]),
        (["model=mf/bpr"], {"sampler": "cmaes", "objectives": ["ndcg@10", "epochs"]}, ["cmaes", "tpe"]),
        (["model=mf/bpr"], {"objectives": ["ndgc@10"]}, ["did you mean: ndcg@10"]),
        (["model=mf/bpr"], {"objectives": ["test/ndcg@10"]}, ["never looks at the test part"]),
        (["model=mf/bpr", "resume=latest"], {}, ["leave resume out"]),
        (["model=mf/bpr", "seed=a,b"], {}, ["different integers"]),
    ],
)
def test_what_cannot_be_searched_is_told_before_any_trial(words, settings, parts):
    with pytest.raises(ConfigError) as caught:
        plan_studies(["data=world_ratings", *words], {**SETTINGS, **settings}, "tune")
    for part in parts:
        assert part in str(caught.value)


# Objectives ----------------------------------------------------------------------------------------------------------


def test_directions_follow_from_the_names():
    config = {"task": {"_target_": "marquee.tasks.recommendation.Recommendation", "ks": [10], "monitor": "ndcg@10"}}
    found = objectives_of(["ndcg@10", "coverage@10", "fit_seconds", "parameters"], config)
    assert [objective.direction for objective in found] == ["maximize", "maximize", "minimize", "minimize"]
    loss = {"task": {"_target_": "marquee.tasks.classification.Classification", "monitor": "log_loss"}}
    assert objectives_of(None, loss) == [Objective("log_loss", "minimize", watched=True)]


def test_values_are_read_from_the_run_other_metrics_at_its_best_epoch(tmp_path):
    run = write_run(tmp_path, "mf/bpr", 1, [0.1], validation=0.25)  # its best epoch is 4, its fit took 10 s
    rows = "".join(f"{epoch},{0.1 * epoch}\n" for epoch in range(6))
    (run.folder / "metrics.csv").write_text("epoch,validation/coverage@10\n" + rows)
    objectives = [Objective("ndcg@10", "maximize", True), Objective("coverage@10", "maximize"),
                  Objective("fit_seconds", "minimize"), Objective("parameters", "minimize")]  # fmt: skip
    assert values_of(run.folder, objectives) == pytest.approx([0.25, 0.3, 10.0, 1000])
    with pytest.raises(JobError, match="has no energy_j"):
        values_of(run.folder, [Objective("energy_j", "minimize")])
    with pytest.raises(JobError, match="the task would maximize ndcg@10"):
        values_of(run.folder, [Objective("ndcg@10", "minimize", True)])


# Studies -------------------------------------------------------------------------------------------------------------


def plan(name="tune/model", seeds=(1,), space=None, objectives=LOSS, words=("data=here",)):
    return Plan(name, words, ("model",), "f" * 64, seeds, space or SQUARE, objectives, 10)


def study(storage, made=None, owner="me", **settings):
    return Study(made or plan(), open_storage(storage) if isinstance(storage, str) else storage, owner, **settings)


def sphere(words):
    values = dict(word.lstrip("+").split("=") for word in words)
    return (float(values["x"]) - 0.3) ** 2 + (float(values["y"]) + 0.2) ** 2


def done(value):
    status = SimpleNamespace(name="FAILED" if value is None else "COMPLETED")
    return SimpleNamespace(status=status, return_value=value, working_dir=None)


def run_search(studies, n_trials, at_once=1, function=sphere, stop_after=None):
    """What `search` does, with a function for a launcher; `stop_after` batches it dies before the results are told."""
    if not isinstance(studies, list):
        studies = [studies]
    batches = []
    while batch := next_trials(studies, n_trials, at_once, "sqlite://", "none"):
        if stop_after is not None and len(batches) == stop_after:
            return batches
        batches.append(batch)
        for trial in batch:
            tell(trial, [done(function(words)) for words in trial.jobs])
    return batches


def parameters(found):
    return [trial.params for trial in found.trials()]


def test_tpe_finds_a_better_minimum_of_the_sphere_than_random():
    """Mean over three seeds of the best of 30 trials; both samplers are seeded, so this always has the same outcome."""
    best = {}
    for sampler in ("tpe", "random"):
        searches = [study(InMemoryStorage(), sampler=sampler, seed=seed) for seed in range(3)]
        for one in searches:
            run_search(one, 30)
        best[sampler] = sum(one.optuna.best_value for one in searches) / 3
    assert best["tpe"] < best["random"] / 2


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "random"])
def test_an_interrupted_search_proposes_what_an_uninterrupted_one_does(sampler, tmp_path):
    whole, storage = study(InMemoryStorage(), sampler=sampler), f"sqlite:///{tmp_path / 'study.db'}"
    run_search(whole, 16)
    for stop in (5, 7, None):  # twice it dies with a trial running
        broken = study(storage, sampler=sampler)
        run_search(broken, 16, stop_after=stop)
    assert len(broken.trials()) == 16
    assert parameters(broken) == parameters(whole)
    assert [trial.values for trial in broken.trials()] == [trial.values for trial in whole.trials()]


def test_a_trial_left_running_is_run_again_with_its_number_and_parameters_and_finished_ones_are_not(tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    run_search(study(storage), 5, stop_after=2)
    left = study(storage).left_behind()
    assert [trial.number for trial in left] == [2]
    again = run_search(study(storage), 5)
    assert [trial.number for batch in again for trial in batch] == [2, 3, 4]
    assert again[0][0].parameters == left[0].params
    assert run_search(study(storage), 5) == []
    assert len(run_search(study(storage), 7)) == 2, "a larger total goes on"


def test_a_trial_that_died_while_it_was_asked_gets_the_parameters_it_lacks(tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    first = study(storage)
    trial = first.optuna.ask()
    x = trial.suggest_float("x", -1.0, 1.0)
    (batch,) = run_search(study(storage), 1)
    assert batch[0].number == 0 and batch[0].parameters["x"] == x and "y" in batch[0].parameters


def test_failed_trials_count_and_do_not_end_the_study():
    found = study(InMemoryStorage())
    run_search(found, 6, function=lambda words: None if float(words[1].split("=")[1]) > 0 else sphere(words))
    states = [trial.state.name for trial in found.trials()]
    assert len(states) == 6 and {"FAIL", "COMPLETE"} == set(states)


def test_the_value_of_a_trial_is_the_mean_over_its_seeds_and_one_failed_seed_fails_it():
    found = study(InMemoryStorage(), plan(seeds=(1, 2, 3)))
    (batch, *_) = run_search(found, 1, function=lambda words: float(words[-1].split("=")[1]))
    assert [job[-1] for job in batch[0].jobs] == ["++seed=1", "++seed=2", "++seed=3"]
    assert found.optuna.best_value == 2.0
    run_search(found, 2, function=lambda words: None if words[-1] == "++seed=2" else 1.0)
    assert found.trials()[1].state.name == "FAIL"


def test_studies_advance_together_to_equal_budgets_and_fill_what_the_launcher_runs_at_once():
    storage = InMemoryStorage()
    several = [study(storage, plan(f"tune/{name}")) for name in "abc"]
    batches = run_search(several, 4, at_once=3)
    assert [len(batch) for batch in batches] == [3, 3, 3, 3]
    assert all({trial.study.plan.name for trial in batch} == {"tune/a", "tune/b", "tune/c"} for batch in batches)


def test_a_grid_visits_every_point_once_and_then_stops():
    space = {
        "x": Range("x", "", choices=("a", "b")),
        "y": Range("y", "", 0.0, 1.0, step=0.5),
        "z": Range("z", "", 1, 2),
    }
    found = study(InMemoryStorage(), plan(space=space), sampler="grid")
    run_search(found, 100, at_once=5, function=lambda words: 1.0)
    assert parameters(found) == [{"x": x, "y": y, "z": z} for x in "ab" for y in (0.0, 0.5, 1.0) for z in (1, 2)]


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"space": {"x": SQUARE["x"]}}, "y: then {'low': -1.0"),
        ({"objectives": (Objective("loss", "maximize", True),)}, "objectives: then ['minimize loss']"),
        ({"seeds": (1, 2)}, "seeds: then [1], now [1, 2]"),
        ({"fingerprint": "e" * 64, "words": ("data=there",)}, "configuration: then 'data=here', now 'data=there'"),
        ({"fingerprint": "e" * 64}, "the defaults in conf/ have changed since"),
    ],
)
def test_a_study_does_not_go_on_with_other_settings(changed, part):
    storage = InMemoryStorage()
    study(storage)
    with pytest.raises(ConfigError) as caught:
        study(storage, dataclasses.replace(plan(), **changed))
    assert part in str(caught.value) and "sweep=NAME" in str(caught.value)


def test_machines_that_share_a_journal_share_the_total_and_leave_each_others_trials_alone(tmp_path):
    storage = f"journal:{tmp_path / 'journal.log'}"
    here, there = study(storage, owner="here", shared=True), study(storage, owner="there", shared=True)
    run_search(there, 4, stop_after=2)  # it runs its third trial for a long time
    run_search(here, 4)
    assert [trial.state.name for trial in here.trials()] == ["COMPLETE", "COMPLETE", "RUNNING", "COMPLETE"]
    assert (here.left_behind(), here.elsewhere()) == ([], 1)
    assert [trial.number for trial in there.left_behind()] == [2]


@pytest.mark.parametrize("sampler", ["random", "tpe", "grid"])
def test_of_two_processes_that_ask_at_the_same_moment_each_gets_a_trial_of_its_own(sampler, tmp_path):
    space = {"x": Range("x", "", choices=("a", "b", "c", "d"))} if sampler == "grid" else SQUARE
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    here, there = (study(storage, plan(space=space), owner=name, sampler=sampler, shared=True) for name in "ht")
    given, ask = [], here.optuna.ask

    def slower():  # the other one asks between our look at the study and our question
        given.append(there.ask(3))
        return ask()

    here.optuna.ask = slower
    first = here.ask(3)
    given.append(first if first is not None else here.ask(3))
    assert None not in given[:1] and given[0] != given[1]
    del here.optuna.ask
    while here.asked() < 3:
        here.ask(3)
    points = parameters(here)
    assert len(points) == 3 and all(points.count(point) == 1 for point in points)


def test_the_last_trial_is_given_once(tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    here, there = (study(storage, owner=name, shared=True) for name in "ht")
    ask = here.optuna.ask
    here.optuna.ask = lambda: (there.ask(1), ask())[1]
    assert here.ask(1) is None
    assert [trial.user_attrs["owner"] for trial in here.trials()] == ["t"] and here.asked() == 1
    assert "1 trials" in lines(here)[0]


@pytest.mark.parametrize(("package", "said"), [("optuna", "marquee[search]"), ("cmaes", "pip install cmaes")])
def test_a_missing_package_is_told_with_what_to_install(package, said, monkeypatch):
    found = study(InMemoryStorage()) if package == "cmaes" else None
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=said.replace("[", r"\[")):
        study("sqlite://", sampler="cmaes").ask() if found else open_storage("sqlite://")


def test_who_finds_the_tables_half_made_by_another_process_waits_for_them(tmp_path, monkeypatch):
    """PostgreSQL refuses one of two processes that make them at the same moment; the words are its own."""
    from optuna import storages
    from sqlalchemy.exc import IntegrityError

    refusals = ['duplicate key value violates unique constraint "pg_type_typname_nsp_index" already exists', "no disk"]
    whole = storages.RDBStorage

    def refused(*arguments, **further):
        if refusals:
            raise IntegrityError("create table", {}, Exception(refusals.pop(0)))
        return whole(*arguments, **further)

    monkeypatch.setattr(storages, "RDBStorage", refused)
    with pytest.raises(ConfigError, match="no disk"):
        open_storage(f"sqlite:///{tmp_path / 'study.db'}")
    assert open_storage(f"sqlite:///{tmp_path / 'study.db'}").get_all_studies() == []


def test_a_storage_that_cannot_be_opened_is_one_message():
    with pytest.raises(ConfigError, match="hydra.sweeper.storage=sqlite:////no/such/folder/x.db cannot be opened"):
        open_storage("sqlite:////no/such/folder/x.db")


@pytest.mark.parametrize(("on_failure", "states"), [("continue", ["FAIL", "FAIL"]), ("stop", ["RUNNING"])])
def test_a_search_stops_with_its_launcher_and_keeps_the_trial_that_failed(on_failure, states, tmp_path, monkeypatch):
    monkeypatch.setattr("marquee.search.search.in_nursery", lambda *_: [plan()])
    launcher = SimpleNamespace(launch=lambda jobs, initial_job_idx: [done(None) for _ in jobs])
    settings = {**SETTINGS, "n_trials": 2, "storage": f"journal:{tmp_path / 'j.log'}"}
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}, "launcher": {"on_failure": on_failure}}})
    try:
        search([], settings, config, launcher)
    finally:
        release()
    assert [trial.state.name for trial in study(settings["storage"]).trials()] == states


# What is printed -----------------------------------------------------------------------------------------------------


def test_the_best_trial_is_printed_as_a_command_without_what_does_not_belong_to_it():
    made = plan(words=("data=here", "++model.dim=3", "tracker=none", "++sweep=tune", "paths.output=x"), seeds=(1, 2))
    found = study(InMemoryStorage(), made)
    run_search(found, 3)
    best = found.optuna.best_trial
    words = command(made, best.params)
    assert words.startswith("marquee train -m data=here model.dim=3 x=") and words.endswith(" seed=1,2")
    text = "\n".join(lines(found))
    assert "model: 3 trials, 3 complete" in text and f"in trial {best.number}" in text and words in text


def test_several_objectives_are_printed_as_their_pareto_front():
    objectives = (Objective("ndcg@10", "maximize", True), Objective("epochs", "minimize"))
    found = study(InMemoryStorage(), plan(objectives=objectives))
    for values in ((0.1, 5), (0.2, 7), (0.15, 9), (0.05, 5)):  # by hand: the first two are not dominated
        number, _ = found.ask()
        found.tell(number, values)
    text = "\n".join(lines(found))
    assert "Pareto front, 2 of 4" in text
    assert "ndcg@10 0.1000, epochs 5" in text and "ndcg@10 0.2000, epochs 7" in text and "0.15" not in text
