"""VAE: a variational autoencoder of images; with more than one sample a step, the importance weighted autoencoder."""

import math
from itertools import pairwise
from typing import Annotated, Literal

import torch
from annotated_types import Ge, MinLen
from torch import Tensor, nn
from torch.nn import functional as F

from marquee.data.images.dataset import ImageData
from marquee.data.images.views import ImageBatch, ImageBatches
from marquee.data.spec import ImageSpec
from marquee.errors import ConfigError
from marquee.models.pictures import ImageModel, bound, shape_of, to_pixels

Widths = Annotated[list[Annotated[int, Ge(1)]], MinLen(1)]


class Gated(nn.Module):
    """A linear layer times the sigmoid of another (Dauphin et al. 2017, "Language Modeling with Gated ConvNets")."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.both = nn.Linear(before, 2 * after)

    def forward(self, x: Tensor) -> Tensor:
        return F.glu(self.both(x))


class VAE(ImageModel):
    """Trained on the evidence lower bound, or with `samples` > 1 on the tighter bound of importance weighting.

    Kingma & Welling 2014, "Auto-Encoding Variational Bayes", ICLR; Burda, Grosse & Salakhutdinov 2016, "Importance
    Weighted Autoencoders", ICLR. Binary pixels are drawn anew from the grey values in each training step. The count of
    steps that the warm-up goes by is part of the state, so that a resumed run continues it.

    latent      length of z
    layers      widths of the encoder's dense layers; the decoder mirrors them
    channels    of convolutions before them, each halves the image, and of their mirror image; []: none
    activation  between dense layers; gated multiplies each with the sigmoid of another, at twice the cost
    likelihood  binary: Bernoulli pixels, of grey images; 8-bit: a discretised logistic distribution a value, whose
                scale is learnt a channel (Salimans et al. 2017, "PixelCNN++", ICLR, eq. 2, one component); None: by the
                number of channels
    samples     k, z drawn an image and step
    warm_up     training steps over which the weight of the KL term rises from 0 to 1, linearly; for samples = 1
    """

    def __init__(
        self,
        spec: ImageSpec,
        *,
        view: ImageBatches,
        latent: Annotated[int, Ge(1)] = 50,
        layers: Widths = [500, 500],  # noqa: B006  (never mutated)
        channels: list[Annotated[int, Ge(1)]] = [],  # noqa: B006
        activation: Literal["tanh", "relu", "gated"] = "gated",
        likelihood: Literal["binary", "8-bit"] | None = None,
        samples: Annotated[int, Ge(1)] = 1,
        warm_up: Annotated[int, Ge(0)] = 0,
    ):
        super().__init__()
        likelihood = likelihood or ("binary" if spec.channels == 1 else "8-bit")
        if likelihood == "binary" and spec.channels != 1:
            raise ConfigError(
                f"model.likelihood=binary is for grey images, and these have {spec.channels} channels.\n"
                "  fix: model.likelihood=8-bit"
            )
        if warm_up and samples > 1:
            raise ConfigError(
                f"model.warm_up={warm_up} weighs a KL term, which the bound of model.samples={samples} does not have.\n"
                "  fix: model.warm_up=0"
            )
        self.view, self.likelihood, self.samples, self.warm_up = view, likelihood, samples, warm_up
        self.noise = (latent,)
        shape = shape_of(spec)
        sizes = [shape[1:]]
        for _ in channels:
            sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
        maps = [spec.channels, *channels]
        inner = (maps[-1], *sizes[-1])
        flat = math.prod(inner)

        inside: list[nn.Module] = []
        for before, after in pairwise(maps):
            inside += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.SiLU()]
        inside.append(nn.Flatten())
        inside += _dense([flat, *layers], activation)
        self.encoder = nn.Sequential(*inside, nn.Linear(layers[-1], 2 * latent))

        outside = [*_dense([latent, *reversed(layers)], activation), nn.Linear(layers[0], flat)]
        outside.append(nn.Unflatten(1, inner))
        for place in range(len(channels), 0, -1):
            # Of the mirrored halving: one more pixel where the side was even.
            odd = tuple(1 - side % 2 for side in sizes[place - 1])
            outside.append(nn.SiLU())
            outside.append(nn.ConvTranspose2d(maps[place], maps[place - 1], 3, 2, padding=1, output_padding=odd))
        self.decoder = nn.Sequential(*outside)
        if likelihood == "8-bit":
            self.log_scale = nn.Parameter(torch.full((spec.channels, 1, 1), -2.0))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def prepare(self, data: ImageData) -> None:
        """The decoder begins with the mean pixel of training, so that it need not be learnt."""
        rows = data.parts["train"][:: max(1, len(data.parts["train"]) // 5000)]
        mean = torch.from_numpy(data.images[rows].mean(axis=0, dtype="float64")).float() / 255
        last = self.decoder[-1]
        if isinstance(last, nn.ConvTranspose2d):
            mean = mean.mean(dim=(1, 2))
        else:
            last, mean = self.decoder[-2], mean.flatten()
        start = mean.clamp(0.005, 0.995).logit() if self.likelihood == "binary" else 2 * mean - 1
        last.bias.data.copy_(start)

    def loss(self, batch: ImageBatch) -> Tensor:
        images = batch.images
        binary = self.likelihood == "binary"
        pixels = (torch.rand(images.shape, device=images.device) * 255 < images).float() if binary else images.float()
        if self.samples > 1:
            return bound(self.log_weights(pixels, self.samples)).mean()
        mean, log_variance = self.encode(pixels)
        z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2
        weight = (self.steps / self.warm_up).clamp(max=1) if self.warm_up else 1.0
        if self.training:
            self.steps += 1
        return weight * divergence - self.log_likelihood(pixels, self.decoder(z).float()).mean()

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | x), float32 [n, latent]."""
        given = pixels if self.likelihood == "binary" else pixels / 127.5 - 1
        mean, log_variance = self.encoder(given).float().chunk(2, dim=1)
        return mean, log_variance

    def log_weights(self, pixels: Tensor, samples: int) -> Tensor:
        mean, log_variance = self.encode(pixels)
        noise = torch.randn(samples, *mean.shape, device=mean.device)
        z = mean + noise * (log_variance / 2).exp()
        # The constants of prior and posterior are the same.
        difference = (noise.square() + log_variance - z.square()).sum(2) / 2
        decoded = self.decoder(z.flatten(0, 1)).float()
        return difference + self.log_likelihood(pixels, decoded.unflatten(0, (samples, len(pixels))))

    def log_likelihood(self, pixels: Tensor, decoded: Tensor) -> Tensor:
        """log p(x | z), [...] of what the decoder says [..., channels, height, width]."""
        if self.likelihood == "binary":
            return (pixels * decoded - F.softplus(decoded)).sum(dim=(-3, -2, -1))
        # In units of half the range: a value is 2 / 255 wide, and the ends reach to infinity.
        scale = self.log_scale.clamp(min=-7).exp()
        centre = pixels / 127.5 - 1 - decoded
        upper, lower = (centre + 1 / 255) / scale, (centre - 1 / 255) / scale
        # log(sigmoid(u) - sigmoid(l)) without losing digits: the density's form of the difference.
        inside = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(lower - upper))
        ends = torch.where(pixels < 0.5, F.logsigmoid(upper), torch.where(pixels > 254.5, F.logsigmoid(-lower), inside))
        return ends.sum(dim=(-3, -2, -1))

    def generate(self, noise: Tensor, classes: Tensor | None = None) -> Tensor:
        """What the decoder expects of each pixel: no noise is added to it."""
        decoded = self.decoder(noise).float()
        return to_pixels(2 * decoded.sigmoid() - 1 if self.likelihood == "binary" else decoded)


def _dense(widths: list[int], activation: str) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        if activation == "gated":
            layers.append(Gated(before, after))
        else:
            layers += [nn.Linear(before, after), nn.Tanh() if activation == "tanh" else nn.ReLU()]
    return layers
