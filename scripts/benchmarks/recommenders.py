"""Further recommenders beside loops written by hand for the same job, which share no code with them.

Each plain loop is what one would write for speed with PyTorch, NumPy and SciPy: batches drawn in place, gradients in
closed form where they are a few lines, tables whose gradients are kept, fused Adam.
"""

from typing import Any

from benchmarks.measure import Benchmark, Measured, cpu_seconds, in_turns
from benchmarks.training import Reference, compare
from benchmarks.workspace import Workspace


def _training(task: Any) -> tuple[Any, Any, int, int]:
    """users and items int64 [n], and how many there are of each."""
    import torch

    train, spec = task.data.parts["train"], task.data.spec
    return (
        *(torch.from_numpy(column.astype("int64")) for column in (train.users, train.items)),
        spec.n_users,
        spec.n_items,
    )


def plain_svdpp(task: Any, steps: int | None) -> Reference:
    """The histories' sums by `embedding_bag`, the quickest of torch's ways; the gradient as Koren 2008 has it."""
    import torch
    import torch.nn.functional as F

    users, items, n_users, n_items = _training(task)
    values = torch.from_numpy(task.data.parts["train"].values)
    size, l2, dim = task.model.view.batch_size, task.model.l2, task.model.items.embedding_dim
    mean, share = values.mean(), torch.bincount(users, minlength=n_users).clamp(min=1).float().rsqrt()[users]

    def bag(rows: Any, columns: Any, n: int) -> tuple[Any, Any, Any]:
        order = rows.argsort(stable=True)
        counts = torch.bincount(rows, minlength=n)
        return columns[order], counts.cumsum(0) - counts, share[order]

    rated, raters = bag(users, items, n_users), bag(items, users, n_items)
    sizes = (n_users, dim), (n_items, dim), (n_items, dim), (n_users,), (n_items,)
    tables = [torch.nn.Parameter(0.05 * torch.randn(size)) for size in sizes]
    for table in tables:
        table.grad = torch.zeros_like(table)
    p, q, y, user_bias, item_bias = tables
    optimizer = torch.optim.Adam(tables, lr=1e-3, fused=True)

    def sums(side: tuple[Any, Any, Any], dense: Any) -> Any:
        return F.embedding_bag(side[0], dense, side[1], mode="sum", per_sample_weights=side[2])

    @torch.no_grad()
    def epoch(number: int) -> float:
        start = cpu_seconds()
        order, losses = torch.randperm(len(users)), []
        batches = zip(*(column[order].split(size) for column in (users, items, values)), strict=True)
        for _, (user, item, value) in zip(range(steps or len(users)), batches, strict=False):
            decay = 2 * l2 / len(user)
            a, b = sums(rated, y).add_(p).index_select(0, user), q.index_select(0, item)
            of_user, of_item = user_bias.index_select(0, user), item_bias.index_select(0, item)
            error = (a * b).sum(1).add_(of_user).add_(of_item).sub_(value).add_(mean)
            losses.append(torch.dot(error, error) / len(error))
            slope = error.mul_(2 / len(error))
            p.grad.zero_().index_add_(0, user, b * slope[:, None])
            torch.add(
                sums(raters, p.grad), y * torch.bincount(item, minlength=n_items)[:, None], alpha=decay, out=y.grad
            )
            p.grad.addcmul_(p, torch.bincount(user, minlength=n_users)[:, None], value=decay)
            q.grad.zero_().index_add_(0, item, a.mul_(slope[:, None]).add_(b, alpha=decay))
            user_bias.grad.zero_().index_add_(0, user, of_user.mul_(decay).add_(slope))
            item_bias.grad.zero_().index_add_(0, item, of_item.mul_(decay).add_(slope))
            optimizer.step()
        return cpu_seconds() - start

    return epoch


