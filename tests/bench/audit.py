"""`squall audit` against `docker service ps` over all services of a real Swarm that storms.

    audit.py SQUALL WORK LAB QUIET TIMES

All storms and controls run, and QUIET services more of no replicas. The loop of a person at a shell, and one call for
all services, each read by the rule that the kept history allows: four of the at most five tasks of a slot have failed.
Requests are counted in runs of their own.
"""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import measure
from swarm import CONTROLS, DOCKER, Swarm, end_on_signals, storm_names, until_true

FORMAT = "{{.Name}} {{.CurrentState}}"
RULE = "awk '$2 ~ /Failed|Rejected/ { sub(/[.].*/, \"\", $1); if (++count[$1] == 4) print $1 }'"
ONE_CALL = f"{DOCKER} service ps --format '{FORMAT}' $({DOCKER} service ls -q) | {RULE}"
EACH = f"{DOCKER} service ps --format '{FORMAT}' \"$service\""
LOOP = f"for service in $({DOCKER} service ls -q); do {EACH}; done | {RULE}"
# Every storm has failed often enough by then for its history to be full.
SETTLE_SECS = 20
# How long the storms may take to be there.
FOUND_SECS = 120
REQUEST = re.compile(rb"^(?:GET|HEAD|POST) /\S* HTTP/1", re.MULTILINE)


def main():
    squall, work, swarm = sys.argv[1], Path(sys.argv[2]), Swarm(sys.argv[3])
    quiet, times = int(sys.argv[4]), int(sys.argv[5])
    names = storm_names()
    fill(swarm, quiet)
    swarm.storms("create", *[name for name in CONTROLS if name != "c-rm"], *names)
    audit = [squall, "audit", "--format", "json", "--log", swarm.log]
    out = {name: work / f"audit-{number}.out" for number, name in enumerate(("squall audit", "one call", "loop"))}
    until_true("all storms are there", lambda: len(storms_of(audit, swarm)) == len(names), FOUND_SECS)
    time.sleep(SETTLE_SECS)
    commands = {"squall audit": audit, "one call": ["sh", "-c", ONE_CALL], "loop": ["sh", "-c", LOOP]}
    short = {name: command for name, command in commands.items() if name != "loop"}
    samples = measure.in_turn(times, short, out, swarm.environ)
    # Takes too long to be run as often.
    samples |= measure.in_turn(1, {"loop": commands["loop"]}, out, swarm.environ)
    found = {name: set(out[name].read_text().split()) for name in ("one call", "loop")}
    report = json.loads(out["squall audit"].read_bytes())
    found["squall audit"] = {storm["subject"]["name"] for storm in report["storms"]}
    requests = {name: count_requests(swarm, command, work) for name, command in commands.items()}
    services = len(swarm.service_ids())
    swarm.storms("remove")
    swarm.docker("service", "rm", *[f"quiet-{number}" for number in range(quiet)])

    titles = {"one call": "`docker service ps $(docker service ls -q)`", "loop": "the same, a call for each service"}
    rows = [row(titles.get(name, f"`{name}`"), samples[name], requests[name], found[name], names) for name in commands]
    print(f"One look at a real Swarm of {services} services, of which {len(names)} storm; median (range) of")
    print(f"{times} runs in turn, of one of the loop:\n")
    measure.table(["", "wall clock s", "CPU s", "peak MB", "requests", "storms found", "missed", "others accused"], rows)


def fill(swarm, quiet):
    """Services that stand by, as a Swarm has them."""
    image = f"{swarm.env['REGISTRY']}/app:1"

    def create(number):
        options = ["--quiet", "--detach", "--no-resolve-image", "--replicas", "0", "--name", f"quiet-{number}"]
        swarm.docker("service", "create", *options, image, "sleep", "600")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(create, range(quiet)))


def storms_of(command, swarm):
    answer = subprocess.run(command, env=swarm.environ, stdout=subprocess.PIPE, check=False)
    return json.loads(answer.stdout)["storms"]


def count_requests(swarm, command, home):
    """How often a command asks dockerd: a relay between the two counts."""
    path = str(home / "relay.sock")
    counted = []
    with socket.socket(socket.AF_UNIX) as relay:
        relay.bind(path)
        relay.listen(64)
        threading.Thread(target=accept, args=(relay, swarm.socket, counted), daemon=True).start()
        measure.run(command, env=swarm.environ | {"DOCKER_HOST": f"unix://{path}"})
    os.unlink(path)
    if not counted:
        sys.exit("no request came through the relay")
    return len(counted)


def accept(relay, to, counted):
    while True:
        try:
            client, _ = relay.accept()
        except OSError:
            return  # the relay is closed
        daemon = socket.socket(socket.AF_UNIX)
        daemon.connect(to)
        threading.Thread(target=pump, args=(client, daemon, counted), daemon=True).start()
        threading.Thread(target=pump, args=(daemon, client, None), daemon=True).start()


def pump(source, sink, counted):
    """Passes bytes on. A request's first line begins what a client writes at once."""
    try:
        while chunk := source.recv(1 << 16):
            if counted is not None:
                counted += REQUEST.findall(chunk)
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the other side has gone


def row(title, samples, requests, found, names):
    missed, others = sorted(set(names) - found), sorted(found - set(names))
    cpu, wall = measure.spread(samples.cpu), measure.spread(samples.wall)
    seen = f"{len(found & set(names))} of {len(names)}"
    peak = f"{max(samples.peak_mb):.1f}"
    return title, wall, cpu, peak, requests, seen, ", ".join(missed) or "-", ", ".join(others) or "-"


if __name__ == "__main__":
    end_on_signals()
    main()
