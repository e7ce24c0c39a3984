#!/usr/bin/env bash
# Installs what the tests need besides Rust: PostgreSQL's and RabbitMQ's server programs, cargo-nextest
# and an SMTP server (Python's aiosmtpd).
#
#   tests/install-tools.sh                                all of them
#   sudo tests/install-tools.sh postgres rabbitmq smtp    those that need rights
#
# Installs nothing that is there already, and starts no server: a database cluster or a broker that
# the machine has stays as it is, and none is made.
set -euo pipefail

readonly POLICY=/usr/sbin/policy-rc.d
root=()

have_postgres() {
    [ -n "$(find /usr/lib/postgresql -mindepth 3 -maxdepth 3 -path '*/bin/initdb' 2>/dev/null)" ] ||
        command -v initdb >/dev/null
}

have_rabbitmq() {
    [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || command -v rabbitmq-server >/dev/null
}

have_smtp() {
    local python
    for python in python3 /usr/bin/python3; do
        "$python" -c 'import aiosmtpd' 2>/dev/null && return 0
    done
    return 1
}

have_nextest() {
    command -v cargo-nextest >/dev/null
}

say_how() {
    cat >&2 <<'TEXT'
The tests start private PostgreSQL servers and RabbitMQ nodes and need their programs. Install them and run this again:

    Debian, Ubuntu:  sudo apt-get install postgresql rabbitmq-server
    Fedora:          sudo dnf install postgresql-server rabbitmq-server
    macOS:           brew install postgresql@17 rabbitmq

No server has to run. (Debian's packages start one each; `sudo tests/install-tools.sh postgres rabbitmq` installs them
without.)
TEXT
    exit 69
}

# Fills `root` with what a command that needs rights starts with.
obtain_rights() {
    command -v apt-get >/dev/null || say_how
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null || say_how
        root=(sudo -n)
    fi
}

install_package() {
    "${root[@]}" apt-get update
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$1"
}

install_postgres() {
    obtain_rights
    # The package makes and starts a cluster on port 5432 unless it is told not to. It is told so for
    # this one installation only: the setting goes with the script.
    local folder=/etc/postgresql-common/createcluster.d
    local setting=$folder/loms-no-cluster.conf
    "${root[@]}" mkdir -p "$folder"
    trap '"${root[@]}" rm -f "'"$setting"'"' EXIT
    echo 'create_main_cluster = false' | "${root[@]}" tee "$setting" >/dev/null
    install_package postgresql
    "${root[@]}" rm -f "$setting"
    trap - EXIT
}

install_rabbitmq() {
    obtain_rights
    # The package starts a node on port 5672 unless Debian's policy for services forbids it. It does so
    # for this one installation only. Where the machine has a policy, that one is asked: it is not ours.
    if [ ! -e "$POLICY" ]; then
        trap '"${root[@]}" rm -f "$POLICY"' EXIT
        printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$POLICY" >/dev/null
        "${root[@]}" chmod 755 "$POLICY"
        install_package rabbitmq-server
        "${root[@]}" rm -f "$POLICY"
        trap - EXIT
    else
        install_package rabbitmq-server
    fi
    # Nor does it start with the machine the next time.
    if command -v systemctl >/dev/null; then
        "${root[@]}" systemctl disable --quiet rabbitmq-server || true
    fi
}

# Without it one test is skipped, so it is no reason to stop.
install_smtp() {
    if (obtain_rights) 2>/dev/null; then
        obtain_rights
        install_package python3-aiosmtpd
    else
        echo "the test of e-mail will be skipped: it needs aiosmtpd (python3 -m pip install aiosmtpd)" >&2
    fi
}

install_nextest() {
    cargo install cargo-nextest --locked
}

[ $# -gt 0 ] || set -- postgres rabbitmq smtp nextest
for tool in "$@"; do
    case $tool in
    postgres | rabbitmq | smtp | nextest) "have_$tool" || "install_$tool" ;;
    *)
        echo "usage: $0 [postgres] [rabbitmq] [smtp] [nextest]" >&2
        exit 64
        ;;
    esac
done
