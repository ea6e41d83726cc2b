#!/usr/bin/env python3
"""Runs a command so many times; prints best and median seconds of CPU, seconds of wall time, and the peak RSS in MB.

measure.py TIMES COMMAND...    The command's output goes nowhere; exit statuses 0 and 1 are good.
"""

import os
import statistics
import subprocess
import sys
import time


def main():
    cpu, wall, peak = [], [], []
    for _ in range(int(sys.argv[1])):
        start = time.monotonic()
        child = subprocess.Popen(sys.argv[2:], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode not in (0, 1):
            sys.exit(f"{sys.argv[2]} ended with {child.returncode}")
        wall.append(time.monotonic() - start)
        cpu.append(usage.ru_utime + usage.ru_stime)
        peak.append(usage.ru_maxrss * 1024 / 1e6)
    print(f"{min(cpu):.3f} {statistics.median(cpu):.3f} {min(wall):.3f} {max(peak):.1f}")


if __name__ == "__main__":
    main()
