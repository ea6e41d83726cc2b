"""squall and its peers on one Swarm at the same time: storms seen, controls accused, delay, memory and CPU.

    peers.py SQUALL WORK LAB VENV CALM STORMY

First the controls alone for CALM seconds, then with all storms for STORMY seconds; the controls that do something do it
in both. The lab's dockerd serves its metrics at METRICS. Each peer has the rule that somebody with experience would
write; the rules are below.
"""

import json
import re
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import measure
from swarm import CONTROLS, DOCKER, EXERCISED, Swarm, Truth, Watch, end, end_on_signals, storm_names, until_true

METRICS = "127.0.0.1:9323"
PROMETHEUS = "127.0.0.1:9090"
# Five ends of containers of a service within a minute, by the daemon's time.
DIES = """foreach inputs as $event ({};
    (($event.Actor.Attributes["com.docker.swarm.service.name"]) // $event.Actor.Attributes.name) as $service
    | .name = $service
    | .[$service] = ([.[$service][]? | select(. > $event.time - 60)] + [$event.time])[-5:];
    select(.[.name] | length == 5) | .name)"""
# The same of those that did not exit 0.
FAILING_DIES = f'def fails: select(.Actor.Attributes.exitCode != "0"); {DIES.replace("inputs", "(inputs | fails)", 1)}'
# Nagios asks, and from the third bad answer in a row on it tells people.
CHECK_EVERY_SECS = 10
CHECKS_IN_A_ROW = 3
ACCUSED = re.compile(r"CRITICAL: (?:Replicated|Global) service (\S+) has")
# dockerd tells of restarts and failed tasks by these; none has a label of a service.
RULES = """groups:
  - name: restarts
    rules:
      - alert: ContainersRestart
        expr: sum(rate(engine_daemon_container_actions_seconds_count{action="start"}[1m])) * 60 > 5
      - alert: TasksFail
        expr: sum(swarm_manager_tasks_total{state=~"failed|rejected"}) > 5
        for: 15s
"""
PROMETHEUS_YML = """global: {scrape_interval: 5s, evaluation_interval: 5s}
rule_files: [rules.yml]
scrape_configs:
  - job_name: docker
    static_configs: [{targets: ["%s"]}]
"""


class Peer:
    """A tool under test.

    `alerts` has when it first named a service, `unnamed` when an alert stood that names none; `usage` CPU seconds and MB.
    """

    def __init__(self, name):
        self.name = name
        self.alerts = {}
        self.unnamed = {}
        self.usage = (0.0, 0.0)

    def names(self, service, at):
        self.alerts.setdefault(service, at)


class Squall(Peer):
    def __init__(self, swarm, squall, work):
        super().__init__("squall watch")
        self.watch = Watch(swarm, squall, work)

    def take(self):
        self.usage = used(self, [self.watch.process])

    def stop(self):
        self.watch.stop()
        for at, storm in self.watch.onsets:
            self.names(storm["subject"]["name"], at)


class Pipeline(Peer):
    """docker events into jq, whose every line is an alert."""

    def __init__(self, swarm, name, program):
        super().__init__(name)
        events = [DOCKER, "events", "--filter", "event=die", "--format", "{{json .}}"]
        self.source = subprocess.Popen(events, env=swarm.environ, stdout=subprocess.PIPE)
        jq = ["jq", "--unbuffered", "-nr", program]
        self.jq = subprocess.Popen(jq, stdin=self.source.stdout, stdout=subprocess.PIPE, text=True)
        self.source.stdout.close()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.jq.stdout:
            self.names(line.strip(), time.time())

    def take(self):
        self.usage = used(self, [self.source, self.jq])

    def stop(self):
        for process in (self.source, self.jq):
            end(process)
        self.reader.join()


class CheckSwarm(Peer):
    """check_swarm as Nagios runs it; a service is accused by so many bad answers in a row."""

    def __init__(self, swarm, venv):
        super().__init__(f"check_swarm every {CHECK_EVERY_SECS} s, {CHECKS_IN_A_ROW} in a row")
        self.at_once = Peer("the same, the first")
        self.command = [f"{venv}/bin/check_swarm", "--connection", swarm.socket, "--service", "all"]
        self.out = swarm.directory / "check_swarm.out"
        self.bad = {}
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self.check, daemon=True)
        self.thread.start()

    def check(self):
        while not self.is_over.is_set():
            began = time.monotonic()
            # 255 is its answer where there is no service at all.
            cpu, _, peak_mb = measure.run(self.command, self.out, good=(0, 1, 2, 3, 255))
            self.usage = self.usage[0] + cpu, max(self.usage[1], peak_mb)
            accused = set(ACCUSED.findall(self.out.read_text()))
            at = time.time()
            self.bad = {service: self.bad.get(service, 0) + 1 for service in accused}
            for service, in_a_row in self.bad.items():
                self.at_once.names(service, at)
                if in_a_row >= CHECKS_IN_A_ROW:
                    self.names(service, at)
            self.is_over.wait(CHECK_EVERY_SECS - (time.monotonic() - began))

    def take(self):
        if not self.thread.is_alive():
            sys.exit("check_swarm failed")
        self.is_over.set()
        self.thread.join()
        self.at_once.usage = self.usage

    def stop(self):
        self.is_over.set()
        self.thread.join()


