# Counts of containers' starts of life and of their ends, by Swarm service. jq -nc -f count.jq FILE
reduce inputs as $event ({};
    if $event.Type == "container" and ($event.Action == "create" or $event.Action == "die") then
        ($event.Actor.Attributes["com.docker.swarm.service.name"]) as $service
        | if $service then
            .[$service][$event.Action] += 1
            | if $event.Action == "die" and $event.Actor.Attributes.exitCode != "0"
              then .[$service].failed += 1 else . end
          else . end
    else . end)
