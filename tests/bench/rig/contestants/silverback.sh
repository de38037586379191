#!/bin/bash
# Silverback's data plane, DB-less, one worker. BIN_SB: the folder of its programs.
# VARIANT: plain, keyauth (the rig sends apikey: k0 to everybody), ratelimit (local, by address).
conf() {
  mkdir -p "$DIR"
  {
    printf '_format_version: "3.0"\nservices:\n- name: s\n  url: http://127.0.0.1:%s\n  routes:\n' "$UPSTREAM"
    if [ -n "$ROUTES" ]; then
      awk '{ printf "  - {name: r%d, hosts: [\"%s\"], paths: [\"%s\"], strip_path: false}\n", NR, $1, $2 }' "$ROUTES"
    else
      printf '  - {name: r, paths: ["/"], strip_path: false}\n'
    fi
    if [ "$VARIANT" = keyauth ]; then
      printf 'plugins:\n- name: key-auth\nconsumers:\n- username: c\n  custom_id: c0\n  keyauth_credentials:\n  - key: k0\n'
    elif [ "$VARIANT" = ratelimit ]; then
      printf 'plugins:\n- name: rate-limiting\n  config: {second: 1000000000, hour: 1000000000, limit_by: ip}\n'
    fi
  } > "$DIR/kong.yml"
}
case $1 in
caps) echo "http routes tls h2 ws" ;;
start) conf
  export KONG_DATABASE=off KONG_PREFIX=$DIR/prefix KONG_DECLARATIVE_CONFIG=$DIR/kong.yml KONG_NGINX_DAEMON=off \
    KONG_NGINX_WORKER_PROCESSES=${W:-1} KONG_PROXY_LISTEN="127.0.0.1:$PORT reuseport backlog=16384, 127.0.0.1:$TLS_PORT ssl http2 reuseport backlog=16384" \
    KONG_STREAM_LISTEN=off KONG_ADMIN_LISTEN="127.0.0.1:$ADMIN_PORT" KONG_STATUS_LISTEN=off KONG_ADMIN_GUI_LISTEN=off \
    KONG_PROXY_ACCESS_LOG=off KONG_ADMIN_ACCESS_LOG=off KONG_LOG_LEVEL=error KONG_PROXY_ERROR_LOG=/dev/stderr \
    KONG_SSL_CERT=$CERT KONG_SSL_CERT_KEY=$KEY KONG_UPSTREAM_KEEPALIVE_MAX_REQUESTS=100000000 \
    KONG_NGINX_HTTP_KEEPALIVE_REQUESTS=100000000 KONG_NGINX_HTTP_KEEPALIVE_TIMEOUT=300s
  exec "$BIN_SB/silverback-dataplane" start ;;
esac
