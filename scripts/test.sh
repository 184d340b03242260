#!/bin/sh
# Runs all tests. A test that fails on real VMs shows their logs, thousands of lines of
# them: what failed, and why, comes once more at the end.
set -eu

mkdir -p build
log=build/test.log status=build/test.status
echo 1 >"$status"
trap : INT TERM # the tests hear of it, too, and have VMs to end before they do
{
	go test -race -timeout "$1" ./... && echo 0 >"$status"
} 2>&1 | tee -i "$log"
[ "$(cat "$status")" -ne 0 ] || exit 0

echo
echo "== what failed (all of it: $log)"
awk '
	# A message goes on in lines with a deeper indentation; the logs of a host do, too.
	/^ *--- FAIL/ || /^FAIL\t/ || /^(panic|fatal error|signal): / || /^exit status/ || /WARNING: DATA RACE/ { print; more = 0; next }
	/^[^ ]+\.go:[0-9]+:[0-9]+: / { print; more = 0; next } # of the compiler
	/^ +[^ ]+\.go:[0-9]+: .*the daemon.s log:$/ { more = 0; next }
	/^ +[^ ]+\.go:[0-9]+: / { print; more = 8; next }
	more > 0 && /^        / { print; more--; next }
	{ more = 0 }
' "$log" | cut -c1-400
exit 1
