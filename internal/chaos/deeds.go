package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/guest"
	"github.com/qemu-reconciler/qemu-reconciler/runtime"
)

// deed is a step that is no edit of a file. It says what it did; nothing when
// there was nothing to do.
type deed func(c *chaos) string

// deeds are all of them, by the name of their step.
var deeds = map[string]deed{
	"check": (*chaos).check, "touch": (*chaos).touch, "blink": (*chaos).blink, "directory-away": (*chaos).directoryAway,
	"several": (*chaos).several, "remove-most": (*chaos).removeMost,
	"daemon-kill": (*chaos).daemonKill, "daemon-kill-starting": (*chaos).daemonKillStarting, "daemon-term": (*chaos).daemonTerm,
	"daemon-down": (*chaos).daemonDown, "daemon-hup": (*chaos).daemonHUP,
	"qemu-kill": (*chaos).qemuKill, "qemu-term": (*chaos).qemuTerm, "qemu-freeze": (*chaos).qemuFreeze, "qemu-thaw": (*chaos).qemuThaw,
	"guest-off": (*chaos).guestOff, "guest-reset": (*chaos).guestReset,
	"stop": (*chaos).stop, "start": (*chaos).startTask, "restart": (*chaos).restart, "approve": (*chaos).approve,
	"lose-socket": (*chaos).loseSocket, "lose-record": (*chaos).loseRecord, "forge-record": (*chaos).forgeRecord, "steal-port": (*chaos).stealPort,
}

// touch gives files new times, and sometimes the same text again.
func (c *chaos) touch() string {
	if c.m.away || len(c.m.now) == 0 {
		return ""
	}
	name := oneOf(c.Rand, c.m.now.files())
	path := filepath.Join(c.h.VMs, name)
	if c.IntN(2) == 0 {
		c.must(os.Chtimes(path, time.Now(), time.Now()))
		return name
	}
	c.write(path, c.m.now[name].text(c.h.Disks), oneOf(c.Rand, []way{renamed, inPlace, inChunks}))
	return name + ", same text"
}

// blink takes a file away for less than the time after which it counts.
func (c *chaos) blink() string {
	if c.m.away || c.m.now.broken() || len(c.m.now) == 0 {
		return ""
	}
	name := oneOf(c.Rand, c.m.now.files())
	whole, without := c.m.now, c.m.now.copy()
	delete(without, name)
	began := time.Now()
	c.deliver(without, renamed)
	c.pause(settle / 2)
	c.deliver(whole, oneOf(c.Rand, []way{renamed, inPlace, swapped}))
	if time.Since(began) < settle {
		for _, d := range whole[name].tasks {
			c.m.blinked(d.name)
		}
		c.m.losses--
	}
	return name
}

// several makes some edits in one delivery, as a sync does.
func (c *chaos) several() string {
	if c.m.away {
		return ""
	}
	next, all := c.m.now, ""
	for range 2 + c.IntN(4) {
		kind := oneOf(c.Rand, []string{"create", "create", "edit-machine", "edit-policy", "edit-nothing", "rename-file", "move-task", "remove-task", "mend-file", "edit-state"})
		changed, what := edits[kind](&c.editor, next)
		if what != "" {
			next, all = changed, all+fmt.Sprintf(" %s (%s)", kind, what)
		}
	}
	if all == "" {
		return ""
	}
	how := oneOf(c.Rand, []way{renamed, swapped, checkout, checkout})
	c.deliver(next, how)
	return strings.TrimSpace(all) + ", " + string(how)
}

// removeMost removes all files but at most one, from a rest to a rest, so that the
// model knows whether the brake must hold it.
func (c *chaos) removeMost() string {
	if c.m.away || c.m.now.broken() {
		return ""
	}
	c.check()
	next, what := c.editor.removeMost(c.m.now)
	if what == "" {
		return ""
	}
	how := oneOf(c.Rand, []way{renamed, swapped, checkout})
	c.deliver(next, how)
	return fmt.Sprintf("%s, %s: %s", what, how, c.check())
}

// directoryAway renames the directory away, or back.
func (c *chaos) directoryAway() string {
	aside := c.h.VMs + ".away"
	if c.m.away {
		c.must(os.Rename(aside, c.h.VMs))
		c.m.back()
		return "back"
	}
	c.must(os.Rename(c.h.VMs, aside))
	c.m.away = true
	return "away"
}

func (c *chaos) daemonKill() string {
	c.up()
	c.pause(50 * time.Millisecond)
	c.kill()
	c.up()
	return "killed and started"
}

// daemonKillStarting kills the daemon several times while it starts.
func (c *chaos) daemonKillStarting() string {
	n := 2 + c.IntN(2)
	for range n {
		c.up()
		c.pause(120 * time.Millisecond)
		c.kill()
	}
	c.up()
	return fmt.Sprintf("killed %d times", n)
}

func (c *chaos) daemonTerm() string {
	c.answers() // before it has set up its signals it ends as any program does
	c.terminate()
	c.up()
	return "terminated and started"
}

// daemonDown leaves the daemon down until the next step that needs it.
func (c *chaos) daemonDown() string {
	if !c.h.DaemonRuns() {
		return ""
	}
	c.kill()
	return "killed"
}

