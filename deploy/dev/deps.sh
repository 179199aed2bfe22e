#!/usr/bin/env bash
# deps.sh - makes sure that the servers which the tests and `walpurge demo`
# start are installed: PostgreSQL 15 or newer and Valkey (or Redis 7 or newer).
# It also looks for a Go new enough for go.mod. Group test: a C compiler, which
# the race detector needs, Varnish with its xkey module, and Prometheus with amtool,
# which test the alerts. Group full: systemd-analyze and fakeroot, which test the Debian
# package and its unit, Redis 7 and twemproxy. Group scenario: Varnish with xkey, the extension
# pg_stat_statements, Python with Flask and redis-py, and Prometheus, for the example systems. Group browser: a headless Chromium, for the tests of the status page.
#
#   deps.sh [--check] [GROUP...]
#
# Without a group: core. --check reports and changes nothing. Exit 0: all there;
# 1: something is missing and could not be (or, with --check, was not) installed;
# 2: bad arguments.
#
# Nothing that it installs is started.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
gomod=$here/../../go.mod
pg_min=15
redis_min=7
backports_file=/etc/apt/sources.list.d/walpurge-backports.sources
policy=/usr/sbin/policy-rc.d
policy_saved=$policy.walpurge-saved

check_only=false
sudo_cmd=()
apt_log=
apt_updated=false
failed=false

say() { printf '%s\n' "$*"; }
complain() { printf 'deps: %s\n' "$*" >&2; }

usage() {
  sed -n '2,17s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  say "Groups: $(declare -F | sed -n 's/^declare -f group_//p' | paste -sd' ')"
}

# --- what is there -----------------------------------------------------------

# major_of prints the first number of "postgres (PostgreSQL) 15.18 (Debian ...)"
# or "Redis server v=7.0.15 sha=...".
major_of() { sed -nE 's/.*(\) |v=)([0-9]+).*/\2/p; q' <<<"$1"; }

