"""A manager of a Swarm on a unix socket, for benchmarks: SERVICES services of ten tasks that run, and STORMS that loop.

    fake.py SOCKET SERVICES STORMS

A storm is a service of one slot that is rejected a second after each attempt began, every BEAT seconds, for as long as
this runs and since an hour before; its history is Swarm's five tasks.
"""

import json
import os
import socketserver
import sys
import time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

SOCKET, SERVICES, STORMS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
BEAT, HISTORY, AGE_SECS = 5, 5, 3600
BEGAN = time.time() - AGE_SECS


def stamp(at):
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f") + "001Z"


def spec(service):
    return {
        "ContainerSpec": {"Image": f"registry.example.com/team/app-{service}:1", "Env": ["A=b"] * 8, "Isolation": "default"},
        "Resources": {"Limits": {"MemoryBytes": 1 << 28}, "Reservations": {}},
        "RestartPolicy": {"Condition": "any", "Delay": 5000000000, "MaxAttempts": 0},
        "Placement": {"Platforms": [{"Architecture": "amd64", "OS": "linux"}]},
        "ForceUpdate": 0,
    }


def services():
    for service in range(SERVICES + STORMS):
        is_storm = service >= SERVICES
        wanted = 1 if is_storm else 10
        yield {
            "ID": f"service{service:018}",
            "Version": {"Index": service + 1},
            "CreatedAt": stamp(BEGAN),
            "UpdatedAt": stamp(BEGAN),
            "Spec": {"Name": f"app-{service}", "Labels": {}, "TaskTemplate": spec(service), "Mode": {"Replicated": {"Replicas": wanted}}},
            "ServiceStatus": {"RunningTasks": 0 if is_storm else wanted, "DesiredTasks": wanted, "CompletedTasks": 0},
        }


def task(service, slot, identity, at, status, desired):
    return {
        "ID": f"task{identity:021}",
        "Version": {"Index": identity},
        "CreatedAt": stamp(at),
        "UpdatedAt": stamp(at),
        "Spec": spec(service),
        "ServiceID": f"service{service:018}",
        "Slot": slot,
        "NodeID": f"node{slot:021}",
        "Status": status,
        "DesiredState": desired,
    }


def running_tasks():
    container = {"ContainerID": "c" * 64, "PID": 17, "ExitCode": 0}
    status = {"Timestamp": stamp(BEGAN), "State": "running", "Message": "started", "ContainerStatus": container}
    for service in range(SERVICES):
        for slot in range(1, 11):
            yield task(service, slot, service * 10 + slot, BEGAN, status, "running")


def storming_tasks():
    now = time.time()
    for service in range(SERVICES, SERVICES + STORMS):
        # Storms are not in step.
        began = BEGAN + service % BEAT
        last = int((now - began) / BEAT)
        for attempt in range(last - HISTORY + 1, last + 1):
            at = began + attempt * BEAT
            is_over = now >= at + 1
            state = "rejected" if is_over else "preparing"
            status = {"Timestamp": stamp(at + is_over), "State": state, "Message": "preparing"}
            if is_over:
                status["Err"] = "No such image: registry.example.com/team/app:1"
            identity = 10**12 + service * 10**6 + attempt
            yield task(service, 1, identity, at, status, "shutdown" if is_over else "running")


RUNNING = json.dumps(list(running_tasks())).encode()


def tasks(query):
    """All, or those of the services that a filter names, which are the storms whenever squall asks so."""
    storming = list(storming_tasks())
    if "filters" in query:
        wanted = json.loads(query["filters"][0]).get("service", [])
        return json.dumps([one for one in storming if one["ServiceID"] in wanted]).encode()
    more = b"".join(b"," + json.dumps(one).encode() for one in storming)
    return RUNNING[:-1] + (more if SERVICES else more[1:]) + b"]"


def info():
    swarm = {"NodeID": "node1", "LocalNodeState": "active", "ControlAvailable": True}
    return {"ID": "x", "Name": "fake1", "ServerVersion": "20.10.24", "SystemTime": stamp(time.time()), "Swarm": swarm}


VERSION = json.dumps({"ApiVersion": "1.41", "MinAPIVersion": "1.12", "Version": "20.10.24"}).encode()
LISTED = {service["ID"]: service for service in services()}
ALL = json.dumps(list(LISTED.values())).encode()
NODE = json.dumps({"ID": "node1", "Status": {"State": "ready"}, "ManagerStatus": {"Leader": True}}).encode()
ANSWERS = {
    "/_ping": lambda _: b"OK",
    "/version": lambda _: VERSION,
    "/info": lambda _: json.dumps(info()).encode(),
    "/nodes": lambda _: b"[]",
    "/images/json": lambda _: b"[]",
    "/nodes/node1": lambda _: NODE,
    "/events": lambda _: b"",
    "/services": lambda _: ALL,
    "/tasks": tasks,
}


def answer(path, query):
    """The body; none of what this Swarm has not got."""
    if path in ANSWERS:
        return ANSWERS[path](query)
    service = LISTED.get(path.removeprefix("/services/"))
    return json.dumps(service).encode() if service else None


class Daemon(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urlsplit(self.path)
        path = "/" + url.path.split("/", 2)[2] if url.path.startswith("/v1.") else url.path
        if path == "/events" and "until" not in url.query:
            self.send_response(200)
            self.end_headers()
            self.rfile.read()  # until the client goes
            return
        body = answer(path, parse_qs(url.query))
        self.send_response(404 if body is None else 200)
        body = body if body is not None else json.dumps({"message": f"no {path}"}).encode()
        self.send_header("Api-Version", "1.41")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except BrokenPipeError:
            self.close_connection = True  # the client goes when it knows enough

    do_HEAD = do_GET

    def log_message(self, *_):
        pass

    def address_string(self):
        return "unix"


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


if os.path.exists(SOCKET):
    os.unlink(SOCKET)
Server(SOCKET, Daemon).serve_forever()
