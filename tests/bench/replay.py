"""`squall replay` against jq and a Python script that count the same events, and against jq at its least.

    replay.py SQUALL WORK EVENTS TIMES

All read the same files. What they count has to agree, else it is no comparison.
"""

import gzip
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import measure

HERE = Path(__file__).parent
RECORDED = sorted((HERE.parent / "recordings/swarm3").glob("node*.events.ndjson.gz"))


def main():
    squall, work, events, times = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    fresh, longer, recorded, over = (work / f"{name}.ndjson" for name in ("fresh", "longer", "recorded", "over"))
    for path, count in ((fresh, events), (longer, 4 * events)):
        with open(path, "wb") as out:
            subprocess.run([sys.executable, HERE / "generate.py", str(count)], stdout=out, check=True)
    lines = []
    for part in RECORDED:
        with gzip.open(part) as source:
            lines += source.readlines()
    recorded.write_bytes(b"".join(lines))
    with open(over, "wb") as out:
        out.writelines(itertools.islice(itertools.cycle(lines), events))
    agreed = [agree(squall, work, path) for path in (fresh, recorded)]

    rows, ratios = [], []
    for path, what in ((fresh, "fresh ids"), (over, "recorded events over and over")):
        commands = {
            "squall replay": [squall, "replay", "--format", "json", str(path)],
            "jq, counting": ["jq", "-nc", "-f", str(HERE / "count.jq"), str(path)],
            "Python, counting": [sys.executable, str(HERE / "count.py"), str(path)],
            "jq -c .Action": ["jq", "-c", ".Action", str(path)],
        }
        path.read_bytes()  # so that the first run finds it in memory as all others do
        samples = measure.in_turn(times, commands)
        rows += [row(f"{name}, {what}", events, sample) for name, sample in samples.items()]
        ratios.append((what, {name: ratio(sample, samples["squall replay"]) for name, sample in samples.items()}))
        if path == fresh:
            longer.read_bytes()
            command = {"longer": [squall, "replay", "--format", "json", str(longer)]}
            rows.append(row("squall replay, 4 times as long", 4 * events, measure.in_turn(times, command)["longer"]))
    size = fresh.stat().st_size // events
    print(f"`squall replay` of docker events, {size} bytes each, one thread; median (range) of {times} runs in turn:\n")
    measure.table(["", "events", "CPU s", "M events/s of CPU", "wall clock s", "peak MB"], rows)
    for what, by in ratios:
        others = ", ".join(f"{by[name]} times as {name}" for name in by if name != "squall replay")
        print(f"As fast, by the medians of CPU, is squall on {what}: {others}.")
    print(f"\nThey count alike: {agreed[0]}; in the recording {agreed[1]}.\n")


def row(name, events, samples):
    speed = [events / cpu / 1e6 for cpu in samples.cpu]
    peak = f"{max(samples.peak_mb):.1f}"
    return name, f"{events:,}", measure.spread(samples.cpu), measure.spread(speed), measure.spread(samples.wall), peak


def ratio(of, by):
    return f"{sorted(of.cpu)[len(of.cpu) // 2] / sorted(by.cpu)[len(by.cpu) // 2]:.0f}"


def agree(squall, work, path):
    """Ends unless the three have the same counts of what stormed; returns what they agree on."""
    out = {name: work / f"{name}.json" for name in ("squall", "jq", "python")}
    measure.run([squall, "replay", "--format", "json", str(path)], out["squall"])
    measure.run(["jq", "-nc", "-f", str(HERE / "count.jq"), str(path)], out["jq"])
    measure.run([sys.executable, str(HERE / "count.py"), str(path)], out["python"])
    report, jq, python = (json.loads(out[name].read_bytes()) for name in out)
    if jq != python:
        sys.exit(f"{path}: jq and Python count differently")
    endless = removed_without_end(path)
    compared = containers = 0
    for storm in report["storms"]:
        name = storm["subject"]["name"]
        # What fails before there is a container emits nothing that could be counted.
        if name not in jq:
            continue
        created = jq[name]["create"]
        # One whose start failed has no end, and is removed some time after squall has seen the next attempt.
        ended = jq[name].get("die", 0) + endless[name]
        if storm["attempts"] != created or not ended <= storm["failed"] <= created:
            words = f"{storm['attempts']} attempts of {name}, {storm['failed']} failed"
            sys.exit(f"{path}: squall has {words}; {created} containers were created, {ended} ended")
        compared += 1
        containers += created
    if compared == 0:
        sys.exit(f"{path}: nothing to compare")
    return f"{containers:,} containers of {compared} storms"


def removed_without_end(path):
    """How many containers of each service were removed and never ended: their start had failed."""
    ended, removed = set(), {}
    with open(path, "rb") as events:
        for line in events:
            event = json.loads(line)
            if event["Type"] == "container" and event["Action"] == "die":
                ended.add(event["Actor"]["ID"])
            elif event["Type"] == "container" and event["Action"] == "destroy":
                removed[event["Actor"]["ID"]] = event["Actor"]["Attributes"].get("com.docker.swarm.service.name")
    return Counter(service for container, service in removed.items() if container not in ended)


if __name__ == "__main__":
    os.chdir(HERE.parent.parent)
    main()
