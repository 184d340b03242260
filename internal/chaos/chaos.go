package chaos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/e2e"
	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
)

// patience is how long the world may take to be as it must be. A VM under
// SIGSTOP is asked for its whole kill_timeout before force.
const patience = time.Minute

// chaos is one episode under way.
type chaos struct {
	editor
	t     testing.TB
	h     *e2e.Host
	m     *model
	tally *tally
	// story are the steps that did something, drawn are all of them.
	story []string
	drawn []step

	// began is when the latest daemon was started.
	began         time.Time
	trees, proofs int
	// frozen are QEMUs under SIGSTOP.
	frozen     map[string]*process
	bystanders []e2e.Stranger
}

// start makes a host whose task directory is a symlink to one of many, as
// git-sync has it, and some processes that are nobody's business.
func start(t testing.TB, sum *tally) *chaos {
	c := &chaos{t: t, m: newModel(), tally: sum, frozen: map[string]*process{}}
	c.gone = map[string]def{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the steps:\n%s\nthe model:\n%s", strings.Join(c.story, "\n"), c.m)
		}
	})
	c.h = e2e.Start(t, e2e.Stopped(), e2e.Brake())
	c.must(os.Remove(c.h.VMs))
	c.must(guest.Write(filepath.Join(c.h.Disks, "proof.img"), guest.Quiet))
	c.writeTree(filepath.Join(filepath.Dir(c.h.VMs), "tree-0"), content{})
	c.must(os.Symlink("tree-0", c.h.VMs))
	for range 3 {
		c.bystanders = append(c.bystanders, e2e.StartStranger(t))
	}
	t.Cleanup(c.endKept) // before the host ends, who takes them for left behind
	t.Cleanup(c.thawAll)
	c.h.StartDaemon()
	c.m.daemonIs(true)
	return c
}

func (c *chaos) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// pause lasts for a random while: what is to happen at a random moment cannot be
// awaited.
func (c *chaos) pause(most time.Duration) {
	<-time.After(time.Duration(c.Int64N(int64(most))))
}

// begin fills the directory with some tasks.
func (c *chaos) begin(seed int) {
	c.Rand = rand.New(rand.NewPCG(uint64(seed), 0))
	next := c.m.now
	for range 4 {
		next, _ = c.create(next)
	}
	c.deliver(next, renamed)
	c.story = append(c.story, "   0 "+c.check())
}

// end brings the directory back, mends it, and checks for the last time.
func (c *chaos) end() {
	c.thawAll()
	if c.m.away {
		c.directoryAway()
	}
	next, _ := c.returnAll(c.m.now)
	c.deliver(next, renamed)
	c.check()
}

// step does one step with the random numbers of its own seed.
func (c *chaos) step(s step) {
	c.t.Helper()
	c.drawn = append(c.drawn, s)
	c.Rand = rand.New(rand.NewPCG(s.Seed, s.Seed))
	if !c.m.blind && !c.h.DaemonRuns() {
		c.t.Fatalf("the daemon has ended by itself\n%s", c.h.DaemonLog())
	}
	what := ""
	if change, is := edits[s.Kind]; is {
		what = c.edit(change)
	} else {
		what = deeds[s.Kind](c)
	}
	if what == "" && s.Kind != "check" && c.IntN(2) == 0 { // rather than nothing
		s.Kind = oneOf(c.Rand, []string{"mend-file", "create", "edit-nothing"})
		what = c.edit(edits[s.Kind])
	}
	c.tally.step(s.Kind, what != "")
	if what != "" {
		c.story = append(c.story, fmt.Sprintf("%4d %s %s: %s", len(c.drawn), time.Now().UTC().Format("15:04:05.000"), s.Kind, what))
	}
}

// edit changes the directory, with a kill of the daemon right after it at times.
func (c *chaos) edit(change edit) string {
	if c.m.away && c.IntN(2) == 0 {
		return ""
	}
	if c.m.away {
		c.directoryAway()
	}
	next, what := change(&c.editor, c.m.now)
	if what == "" {
		return ""
	}
	how := oneOf(c.Rand, ways)
	c.deliver(next, how)
	what += ", " + string(how)
	if c.IntN(7) == 0 && c.h.DaemonRuns() {
		c.pause(30 * time.Millisecond)
		what += "; daemon killed"
		c.kill()
		c.up()
	}
	return what
}

// kill kills the daemon.
func (c *chaos) kill() {
	c.h.Kill()
	c.m.daemonIs(false)
	c.tally.kills++
}

// up starts the daemon unless it runs, and waits for nothing.
func (c *chaos) up() {
	if !c.h.DaemonRuns() {
		c.began = time.Now()
		c.h.StartDaemonOnly()
		c.m.daemonIs(true)
	}
}

// answers starts the daemon unless it runs, and waits until it answers.
func (c *chaos) answers() {
	c.t.Helper()
	c.up()
	c.await("an answer of the daemon", func() []string {
		if _, err := c.h.TryStatus(); err != nil {
			return []string{err.Error()}
		}
		return nil
	})
}

