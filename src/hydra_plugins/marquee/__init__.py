"""What Hydra finds of Marquee by itself: a launcher and two sweepers, thin, with nothing heavy imported."""
