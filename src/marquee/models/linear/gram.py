"""How often two items share a user: the one statistic that item-kNN and EASE are made of."""

import torch
from torch import Tensor

PANEL = 512  # columns of the product that are formed at a time


def co_counts(users: Tensor, items: Tensor, n_items: int) -> Tensor:
    """X^T X [n_items, n_items] of the binary matrix of (user, item) pairs; repeated pairs count once.

    Dense products of blocks of users: on common CPUs this beats a sparse product at MovieLens densities (4 %).
    """
    keys = torch.unique(users * n_items + items)
    users, items = keys // n_items, keys % n_items
    gram = torch.zeros(n_items, n_items, device=items.device)
    # Blocks keep the dense rows below 64 MB whatever the number of users.
    size = max(1, 16_000_000 // n_items)
    n_users = int(users[-1]) + 1 if len(users) else 0
    bounds = torch.searchsorted(users, torch.arange(0, n_users + size, size, device=users.device))
    for start, low, high in zip(range(0, n_users, size), bounds[:-1].tolist(), bounds[1:].tolist(), strict=False):
        block = torch.zeros(min(size, n_users - start), n_items, device=items.device)
        block[users[low:high] - start, items[low:high]] = 1
        # The product is symmetric: its lower half is formed in panels, which saves 44 % of the work at 3,700 items.
        for left in range(0, n_items, PANEL):
            gram[left:, left : left + PANEL].addmm_(block[:, left:].T, block[:, left : left + PANEL])
    return gram.tril_() + gram.tril(-1).T