find_postgres() {
  local dir found='' best=0 major dirs=()
  if [[ -n ${WALPURGE_PG_BIN:-} ]]; then
    dirs=("$WALPURGE_PG_BIN")
  else
    dirs=(/usr/lib/postgresql/*/bin)
    if command -v initdb >/dev/null; then dirs+=("$(dirname "$(command -v initdb)")"); fi
    if command -v pg_config >/dev/null; then dirs+=("$(pg_config --bindir)"); fi
  fi
  for dir in "${dirs[@]}"; do
    [[ -x $dir/initdb && -x $dir/postgres ]] || continue
    major=$(major_of "$("$dir/postgres" --version 2>/dev/null || true)")
    if [[ -n $major ]] && ((major >= pg_min && major > best)); then
      found=$dir best=$major
    fi
  done
  [[ -n $found ]] && say "PostgreSQL $best in $found"
}

find_valkey() {
  local path major
  if path=$(command -v valkey-server); then
    say "$("$path" --version | sed -nE 's/.*(v=[0-9.]+).*/Valkey \1/p') at $path"
    return 0
  fi
  if path=$(command -v redis-server); then
    major=$(major_of "$("$path" --version)")
    if [[ -n $major ]] && ((major >= redis_min)); then
      say "Redis $major (instead of Valkey) at $path"
      return 0
    fi
  fi
  return 1
}

check_go() {
  local want have
  want=$(sed -nE 's/^go ([0-9]+\.[0-9]+).*/\1/p' "$gomod")
  if ! command -v go >/dev/null; then
    complain "no go in PATH. Install Go $want or newer, from the Go project or as a package of your distribution."
    return 1
  fi
  # Without GOTOOLCHAIN=local an old go would fetch a new one just to answer.
  have=$(cd / && GOTOOLCHAIN=local go env GOVERSION)
  have=${have#go}
  if [[ $(printf '%s\n' "$want" "$have" | sort -V | head -n1) != "$want" ]]; then
    complain "go $have is older than $want (go.mod). Install a newer one, or let go fetch it: go env -w GOTOOLCHAIN=auto"
    return 1
  fi
  say "ok       Go $have"
}

# --- apt ---------------------------------------------------------------------

can_install() {
  command -v apt-get >/dev/null || return 1
  ((EUID == 0)) && return 0
  command -v sudo >/dev/null || return 1
  # Without a terminal sudo cannot ask for a password.
  if [[ -t 0 ]] || sudo -n true 2>/dev/null; then
    sudo_cmd=(sudo)
    return 0
  fi
  return 1
}

as_root() { "${sudo_cmd[@]}" "$@"; }

apt_quiet() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" >>"$apt_log" 2>&1
}

apt_update() {
  $apt_updated && return 0
  say "         apt-get update"
  apt_quiet update || complain "apt-get update failed (log: $apt_log); going on with the lists that are there"
  apt_updated=true
}

has_candidate() {
  local candidate
  candidate=$(LC_ALL=C apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: //p')
  [[ -n $candidate && $candidate != '(none)' ]]
}

# forbid_starts makes invoke-rc.d and deb-systemd-invoke refuse to start
# anything (exit 101 of policy-rc.d) until allow_starts puts back what was there.
forbid_starts() {
  # A run that was killed may have left its own policy in place.
  if as_root test -e "$policy_saved"; then as_root mv -f "$policy_saved" "$policy"; fi
  if as_root test -e "$policy"; then
    as_root mv "$policy" "$policy_saved"
  fi
  printf '#!/bin/sh\n# walpurge deps.sh: no service starts while packages are installed\nexit 101\n' |
    as_root tee "$policy" >/dev/null
  as_root chmod 755 "$policy"
}

allow_starts() {
  if as_root test -e "$policy_saved"; then
    as_root mv -f "$policy_saved" "$policy"
  elif as_root grep -qs 'walpurge deps.sh' "$policy"; then
    as_root rm -f "$policy"
  fi
}

# services prints pids of database servers that belong to no one but init: what
# a package's scripts start, and a test never does.
services() {
  local status
  for status in /proc/[0-9]*/status; do
    awk '/^Name:/ {n = $2} /^Pid:/ {p = $2} /^PPid:/ {pp = $2}
      END {if (pp == 1 && n ~ /^(postgres|valkey-server|redis-server|varnishd)$/) print p}' "$status" 2>/dev/null || true
  done
}

install() { # install OPTIONS-AND-PACKAGES...
  local before after rc=0
  before=$(services)
  forbid_starts
  trap allow_starts EXIT
  apt_quiet install --no-install-recommends "$@" || rc=$?
  allow_starts
  trap - EXIT
  if ((rc != 0)); then
    complain "apt-get install $* failed:"
    tail -n 20 "$apt_log" >&2
    return 1
  fi
  after=$(services)
  if [[ $after != "$before" ]]; then
    complain "a package started a service in spite of $policy (pids: ${after//$'\n'/ }). Stop it with systemctl or kill."
  fi
}

# backports_source prints a deb822 stanza for the backports suite, with the
# mirror and the keyring of the source that serves the release itself.
backports_source() {
  local codename=$1 files
  shopt -s nullglob
  files=(/etc/apt/sources.list.d/*.sources)
  shopt -u nullglob
  if ((${#files[@]} > 0)); then
    awk -v suite="$codename" '
      function flush() {
        if (uri != "" && types ~ /(^| )deb( |$)/ && (" " suites " ") ~ (" " suite " ") && !off && !done) {
          done = 1
          print "Types: deb\nURIs: " uri "\nSuites: " suite "-backports\nComponents: main"
          if (key != "") print "Signed-By: " key
        }
        uri = suites = types = key = ""; off = 0
      }
      FNR == 1 || /^[ \t]*$/ {flush()}
      /^#/ {next}
      {v = $0; sub(/^[^:]*:[ \t]*/, "", v)}
      tolower($1) == "types:" {types = v}
      tolower($1) == "uris:" {split(v, u, " "); uri = u[1]}
      tolower($1) == "suites:" {suites = v}
      tolower($1) == "signed-by:" {key = v}
      tolower($1) == "enabled:" && v ~ /^no/ {off = 1}
      END {flush()}' "${files[@]}"
  fi
  shopt -s nullglob
  files=(/etc/apt/sources.list /etc/apt/sources.list.d/*.list)
  shopt -u nullglob
  if ((${#files[@]} > 0)); then
    awk -v suite="$codename" '
      $1 == "deb" {
        key = ""; opts = ""; i = 2
        if ($2 ~ /^\[/) {
          do opts = opts " " $i; while ($(i++) !~ /\]$/ && i <= NF)
          if (match(opts, /signed-by=[^] ]+/)) key = substr(opts, RSTART + 10, RLENGTH - 10)
        }
        if ($(i + 1) == suite) {
          print "Types: deb\nURIs: " $i "\nSuites: " suite "-backports\nComponents: main"
          if (key != "") print "Signed-By: " key
          exit
        }
      }' "${files[@]}"
  fi
}

add_backports() { # add_backports CODENAME
  local stanza
  # Two sources may serve the release; the first is enough.
  stanza=$(backports_source "$1" | awk '/^Types:/ && n++ {exit} {print}')
  [[ -n $stanza ]] || return 1
  say "         adding the suite $1-backports of your own mirror: $backports_file"
  printf '%s\n' "$stanza" | as_root tee "$backports_file" >/dev/null
  if apt_quiet update -o "Dir::Etc::sourcelist=$backports_file" -o Dir::Etc::sourceparts=- \
    -o APT::Get::List-Cleanup=0 -o APT::Update::Error-Mode=any && has_candidate valkey-server; then
    return 0
  fi
  say "         $1-backports is not to be had; taking the suite out again"
  as_root rm -f "$backports_file"
  return 1
}

install_valkey() {
  local codename id
  codename=$(. /etc/os-release && printf %s "${VERSION_CODENAME:-}")
  id=$(. /etc/os-release && printf %s "${ID:-}")
  if has_candidate valkey-server; then
    install valkey-server && return 0
  elif [[ $id == debian && -n $codename ]] && add_backports "$codename"; then
    install -t "$codename-backports" valkey-server && return 0
  fi
  say "missing  no valkey-server here: installing redis-server instead"
  install redis-server
}

# --- groups ------------------------------------------------------------------

# need NAME FINDER INSTALLER BY-HAND: report, or install and look again.
need() {
  local name=$1 finder=$2 installer=$3 by_hand=$4 found
  if found=$("$finder"); then
    say "ok       $found"
    return
  fi
  if $check_only; then
    say "missing  $name: $by_hand"
    failed=true
    return
  fi
  if ! can_install; then
    complain "missing $name, and there is neither root nor sudo with apt here. Run:"
    complain "  $by_hand"
    failed=true
    return
  fi
  if [[ -z $apt_log ]]; then
    apt_log=$(mktemp "${TMPDIR:-/tmp}/walpurge-deps.XXXXXX.log")
  fi
  say "missing  $name: installing it with apt-get (log: $apt_log)"
  apt_update
  if ! "$installer" || ! found=$("$finder"); then
    complain "could not install $name; see $apt_log, or run: $by_hand"
    failed=true
    return
  fi
  say "ok       $found"
}

install_postgres() { install postgresql; }

group_core() {
  need "PostgreSQL $pg_min+" find_postgres install_postgres "apt-get install postgresql"
  need "Valkey" find_valkey install_valkey \
    "apt-get install valkey-server   (Debian bookworm: from bookworm-backports; else: apt-get install redis-server)"
}

# The race detector is C code: go test -race needs a compiler and libc's headers.
find_compiler() {
  local cc
  cc=$(go env CC 2>/dev/null) || cc=gcc
  echo 'int main(void) { return 0; }' | "${cc:-gcc}" -include stdlib.h -x c -o /dev/null - 2>/dev/null || return 1
  printf 'C compiler %s\n' "$(command -v "${cc:-gcc}")"
}

install_compiler() { install gcc libc6-dev; }

# varnishd lies in sbin, which a user's PATH may lack. The xkey module comes in
# a package of its own.
find_varnish() {
  local path modules
  path=$(PATH=$PATH:/usr/sbin:/usr/local/sbin command -v varnishd) || return 1
  shopt -s nullglob
  modules=(/usr/lib/varnish/vmods/libvmod_xkey.so /usr/lib*/*/varnish/vmods/libvmod_xkey.so /usr/local/lib/varnish/vmods/libvmod_xkey.so)
  shopt -u nullglob
  ((${#modules[@]} > 0)) || return 1
  printf 'Varnish %s at %s\n' "$("$path" -V 2>&1 | sed -nE 's/.*varnish-([0-9.]+).*/\1/p; q')" "$path"
}

install_varnish() { install varnish varnish-modules; }

# Of Prometheus and Alertmanager, the programs alone are taken, not the twenty packages for
# their pages: promtool and amtool, which test the alerts and their configuration, and the
# server of Prometheus, which evaluates them in a drill. That needs no root: they go into the cache directory that the tests look in.
prometheus_programs=(promtool prometheus amtool)
prometheus_dir() { say "${XDG_CACHE_HOME:-$HOME/.cache}/walpurge/bin"; }

find_prometheus() {
  local program path found=
  for program in "${prometheus_programs[@]}"; do
    path=$(command -v "$program") || path=$(prometheus_dir)/$program
    [[ -x $path ]] || return 1
    found+=" $program $("$path" --version 2>&1 | sed -nE "s/^[a-z]+, version ([^ ]+).*/\\1/p; q") at $path"
  done
  say "${found# }"
}

install_prometheus() {
  local tmp rc=0 program
  tmp=$(mktemp -d "${TMPDIR:-/tmp}/walpurge-prometheus.XXXXXX")
  mkdir -p "$(prometheus_dir)"
  # Moved at the end, so that no process sees half of it.
  (cd "$tmp" && apt-get -q download prometheus prometheus-alertmanager >>"$apt_log" 2>&1 &&
    dpkg-deb --fsys-tarfile prometheus_*.deb | tar -xf - ./usr/bin/promtool ./usr/bin/prometheus &&
    dpkg-deb --fsys-tarfile prometheus-alertmanager_*.deb | tar -xf - ./usr/bin/amtool &&
    for program in "${prometheus_programs[@]}"; do
      mv "usr/bin/$program" "$(prometheus_dir)/$program.$$" &&
        mv "$(prometheus_dir)/$program.$$" "$(prometheus_dir)/$program" || exit 1
    done) || rc=$?
  rm -rf "$tmp"
  return "$rc"
}

group_test() {
  need "a C compiler" find_compiler install_compiler "apt-get install gcc libc6-dev"
  need "Varnish with xkey" find_varnish install_varnish "apt-get install varnish varnish-modules"
  need "Prometheus" find_prometheus install_prometheus "deploy/dev/deps.sh test   (or put promtool and prometheus, from 2.42, and amtool, from 0.25, into PATH)"
}

find_statements() {
  local file
  shopt -s nullglob
  for file in /usr/share/postgresql/*/extension/pg_stat_statements.control; do
    shopt -u nullglob
    say "pg_stat_statements at $file"
    return 0
  done
  shopt -u nullglob
  file=$(pg_config --sharedir 2>/dev/null)/extension/pg_stat_statements.control
  [[ -f $file ]] && say "pg_stat_statements at $file"
}

install_statements() { install postgresql-contrib; }

python_packages=(python3 python3-flask python3-waitress python3-redis python3-psycopg2 python3-prometheus-client)

# A python3 in PATH that is not the system's does not see the packages of the distribution.
find_python() {
  local path
  for path in "$(command -v python3)" /usr/bin/python3; do
    if [[ -x $path ]] && "$path" -c 'import flask, waitress, redis, psycopg2, prometheus_client' 2>/dev/null; then
      say "Python with Flask, redis-py and psycopg2 at $path"
      return 0
    fi
  done
  return 1
}

install_python() { install "${python_packages[@]}"; }

group_scenario() {
  need "Varnish with xkey" find_varnish install_varnish "apt-get install varnish varnish-modules"
  need "pg_stat_statements" find_statements install_statements "apt-get install postgresql-contrib"
  need "Python with Flask, redis-py and psycopg2" find_python install_python "apt-get install ${python_packages[*]}"
  need "Prometheus" find_prometheus install_prometheus "deploy/dev/deps.sh scenario   (or put promtool and prometheus, from 2.42, and amtool, from 0.25, into PATH)"
}

find_packaging() {
  command -v dpkg-deb >/dev/null && command -v systemd-analyze >/dev/null && command -v fakeroot >/dev/null || return 1
  say "dpkg-deb, systemd-analyze and fakeroot"
}

install_packaging() { install systemd fakeroot; }

find_twemproxy() {
  command -v nutcracker >/dev/null || return 1
  say "twemproxy at $(command -v nutcracker)"
}

install_twemproxy() { install nutcracker; }

# Redis 7 lies beside Valkey, with which its package conflicts: it is unpacked and not installed.
redis7=/var/cache/walpurge/redis

find_redis7() {
  [[ $("$redis7/usr/bin/redis-server" --version 2>/dev/null) == *v=7.* ]] || return 1
  say "Redis 7 in $redis7"
}

install_redis7() {
  local dir
  apt_quiet install --no-install-recommends libatomic1 libjemalloc2 liblzf1 || return 1
  dir=$(mktemp -d) || return 1
  (cd "$dir" && apt-get download redis-server redis-tools >>"$apt_log" 2>&1) &&
    "${sudo_cmd[@]}" mkdir -p "$redis7" &&
    for package in "$dir"/*.deb; do "${sudo_cmd[@]}" dpkg-deb -x "$package" "$redis7" || return 1; done
  rm -r "$dir"
}

group_full() {
  need "Redis 7" find_redis7 install_redis7 "deploy/dev/deps.sh full, as root"
  need "twemproxy" find_twemproxy install_twemproxy "apt-get install nutcracker"
  need "dpkg-deb, systemd-analyze and fakeroot" find_packaging install_packaging "apt-get install dpkg systemd fakeroot"
}

find_browser() {
  local name path
  for name in chromium-headless-shell chromium google-chrome; do
    if path=$(command -v "$name"); then
      say "$("$path" --version 2>/dev/null | sed -nE 's/.*(Chrom[a-z]+ [0-9]+).*/\1/p;q') at $path"
      return 0
    fi
  done
  return 1
}

# The shell is a third of the size; where a release lacks it, all of Chromium.
install_browser() {
  if has_candidate chromium-headless-shell; then
    install chromium-headless-shell fonts-dejavu-core
  else
    install chromium fonts-dejavu-core
  fi
}

group_browser() {
  need "Chromium" find_browser install_browser "apt-get install chromium-headless-shell fonts-dejavu-core   (or: apt-get install chromium)"
}

# --- main --------------------------------------------------------------------

groups=()
for arg in "$@"; do
  case $arg in
  --check) check_only=true ;;
  -h | --help) usage && exit 0 ;;
  *)
    if ! declare -F "group_$arg" >/dev/null; then
      complain "unknown argument \"$arg\""
      usage >&2
      exit 2
    fi
    groups+=("$arg")
    ;;
  esac
done
if ((${#groups[@]} == 0)); then groups=(core); fi

check_go || failed=true
for group in "${groups[@]}"; do "group_$group"; done
if $failed; then exit 1; fi
