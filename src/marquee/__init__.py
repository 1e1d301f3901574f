"""Marquee: config-driven, reproducible experiments for AI in culture and entertainment."""

__version__ = "0.1.0"


def load(run="latest", output=None):
    """The predictor of a finished run: a folder, an id or fingerprint prefix, or "latest" (marquee.apply.predictor)."""
    from marquee.apply.predictor import load as load_predictor

    return load_predictor(run, output)
