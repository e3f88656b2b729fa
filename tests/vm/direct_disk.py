"""direct_disk.py - an nbdkit plugin: a block device as it is, with no cache in between.

    nbdkit python direct_disk.py file=DEVICE

Each request is one of the kernel's to the device (O_DIRECT; FUA by RWF_DSYNC, FLUSH by fsync, zeroes and
trims by ioctl), several at a time: so a workload that speaks NBD (tests/cluster/torture_driver.c) can
judge a device. nbdkit's own file plugin would have it judge the page cache.
"""
import errno
import fcntl
import mmap
import os
import struct

import nbdkit

API_VERSION = 2
BLKDISCARD = 0x1277
BLKZEROOUT = 0x127F
BLOCK_BYTES = 512
REQUEST_BYTES_MAX = 1 << 20
path = None


def thread_model():
    return nbdkit.THREAD_MODEL_PARALLEL


def config(key, value):
    global path
    if key != "file":
        raise RuntimeError("unknown parameter " + key)
    path = value


def open(readonly):
    return os.open(path, os.O_RDWR | os.O_DIRECT)


def close(fd):
    os.close(fd)


def get_size(fd):
    return os.lseek(fd, 0, os.SEEK_END)


def block_size(fd):
    return (BLOCK_BYTES, 4096, REQUEST_BYTES_MAX)


def can_fua(fd):
    return nbdkit.FUA_NATIVE


def can_flush(fd):
    return True


def can_trim(fd):
    return True


def can_zero(fd):
    return True


def whole(done, length):
    if done != length:
        raise OSError(errno.EIO, "%d of %d bytes" % (done, length))


def pread(fd, buf, offset, flags):
    page = mmap.mmap(-1, len(buf))  # Aligned, as O_DIRECT wants it.
    whole(os.preadv(fd, [page], offset), len(buf))
    buf[:] = page[:len(buf)]


def pwrite(fd, buf, offset, flags):
    page = mmap.mmap(-1, len(buf))
    page[:len(buf)] = bytes(buf)
    how = os.RWF_DSYNC if flags & nbdkit.FLAG_FUA else 0
    whole(os.pwritev(fd, [page], offset, how), len(buf))


def by_ioctl(fd, request, count, offset, flags):
    fcntl.ioctl(fd, request, struct.pack("QQ", offset, count))
    if flags & nbdkit.FLAG_FUA:
        os.fsync(fd)


def zero(fd, count, offset, flags):
    by_ioctl(fd, BLKZEROOUT, count, offset, flags)


def trim(fd, count, offset, flags):
    by_ioctl(fd, BLKDISCARD, count, offset, flags)


def flush(fd, flags):
    os.fsync(fd)
