"""Runs one command, and prints what it took: exit status, seconds of CPU, of wall clock, and the peak RSS in KiB.

    python3 -I -S run_once.py OUT COMMAND...

A process of its own with next to no imports, and fork instead of subprocess's vfork: the kernel counts to a command's
peak what the process that started it held at that moment.
"""

import os
import sys
import time

start = time.monotonic()
child = os.fork()
if child == 0:
    try:
        os.dup2(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), 1)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.execvp(sys.argv[2], sys.argv[2:])
    except OSError as error:
        os.write(2, f"{sys.argv[2]}: {error}\n".encode())
    os._exit(127)
_, status, usage = os.wait4(child, 0)
wall = time.monotonic() - start
print(os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss)
