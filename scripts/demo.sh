#!/bin/sh
# The real daemon on a copy of examples/vms.d, in the foreground:
#
#	demo.sh            until Ctrl-C, which stops the demo's VMs
#	demo.sh SECONDS    ends by itself after at most that long
#
# Exit 0 only if every VM converged and was stopped gracefully. Each demo has
# directories and host ports of its own, so several can run at once.
set -eu

seconds=${1:-}
case $seconds in
*[!0-9]*) echo "demo: DEMO_SECONDS is a number of seconds, not '$seconds'" >&2; exit 64 ;;
esac
began=$(date +%s)
# What a demo that ends by itself keeps for stopping its VMs.
reserve=7

mkdir -p build/demo
demo=$(cd "$(mktemp -d build/demo/XXXXXX)" && pwd)
daemon=
stop=
verdict=0

bold= plain=
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
	bold=$(printf '\033[1m') plain=$(printf '\033[0m')
fi
say() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
fail() {
	printf '\n== demo: %s\n' "$*" >&2
	verdict=1
}
qr() { "$demo/qr" "$@"; }

# late N says whether no more than N seconds are left.
late() {
	[ -n "$seconds" ] && [ $(($(date +%s) - began + $1)) -ge "$seconds" ]
}

prepare() {
	cp -R examples/vms.d "$demo/vms.d"
	for image in $(sed -n 's/^ *image_path *= *"\([^"]*\)".*/\1/p' "$demo"/vms.d/*.hcl); do
		go run ./internal/guest/mkguest button "$demo/vms.d/$image"
	done
	# A hundred ports of the demo's own, so that two demos never want the same.
	first=$((20000 + $$ % 120 * 100))
	echo "dynamic_ports = \"$first-$((first + 99))\"" >"$demo/config.hcl"
	# The program with this demo's directories, wherever it is called from.
	cat >"$demo/qr" <<-'SCRIPT'
		#!/bin/sh
		demo=$(cd "$(dirname "$0")" && pwd)
		export QEMU_RECONCILER_CONFIG="$demo/config.hcl" QEMU_RECONCILER_VMS_DIR="$demo/vms.d"
		export QEMU_RECONCILER_STATE_DIR="$demo/state" QEMU_RECONCILER_RUN_DIR="$demo/run"
		exec "$demo/../../../bin/qemu-reconciler" "$@"
	SCRIPT
	chmod +x "$demo/qr"
}

# The daemon gets a session of its own: Ctrl-C reaches this script alone, which
# asks the daemon once.
start_daemon() {
	setsid "$demo/qr" run --stop-on-exit &
	daemon=$!
	started=$(date +%s)
	echo $daemon >"$demo/daemon.pid"
}

daemon_runs() { kill -0 "$daemon" 2>/dev/null; }

await_convergence() {
	until qr status --check >"$demo/status.txt" 2>/dev/null && [ "$(stat -c %s "$demo/status.txt")" -gt 0 ]; do
		[ -z "$stop" ] || return 0
		if ! daemon_runs; then
			fail "the daemon ended"
			return 0
		fi
		if late $reserve; then
			fail "not every VM converged in time"
			return 0
		fi
		sleep 0.1
	done
}

# Each VM that runs says READY on its console.
await_consoles() {
	for task in $(running); do
		log=$demo/state/logs/$task/console.log
		until grep -q READY "$log" 2>/dev/null; do
			[ -z "$stop" ] || return 0
			if late $reserve; then
				fail "no READY on the console of $task"
				return 0
			fi
			sleep 0.1
		done
		echo "console of $task: $(tr -d '\r' <"$log" | grep -m 1 READY)"
	done
}

# What status --json prints is indented, one field a line.
running() {
	qr status --json 2>/dev/null | awk -F '"' '
		/^      "name":/ { name = $4 }
		/^      "phase": "running"/ { print name }'
}

hints() {
	say "now you: in a second terminal"
	cat <<-HINTS
		  cd '$demo'

		  ./qr status                     the table again (qr: qemu-reconciler on this demo)
		  cat state/logs/tiny/console.log

		  echo '# a comment' >>vms.d/tiny.hcl                     nothing: same pid
		  sed -i 's/memory = 128/memory = 200/' vms.d/tiny.hcl    a new process, after a graceful stop
		  sed -i 's/"stopped"/"running"/' vms.d/every-attribute.hcl
		                                                          one more VM
		  rm vms.d/pair.hcl                                       two VMs are stopped, gracefully
		  echo 'task "oops" {' >vms.d/oops.hcl                    an error, shown by ./qr status; no VM minds
		  ./qr plan                       what a pass would do
		  ./qr restart tiny               stop and start it
		  kill -9 \$(cat daemon.pid)       kill the daemon: the VMs run on, and the
		                                  next one (started here) adopts them
	HINTS
	[ -n "$seconds" ] && echo && echo "This demo ends by itself after at most $seconds seconds." && return
	echo
	echo "Ctrl-C here stops the demo's VMs and ends it."
}

watch() {
	while [ -z "$stop" ] && ! late $reserve; do
		if ! daemon_runs; then
			say "the daemon is gone, its VMs are not:"
			qr status
			if [ $(($(date +%s) - started)) -lt 2 ]; then
				fail "the daemon ended as soon as it was started"
				return 0
			fi
			say "starting another one"
			start_daemon
		fi
		sleep 0.3
	done
}

finish() {
	say "stopping the demo's VMs gracefully"
	if daemon_runs; then
		kill -TERM "$daemon"
		while daemon_runs; do
			if late 0; then
				fail "not everything was stopped in time"
				kill -TERM "$daemon" # the second time: leave the rest as it is
				break
			fi
			sleep 0.1
		done
		wait "$daemon" || fail "the daemon's exit code is $?"
	fi
	judge
}

# Every exit must be of a graceful rung, and every VM that ran must have one.
judge() {
	qr status --json >"$demo/last.json" 2>/dev/null || fail "no status"
	rungs=$(awk -F '"' '
		/^      "name":/ { name = $4 }
		/^        "rung":/ { print name ": " ($4 == "" ? "none" : $4) }' "$demo/last.json")
	if [ -n "$rungs" ]; then
		echo "how each was stopped:"
		echo "$rungs" | sed 's/^/  /'
	fi
	for task in $(cat "$demo/ran" 2>/dev/null); do
		[ -n "$stop" ] || echo "$rungs" | grep -qx "$task: .*" || fail "$task was not stopped"
	done
	if echo "$rungs" | grep -E ': (quit|sigterm|sigkill|none)$'; then
		fail "not every VM was stopped gracefully"
	fi
	if grep -q '"pid": [1-9]' "$demo/last.json" && ! grep -q '"running": true' "$demo/last.json"; then
		for pid in $(sed -n 's/^      "pid": \([1-9][0-9]*\).*/\1/p' "$demo/last.json"); do
			fail "QEMU $pid was left; ending it"
			kill -KILL "$pid" || true
		done
	fi
}

# Should this script itself fail, the daemon still stops its VMs.
trap '[ -z "$daemon" ] || ! daemon_runs || kill -TERM "$daemon"' EXIT
say "a copy of examples/vms.d with tiny guests, in $demo"
prepare
trap 'stop=yes' INT TERM HUP
# From here on Ctrl-C may end any command, and the VMs must be stopped all the
# same.
set +e
say "the daemon (its log is here)"
start_daemon
await_convergence
if [ -z "$stop" ] && [ $verdict = 0 ]; then
	say "the VMs"
	cat "$demo/status.txt"
	running >"$demo/ran"
	await_consoles
fi
if [ -z "$stop" ] && [ $verdict = 0 ]; then
	hints
	watch
fi
finish
if [ $verdict = 0 ]; then
	rm -rf "$demo"
	say "done"
else
	echo "what is left of the demo is in $demo" >&2
fi
exit $verdict
