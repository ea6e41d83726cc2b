"""How `squall audit` and `squall watch` grow with the Swarm: a fake daemon of 10 to 10,000 services.

    growth.py SQUALL WORK TIMES SECS SERVICES...

Ten tasks each that run, and STORMS services more that loop. A watch is measured at rest: SECS seconds after it has told
of the storms and has settled.
"""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import measure
from swarm import end, end_on_signals, plain_environ, until_true, watch_command

FAKE = Path(__file__).parent / "fake.py"
STORMS = 3
SETTLE_SECS = 10
ENVIRON = plain_environ()


def main():
    squall, work, times, secs = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    rows = [size(squall, work, times, secs, int(services)) for services in sys.argv[5:]]
    print(f"Against a fake daemon, ten tasks a service, and {STORMS} services more that loop; audit: median (range) of {times}")
    print(f"runs; watch: {secs} s of rest, after it has told of the storms:\n")
    head = ["services", "tasks listed MB", "audit wall clock s", "audit CPU s", "audit peak MB"]
    measure.table(head + ["watch CPU s a minute", "watch peak MB"], rows)


def size(squall, work, times, secs, services):
    home = work / f"growth-{services}"
    home.mkdir()
    path = home / "docker.sock"
    host = f"unix://{path}"
    fake = subprocess.Popen([sys.executable, FAKE, path, str(services), str(STORMS)])
    try:
        until_true("the fake daemon listens", lambda: path.exists() or fake.poll() is not None)
        out = home / "audit.json"
        audit = {"audit": [squall, "audit", "--format", "json", "--log", "none", "--host", host]}
        samples = measure.in_turn(times, audit, {"audit": out}, ENVIRON)["audit"]
        report = json.loads(out.read_bytes())
        if len(report["storms"]) != STORMS or report["calm"] != services:
            sys.exit(f"audit of {services} services: {len(report['storms'])} storms, {report['calm']} calm")
        listed = listed_mb(path)
        cpu, peak_mb = watch(squall, home, host, secs)
    finally:
        end(fake)
    wall = measure.spread(samples.wall)
    peak = f"{max(samples.peak_mb):.1f}"
    a_minute = f"{cpu * 60 / secs:.2f}"
    return f"{services:,}", f"{listed:.1f}", wall, measure.spread(samples.cpu), peak, a_minute, f"{peak_mb:.1f}"


def listed_mb(path):
    """The size of the daemon's list of all tasks."""
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.connect(str(path))
        daemon.sendall(b"GET /tasks HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")
        return len(daemon.makefile("rb").read().split(b"\r\n\r\n", 1)[1]) / 1e6


def watch(squall, home, host, secs):
    """CPU seconds of so many seconds at rest, and the peak of all."""
    out = home / "watch.json"
    command = watch_command(squall, home, "--log", "none", "--host", host)
    with open(out, "wb") as notices, open(home / "watch.log", "wb") as words:
        process = subprocess.Popen(command, env=ENVIRON, stdout=notices, stderr=words)
    try:
        until_true("watch tells of the storms", lambda: out.read_text().count('"onset"') >= STORMS, 120)
        time.sleep(SETTLE_SECS)
        before, _ = measure.usage_of(process.pid)
        time.sleep(secs)
        after, peak_mb = measure.usage_of(process.pid)
    finally:
        end(process)
    complaints = [line for line in (home / "watch.log").read_text().splitlines() if " ERROR " in line]
    if complaints:
        sys.exit(f"watch complains: {complaints[0]}")
    return after - before, peak_mb


if __name__ == "__main__":
    end_on_signals()
    main()
