"""How soon `squall watch` has its verdict: seconds from a storm's fifth failure, and from its sixth, to the line.

    latency.py SQUALL WORK LAB ROUNDS

A failure is what dockerd logs as one; the line's time is when it is read from squall's standard output, on the same
machine. squall allows five failures at once, so the sixth is the first that can be a storm.
"""

import statistics
import sys
import time

import measure
from swarm import Swarm, Truth, Watch, end_on_signals, storm_names

ONSETS_SECS = 60


def main():
    squall, work, swarm, rounds = sys.argv[1], sys.argv[2], Swarm(sys.argv[3]), int(sys.argv[4])
    names = storm_names()
    truth = Truth(swarm, work)
    watch = Watch(swarm, squall, work)
    created = {}
    try:
        for turn in range(1, rounds + 1):
            swarm.storms("create", *names)
            created.update(swarm.service_ids())
            await_onsets(watch, turn * len(names))
            swarm.storms("remove", *names)
    finally:
        watch.stop()
        truth.stop()
    report(watch, truth.failures(), created, rounds, len(names))


def await_onsets(watch, wanted):
    """What is late is missing in the report: the wait has a limit and no complaint."""
    until = time.monotonic() + ONSETS_SECS
    while len(watch.onsets) < wanted and time.monotonic() < until:
        time.sleep(0.1)


def report(watch, failures, created, rounds, count):
    seen, rows, by_then = {}, [], []
    for at, storm in watch.onsets:
        seen.setdefault(storm["subject"]["id"], (at, storm))
    strangers = [storm["subject"]["name"] for _, storm in seen.values() if storm["subject"]["id"] not in created]
    if strangers:
        sys.exit(f"onsets of {strangers}, which this benchmark has not created")
    for nth, name in ((4, "fifth"), (5, "sixth")):
        delays = []
        for service, (at, _) in seen.items():
            if len(failures.get(service, [])) > nth:
                delays.append(at - failures[service][nth])
        rows.append((f"from the {name} failure", len(delays), *quantiles(delays)))
    for service, (at, _) in seen.items():
        by_then.append(sum(failed <= at for failed in failures.get(service, [])))
    print(f"`squall watch` on a real Swarm, {len(seen)} of {rounds * count} storms in {rounds} rounds of {count} at once,")
    print("restart delay 1 s; seconds until the line is there, by dockerd's own log:\n")
    measure.table(["", "storms", "min", "median", "p90", "max"], rows)
    print(f"Failures by then: median {statistics.median(by_then):.0f}, at most {max(by_then)}.\n")


def quantiles(values):
    if len(values) < 2:
        sys.exit("too few storms to tell a distribution")
    p90 = statistics.quantiles(values, n=10, method="inclusive")[8]
    return [f"{value:.2f}" for value in (min(values), statistics.median(values), p90, max(values))]


if __name__ == "__main__":
    end_on_signals()
    main()
