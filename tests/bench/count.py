"""Counts of containers' creations, ends and failures by Swarm service, as a short script does it. count.py FILE"""

import json
import sys
from collections import Counter, defaultdict

services = defaultdict(Counter)
with open(sys.argv[1], "rb") as events:
    for line in events:
        event = json.loads(line)
        action = event["Action"]
        if event["Type"] != "container" or action not in ("create", "die"):
            continue
        attributes = event["Actor"]["Attributes"]
        service = attributes.get("com.docker.swarm.service.name")
        if service is None:
            continue
        services[service][action] += 1
        if action == "die" and attributes.get("exitCode") != "0":
            services[service]["failed"] += 1
print(json.dumps(services))
