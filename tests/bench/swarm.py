"""The lab's Swarm, its storms, and what really happened in it, for the benchmarks beside."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "lab/storms"
# c-drain would drain the only node; c-rich is about specifications.
CONTROLS = "c-ok c-roll c-scale c-job c-cron c-onfailure c-pending c-gives-up c-rm".split()
EXERCISED = "c-roll c-scale c-job c-cron c-rm".split()
# Waits for a directory of the tests.
NOT_A_STORM_HERE = {"s-mount-path"}
# Debian's docker, as the lab's own scripts take it.
DOCKER = "/usr/bin/docker"
FATAL = re.compile(r'^time="([^"]+)".* msg="fatal task error".* service\.id=(\w+)')


def plain_environ():
    """The environment without what would lead docker or squall elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "SQUALL_"))}


class Swarm:
    """A lab that runs in a directory."""

    def __init__(self, directory):
        self.directory = Path(directory)
        lines = (self.directory / "env").read_text().splitlines()
        self.env = dict(line.split("=", 1) for line in lines if "=" in line)
        self.log = self.env["LOG"]
        self.host = self.env["DOCKER_HOST"]
        self.socket = self.host.removeprefix("unix://")
        self.environ = plain_environ()
        self.environ.update(DOCKER_HOST=self.host, DOCKER_CONFIG=self.env["DOCKER_CONFIG"])

    def docker(self, *args):
        """What a docker command prints."""
        return subprocess.run([DOCKER, *args], env=self.environ, check=True, stdout=subprocess.PIPE, text=True).stdout

    def storms(self, command, *names):
        subprocess.run([SCRIPT, command, self.directory, *names], check=True, stdin=subprocess.DEVNULL)

    def exercise(self, names):
        """Does to each control what its name says, all at once, and waits for the last."""
        command = [SCRIPT, "exercise", self.directory]
        runs = [subprocess.Popen(command + [name], stdin=subprocess.DEVNULL) for name in names]
        failed = [name for name, run in zip(names, runs) if run.wait() != 0]
        if failed:
            sys.exit(f"exercise of {failed} failed")

    def service_ids(self):
        """Services' names by id."""
        listed = self.docker("service", "ls", "--format", "{{.ID}}")
        if not listed:
            return {}
        services = json.loads(self.docker("service", "inspect", *listed.split()))
        return {service["ID"]: service["Spec"]["Name"] for service in services}

    def dockerd(self):
        """The process id of the first node's dockerd, as this network namespace's host knows it."""
        wanted = f"dockerd\0-H\0{self.host}\0".encode()
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(wanted):
                    return int(entry.name)
        sys.exit(f"no dockerd listens at {self.host}")

    def in_network(self):
        """What a command begins with that runs in the first node's network."""
        return ["nsenter", f"--net=/proc/{self.dockerd()}/ns/net", "--"]


def storm_names():
    listed = subprocess.run([SCRIPT, "list", "storms"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return [name for name in listed.split() if name not in NOT_A_STORM_HERE]


def seconds(stamp):
    """Seconds since 1970 of RFC 3339 with any number of digits."""
    head, digits, zone = re.fullmatch(r"(.{19})(?:\.(\d+))?(.*)", stamp).groups()
    whole = datetime.fromisoformat(head + zone.replace("Z", "+00:00")).timestamp()
    return whole + float(f"0.{digits or 0}")


class Truth:
    """What failed when, from now on: by `die` events, and by dockerd's log where an attempt fails without one."""

    def __init__(self, swarm, work):
        self.swarm = swarm
        self.start = Path(swarm.log).stat().st_size
        self.events = Path(work) / "truth.ndjson"
        command = [DOCKER, "events", "--filter", "event=die", "--format", "{{json .}}"]
        with open(self.events, "wb") as out:
            self.recorder = subprocess.Popen(command, env=swarm.environ, stdout=out)

    def failures(self):
        """Sorted times of failures by service id."""
        found = {}
        with open(self.swarm.log, encoding="utf-8", errors="replace") as log:
            log.seek(self.start)
            for line in log:
                if match := FATAL.match(line):
                    found.setdefault(match[2], []).append(seconds(match[1]))
        ended = {}
        for line in self.events.read_text().splitlines():
            event = json.loads(line)
            if service := event["Actor"]["Attributes"].get("com.docker.swarm.service.id"):
                ended.setdefault(service, []).append(event["timeNano"] / 1e9)
        for service, times in ended.items():
            # The end of a container comes before the line about it, where there is one.
            if len(times) >= len(found.get(service, [])):
                found[service] = times
        return {service: sorted(times) for service, times in found.items()}

    def stop(self):
        end(self.recorder)


def watch_command(squall, work, *options):
    """`squall watch` that tells everything as JSON, with its status page at a port that is free."""
    config = Path(work) / "squall.toml"
    config.write_text('[serve]\nlisten = "127.0.0.1:0"\n')
    return [squall, "watch", "--config", config, "--format", "json", "--state-dir", Path(work) / "state", *options]


class Watch:
    """`squall watch`, and when each onset was read from it, on this machine's clock."""

    def __init__(self, swarm, squall, work):
        command = watch_command(squall, work, "--log", swarm.log)
        self.words = Path(work) / "watch.log"
        with open(self.words, "wb") as words:
            self.process = subprocess.Popen(command, env=swarm.environ, stdout=subprocess.PIPE, stderr=words, text=True)
        self.onsets = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        until_true("squall watches", lambda: "watching" in self.words.read_text() or self.process.poll() is not None)
        if self.process.poll() is not None:
            sys.exit(f"squall watch ended: {self.words.read_text()}")

    def read(self):
        for line in self.process.stdout:
            at, notice = time.time(), json.loads(line)
            if notice["notice"] == "onset":
                self.onsets.append((at, notice["storm"]))

    def stop(self):
        end(self.process)
        self.reader.join()


def until_true(what, is_true, secs=60):
    until = time.monotonic() + secs
    while not is_true():
        if time.monotonic() > until:
            sys.exit(f"not in {secs} s: {what}")
        time.sleep(0.1)


def end(process):
    """Ends a process that this one has started."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def end_on_signals():
    """So that `finally` is reached when somebody ends the benchmark."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
