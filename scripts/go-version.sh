#!/bin/sh
# Fails with a clear message when there is no Go of at least this version.
set -eu

wanted_minor=25

if ! command -v go >/dev/null 2>&1; then
	echo "there is no 'go' in PATH: install Go 1.$wanted_minor or later (https://go.dev/dl/)" >&2
	exit 1
fi
# Asked in this directory, a Go that can fetch the version that go.mod asks for
# answers with that one.
found=$(go env GOVERSION 2>/dev/null) || found=$(cd / && go env GOVERSION)
minor=$(echo "$found" | sed -n 's/^.*go1\.\([0-9]*\).*$/\1/p')
if [ -z "$minor" ]; then
	echo "go-version: '$found' is not a released Go; going on" >&2
elif [ "$minor" -lt "$wanted_minor" ]; then
	echo "this is $found, but Go 1.$wanted_minor or later is needed (https://go.dev/dl/)" >&2
	exit 1
fi
