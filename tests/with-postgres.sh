#!/usr/bin/env bash
# Runs a command beside a private PostgreSQL server, which lives as long as the command does.
#
#   tests/with-postgres.sh cargo nextest run
#
# The server is started from the installed packages in a temporary folder, on a free port of
# 127.0.0.1, and is durable as in production: fsync is on, for durability is what we test. Its
# address stands in LOMS_TEST_POSTGRES. Server and folder go when the command ends or the script
# is interrupted, and the exit status is the command's. No other server is touched.
set -euo pipefail

readonly CONNECTIONS_MAX=200
readonly START_ATTEMPTS_MAX=10
readonly START_SECONDS_MAX=30
readonly STOP_SECONDS_MAX=20

if [ $# -eq 0 ]; then
    echo "usage: $0 COMMAND…" >&2
    exit 64
fi

# The newest of Debian's versions, else what the PATH has.
find_programs() {
    local newest
    newest=$(find /usr/lib/postgresql -mindepth 3 -maxdepth 3 -path '*/bin/initdb' 2>/dev/null | sort -V | tail -n 1)
    [ -n "$newest" ] || newest=$(readlink -f "$(command -v initdb || true)" || true)
    if [ -z "$newest" ]; then
        echo "$0: PostgreSQL's server programs are not installed; tests/install-tools.sh says how" >&2
        exit 69
    fi
    dirname "$newest"
}

# Answers where a connection is taken.
is_open() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# Below the range that the kernel hands out to outgoing connections.
free_port() {
    local port
    for _ in $(seq 100); do
        port=$((20000 + RANDOM % 12000))
        if ! is_open "$port"; then
            echo "$port"
            return
        fi
    done
    echo "$0: found no free port" >&2
    return 1
}

programs=$(find_programs)
folder=$(mktemp -d "${TMPDIR:-/tmp}/loms-postgres.XXXXXX")
server=
command=

stop_server() {
    [ -n "$server" ] || return 0
    kill -INT "$server" 2>/dev/null || true # a "fast" shutdown
    for _ in $(seq $((STOP_SECONDS_MAX * 10))); do
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    kill -QUIT "$server" 2>/dev/null || true # an "immediate" one, where it still runs
    wait "$server" 2>/dev/null || true
    server=
}

# shellcheck disable=SC2329 # the traps call it
clean_up() {
    trap '' INT TERM HUP
    if [ -n "$command" ]; then
        kill -TERM "$command" 2>/dev/null || true
        wait "$command" 2>/dev/null || true
    fi
    stop_server
    rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# PostgreSQL refuses to run as root: there, its own user runs it.
as_server_user=()
if [ "$(id -u)" -eq 0 ]; then
    if ! id postgres >/dev/null 2>&1; then
        echo "$0: root may not run PostgreSQL and there is no user 'postgres'; run this as another user" >&2
        exit 77
    fi
    as_server_user=(setpriv --reuid=postgres --regid="$(id -g postgres)" --clear-groups --)
    chown postgres "$folder"
fi
# On Linux the server has a session of its own, so that Ctrl-C ends the tests before it ends their
# server; and should this script be killed, the server shuts down by itself.
detached=()
tied=()
if command -v setsid setpriv >/dev/null; then
    detached=(setsid)
    tied=(setpriv --pdeathsig INT --)
fi

(cd "$folder" && exec "${as_server_user[@]}" "$programs/initdb" --pgdata=state --username=loms --auth=trust --encoding=UTF8 --locale=C.UTF-8 \
    --no-instructions) >"$folder/initdb.log" 2>&1 || {
    cat "$folder/initdb.log" >&2
    exit 70
}

# Between the look and the start another program may have taken the port: then once more.
start_server() {
    (cd "$folder" && exec "${detached[@]}" "${as_server_user[@]}" "${tied[@]}" "$programs/postgres" -D state \
        -c port="$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories="$folder" \
        -c fsync=on -c synchronous_commit=on -c shared_buffers=128MB -c max_connections="$CONNECTIONS_MAX" \
        -c logging_collector=off) >"$folder/server.log" 2>&1 &
    server=$!
    for _ in $(seq $((START_SECONDS_MAX * 10))); do
        grep -qs 'ready to accept connections' "$folder/server.log" && return 0
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    stop_server
    return 1
}

for attempt in $(seq "$START_ATTEMPTS_MAX"); do
    port=$(free_port)
    start_server && break
    if [ "$attempt" -eq "$START_ATTEMPTS_MAX" ] || ! grep -q 'Address already in use' "$folder/server.log"; then
        cat "$folder/server.log" >&2
        exit 70
    fi
done

export LOMS_TEST_POSTGRES="postgres://loms@127.0.0.1:$port/"

# In the background, for only then the traps run as soon as a signal comes.
"$@" <&0 &
command=$!
status=0
wait "$command" || status=$?
command=
exit "$status"
