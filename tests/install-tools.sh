#!/usr/bin/env bash
# Installs what the tests need besides Rust: PostgreSQL's server programs and cargo-nextest.
#
#   tests/install-tools.sh                  both
#   sudo tests/install-tools.sh postgres    the one that needs rights
#
# Installs nothing that is there already, and starts no server: a database cluster that the machine
# has stays as it is, and none is made.
set -euo pipefail

have_postgres() {
    [ -n "$(find /usr/lib/postgresql -mindepth 3 -maxdepth 3 -path '*/bin/initdb' 2>/dev/null)" ] ||
        command -v initdb >/dev/null
}

say_how() {
    cat >&2 <<'TEXT'
The tests start private PostgreSQL servers and need its programs. Install them and run this again:

    Debian, Ubuntu:  sudo apt-get install postgresql
    Fedora:          sudo dnf install postgresql-server
    macOS:           brew install postgresql@17

No server has to run. (Debian's package starts one; `sudo tests/install-tools.sh postgres` installs it without.)
TEXT
    exit 69
}

install_postgres() {
    command -v apt-get >/dev/null || say_how
    local root=()
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null || say_how
        root=(sudo -n)
    fi
    # The package makes and starts a cluster on port 5432 unless it is told not to. It is told so for
    # this one installation only: the setting goes with the script.
    local folder=/etc/postgresql-common/createcluster.d
    local setting=$folder/loms-no-cluster.conf
    "${root[@]}" mkdir -p "$folder"
    trap '"${root[@]}" rm -f "'"$setting"'"' EXIT
    echo 'create_main_cluster = false' | "${root[@]}" tee "$setting" >/dev/null
    "${root[@]}" apt-get update
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends postgresql
    "${root[@]}" rm -f "$setting"
    trap - EXIT
}

have_postgres || install_postgres
[ "${1:-}" = postgres ] || command -v cargo-nextest >/dev/null || cargo install cargo-nextest --locked
