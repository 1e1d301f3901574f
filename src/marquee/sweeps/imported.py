"""What every job needs, imported once in the nursery, before any job is forked from it: no thread starts here."""

import gc

import marquee.config.check
import marquee.config.compose
import marquee.inference.artefacts
import marquee.runs.ledger
import marquee.runs.train
import marquee.sweeps.plan
import marquee.sweeps.worker  # noqa: F401 - the names are used by nobody here

# The forks share this memory for as long as nobody writes to it; the collector would, in each of them.
gc.freeze()
