package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// signals are what an operator or systemd can say to the daemon.
type signals struct {
	// stop is done with the first SIGTERM or SIGINT, force with the second.
	stop, force context.Context
	// hangup gets every SIGHUP; several at once are one.
	hangup chan os.Signal
	// release gives the signals their default meaning again.
	release func()
}

func listenForSignals(parent context.Context) *signals {
	stop, stopNow := context.WithCancel(parent)
	force, forceNow := context.WithCancel(parent)
	ends, hangup := make(chan os.Signal, 2), make(chan os.Signal, 1)
	signal.Notify(ends, os.Interrupt, syscall.SIGTERM)
	signal.Notify(hangup, syscall.SIGHUP)
	released := make(chan struct{})
	go func() {
		for _, cancel := range []context.CancelFunc{stopNow, forceNow} {
			select {
			case <-ends:
				cancel()
			case <-released:
				return
			}
		}
	}()
	return &signals{stop: stop, force: force, hangup: hangup, release: func() {
		signal.Stop(ends)
		signal.Stop(hangup)
		close(released)
		stopNow()
		forceNow()
	}}
}
