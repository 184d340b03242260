package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	goruntime "runtime"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/qemu-reconciler/qemu-reconciler/reconcile"
	"github.com/qemu-reconciler/qemu-reconciler/runtime"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// lookAt gives the daemon's status or, when no daemon answers, what the files
// and the records say. note tells a person which of the two it is when that is
// not the daemon's. show is that of client.Status.
func (a *app) lookAt(ctx context.Context, s *setup, show bool) (st reconcile.Status, note string, err error) {
	st, err = s.client().Status(ctx, show)
	if err == nil {
		return st, "", nil
	}
	offline, note, err := lookInstead(ctx, s, err)
	if err != nil {
		return st, "", err
	}
	return offline.Status(), note, nil
}

// lookInstead looks at the files and the records because the daemon did not
// answer, and says so, and when there is a better place to look.
func lookInstead(ctx context.Context, s *setup, unanswered error) (offline reconcile.Offline, note string, err error) {
	if note, err = withoutDaemon(unanswered); err != nil {
		return offline, "", err
	}
	if offline, err = lookOffline(ctx, s); err != nil {
		return offline, "", err
	}
	if hint := systemHint(s, offline); hint != "" {
		note += "\n" + hint
	}
	return offline, note, nil
}

// withoutDaemon says why the records are looked at instead; an error that a
// look at the records would not mend is given back.
func withoutDaemon(err error) (note string, fatal error) {
	var silent *silentDaemonError
	var lost *lostSocketError
	switch {
	case isNoDaemon(err):
		return "No daemon is running: this is what the files and the records say.", nil
	case errors.As(err, &silent):
		return fmt.Sprintf("The daemon does not answer within %s: this is what the files and the records say.", silent.after), nil
	case errors.As(err, &lost):
		return fmt.Sprintf("Daemon %d runs, but its control socket is gone: this is what the files and the records say.", lost.pid), nil
	}
	return "", err
}

// lookOffline reads the files and the records, and changes nothing. A daemon
// that does not answer is of a version that nobody knows.
func lookOffline(ctx context.Context, s *setup) (reconcile.Offline, error) {
	snapshot, err := runtime.View(ctx, s.layout())
	if err != nil {
		return reconcile.Offline{}, fmt.Errorf("the state in %s cannot be read: %w", s.dirs.State, err)
	}
	options := s.loaderOptions(s.fingerprint(hclog.NewNullLogger()))
	options.Held = snapshot.Held
	fault := ""
	if snapshot.RemovalsError != nil {
		fault = snapshot.RemovalsError.Error()
	}
	return reconcile.Offline{
		Set: spec.LoadDir(options), Observed: snapshot.Observations,
		Removals: snapshot.Removals, RemovalsFault: fault, MaxRemovals: s.config.MaxRemovals,
		HostName: s.hostName, StateDir: s.dirs.State,
		BootID: runtime.BootID(), DaemonPID: snapshot.DaemonPID, Now: time.Now(),
	}, nil
}

// fingerprint is what the host offers; its answers are kept in the state
// directory.
func (s *setup) fingerprint(log hclog.Logger) *runtime.Fingerprint {
	return runtime.NewFingerprint(s.layout().EmulatorCache(), log)
}

// loaderOptions are those of the task directory; a nil host leaves the host
// out.
func (s *setup) loaderOptions(host spec.Host) spec.LoaderOptions {
	return spec.LoaderOptions{
		Dir: s.dirs.VMs, HostName: s.hostName, HostArch: spec.QEMUArch(goruntime.GOARCH), Host: host,
		Writing: runtime.Writing, Born: runtime.Born, Now: time.Now,
	}
}

// systemHint tells a plain user who looks at an empty state of their own that
// the system's VMs are elsewhere.
func systemHint(s *setup, offline reconcile.Offline) string {
	if s.uid == 0 || s.dirs.State == s.system.State || len(offline.Observed) > 0 {
		return ""
	}
	if _, err := os.Stat(s.system.State); err != nil {
		return ""
	}
	return fmt.Sprintf("Your own state in %s is empty, but this host has a system-wide one in %s: to see it, run this as root (sudo).",
		s.dirs.State, s.system.State)
}

// unknownTasks is the error for names that nobody knows.
func unknownTasks(names []string, dir string) error {
	if len(names) == 1 {
		return fmt.Errorf("there is no task %q: `qemu-reconciler status` lists those of %s", names[0], dir)
	}
	return fmt.Errorf("there are no tasks %q: `qemu-reconciler status` lists those of %s", names, dir)
}

// unknownTask is the error for one name that nobody knows, with the reason if
// the files of dir tell one.
func (s *setup) unknownTask(name, dir string) error {
	options := s.loaderOptions(nil)
	options.Dir = dir
	set := spec.LoadDir(options)
	if set.Err != nil {
		return fmt.Errorf("whether there is a task %q is not known: %w", name, set.Err)
	}
	for _, d := range set.Definitions {
		if d.Task.Name == name && !d.Here {
			return fmt.Errorf("task %q is for other hosts only: %s says hosts = %q, and this host is %s", name, d.File, d.Task.Hosts, s.hostName)
		}
	}
	var broken []string
	for _, f := range set.Files {
		if slices.Contains(f.Faulty, name) {
			return fmt.Errorf("the definition of %s in %s has errors: see `qemu-reconciler validate`", name, f.Path)
		}
		if len(f.Errors) > 0 {
			broken = append(broken, f.Path)
		}
	}
	if len(broken) > 0 {
		return fmt.Errorf("task %q is in no file that can be read; it may be in one that has errors (%s): see `qemu-reconciler validate`", name, strings.Join(broken, ", "))
	}
	return unknownTasks([]string{name}, dir)
}
