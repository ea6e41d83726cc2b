"""Runs commands and measures them: seconds of CPU, seconds of wall clock, peak RSS in MB. For the benchmarks beside.

Commands that are compared take turns, so that a noisy machine slows all of them alike.
"""

import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

KIB_TO_MB = 1024 / 1e6


@dataclass
class Samples:
    """What the runs of one command took; CPU and memory with those of its own children."""

    cpu: list = field(default_factory=list)
    wall: list = field(default_factory=list)
    peak_mb: list = field(default_factory=list)


def run(command, out=os.devnull, env=None, good=(0, 1)):
    """One run: CPU, wall clock, peak. Another exit status than the `good` ones ends the benchmark."""
    once = [sys.executable, "-I", "-S", str(Path(__file__).parent / "run_once.py"), str(out)]
    words = subprocess.run(once + [str(word) for word in command], env=env, check=True, stdout=subprocess.PIPE).stdout
    code, cpu, wall, peak_kib = words.split()
    if int(code) not in good:
        sys.exit(f"{' '.join(map(str, command))[:200]} ended with {int(code)}")
    return float(cpu), float(wall), int(peak_kib) * KIB_TO_MB


def in_turn(times, commands, out=None, env=None):
    """Runs each of `commands`, a dict by name, so many times: all once, then all again. Samples by name."""
    samples = {name: Samples() for name in commands}
    for _ in range(times):
        for name, command in commands.items():
            cpu, wall, peak_mb = run(command, out[name] if out else os.devnull, env)
            samples[name].cpu.append(cpu)
            samples[name].wall.append(wall)
            samples[name].peak_mb.append(peak_mb)
    return samples


def spread(values, digits=2):
    """Median and range, as the tables have it."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({least:.{digits}f}-{most:.{digits}f})"


def usage_of(pid):
    """CPU seconds and peak RSS in MB of a process that still runs."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
        fields = stat.read().rsplit(") ", 1)[1].split()
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
        peak_kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), peak_kib * KIB_TO_MB


def table(head, rows):
    """Prints a table in Markdown."""
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print(flush=True)
