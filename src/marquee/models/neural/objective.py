"""What models of single pairs learn from: observed pairs beside sampled ones, or values."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Objective = Literal["bpr", "bce"]


def ranking_loss(observed: Tensor, sampled: Tensor, objective: Objective) -> Tensor:
    """The loss of observed pairs [n] with k sampled negatives each [n, k] (scalar).

    bpr: the mean of -log sigmoid(observed - sampled); bce: of the n (k + 1) binary cross-entropies.
    """
    if objective == "bpr":
        return -F.logsigmoid(observed[:, None] - sampled).mean()
    logits = torch.cat([observed[:, None], sampled], 1)
    return (-F.logsigmoid(logits[:, 0]).sum() - F.logsigmoid(-logits[:, 1:]).sum()) / logits.numel()
