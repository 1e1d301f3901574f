"""The embedded data sets: a made-up streaming service whose truth is known."""
