#!/usr/bin/env python3
"""Cuts a recording short and works out anew what is true of what is left.

    trim.py RECORDING-DIRECTORY TARGET-DIRECTORY [SECONDS]

The truth is worked out from the raw task listings alone, without squall: attempts are distinct task ids, failed are
those whose last listing within the span is `failed` or `rejected`. What storms and why is taken from the recording's own
truth.json; a storm that has no failure more than 6 in what is left ends the script.

The span ends between two polls of the task list: there each change up to the cut has been listed, and events and log
lines up to it name no task that was not. Services and nodes stay as they were listed at the end of the recording.
"""

import gzip
import json
import pathlib
import re
import sys


def nanos(text):
    """RFC 3339 in UTC as text that sorts by time: the fraction filled up to nine digits."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return f"{whole}.{fraction:0<9}"


def event_time(line):
    return json.loads(line)["timeNano"]


def log_time(line):
    """The time of a line of dockerd's log; None where it goes on from the line before."""
    return nanos(line[6 : line.index('"', 6)]) if line.startswith('time="') else None


def epoch_nanos(text):
    from datetime import datetime, timezone

    whole, fraction = nanos(text).split(".")
    secs = int(datetime.fromisoformat(whole).replace(tzinfo=timezone.utc).timestamp())
    return secs * 10**9 + int(fraction)


def polls_end(updated, latest):
    """The last place up to `latest` at which a poll ends: everything before is older than everything after."""
    least_after = updated[-1]
    ends = {}
    for place in range(len(updated) - 1, -1, -1):
        ends[place] = least_after = min(least_after, updated[place])
    newest, found = "", None
    for place, time in enumerate(updated):
        if place and newest < ends[place] and newest <= latest:
            found = (place, newest)
        newest = max(newest, time)
    return found


def write(path, lines):
    data = "".join(line if line.endswith("\n") else line + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data, 9, mtime=0))


def write_requests(log, target, cut):
    """What the registry's own log says that each repository was asked for: HEADs and GETs of manifests. The log has
    whole seconds, so what it has of the last one may have come after the cut: that is said too."""
    from datetime import datetime

    last = epoch_nanos(cut) // 10**9
    asked = {}
    access = re.compile(r'\[([^]]+)\] "(GET|HEAD) /v2/(\S+)/manifests/')
    for line in log.read_text().splitlines():
        match = access.search(line)
        if not match:
            continue
        second = int(datetime.strptime(match[1], "%d/%b/%Y:%H:%M:%S %z").timestamp())
        counts = asked.setdefault(match[3], {"heads": 0, "gets": 0, "in_last_second": 0})
        if second <= last:
            counts["heads" if match[2] == "HEAD" else "gets"] += 1
        counts["in_last_second"] += second == last
    target.write_text(json.dumps(dict(sorted(asked.items())), indent=1) + "\n")


def main():
    source, target = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 50
    target.mkdir(parents=True, exist_ok=True)
    services = json.loads((source / "services.json").read_text())
    names = {service["ID"]: service["Spec"]["Name"] for service in services}
    known = json.loads((source / "truth.json").read_text())

    lines = (source / "tasks.ndjson").read_text().splitlines()
    tasks = [json.loads(line) for line in lines]
    updated = [nanos(task["UpdatedAt"]) for task in tasks]
    first = min(epoch_nanos(service["CreatedAt"]) for service in services)
    latest = max(time for time in updated if epoch_nanos(time) <= first + seconds * 1e9)
    count, cut = polls_end(updated, latest)
    lines, tasks = lines[:count], tasks[:count]
    assert all(time <= cut for time in updated[:count]) and all(time > cut for time in updated[count:])
    write(target / "tasks.ndjson.gz", lines)

    listed = {task["ID"] for task in tasks}
    for path in sorted(source.glob("*.events.ndjson")):
        kept = [line for line in path.read_text().splitlines() if event_time(line) <= epoch_nanos(cut)]
        for line in kept:
            task = json.loads(line)["Actor"]["Attributes"].get("com.docker.swarm.task.id")
            assert task is None or task in listed, task
        write(target / f"{path.name}.gz", kept)
    for path in sorted(source.glob("*.dockerd.log")):
        kept, time = [], ""
        for line in path.read_text().splitlines():
            time = log_time(line) or time
            if time <= cut:
                kept.append(line)
        write(target / f"{path.name}.gz", kept)
    for name in ("services.json", "nodes.json"):
        (target / name).write_bytes((source / name).read_bytes())

    write_requests(source / "registry.access.log", target.with_name(f"{target.name}.requests.json"), cut)

    last = {}
    for task in tasks:
        before = last.get(task["ID"])
        assert before is None or before["Version"]["Index"] <= task["Version"]["Index"]
        last[task["ID"]] = task
    truth = {}
    for name, facts in sorted(known.items()):
        own = [task for task in last.values() if names.get(task["ServiceID"]) == name]
        failed = sum(task["Status"]["State"] in ("failed", "rejected") for task in own)
        assert failed > 6 if facts["storm"] else failed == 0, (name, failed)
        truth[name] = {
            "storm": facts["storm"],
            "cause": facts["cause"],
            "pinned": facts["pinned"],
            "attempts": len(own),
            "failed": failed,
        }
    (target / "truth.json").write_text(json.dumps(truth, indent=1) + "\n")
    print(f"{count} listed task versions up to {cut}Z")


if __name__ == "__main__":
    main()
