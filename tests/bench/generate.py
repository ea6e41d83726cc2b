#!/usr/bin/env python3
"""Writes docker events of a storm, as `docker events --format '{{json .}}'` prints them, to standard output.

    generate.py EVENTS [SEED]

30 services loop, each on its own beat of about 1.5 s: pull, create, start, die, and destroy of the attempt five before
it, as SwarmKit's reaper does. Twelve of them fail at their mount and show pulls only; two are killed by their health
check and show its probes. Mix and sizes are those of a real recording (a quarter are pulls, 608 bytes an event); unlike
a recording that is repeated, every attempt has ids of its own.
"""

import random
import sys

SERVICES = 30
BEAT = 1_500_000_000
START = 1_795_248_000_000_000_000
KEPT = 5


def main():
    wanted = int(sys.argv[1])
    chance = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    parts = ["".join(chance.choices("0123456789abcdefghijklmnopqrstuvwxyz", k=5)) for _ in range(8192)]

    def swarm_id():
        bits = chance.getrandbits(65)
        return "".join([parts[bits >> shift & 8191] for shift in (0, 13, 26, 39, 52)])

    nodes = [swarm_id() for _ in range(3)]
    services = []
    for number in range(SERVICES):
        stack = ["shop", "billing", "search"][number % 3]
        name = f"{stack}_w{number}"
        image = f"10.77.0.1:5000/{stack}-{number}:1"
        if number % 10 == 0:
            image += "@sha256:278bb8801d74e7456853073158d48b05d19319795a773d7b864c630c9a951a55"
        services.append((swarm_id(), name, image, stack, number % 10 != 0, number % 5 in (1, 2), number in (3, 4)))

    # When in its beat each event of an attempt comes.
    plan = []
    for number, (_, _, _, _, pulls, is_mount, is_health) in enumerate(services):
        at = number * BEAT // (2 * SERVICES)
        if pulls:
            plan.append((at, number, "pull"))
        if not is_mount:
            plan += [(at + 40_000_000, number, "create"), (at + 90_000_000, number, "destroy")]
            plan += [(at + 150_000_000, number, "start"), (at + 700_000_000, number, "die")]
        if is_health:
            plan += [(at + 300_000_000, number, "exec_create: /bin/sh -c false"), (at + 310_000_000, number, "exec_start: /bin/sh -c false")]
            plan += [(at + 400_000_000, number, "exec_die"), (at + 410_000_000, number, "health_status: unhealthy")]
            plan += [(at + 420_000_000, number, "kill"), (at + 690_000_000, number, "stop")]
    plan.sort()

    write = sys.stdout.write
    attempts = [[] for _ in services]
    extra = {"die": ',"exitCode":"1"', "exec_die": ',"execID":"e","exitCode":"1"', "kill": ',"signal":"15"'}
    written, beat = 0, 0
    while True:
        lines = []
        for number in range(SERVICES):
            attempts[number].append((f"{chance.getrandbits(256):064x}", swarm_id(), nodes[chance.getrandbits(8) % 3]))
        for offset, number, action in plan:
            service, name, image, stack, *_ = services[number]
            own = attempts[number]
            nanos = START + beat * BEAT + offset + chance.getrandbits(20)
            if action == "pull":
                repository = image.rsplit(":", 1)[0]
                lines.append(
                    f'{{"status":"pull","id":"{image}","Type":"image","Action":"pull","Actor":{{"ID":"{image}","Attributes":'
                    f'{{"name":"{repository}"}}}},"scope":"local","time":{nanos // 10**9},"timeNano":{nanos}}}\n'
                )
                continue
            if action == "destroy":
                if len(own) <= KEPT:
                    continue
                container, task, node = own[-KEPT - 1]
            else:
                container, task, node = own[-1]
            task_name = f"{name}.1.{task}"
            lines.append(
                f'{{"status":"{action}","id":"{container}","from":"{image}","Type":"container","Action":"{action}","Actor":'
                f'{{"ID":"{container}","Attributes":{{"com.docker.stack.namespace":"{stack}","com.docker.swarm.node.id":"{node}",'
                f'"com.docker.swarm.service.id":"{service}","com.docker.swarm.service.name":"{name}","com.docker.swarm.task":"",'
                f'"com.docker.swarm.task.id":"{task}","com.docker.swarm.task.name":"{task_name}"{extra.get(action, "")},'
                f'"image":"{image}","name":"{task_name}"}}}},"scope":"local","time":{nanos // 10**9},"timeNano":{nanos}}}\n'
            )
        for own in attempts:
            del own[: -KEPT - 1]
        write("".join(lines[: wanted - written]))
        written += len(lines)
        beat += 1
        if written >= wanted:
            return


if __name__ == "__main__":
    main()
