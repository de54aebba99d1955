# Sourced by scripts/demo, scripts/test, scripts/check and scripts/compare_micro: finds Python, makes a virtual environment, installs into it once.
# Plain bash 3.2 (macOS) and pip.

# Images of containers often set it. Tests and demo start hundreds of programs, and without bytecode kept each compiles all that it imports:
# 4 to 6 s of a processor's time instead of 1.3 to 2 (CPU time of `serve`, `gateway run`, `agent run`, 2 cores at 2.4 GHz, 2026-11).
unset PYTHONDONTWRITEBYTECODE

say() { printf '%s\n' "$*" >&2; }

# Prints a Python that runs Edgeward: the python3 of this machine where it is 3.11 to 3.13, else a newer or older one beside it.
find_python() {
    local name
    for name in python3 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; then
            command -v "$name"
            return
        fi
    done
    # Newer than what the pinned versions were tried on: worth a try, and pip says what is missing.
    if python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        command -v python3
        return
    fi
    say "Edgeward needs Python 3.11, 3.12 or 3.13, and found $(python3 --version 2>/dev/null || echo none)."
    say "Install one: apt-get install python3 python3-venv (Debian, Ubuntu), dnf install python3.12 (Fedora), brew install python@3.12 (macOS)."
    return 1
}

# require_venv PYTHON: makes sure that it has the module venv (Debian keeps it in a package of its own).
require_venv() {
    if "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; then return; fi
    local package
    package="python$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "Python's module venv is missing: installing $package"
        apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package" >&2
        if "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; then return; fi
    fi
    say "Python's module venv is missing. Install it and start again: apt-get install $package (or python3-venv)"
    return 1
}

# make_environment FOLDER EXTRAS [OPTION]: a virtual environment with this checkout (editable) and the pinned versions of its extras;
# OPTION is for pip. A stamp says for which files it was made: the second run installs nothing.
make_environment() {
    local folder="$1" extras="$2" option="${3:---compile}" python stamp
    python="$(find_python)"
    stamp="$("$python" - "$PWD" "$extras" pyproject.toml constraints.txt <<'PY'
import hashlib, pathlib, sys
digest = hashlib.sha256(repr((sys.version, sys.argv[1:3])).encode())
for name in sys.argv[3:]:
    digest.update(pathlib.Path(name).read_bytes())
print(digest.hexdigest())
PY
)"
    if [ -x "$folder/bin/python" ] && [ "$(cat "$folder/stamp" 2>/dev/null)" = "$stamp" ]; then return; fi
    require_venv "$python"
    # Only what was made here is made anew: somebody's own environment of this name has no stamp.
    if [ -d "$folder" ] && [ ! -e "$folder/stamp" ]; then
        say "$folder is there, and none of these scripts made it, or an install of it was cut off; move it away, or remove it, and start again."
        return 1
    fi
    say "Installing into $folder with $("$python" --version) (once; some minutes on a slow line) ..."
    rm -rf "$folder"
    # The stamp first: what is cut off after it is known for ours, and made anew.
    mkdir -p "$folder"
    printf 'unfinished\n' > "$folder/stamp"
    "$python" -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$option" -c constraints.txt -e ".$extras"
    printf '%s\n' "$stamp" > "$folder/stamp"
}

# What tests, checks and micro benchmarks share. Another list of extras would make it anew, which takes minutes.
# Not compiled: of 300 MB of Python, which would take pip two minutes (at 2.4 MB/s of three packages, 2026-11), most is never imported here.
make_test_environment() {
    make_environment .venv-test "[dev,torch,openvino,convert]" --no-compile
}

# Tests of pages drive a real browser. Where it is missing and we may install it, we do, for at most five minutes; where that fails we
# say why and go on: those tests skip.
want_chromium() {
    if [ -x /usr/bin/chromium ] || [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then return 0; fi
    say "Installing chromium for the tests of pages ..."
    local log
    log="$(mktemp)"
    if ! timeout 300 sh -c 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium' >"$log" 2>&1; then
        say "chromium could not be installed, so the tests of pages will skip: $(tail -n 1 "$log")"
    fi
    rm -f "$log"
}

# want_postgresql: a server's programs for the tests of the gateway's state on PostgreSQL, which start one of their own on a free port.
# The package would make and start a cluster of its own: it is told not to. Not being root is no failure: those tests skip.
want_postgresql() {
    if command -v initdb >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then return 0; fi
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        say "PostgreSQL is not installed and cannot be by this user, so the tests of the gateway's state on it will skip."
        return 0
    fi
    say "Installing PostgreSQL for the tests of the gateway's state on it ..."
    local log
    log="$(mktemp)"
    if ! timeout 300 sh -c 'mkdir -p /etc/postgresql-common && { [ -e /etc/postgresql-common/createcluster.conf ] || echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf; } && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql' >"$log" 2>&1; then
        say "PostgreSQL could not be installed, so the tests of the gateway's state on it will skip: $(tail -n 1 "$log")"
    fi
    rm -f "$log"
}

# want_promtool FOLDER: Prometheus' own checker for alert rules and metrics. Debian has it inside the server's package, which would start
# a server: only that one program is taken out of it. Where that fails we say why and go on: those tests skip.
want_promtool() {
    if [ -x "$1/promtool" ] || command -v promtool >/dev/null 2>&1; then return 0; fi
    if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-deb >/dev/null 2>&1; then
        say "promtool is not installed and this is no Debian to take it from, so the tests of alert rules by it will skip."
        return 0
    fi
    say "Fetching promtool for the tests of alert rules ..."
    local place
    place="$(mktemp -d)"
    if (
        cd "$place"
        timeout 120 apt-get download -qq prometheus || { [ "$(id -u)" = 0 ] && timeout 60 apt-get update -qq && timeout 120 apt-get download -qq prometheus; }
        dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool
    ) >"$place/log" 2>&1; then
        mv "$place/usr/bin/promtool" "$1/promtool"
    else
        say "promtool could not be fetched, so the tests of alert rules by it will skip: $(tail -n 1 "$place/log")"
    fi
    rm -rf "$place"
}