def plain_als(task: Any, steps: int | None) -> Reference:
    """Three plain steps of conjugate gradients a side, for all rows at once, over SciPy's CSR products in float32.

    As `implicit` has it: the observed part of A x is a gather, a product a pair, and a sum a row.
    """
    import numpy as np
    from scipy import sparse

    users, items, n_users, n_items = (part.numpy() if hasattr(part, "numpy") else part for part in _training(task))
    dim, alpha0, l2 = task.model.users.shape[1], task.model.alpha0, task.model.l2
    rng = np.random.default_rng(0)
    x, y = (0.01 * rng.standard_normal((n, dim)).astype(np.float32) for n in (n_users, n_items))
    met = sparse.csr_matrix((np.ones(len(users), np.float32), (users, items)), shape=(n_users, n_items))
    sides = [(side, np.repeat(np.arange(side.shape[0]), np.diff(side.indptr))) for side in (met, met.T.tocsr())]

    def solve(side: Any, owners: Any, x: Any, q: Any, other: int) -> None:
        penalty = (l2 * np.sqrt(np.diff(side.indptr) + alpha0 * other)).astype(np.float32)[:, None]
        gram, weighed = (alpha0 * (q.T @ q)).astype(np.float32), side.copy()

        def applied(v: Any) -> Any:
            for start in range(0, len(owners), 2**14):  # as many as stay in the cache
                part = slice(start, start + 2**14)
                np.einsum("nd,nd->n", v[owners[part]], q[side.indices[part]], out=weighed.data[part])
            return weighed @ q + v @ gram + penalty * v

        residual = side @ q - applied(x)
        towards, size = residual.copy(), (residual * residual).sum(1, keepdims=True)
        for _ in range(3):
            change = applied(towards)
            length = size / np.maximum((towards * change).sum(1, keepdims=True), 1e-30)
            x += length * towards
            residual -= length * change
            former, size = size, (residual * residual).sum(1, keepdims=True)
            towards = residual + size / np.maximum(former, 1e-30) * towards

    def epoch(number: int) -> float:
        start = cpu_seconds()
        solve(*sides[1], y, x, n_users)
        solve(*sides[0], x, y, n_items)
        return cpu_seconds() - start

    return epoch


class Negatives:
    """Shuffled pairs with a negative each, drawn for a batch and drawn again where the user has met it."""

    def __init__(self, task: Any, steps: int | None):
        import torch

        self.users, self.items, self.n_users, self.n_items = _training(task)
        self.size, self.steps = task.model.view.batch_size, steps
        self.seen = torch.zeros(self.n_users * self.n_items, dtype=torch.bool)
        self.seen[self.users * self.n_items + self.items] = True

    def __iter__(self):
        import torch

        for index in torch.randperm(len(self.users)).split(self.size)[: self.steps]:
            user = self.users[index]
            base, negative = user * self.n_items, torch.randint(self.n_items, (len(index),))
            again = self.seen[base + negative].nonzero()[:, 0]
            while len(again):
                negative[again] = torch.randint(self.n_items, (len(again),))
                again = again[self.seen[base[again] + negative[again]]]
            yield user, self.items[index], negative


