"""RecVAE: Multi-VAE with a composite prior, a penalty for each user, and encoder and decoder that take turns."""

import math
from copy import deepcopy
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import RowBatch, Rows
from marquee.data.spec import InteractionSpec
from marquee.models.autoencoder.rows import Cells, multinomial_loss
from marquee.models.base import Recommender

# Weights of the prior's components and log variances of the two that are fixed, as in the authors' code.
STANDARD, OLD, WIDE, WIDE_LOG_VARIANCE = 3 / 20, 3 / 4, 1 / 10, 10.0


class Encoder(nn.Module):
    """Five layers of swish and layer norm, each of which also reads the sum of all before it: mean, log variance."""

    def __init__(self, n_items: int, hidden: int, latent: int):
        super().__init__()
        self.input = Cells(n_items, hidden)
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(4))
        self.norms = nn.ModuleList(nn.LayerNorm(hidden, eps=0.1) for _ in range(5))
        self.mean, self.log_variance = nn.Linear(hidden, latent), nn.Linear(hidden, latent)

    def forward(self, histories: Histories, dropout: float = 0.0) -> tuple[Tensor, Tensor]:
        state = self.norms[0](F.silu(self.input(histories, dropout)))
        total = state
        for layer, norm in zip(self.layers, self.norms[1:], strict=True):
            state = norm(F.silu(layer(state) + total))
            total = total + state
        return self.mean(state).float(), self.log_variance(state).float()


class RecVAE(Recommender):
    """Scores are logits that are linear in the mean of q(z | row).

    Shenbin et al. 2020, "RecVAE: a new variational autoencoder for top-N recommendations with implicit feedback", WSDM.
    The prior mixes N(0, I), the posterior of an earlier encoder and a wide normal; the KL term of a user weighs
    `gamma` times the number of the user's items. Of every `encoder_steps` + `decoder_steps` steps the first teach the
    encoder, with dropout, and the others the decoder, without; the part whose turn it is not gets no gradient, so
    that one optimiser serves both. (The authors alternate by epochs.) The encoder of the prior is renewed once
    an epoch; it and the count of steps are part of the state, so that a resumed run continues both.

    hidden   width of the encoder's layers
    latent   length of z
    dropout  share of a row's items that the encoder does not see while it is taught
    """

    scores_unseen_users = True

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Rows,
        hidden: Annotated[int, Ge(1)] = 600,
        latent: Annotated[int, Ge(1)] = 200,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.5,
        gamma: Annotated[float, Gt(0)] = 0.005,
        encoder_steps: Annotated[int, Ge(1)] = 3,
        decoder_steps: Annotated[int, Ge(1)] = 1,
    ):
        super().__init__()
        self.view = view
        self.dropout = dropout
        self.gamma = gamma
        self.encoder_steps, self.decoder_steps = encoder_steps, decoder_steps
        self.encoder = Encoder(spec.n_items, hidden, latent)
        self.old = deepcopy(self.encoder).requires_grad_(False)
        self.decoder = nn.Linear(latent, spec.n_items)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._steps_an_epoch = 1

    def prepare(self, data: InteractionData) -> None:
        self._steps_an_epoch = self.view.steps(data)

    def loss(self, batch: RowBatch) -> Tensor:
        step = int(self.steps)
        if self.training:
            if step % self._steps_an_epoch == 0:
                self._renew_prior()
            self.steps += 1
        histories = batch.histories
        if step % (self.encoder_steps + self.decoder_steps) >= self.encoder_steps:
            with torch.no_grad():
                z, *_ = self._drawn(histories, 0.0)
            return multinomial_loss(self.decoder(z), histories)
        z, mean, log_variance = self._drawn(histories, self.dropout)
        logits = F.linear(z, self.decoder.weight.detach(), self.decoder.bias.detach())
        counts = histories.offsets.diff()
        divergence = (log_normal(z, mean, log_variance) - self._log_prior(z, histories)).sum(1)
        return multinomial_loss(logits, histories) + self.gamma * (counts * divergence).mean()

    def _drawn(self, histories: Histories, dropout: float) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encoder(histories, dropout)
        return mean + torch.randn_like(mean) * (log_variance / 2).exp(), mean, log_variance

    def _log_prior(self, z: Tensor, histories: Histories) -> Tensor:
        """log of the mixture's density, for each place of z on its own: [batch, latent]."""
        with torch.no_grad():
            mean, log_variance = self.old(histories)
        zero = torch.zeros((), device=z.device)
        parts = [
            math.log(STANDARD) + log_normal(z, zero, zero),
            math.log(OLD) + log_normal(z, mean, log_variance),
            math.log(WIDE) + log_normal(z, zero, zero + WIDE_LOG_VARIANCE),
        ]
        return torch.stack(parts).logsumexp(0)

    @torch.no_grad()
    def _renew_prior(self) -> None:
        for old, new in zip(self.old.parameters(), self.encoder.parameters(), strict=True):
            old.copy_(new)

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        return self.decoder(self.encoder(histories)[0]).float()


def log_normal(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log density of the normal with this mean and log variance, element by element."""
    return -(log_variance + math.log(2 * math.pi) + (z - mean).square() / log_variance.exp()) / 2
