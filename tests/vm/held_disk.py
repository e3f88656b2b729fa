"""held_disk.py - an nbdkit plugin: a disk on a file that holds up the writes that say so.

    nbdkit python held_disk.py file=PATH gate=FOLDER

A write whose data begins with HOLD waits in FOLDER/holding until FOLDER/release is there; all
other requests go on meanwhile, as in a disk array with one stuck drive. What it holds, it writes
in the end, whatever has become of its initiator: that is the write that must not land over a newer
one.
"""
import os
import time
from io import open as io_open

import nbdkit

API_VERSION = 2
MARK = b"HOLD"
path = None
gate = None


def thread_model():
    return nbdkit.THREAD_MODEL_PARALLEL


def config(key, value):
    global path, gate
    if key == "file":
        path = value
    elif key == "gate":
        gate = value
    else:
        raise RuntimeError("unknown parameter " + key)


def open(readonly):
    return os.open(path, os.O_RDWR)


def close(fd):
    os.close(fd)


def get_size(fd):
    return os.lseek(fd, 0, os.SEEK_END)


def can_flush(fd):
    return True


def pread(fd, buf, offset, flags):
    data = os.pread(fd, len(buf), offset)
    buf[:] = data


def pwrite(fd, buf, offset, flags):
    data = bytes(buf)
    if data.startswith(MARK):
        with io_open(os.path.join(gate, "holding"), "a") as log:
            log.write("%d %d\n" % (offset, len(data)))
        while not os.path.exists(os.path.join(gate, "release")):
            time.sleep(0.05)
    os.pwrite(fd, data, offset)
    if data.startswith(MARK):
        with io_open(os.path.join(gate, "released"), "a") as log:
            log.write("%d %d\n" % (offset, len(data)))


def flush(fd, flags):
    os.fsync(fd)