// read returns when the daemon has read the directory as it is now.
func (c *chaos) read() {
	c.t.Helper()
	c.up()
	if c.m.away {
		c.await("the daemon to miss the directory", func() []string {
			st, err := c.h.TryStatus()
			if err != nil || st.DirError == "" {
				return []string{fmt.Sprintf("%v, %q", err, st.DirError)}
			}
			return nil
		})
		return
	}
	c.proofs++
	c.write(filepath.Join(c.h.VMs, proof+".hcl"), c.proofText(), renamed)
	c.await("the daemon to read the directory", func() []string {
		st, err := c.h.TryStatus()
		if task, _ := st.Task(proof); err != nil || task.Meta["label"] != fmt.Sprint(c.proofs) {
			return []string{fmt.Sprintf("%v, proof %d: %+v", err, c.proofs, task)}
		}
		return nil
	})
}

// await looks until there is no problem left.
func (c *chaos) await(what string, problems func() []string) {
	c.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		left := problems()
		if len(left) == 0 {
			return
		}
		if !c.h.DaemonRuns() {
			c.t.Fatalf("the daemon has ended by itself while it was waited for %s", what)
		}
		select {
		case <-tick.C:
		case <-deadline:
			c.t.Fatalf("waited %s for %s:\n  %s", patience, what, strings.Join(left, "\n  "))
		}
	}
}

// check waits for rest and compares the world with the model.
func (c *chaos) check() string {
	c.t.Helper()
	if c.IntN(4) > 0 {
		c.thawAll()
	}
	c.read()
	var w world
	c.await("the world to be as the model", func() []string {
		var err error
		if w, err = look(c.h); err != nil {
			return []string{err.Error()}
		}
		return c.m.compare(w)
	})
	if problems := c.m.compareExits(w); len(problems) > 0 {
		c.t.Fatalf("exits without a reason:\n  %s", strings.Join(problems, "\n  "))
	}
	c.checkBystanders()
	c.tally.restarts(c.m, w)
	sure, unsure := c.m.rest(w)
	c.tally.checks++
	c.tally.sure += sure
	c.tally.unsure += unsure
	switch c.IntN(5) {
	case 0:
		c.checkPlan(w)
	case 1:
		c.checkOffline(w)
	}
	return fmt.Sprintf("%d VMs, held %v", len(w.procs), w.status.HeldRemovals)
}

// checkBystanders fails the test when a process that is nobody's business was
// signalled.
func (c *chaos) checkBystanders() {
	c.t.Helper()
	for _, bystander := range c.bystanders {
		if harm := bystander.Harm(); harm != "" {
			c.t.Fatalf("a bystander was harmed: %s", harm)
		}
	}
}

// checkPlan compares the plan's exit code with the status.
func (c *chaos) checkPlan(w world) {
	c.t.Helper()
	result, want := c.h.Do("plan"), 0
	switch {
	case c.m.away || c.m.now.broken():
		want = 1
	case !w.status.Converged:
		want = 2
		if st, err := c.h.TryStatus(); result.Code == 0 && err == nil && st.Converged {
			want = 0 // it has converged since it was looked at
		}
	}
	if result.Code != want {
		c.t.Fatalf("plan exits with %d, expected was %d\n%s%s", result.Code, want, result.Stdout, result.Stderr)
	}
}

// checkOffline compares the status without a daemon with that of the daemon.
func (c *chaos) checkOffline(w world) {
	c.t.Helper()
	if c.IntN(2) == 0 {
		c.kill()
	} else {
		c.terminate()
	}
	st := c.h.StatusByCommand()
	if st.Daemon.Running || len(st.Tasks) != len(w.status.Tasks) || !slices.Equal(st.HeldRemovals, w.status.HeldRemovals) {
		c.t.Fatalf("without a daemon: %+v\nwith it: %+v", st, w.status)
	}
	for i, now := range st.Tasks {
		was := w.status.Tasks[i]
		same := now.Name == was.Name && now.PID == was.PID && now.Phase == was.Phase && now.UUID == was.UUID && now.Restarts == was.Restarts &&
			now.Reboots == was.Reboots && now.Desired == was.Desired && now.Converged == was.Converged && fmt.Sprint(now.Ports) == fmt.Sprint(was.Ports)
		if !same {
			c.t.Fatalf("without a daemon: %+v\nwith it: %+v", now, was)
		}
	}
	c.up()
}

// terminate ends the daemon as a service manager does.
func (c *chaos) terminate() {
	if code := c.h.Terminate(); code != 0 {
		c.t.Fatalf("the daemon exited with %d after SIGTERM\n%s", code, c.h.DaemonLog())
	}
	c.m.daemonIs(false)
	c.tally.terminations++
}

// thawAll lets all QEMUs go on.
func (c *chaos) thawAll() {
	for name, p := range c.frozen {
		if p.alive() {
			syscall.Kill(p.pid, syscall.SIGCONT) //nolint:errcheck // it may just have ended
		}
		delete(c.frozen, name)
	}
}

// endKept kills the VMs that the daemon has let go of.
func (c *chaos) endKept() {
	for _, q := range c.h.QEMUs() {
		if t := c.m.tasks[q.Task]; t != nil && (t.kept || t.keeps() != no) {
			syscall.Kill(q.PID, syscall.SIGKILL) //nolint:errcheck // it may just have ended
		}
	}
}
