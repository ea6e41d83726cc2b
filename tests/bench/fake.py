"""A manager of a Swarm of SERVICES services and ten times as many tasks, on a unix socket; all run. For benchmarks."""
import json
import os
import socketserver
import sys
from http.server import BaseHTTPRequestHandler

SOCKET, SERVICES = sys.argv[1], int(sys.argv[2])
TIME = "2026-11-20T20:00:00.000000001Z"


def spec(service):
    return {
        "ContainerSpec": {"Image": f"registry.example.com/team/app-{service}:1", "Env": ["A=b"] * 8, "Isolation": "default"},
        "Resources": {"Limits": {"MemoryBytes": 1 << 28}, "Reservations": {}},
        "RestartPolicy": {"Condition": "any", "Delay": 5000000000, "MaxAttempts": 0},
        "Placement": {"Platforms": [{"Architecture": "amd64", "OS": "linux"}]},
        "ForceUpdate": 0,
    }


def services():
    for service in range(SERVICES):
        yield {
            "ID": f"service{service:018}",
            "Version": {"Index": service + 1},
            "CreatedAt": TIME,
            "UpdatedAt": TIME,
            "Spec": {"Name": f"app-{service}", "Labels": {}, "TaskTemplate": spec(service), "Mode": {"Replicated": {"Replicas": 10}}},
            "ServiceStatus": {"RunningTasks": 10, "DesiredTasks": 10, "CompletedTasks": 0},
        }


def tasks():
    for service in range(SERVICES):
        for slot in range(1, 11):
            yield {
                "ID": f"task{service * 10 + slot:021}",
                "Version": {"Index": service * 10 + slot},
                "CreatedAt": TIME,
                "UpdatedAt": TIME,
                "Spec": spec(service),
                "ServiceID": f"service{service:018}",
                "Slot": slot,
                "NodeID": f"node{slot:021}",
                "Status": {"Timestamp": TIME, "State": "running", "Message": "started", "ContainerStatus": {"ContainerID": "c" * 64, "PID": 17, "ExitCode": 0}},
                "DesiredState": "running",
            }


INFO = {"ID": "x", "Name": "fake1", "ServerVersion": "20.10.24", "SystemTime": "2026-11-20T21:00:00Z", "Swarm": {"NodeID": "node1", "LocalNodeState": "active", "ControlAvailable": True}}
BODIES = {
    "/_ping": b"OK",
    "/version": json.dumps({"ApiVersion": "1.41", "MinAPIVersion": "1.12", "Version": "20.10.24"}).encode(),
    "/info": json.dumps(INFO).encode(),
    "/nodes": b"[]",
    "/services": json.dumps(list(services())).encode(),
    "/tasks": json.dumps(list(tasks())).encode(),
}


class Daemon(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.split("?")[0]
        path = "/" + path.split("/", 2)[2] if path.startswith("/v1.") else path
        if path == "/events" and "until" not in self.path:
            self.send_response(200)
            self.end_headers()
            self.rfile.read()  # until the client goes
            return
        body = BODIES.get(path, b"")
        self.send_response(200)
        self.send_header("Api-Version", "1.41")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

    def address_string(self):
        return "unix"


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


if os.path.exists(SOCKET):
    os.unlink(SOCKET)
print(f"{len(BODIES['/services']) >> 20} MB of services, {len(BODIES['/tasks']) >> 20} MB of tasks", file=sys.stderr)
Server(SOCKET, Daemon).serve_forever()