def plain_neumf(task: Any, steps: int | None) -> Reference:
    """Both parts as modules of torch: a table a side, the perceptron over joined vectors, autograd, fused Adam."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    batches, model = Negatives(task, steps), task.model
    dim = model.users.shape[1] - model.factors
    tables = [nn.Parameter(0.01 * torch.randn(n, model.factors + dim)) for n in (batches.n_users, batches.n_items)]
    widths = [2 * dim, *(layer.in_features for layer in model.perceptron.rest), model.perceptron.last.in_features]
    layers = [part for one, two in zip(widths, widths[1:], strict=False) for part in (nn.Linear(one, two), nn.ReLU())]
    tower, head = nn.Sequential(*layers), nn.Linear(model.factors + widths[-1], 1)
    optimizer = torch.optim.Adam([*tables, *tower.parameters(), *head.parameters()], lr=1e-3, fused=True)

    def epoch(number: int) -> float:
        start = cpu_seconds()
        for user, item, negative in batches:
            p = tables[0].index_select(0, user).repeat(2, 1)
            q = tables[1].index_select(0, torch.cat([item, negative]))
            joined = tower(torch.cat([p[:, model.factors :], q[:, model.factors :]], 1))
            logits = head(torch.cat([p[:, : model.factors] * q[:, : model.factors], joined], 1))[:, 0]
            truth = (torch.arange(len(logits)) < len(user)).float()
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(logits, truth).backward()
            optimizer.step()
        return cpu_seconds() - start

    return epoch


def plain_lightgcn(task: Any, steps: int | None) -> Reference:
    """The three layers by `embedding_bag` and back by hand: the graph is symmetric, so that both ways are one."""
    import torch
    from torch.nn import functional as F

    batches, model = Negatives(task, steps), task.model
    n, layers, l2 = len(model.ego), model.layers, model.l2
    rows = torch.cat([batches.users, batches.items + batches.n_users])
    columns = torch.cat([batches.items + batches.n_users, batches.users])
    order = rows.argsort(stable=True)
    degree = torch.bincount(rows, minlength=n).float()
    weights = (degree[rows] * degree[columns]).rsqrt()[order]
    columns, offsets = columns[order], torch.cat([torch.zeros(1), degree.cumsum(0)]).long()
    ego = torch.nn.Parameter(0.1 * torch.randn(n, model.ego.shape[1]))
    ego.grad = torch.zeros_like(ego)
    optimizer = torch.optim.Adam([ego], lr=1e-3, fused=True)

    def averaged(vectors: Any) -> Any:
        total = vectors.clone()
        for _ in range(layers):
            vectors = F.embedding_bag(
                columns, vectors, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
            )
            total += vectors
        return total.div_(layers + 1)

    @torch.no_grad()
    def epoch(number: int) -> float:
        start = cpu_seconds()
        for user, item, negative in batches:
            z = averaged(ego)
            nodes = user, item + batches.n_users, negative + batches.n_users
            a, b, c = (z.index_select(0, part) for part in nodes)
            difference = b - c
            pull = torch.sigmoid(-(a * difference).sum(1)).div_(-len(user))[:, None]
            of_z = torch.zeros_like(z).index_add_(0, nodes[0], difference * pull)
            a.mul_(pull)
            of_z.index_add_(0, nodes[1], a).index_add_(0, nodes[2], a.neg_())
            uses = torch.bincount(torch.cat(nodes), minlength=n)[:, None]
            torch.add(averaged(of_z), ego * uses, alpha=l2 / len(user), out=ego.grad)
            optimizer.step()
        return cpu_seconds() - start

    return epoch


def item_knn(space: Workspace) -> Measured:
    """From the training interactions to the neighbours; beside it a bare sparse Gram product and `argpartition`."""
    import numpy as np
    from scipy import sparse

    from marquee.runs.train import prepare_data, prepare_task

    config = space.config("ratings", "model=neighbours/item_knn")
    data = prepare_data(config)
    model = prepare_task(config, data).model
    train, spec, n = data.parts["train"], data.spec, model.nearest.n

    def fit() -> None:
        for batch in model.view.train_batches(data, 1, 0):
            model.fit(batch)

    def bare() -> None:
        ones = np.ones(len(train.users), np.float32)
        matrix = sparse.csr_matrix((ones, (train.users, train.items)), shape=(spec.n_users, spec.n_items))
        cosine = (matrix.T.tocsr() @ matrix).toarray()
        norms = np.sqrt(np.maximum(cosine.diagonal(), 1))
        cosine /= norms
        cosine /= norms[:, None]
        np.fill_diagonal(cosine, 0)
        nearest = np.argpartition(-cosine, n - 1, axis=1)[:, :n]
        np.take_along_axis(cosine, nearest, 1)

    return Measured(*in_turns(space.of(3, 3, 1), fit, bare), synthetic=space.source("ratings").synthetic)


def svdpp(space: Workspace) -> Measured:
    return compare(space, "few_ratings", plain_svdpp, "task=rating", "model=mf/svdpp", runs=7)


def ials(space: Workspace, dim: int) -> Measured:
    return compare(space, "ratings", plain_als, "model=mf/ials", f"model.dim={dim}", runs=5)


def neumf(space: Workspace) -> Measured:
    return compare(space, "ratings", plain_neumf, "model=neural/neumf")


def lightgcn(space: Workspace) -> Measured:
    return compare(space, "ratings", plain_lightgcn, "model=graph/lightgcn", steps=10)


BENCHMARKS = [
    Benchmark("svdpp_epoch", "ratio", 1.25, "CPU s/epoch", "hand-written loop", svdpp),
    Benchmark("ials_sweep_64", "ratio", 1.0, "CPU s/sweep", "3-step CG in SciPy", lambda space: ials(space, 64)),
    Benchmark("ials_sweep_128", "ratio", 1.0, "CPU s/sweep", "3-step CG in SciPy", lambda space: ials(space, 128)),
    Benchmark("neumf_epoch", "ratio", 1.1, "CPU s/epoch", "plain loop", neumf),
    Benchmark("item_knn_fit", "ratio", 1.5, "CPU s", "bare Gram and argpartition", item_knn),
    Benchmark("lightgcn_epoch", "ratio", 1.15, "CPU s/10 steps", "hand-written loop", lightgcn),
]
