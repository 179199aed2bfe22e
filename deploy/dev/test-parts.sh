#!/usr/bin/env bash
# test-parts.sh - runs the tests in parts and goes on after a part that failed. Each part has a
# log of its own and a line in summary.txt: round, part, seconds, result, load, failed tests.
#
#   test-parts.sh soak ROUNDS   the suite again and again, into dist/soak; the last two rounds
#                               beside two processes that keep two cores busy
#   test-parts.sh full          what `make test-full` runs, into dist/full
#
# A run that was interrupted goes on where it stopped, if it is started again on the same
# commit with the same arguments. TEST_FLAGS and VET_FLAGS are the flags of go test and go vet,
# as the Makefile has them. Exit 0: every part passed; 1: one did not; 2: bad arguments.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

usage() {
  sed -n '2,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
}

burners=()
stop_load() {
  ((${#burners[@]})) && kill "${burners[@]}" 2>/dev/null
  burners=()
}
trap stop_load EXIT
trap 'exit 130' INT TERM

# start_load keeps two cores busy until stop_load, or until this script is gone.
start_load() {
  ((${#burners[@]})) && return
  for _ in 1 2; do
    (
      trap - EXIT INT TERM
      while kill -0 $$ 2>/dev/null; do for ((i = 0; i < 200000; i++)); do :; done; done
    ) &
    burners+=($!)
  done
}

# part ROUND NAME COMMAND...: skipped if an interrupted run has done it.
part() {
  local round=$1 name=$2
  shift 2
  grep -q "^$round $name " "$summary" && return
  local log=$dir/$round-$name.log load=no result=ok
  ((${#burners[@]})) && load=yes
  echo "round $round: $name > $log"
  SECONDS=0
  "$@" >"$log" 2>&1 </dev/null || result=FAIL
  local seconds=$SECONDS failed=
  if [[ $result == FAIL ]]; then
    failed=$(grep -hoE '^ *--- FAIL: [^ ]+|^panic: .*|^WARNING: DATA RACE|^make.*: \*\*\* .*' "$log" | sed 's/^ *--- FAIL: //' | sort -u | head -20 | paste -sd';')
  fi
  printf '%s %s %d s %s load=%s %s\n' "$round" "$name" "$seconds" "$result" "$load" "$failed" | sed 's/ *$//' | tee -a "$summary"
}

tests() { # ROUND NAME ARGS: one part of go test
  local round=$1 name=$2
  shift 2
  # Bounds that only end a hang are minutes; load makes all of it slower.
  # shellcheck disable=SC2086 # the flags are words
  part "$round" "$name" go test -vet=off $TEST_FLAGS -timeout 60m -count=1 "$@"
}

soak_round() {
  local round=$1
  tests "$round" cdc ./cdc/...
  tests "$round" rules ./rules/...
  tests "$round" router ./router/...
  tests "$round" sinks ./sinks/...
  tests "$round" cmd ./cmd/... ./deploy/...
  tests "$round" house ./integration/house ./integration/simulate
  tests "$round" harness ./integration/harness/... ./integration/bench/... ./integration/demo/...
  # The largest package in three parts, of which the last has what the others have not.
  tests "$round" integration-1 -run '^(Test|Fuzz)[A-F]' ./integration
  tests "$round" integration-2 -run '^(Test|Fuzz)[G-R]' ./integration
  tests "$round" integration-3 -skip '^(Test|Fuzz)[A-R]' ./integration
}

# The tests of the largest package that are run on every major version.
postgres_tests='^Test(DecoderAgreesWithPostgreSQL|StreamedAsPeer|ApplicationIsNotDisturbed|WhyTablesAreRefused|OneTextForm|RuleTestsCarry|Tables|Tenants|WriterFromBefore|ColumnDropped|Comparisons|Trees|SynchronousStandby|PurgeWaitsForReplicas)'

what=${1:-} rounds=${2:-1}
[[ $what == soak || $what == full ]] && [[ $rounds =~ ^[1-9][0-9]*$ ]] || usage
: "${TEST_FLAGS:=-race -tags failpoints -p 2 -parallel 4}" "${VET_FLAGS:=-race -tags failpoints}"
dir=dist/$what
summary=$dir/summary.txt
mkdir -p "$dir" || exit 1
head="# test-parts.sh $* of $(git describe --always --dirty --abbrev=12)"
if [[ $(head -n 1 "$summary" 2>/dev/null) != "$head" ]] || grep -q '^# end' "$summary"; then
  rm -f "$dir"/*.log
  echo "$head" >"$summary"
fi

case $what in
soak)
  for ((round = 1; round <= rounds; round++)); do
    ((round > 1 && round > rounds - 2)) && start_load
    soak_round "$round"
  done
  stop_load
  ;;
full)
  # shellcheck disable=SC2086 # the flags are words
  part 1 vet go vet $VET_FLAGS ./...
  # shellcheck disable=SC2046 # packages are words
  tests 1 packages -tags failpoints,full $(go list ./... | grep -v '/integration$')
  # TestDrainRate wants both cores to itself, and is a part of its own.
  tests 1 integration -tags failpoints,full -skip '^TestDrainRate$' ./integration
  # What crashes and the oracle judge, with every backlog read through SQL.
  WALPURGE_TEST_READER=sql tests 1 integration-sql -run '^Test(Killed|CrashPoints|AckBefore|EdgeBefore|FailingEdge|PowerCut|StreamedAsPeer|Gap|Skip|Reload)' ./integration
  # What is about PostgreSQL itself, on every other major version that is supported.
  for major in 14 16 17 18; do
    WALPURGE_PG_MAJOR=$major tests 1 "postgres-$major" ./cdc/... ./integration/schemas
    WALPURGE_PG_MAJOR=$major tests 1 "integration-$major" -run "$postgres_tests" ./integration
  done
  for name in rate helm page; do part 1 "$name" make "test-$name"; done
  part 1 scenario-gate make scenario-gate
  part 1 fuzz make fuzz
  ;;
esac

red=$(grep -c ' s FAIL ' "$summary")
total=$(awk '!/^#/ { s += $3 } END { print int(s) }' "$summary")
printf '# end: %d parts, %d of them failed, %d min %d s\n' "$(grep -vc '^#' "$summary")" "$red" $((total / 60)) $((total % 60)) >>"$summary"
echo "--- $summary"
cat "$summary"
((red == 0))
