"""What a finished run costs to keep up to date, beside training it again on all of it."""

from benchmarks.measure import Benchmark, Measured, in_turns
from benchmarks.workspace import Workspace

USERS, EACH = 100, 10  # who comes back, and with how much


def ease_update(space: Workspace) -> Measured:
    """100 known users with ten new items each: from both data sets to the new weights; beside it the fit on all."""
    import numpy as np
    import pandas as pd
    import torch

    from marquee.apply.updating.learning import changed
    from marquee.config.build import build
    from marquee.data.interactions.growing import joined
    from marquee.runs.train import prepare_data, prepare_task

    config = space.config("ratings", "model=linear/ease")
    data = prepare_data(config)
    former = prepare_task(config, data).model
    for batch in former.view.train_batches(data, 1, 0):
        former.fit(batch)
    generator = np.random.default_rng(1)
    few = min(USERS, data.spec.n_items // 16)  # of so small a world that a fit is the shorter way
    users = np.repeat(generator.choice(data.store.user_ids, few, replace=False), EACH)
    events = pd.DataFrame({"user": users, "item": generator.choice(data.store.item_ids, len(users))})
    for name, column in (("timestamp", data.store.timestamps), ("value", data.store.values)):
        if column is not None:
            events[name] = column.max()
    after, _ = joined(data, events)
    anew, fresh = (build(config["model"], after.spec) for _ in range(2))

    def update() -> None:
        assert fresh.update(former, changed(data, after, fresh, 1))

    @torch.no_grad()
    def fit() -> None:
        for batch in anew.view.train_batches(after, 1, 0):
            anew.fit(batch)

    return Measured(*in_turns(space.of(3, 3, 1), update, fit), synthetic=space.source("ratings").synthetic)


BENCHMARKS = [Benchmark("ease_update_100_users", "ratio", 0.4, "CPU s", "fit on all of it", ease_update)]
