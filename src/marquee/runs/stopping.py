"""The wish that a run should stop when its epoch is over and saved: the gentle form of Ctrl-C."""

import threading

# Set by whoever runs the job; read by the checkpoint callback, which knows when an epoch is safe.
stop_after_epoch = threading.Event()
