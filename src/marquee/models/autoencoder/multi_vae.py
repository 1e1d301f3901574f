"""Multi-VAE: a variational autoencoder of user rows with a multinomial likelihood and an annealed KL term."""

from typing import Annotated

import torch
from annotated_types import Ge, Interval, MinLen
from torch import Tensor, nn

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import RowBatch, Rows
from marquee.data.spec import InteractionSpec
from marquee.models.autoencoder.multi_dae import tanh_layers
from marquee.models.autoencoder.rows import Cells, multinomial_loss
from marquee.models.base import Recommender


class MultiVAE(Recommender):
    """Scores are the logits decoded from the mean of q(z | row); trained on likelihood - beta KL(q || N(0, I)).

    Liang et al. 2018, "Variational autoencoders for collaborative filtering", WWW, sections 2.1 and 2.2 (Mult-VAE^PR).
    The count of steps that the annealing goes by is part of the state, so that a resumed run continues it.

    layers        widths of the encoder, the last that of z; the decoder mirrors them. tanh between layers
    dropout       share of a row's items that the encoder does not see in training
    beta          weight of the KL term at the end
    anneal_steps  training steps over which that weight rises from 0 to `beta`, linearly
    """

    scores_unseen_users = True

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Rows,
        layers: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)] = [200],  # noqa: B006  (never mutated)
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.5,
        beta: Annotated[float, Ge(0)] = 0.2,
        anneal_steps: Annotated[int, Ge(1)] = 2000,
    ):
        super().__init__()
        self.view = view
        self.dropout = dropout
        self.beta = beta
        self.anneal_steps = anneal_steps
        encoder = [*layers[:-1], 2 * layers[-1]]
        self.input = Cells(spec.n_items, encoder[0])
        self.encoder = nn.Sequential(*([nn.Tanh(), *tanh_layers(encoder)] if len(encoder) > 1 else []))
        self.decoder = nn.Sequential(*tanh_layers([*reversed(layers), spec.n_items]))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def encode(self, histories: Histories, dropout: float = 0.0) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | row), float32 [batch, layers[-1]]."""
        mean, log_variance = self.encoder(self.input(histories, dropout)).float().chunk(2, dim=1)
        return mean, log_variance

    def loss(self, batch: RowBatch) -> Tensor:
        mean, log_variance = self.encode(batch.histories, self.dropout)
        z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2
        weight = self.beta * (self.steps / self.anneal_steps).clamp(max=1)
        if self.training:
            self.steps += 1
        return multinomial_loss(self.decoder(z), batch.histories) + weight * divergence

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        return self.decoder(self.encode(histories)[0]).float()