class Prometheus(Peer):
    """Prometheus with rules over what dockerd itself serves."""

    def __init__(self, swarm, work):
        super().__init__("Prometheus, dockerd's own metrics")
        self.within = swarm.in_network()
        home = Path(work) / "prometheus"
        home.mkdir()
        (home / "prometheus.yml").write_text(PROMETHEUS_YML % METRICS)
        (home / "rules.yml").write_text(RULES)
        options = [f"--config.file={home}/prometheus.yml", f"--storage.tsdb.path={home}/data"]
        options.append(f"--web.listen-address={PROMETHEUS}")
        with open(home / "log", "wb") as log:
            self.process = subprocess.Popen(self.within + ["prometheus", *options], stdout=log, stderr=log)
        until_true("Prometheus scrapes dockerd", lambda: self.query("query?query=up") == [["1"]])

    def query(self, what):
        """The values of the series of an answer; none while Prometheus does not answer."""
        fetch = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=5).read().decode())"
        url = f"http://{PROMETHEUS}/api/v1/{what}"
        command = self.within + [sys.executable, "-I", "-c", fetch, url]
        answer = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        if answer.returncode != 0:
            return []
        series = json.loads(answer.stdout)["data"]["result"]
        return [one["values"] if "values" in one else [one["value"][1]] for one in series]

    def take(self):
        now = time.time()
        for alert in re.findall(r"alert: (\w+)", RULES):
            what = f"query_range?query=ALERTS%7Balertstate%3D%22firing%22,alertname%3D%22{alert}%22%7D&step=1"
            firing = self.query(f"{what}&start={now - 3000:.0f}&end={now:.0f}")
            self.unnamed[alert] = sorted(at for values in firing for at, _ in values)
        self.usage = used(self, [self.process])

    def stop(self):
        end(self.process)


def used(peer, processes):
    """CPU seconds and peak MB of processes, all of which still have to run."""
    if any(process.poll() is not None for process in processes):
        sys.exit(f"{peer.name} ended by itself")
    return tuple(map(sum, zip(*[measure.usage_of(process.pid) for process in processes])))


def main():
    squall, work, swarm, venv = sys.argv[1], Path(sys.argv[2]), Swarm(sys.argv[3]), sys.argv[4]
    calm_secs, stormy_secs = int(sys.argv[5]), int(sys.argv[6])
    names = storm_names()
    truth, peers = Truth(swarm, work), []
    try:
        peers.append(Squall(swarm, squall, work))
        peers.append(Pipeline(swarm, "`docker events` die, jq: 5 a minute", DIES))
        peers.append(Pipeline(swarm, "the same, exit code not 0", FAILING_DIES))
        peers.append(CheckSwarm(swarm, venv))
        peers.append(Prometheus(swarm, work))
        began = time.time()
        swarm.storms("create", *CONTROLS)
        run_for(calm_secs, swarm)
        stormy = time.time()
        swarm.storms("create", *names)
        run_for(stormy_secs, swarm)
        ids = swarm.service_ids()
        lasted = time.time() - began
        for peer in peers:
            peer.take()
    finally:
        for peer in peers:
            peer.stop()
        truth.stop()
    swarm.storms("remove")
    failures = truth.failures()
    by_name = {name: failures.get(service, []) for service, name in ids.items() if name in names}
    report(peers, by_name, stormy, calm_secs, lasted)


def run_for(secs, swarm):
    """So long at least, with one exercise of the controls."""
    until = time.monotonic() + secs
    swarm.exercise(EXERCISED)
    time.sleep(max(0.0, until - time.monotonic()))


def report(peers, failures, stormy, calm_secs, lasted):
    never = [name for name, times in failures.items() if len(times) < 6]
    if never:
        sys.exit(f"no storms: {never} failed fewer than six times")
    # The check is one program, which two ways of reading it share.
    rows = []
    for peer in peers:
        rows.append(row(peer, failures, stormy))
        if isinstance(peer, CheckSwarm):
            rows.append(row(peer.at_once, failures, stormy))
    attempts = sum(map(len, failures.values()))
    print(f"On one Swarm of one node at the same time, {lasted:.0f} s of it, the first {calm_secs} without storms:")
    print(f"{len(failures)} storms ({attempts} failures) and {len(CONTROLS)} controls; delay from a storm's first failure,")
    print("median (range); failures by dockerd's log; memory is the peak of all processes of a tool.\n")
    head = ["", "storms seen", "missed", "controls accused", "delay, s", "failures by then", "memory MB", "CPU s"]
    measure.table(head, rows)


def row(peer, failures, stormy):
    seen = {name: at for name, at in peer.alerts.items() if name in failures}
    accused = sorted(name for name in peer.alerts if name not in failures)
    delays = [at - failures[name][0] for name, at in seen.items()]
    by_then = [sum(failed <= at for failed in failures[name]) for name, at in seen.items()]
    missed = sorted(set(failures) - set(seen))
    cpu, peak_mb = peer.usage
    blame = f"{len(accused)}" + (f": {', '.join(accused)}" if accused else "")
    saw = f"{len(seen)} of {len(failures)}"
    for alert, times in peer.unnamed.items():
        saw += f"; {alert}, without a name, {words(times, stormy)}"
    lost = "-" if not missed else "all" if not seen else ", ".join(missed)
    until = f"{statistics.median(by_then):.0f} ({min(by_then)}-{max(by_then)})" if by_then else "-"
    return peer.name, saw, lost, blame, measure.spread(delays, 1), until, f"{peak_mb:.1f}", f"{cpu:.2f}"


def words(times, stormy):
    """When an alert stood that names no service."""
    if not times:
        return "never"
    if times[0] < stormy:
        return f"{stormy - times[0]:.0f} s before the first storm"
    return f"{times[0] - stormy:.0f} s after the first storm's creation"


if __name__ == "__main__":
    end_on_signals()
    main()
