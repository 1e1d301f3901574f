"""What a run's `inference/` folder holds, and how it answers. Needs neither Hydra, Lightning nor the data."""
