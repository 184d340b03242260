#!/bin/sh
# The checks that need no QEMU: format, vet, staticcheck, modules, known
# vulnerabilities, and the architecture test. All are run; one failure is enough.
set -u

failed=
check() {
	echo "== $1"
	shift
	"$@" || failed=yes
}

formatted() {
	unformatted=$(gofmt -l cmd internal reconcile runtime spec)
	[ -z "$unformatted" ] && return
	echo "not formatted with gofmt:"
	echo "$unformatted"
	return 1
}

# govulncheck reads a data base on the net: without a way to it there is no
# answer, which is no failure.
vulnerabilities() {
	report=$(go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./... 2>&1)
	status=$?
	[ $status -eq 0 ] && return
	if ! echo "$report" | grep -q "exit status 3" &&
		echo "$report" | grep -qE "fetching vulnerabilities|dial tcp|no such host|proxyconnect"; then
		echo "skipped: its data base cannot be reached from here"
		return 0
	fi
	echo "$report"
	return 1
}

check "gofmt" formatted
check "go vet" go vet ./...
check "go vet, with crash points" go vet -tags crashpoints ./internal/crash
check "staticcheck" go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...
check "go mod tidy" go mod tidy -diff
check "govulncheck" vulnerabilities
check "architecture" go test ./internal/arch
[ -z "$failed" ] || { echo "make check: something above failed" >&2; exit 1; }
