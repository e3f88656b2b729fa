"""What a careless client may send: each is refused with the right error, and the connection
lives on.  odd_requests.py URI SIZE BLOCK_BYTES"""
import errno
import sys

import nbd

uri, size, block = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
MAX = 1024 * 1024
DRAINED = 64 * 1024 * 1024


def opened():
    h = nbd.NBD()
    h.add_meta_context("base:allocation")
    h.connect_uri(uri)
    h.set_strict_mode(0)
    return h


def refused(what, wanted, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except nbd.Error as error:
        if error.errnum != wanted:
            raise SystemExit(f"{what}: {error}, not {errno.errorcode[wanted]}")
    else:
        raise SystemExit(f"{what}: was not refused")
    # The same connection is good for the next request, and nothing was written.
    if h.pread(block, 0) != mark:
        raise SystemExit(f"{what}: block 0 is not what it was")


h = opened()
mark = bytes([0x5A]) * block
h.pwrite(mark, 0)
one = b"\xff" * block

refused("read beyond the end", errno.EINVAL, h.pread, block, size)
refused("read across the end", errno.EINVAL, h.pread, 2 * block, size - block)
refused("read far beyond", errno.EINVAL, h.pread, block, (1 << 63) - block)
refused("write beyond the end", errno.ENOSPC, h.pwrite, one, size)
refused("write across the end", errno.ENOSPC, h.pwrite, one * 2, size - block)
refused("trim beyond the end", errno.EINVAL, h.trim, block, size)
refused("zero beyond the end", errno.ENOSPC, h.zero, block, size)
refused("status beyond the end", errno.EINVAL, h.block_status, block, size, lambda *a: 0)

refused("unaligned read", errno.EINVAL, h.pread, block, 1)
refused("unaligned length", errno.EINVAL, h.pread, block - 1, 0)
refused("unaligned write", errno.EINVAL, h.pwrite, one, block // 2)
refused("unaligned write length", errno.EINVAL, h.pwrite, b"\xff" * (block + 1), 0)
refused("unaligned trim", errno.EINVAL, h.trim, block, 1)
refused("unaligned zero", errno.EINVAL, h.zero, block - 1, 0)

refused("empty read", errno.EINVAL, h.pread, 0, 0)
refused("empty write", errno.EINVAL, h.pwrite, b"", 0)
refused("empty trim", errno.EINVAL, h.trim, 0, 0)
refused("empty zero", errno.EINVAL, h.zero, 0, 0)

refused("oversized read", errno.EINVAL, h.pread, MAX + block, 0)
refused("oversized write", errno.EINVAL, h.pwrite, b"\xff" * (MAX + block), 0)
refused("largest write that is drained", errno.EINVAL, h.pwrite, b"\xff" * DRAINED, 0)

refused("cache", errno.EINVAL, h.cache, block, 0)
refused("fast zero", errno.EINVAL, h.zero, block, 0, nbd.CMD_FLAG_FAST_ZERO)
refused("no-hole read", errno.EINVAL, h.pread_structured, block, 0, lambda *a: 0,
        nbd.CMD_FLAG_NO_HOLE)

# The bounds themselves are fine.
data = bytes(range(256)) * (MAX // 256)
h.pwrite(data, size - MAX)
if h.pread(MAX, size - MAX) != data:
    raise SystemExit("the largest write did not come back")
h.zero(size - MAX, block)  # More than one part; no limit of payload.
if h.pread(block, 0) != mark or h.pread(block, size - MAX - block) != bytes(block):
    raise SystemExit("a zeroed range is not zero, or block 0 is")
h.trim(size - block, block, nbd.CMD_FLAG_FUA)
extents = []
h.block_status(size, 0, lambda name, offset, entries, error: extents.extend(entries))
if extents != [size, 0]:
    raise SystemExit(f"block status: {extents}")
h.flush()
h.shutdown()
