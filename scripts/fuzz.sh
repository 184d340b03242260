#!/bin/sh
# Runs every fuzz target for FUZZTIME (30s), one after another on one core.
# FUZZ picks some of them by a regular expression on their names. An input that
# breaks a property is kept by Go below the package's testdata/fuzz, where each
# later `make test` tries it again; commit it with what mends it.
set -u

time=${FUZZTIME:-30s}
failed=
for package in ./spec ./runtime ./cmd/qemu-reconciler; do
	for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' | grep -E "${FUZZ:-.}"); do
		echo "== $package $target"
		# Without a bound on it, making interesting inputs small takes all the
		# time.
		output=$(nice -n 10 go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 20x -parallel 1 "$package" 2>&1)
		status=$?
		echo "$output" | grep -v '^fuzz: elapsed' || :
		echo "$output" | grep '^fuzz: elapsed' | tail -n 1
		# Go reports the end of the time as a failure when it comes while an
		# input is being tried (golang.org/issue/75804): then there is none.
		if [ $status -ne 0 ] && echo "$output" | grep -q 'Failing input written\|panic:\|--- FAIL: Fuzz.*/'; then
			failed="$failed $target"
		elif [ $status -ne 0 ] && ! echo "$output" | grep -q 'context deadline exceeded'; then
			failed="$failed $target"
		fi
	done
done
[ -z "$failed" ] || { echo "make fuzz: found something:$failed" >&2; exit 1; }
