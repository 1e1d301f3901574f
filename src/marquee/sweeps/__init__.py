"""Many jobs under one name: planned and frozen before the first starts, each in a process of its own, recorded.

`marquee train -m` begins a session (session.py). Hydra's sweeper makes batches of words, a grid's (grid.py) or a
search's, and gives them to its launcher, which gives them back to the session. A batch (batch.py) is planned (plan.py),
its jobs run in a pool (pool.py, clusters.py), each in a process that knows only its own files (worker.py), and all of
it is recorded (store.py) and shown (view.py, listing.py).
"""
