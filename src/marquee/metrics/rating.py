"""How far predicted values are from those that users gave: overall, and by user.

Over the N interactions of a part, with the error e = predicted - given:

rmse       sqrt(sum of e^2 / N) (root mean squared error, the measure of the Netflix Prize)
mae        sum of |e| / N (mean absolute error)

and as the mean over the users, each of whom counts the same however much they rated:

rmse_user  the root of a user's mean squared error
mae_user   a user's mean absolute error

`rmse` and `mae` are no means over users, yet it is users who are drawn when an experiment is repeated, and whose errors
hang together. So that two runs can be compared user by user, the table holds what each user contributes to first order
(the infinitesimal jackknife, Jaeckel 1972; Efron 1982, "The Jackknife, the Bootstrap and Other Resampling Plans"): with
S_u and n_u the sum of squares and the number of u's errors and U the number of users, the values

    rmse + U (S_u - n_u rmse^2) / (2 N rmse)    and    mae + U (A_u - n_u mae) / N

have the overall metric as their mean over users, and its standard error (delta method) as theirs.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from marquee.errors import JobError
from marquee.metrics.evaluator import Evaluator

METRICS = ("rmse", "mae", "rmse_user", "mae_user")


class RatingErrors(Evaluator):
    """Collects the errors of batches that have `users`, `rows` and `values` (see `tasks.rating.RatedBatch`).

    The per-unit table has a row a user: user, n (interactions), squared_error and absolute_error (means over those),
    and a column for each metric whose mean over users is that metric.

    low, high  what predictions are clipped to; None: they are not
    """

    def __init__(self, low: float | None = None, high: float | None = None):
        self.low, self.high = low, high
        self._users: list[np.ndarray] = []
        self._sums: list[np.ndarray] = []

    def update(self, scores: Tensor, batch) -> None:
        """Take predictions [n] of the batch's values. Raises JobError for NaN and infinity."""
        predicted = scores.detach().double()
        if not bool(predicted.isfinite().all()):
            found = "NaN" if bool(predicted.isnan().any()) else "infinity"
            raise JobError(
                f"The model predicted {found} for a value. The weights have diverged: lower the learning rate "
                "(optimizer.lr=...) or clip gradients (trainer.gradient_clip_val=1)."
            )
        if self.low is not None:
            predicted = predicted.clamp(self.low, self.high)
        errors = (predicted - batch.values).cpu().numpy()
        rows, n = batch.rows.cpu().numpy(), len(batch.users)
        sums = [np.bincount(rows, weight, n) for weight in (None, errors**2, np.abs(errors))]
        self._users.append(batch.users.cpu().numpy())
        self._sums.append(np.stack(sums, axis=1).astype(np.float64))

    def state(self) -> dict[str, np.ndarray]:
        return {
            "users": np.concatenate(self._users) if self._users else np.zeros(0, np.int64),
            "sums": np.concatenate(self._sums) if self._sums else np.zeros((0, 3)),
        }

    def compute(self, states: Sequence[dict[str, np.ndarray]]) -> tuple[dict[str, float], pd.DataFrame]:
        users = np.concatenate([state["users"] for state in states])
        order = np.argsort(users, kind="stable")
        n, squares, absolutes = np.concatenate([state["sums"] for state in states])[order].T
        table = pd.DataFrame({"user": users[order], "n": n.astype(np.int64)})
        table["squared_error"], table["absolute_error"] = squares / n, absolutes / n
        if not len(table):
            return {}, table
        rmse, mae = float(np.sqrt(squares.sum() / n.sum())), float(absolutes.sum() / n.sum())
        share = len(table) / n.sum()
        table["rmse"] = rmse + (share * (squares - n * rmse**2) / (2 * rmse) if rmse > 0 else 0.0)
        table["mae"] = mae + share * (absolutes - n * mae)
        table["rmse_user"], table["mae_user"] = np.sqrt(table["squared_error"]), table["absolute_error"]
        return {name: float(table[name].mean()) for name in METRICS} | {"rmse": rmse, "mae": mae}, table
