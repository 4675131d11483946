#!/bin/sh
# What `make setup` runs: system packages (only those missing), .venv, this package with its extras.
# Asks nothing, changes nothing that is already right, and says what it does.
#
#   PYTHON=/path/to/python3.x   which Python to build .venv with (3.11 or newer)
#   SETUP_MORE_PACKAGES=names   further packages, for tests that are skipped without them
#   SETUP_SKIP_PACKAGES=1       do not touch system packages (they are somebody else's job here)
set -eu
cd "$(dirname "$0")/.."

PACKAGES="build-essential curl libstrongswan-extra-plugins libstrongswan-standard-plugins libtss2-dev
mosquitto mosquitto-clients openssl pkg-config postgresql python3-dev python3-venv softhsm2
strongswan-pki swtpm swtpm-tools systemd tpm2-tools xmlsec1 ${SETUP_MORE_PACKAGES:-}"

say() { printf 'setup: %s\n' "$*" >&2; }   # stderr: what a target prints for machines stays clean
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

missing_packages() {
    for package in $PACKAGES; do
        status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$status" = installed ] || printf '%s ' "$package"
    done
}

install_packages() {
    if [ "${SETUP_SKIP_PACKAGES:-}" = 1 ]; then
        say "system packages skipped, as asked"
        return
    fi
    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        say "no apt here: make sure of the equivalents of" $PACKAGES
        return
    fi
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    root=""
    if [ "$(id -u)" -ne 0 ]; then
        root="sudo -n"
        $root true 2>/dev/null || fail "these packages are missing and sudo wants a password; run:
    sudo apt-get install --no-install-recommends $missing"
    fi
    say "installing system packages: $missing"
    $root env DEBIAN_FRONTEND=noninteractive apt-get update -qq </dev/null
    # shellcheck disable=SC2086 # a list of words is meant
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
        $missing </dev/null >/dev/null
    say "system packages are there (mosquitto and postgresql start their own services where" \
        "systemd runs; the demo and the tests use private ones on other ports)"
}

choose_python() {
    for candidate in ${PYTHON:-python3.11 python3 python3.12 python3.13 python3.14}; do
        if "$candidate" -c 'import sys; assert sys.version_info >= (3, 11); import ensurepip, venv' \
            2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or newer with the venv module among: ${PYTHON:-python3.11 … python3.14}.
    Install one (Debian 12: apt-get install python3 python3-venv), or name it: make setup PYTHON=…"
}

stamp_now() {
    { pwd; echo "$PACKAGES"; cat deploy/setup.sh pyproject.toml constraints.txt; } | sha256sum | cut -d' ' -f1
}

# One setup at a time: `make demo` and `make test` may start together.
exec 9<deploy/setup.sh
if command -v flock >/dev/null; then flock 9; fi

wanted=$(stamp_now)
if [ -x .venv/bin/python ] && [ "$(cat .venv/setup-stamp 2>/dev/null || true)" = "$wanted" ]; then
    exit 0
fi

say "first run, or its inputs changed: a few minutes, nothing to answer"
install_packages
python=$(choose_python)
if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    say "building .venv with $python"
    "$python" -m venv --clear .venv
fi
say "installing device-attestation and the versions locked in constraints.txt"
# PIP_CONSTRAINT, not -c: it also holds for what builds the packages.
PIP_CONSTRAINT="$PWD/constraints.txt" PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    .venv/bin/python -m pip install -qq --editable '.[dev]' </dev/null
printf '%s\n' "$wanted" >.venv/setup-stamp
say "ready"