func (c *chaos) daemonHUP() string {
	c.answers()
	c.h.Signal(syscall.SIGHUP)
	return "signalled"
}

// running gives a task whose process is the one of the last rest, and which is
// not under SIGSTOP; nil when there is none.
func (c *chaos) running(also func(*task) bool) *task {
	var names []string
	for _, name := range c.m.names() {
		t := c.m.tasks[name]
		if t.proc != nil && t.proc.alive() && c.frozen[name] == nil && (also == nil || also(t)) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return c.m.tasks[oneOf(c.Rand, names)]
}

// quiet says whether nothing is under way for a task.
func quiet(t *task) bool { return !t.touched() && !t.edited() && !t.unsure && len(t.views) == 0 }

func (c *chaos) qemuKill() string {
	t := c.running(nil)
	if t == nil {
		return ""
	}
	c.must(syscall.Kill(t.proc.pid, syscall.SIGKILL))
	return c.ended(t)
}

func (c *chaos) qemuTerm() string {
	t := c.running(nil)
	if t == nil {
		return ""
	}
	c.must(syscall.Kill(t.proc.pid, syscall.SIGTERM))
	return c.ended(t)
}

// ended waits for the end of a process that was killed, and notes it.
func (c *chaos) ended(t *task) string {
	pid := t.proc.pid
	c.awaitEnd(t)
	t.kills++
	t.ended = failed
	c.tally.ends++
	return fmt.Sprintf("%s, pid %d", t.name, pid)
}

func (c *chaos) awaitEnd(t *task) {
	c.t.Helper()
	deadline := time.Now().Add(patience)
	for t.proc.alive() {
		if time.Now().After(deadline) {
			c.t.Fatalf("QEMU %d of %s has not ended in %s", t.proc.pid, t.name, patience)
		}
		c.pause(5 * time.Millisecond)
	}
}

// qemuFreeze halts a QEMU that has been running for a while, as a daemon knows: one
// whose record was lost must answer again before it is said to run.
func (c *chaos) qemuFreeze() string {
	t := c.running(func(t *task) bool { return quiet(t) && !t.spoiled && !t.forged })
	if t == nil {
		return ""
	}
	c.must(syscall.Kill(t.proc.pid, syscall.SIGSTOP))
	c.frozen[t.name] = t.proc
	if t.resets > 0 { // and no daemon counts them before it answers
		t.mute = t.proc.pid
	}
	return fmt.Sprintf("%s, pid %d", t.name, t.proc.pid)
}

func (c *chaos) qemuThaw() string {
	if len(c.frozen) == 0 {
		return ""
	}
	n := len(c.frozen)
	c.thawAll()
	return fmt.Sprintf("%d", n)
}

// order sends a byte to the guest's console; false when nobody takes it.
func (c *chaos) order(t *task, order byte) bool {
	conn, err := runtime.DialUnix(c.t.Context(), filepath.Join(c.h.Run, "vms", t.name, "console.sock"))
	if err != nil {
		return false
	}
	defer conn.Close()
	_, err = conn.Write([]byte{order})
	return err == nil
}

// obedient finds a guest that does what it is told, and has booted.
func (c *chaos) obedient() *task {
	return c.running(func(t *task) bool {
		return quiet(t) && !t.kept && len(t.goods) == 1 && t.goods[0].guest == guest.Obedient && strings.Contains(c.h.Console(t.name), guest.SaysReady)
	})
}

// guestOff has a guest power itself off. It may be starting still, and then it
// is told again.
func (c *chaos) guestOff() string {
	t := c.obedient()
	if t == nil {
		return ""
	}
	deadline := time.Now().Add(patience)
	for t.proc.alive() {
		c.order(t, guest.OrderPowerOff)
		for again := time.Now().Add(300 * time.Millisecond); t.proc.alive() && time.Now().Before(again); {
			c.pause(5 * time.Millisecond)
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("the guest of %s does not power off", t.name)
		}
	}
	t.offs++
	t.ended = wentOff
	if c.m.wasBlind && t.goods[0].on == onFailure {
		t.unsure = true // nobody may have heard why it ended, which counts as a failure
	}
	c.tally.ends++
	return t.name
}

// session is how long a daemon takes at most to have its sessions with all QEMUs.
// QEMU tells nobody of what happens between the connect and the end of the
// negotiation (its monitor sends events in command mode only).
const session = 2 * time.Second

// guestReset has a guest reset its machine, and waits until it runs again.
func (c *chaos) guestReset() string {
	t := c.obedient()
	if t == nil {
		return ""
	}
	ready := func() int { return strings.Count(c.h.Console(t.name), guest.SaysReady) }
	before := ready()
	deadline := time.Now().Add(patience)
	for ready() == before {
		c.order(t, guest.OrderReset)
		for again := time.Now().Add(500 * time.Millisecond); ready() == before && time.Now().Before(again); {
			c.pause(10 * time.Millisecond)
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("the guest of %s does not reset", t.name)
		}
	}
	t.resets++
	if time.Since(c.began) < session {
		t.mute = t.proc.pid
	}
	return t.name
}
