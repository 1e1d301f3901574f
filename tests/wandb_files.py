"""Offline W&B recordings, read back."""

import struct
import time
import zlib
from pathlib import Path

from wandb.proto import wandb_internal_pb2

BLOCK = 32768  # of the LevelDB log format: records are framed in blocks and never cross their borders
FIRST, MIDDLE, LAST, WHOLE = 2, 3, 4, 1


def records(file: Path):
    """The protocol-buffer records of an offline W&B run, checksums verified.

    A file opens with 7 bytes (":W&B", a magic number, a version); a frame is checksum, length, kind, content.
    """
    content = file.read_bytes()
    assert content[:4] == b":W&B"
    position, parts = 7, b""
    while position < len(content):
        left = BLOCK - position % BLOCK
        if left < 7:
            position += left
            continue
        checksum, length, kind = struct.unpack("<IHB", content[position : position + 7])
        data = content[position + 7 : position + 7 + length]
        assert zlib.crc32(data, zlib.crc32(bytes([kind]))) == checksum
        position += 7 + length
        parts = data if kind in (WHOLE, FIRST) else parts + data
        if kind in (WHOLE, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record


def whole(file: Path) -> list:
    """The records of an offline W&B run up to its end, which W&B's service, a process of its own, may write late."""
    deadline = time.monotonic() + 600
    found = list(records(file))
    while not any(record.HasField("exit") for record in found) and time.monotonic() < deadline:
        time.sleep(0.1)
        found = list(records(file))
    return found
