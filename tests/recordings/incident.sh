#!/bin/bash
# Makes examples/incident: the incident that squall answers, on a small real Swarm.
#
#   tests/lab/lab start /tmp/lab
#   tests/recordings/incident.sh /tmp/lab [OUTPUT]      with target/release/squall, or SQUALL=PATH
#   tests/lab/lab stop /tmp/lab
#
# A shop of 30 services is deployed by tag on a node whose volume /mnt/shop-data is not mounted. Swarm tries each again
# every second, and every try asks the registry, which stands behind a limit of requests a minute, as Docker Hub does.
# It begins to answer 429. Then somebody deploys four services of another stack that have done nothing; their images
# are not on the node, so they cannot start while the shop loops. Nothing is played: the 429s are nginx' own.
set -eu

# The registry's limit. The shop makes some ten times as many, as in the incident.
readonly REQUESTS_PER_MIN=300
readonly REGISTRY_NAME=registry.example.com
readonly SHOP="accounts cart catalog checkout coupons customers exports feeds images imports invoices loyalty mail
    orders payments pricing refunds reports returns reviews search sessions shipping sitemap sms stock tax
    thumbnails tracking wishlist"
readonly OTHERS="api jobs search web"
# From the start of the recording.
readonly SHOP_AT_SECS=4 OTHERS_AT_SECS=34 END_SECS=75
PATH=/usr/sbin:/usr/bin:/sbin:/bin

main() {
    [ $# -ge 1 ] || { echo "usage: incident.sh LAB [OUTPUT]" >&2; exit 2; }
    lab=$(realpath "$1")
    local top
    top=$(cd "$(dirname "$0")/../.." && pwd)
    output=$(realpath -m "${2:-$top/examples/incident}")
    squall=${SQUALL:-$top/target/release/squall}
    # shellcheck source=/dev/null
    . "$lab/env"
    export DOCKER_HOST DOCKER_CONFIG
    work=$(mktemp -d)
    nginx=""
    trap 'finish' EXIT
    serve_registry
    push_images
    shop_file >"$work/shop.yml"
    others_file >"$work/crm.yml"
    calm_file >"$work/infra.yml"
    docker stack deploy --resolve-image never -c "$work/infra.yml" infra >/dev/null
    sleep 5
    record
    pack
}

finish() {
    docker stack rm shop crm infra >/dev/null 2>&1 || true
    if [ -n "$nginx" ]; then kill "$nginx" 2>/dev/null || true; fi
    rm -rf -- "$work"
}

# The node of a lab has a network and mounts of its own, so its registry can have a name and Docker's own port.
serve_registry() {
    local node
    node=$(pgrep -f -x "dockerd -H unix://$lab/docker.sock .*")
    sed "/$REGISTRY_NAME/d" /etc/hosts >"$lab/hosts"
    echo "127.0.0.1 $REGISTRY_NAME" >>"$lab/hosts"
    nsenter --target "$node" --mount -- sh -c "mountpoint -q /etc/hosts || mount --bind '$lab/hosts' /etc/hosts"
    mkdir -p "$work/nginx"
    cat >"$work/nginx.conf" <<END
user root;
worker_processes 1;
daemon off;
pid /dev/null;
error_log $work/nginx.error.log crit;
events { worker_connections 512; }
http {
    access_log $lab/incident.access.log;
    client_max_body_size 0;
    client_body_temp_path $work/nginx/body;
    proxy_temp_path $work/nginx/proxy;
    fastcgi_temp_path $work/nginx/fastcgi;
    uwsgi_temp_path $work/nginx/uwsgi;
    scgi_temp_path $work/nginx/scgi;
    limit_req_zone \$binary_remote_addr zone=abuse:1m rate=${REQUESTS_PER_MIN}r/m;
    server {
        listen 127.0.0.1:80;
        limit_req zone=abuse burst=100 nodelay;
        limit_req_status 429;
        error_page 429 = @abuse;
        proxy_http_version 1.1;
        proxy_set_header Host \$http_host;
        location / { proxy_pass http://unix:$lab/registry.sock; }
        location @abuse { default_type text/plain; add_header Retry-After 60 always; return 429 'Too Many Requests (HAP429).'; }
    }
}
END
    nsenter --target "$node" --net -- nginx -p "$work/nginx/" -c "$work/nginx.conf" -e stderr &
    nginx=$!
}

# All images are in the registry; those of the shop and the calm ones are on the node too, as they ran there before.
push_images() {
    local name
    for name in $SHOP; do push "shop/$name:3.8" keep; done
    for name in gateway database; do push "infra/$name:1" keep; done
    for name in $OTHERS; do push "crm/$name:5.1" drop; done
}

push() {
    docker tag app:1 "$REGISTRY/$1"
    docker push -q "$REGISTRY/$1" >/dev/null
    if [ "$2" = keep ]; then
        docker tag app:1 "$REGISTRY_NAME/$1"
    else
        docker rmi -f "$REGISTRY_NAME/$1" >/dev/null 2>&1 || true
    fi
    docker rmi "$REGISTRY/$1" >/dev/null
}

shop_file() {
    local name
    printf 'version: "3.8"\nservices:\n'
    for name in $SHOP; do
        cat <<END
  $name:
    image: $REGISTRY_NAME/shop/$name:3.8
    command: ["sleep", "3600"]
    volumes: [{type: bind, source: /mnt/shop-data/$name, target: /data}]
    deploy: {restart_policy: {condition: any, delay: 1s}}
END
    done
}

others_file() {
    local name
    printf 'version: "3.8"\nservices:\n'
    for name in $OTHERS; do
        cat <<END
  $name:
    image: $REGISTRY_NAME/crm/$name:5.1
    command: ["sleep", "3600"]
    deploy: {restart_policy: {condition: any, delay: 1s}}
END
    done
}

calm_file() {
    local name
    printf 'version: "3.8"\nservices:\n'
    for name in gateway database; do
        cat <<END
  $name:
    image: $REGISTRY_NAME/infra/$name:1
    command: ["sleep", "3600"]
    deploy: {restart_policy: {condition: any, delay: 1s}}
END
    done
}

record() {
    local recorder
    : >"$lab/incident.access.log"
    "$squall" record --output "$work/incident" --log "$LOG" --for "${END_SECS}s" &
    recorder=$!
    sleep "$SHOP_AT_SECS"
    docker stack deploy --resolve-image never --with-registry-auth -c "$work/shop.yml" shop >/dev/null
    sleep $((OTHERS_AT_SECS - SHOP_AT_SECS - 2))
    docker stack deploy --resolve-image never --with-registry-auth -c "$work/crm.yml" crm >/dev/null
    wait "$recorder"
    awk '{ asked++; if ($9 == 429) refused++ } END { print asked " requests reached the registry, " refused " got 429" }' \
        "$lab/incident.access.log"
}

# The one path of this machine that could be in it is the lab's. Certificates and plugins of the node tell nothing.
pack() {
    local file
    jq -c 'del(.Description.TLSInfo, .Description.Engine.Plugins)' "$work/incident/nodes.json" >"$work/nodes.json"
    mv "$work/nodes.json" "$work/incident/nodes.json"
    rm -rf -- "$output"
    mkdir -p "$output"
    for file in "$work"/incident/*; do
        sed "s|$lab|/var/lib/lab|g" "$file" | gzip -9n >"$output/${file##*/}.gz"
    done
    du -cb "$output"/* | tail -n 1
}

main "$@"
