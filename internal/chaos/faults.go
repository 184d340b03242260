package chaos

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// loseSocket deletes the QMP socket of a VM.
func (c *chaos) loseSocket() string {
	t := c.running(quiet)
	if t == nil {
		return ""
	}
	if err := os.Remove(filepath.Join(c.h.Run, "vms", t.name, "qmp.sock")); err != nil {
		return "" // it was lost before
	}
	t.mute = t.proc.pid
	return t.name
}

// plain says whether a task runs as the one sound definition of it says.
func (c *chaos) plain(t *task) bool {
	return quiet(t) && !t.kept && !t.braked && c.m.look(t.name).kind == defined && c.m.look(t.name).def.machine == t.proc.machine
}

// loseRecord makes garbage of the record of a running VM while no daemon runs.
func (c *chaos) loseRecord() string {
	return c.spoil(func(t *task) {
		path := filepath.Join(c.h.State, "tasks", t.name+".json")
		info, err := os.Stat(path)
		c.must(err)
		c.must(os.Truncate(path, c.Int64N(info.Size()-2)))
		t.spoiled = true
	})
}

// forgeRecord makes the record of a running VM name a bystander.
func (c *chaos) forgeRecord() string {
	return c.spoil(func(t *task) {
		c.h.EditRecord(t.name, func(record map[string]any) {
			record["process"].(map[string]any)["pid"] = oneOf(c.Rand, c.bystanders).PID()
		})
		t.forged = true
	})
}

// spoil does something to the record of a running VM between two daemons.
func (c *chaos) spoil(how func(t *task)) string {
	if c.m.away || c.m.now.broken() || c.running(c.plain) == nil {
		return ""
	}
	c.check()
	t := c.running(c.plain)
	if t == nil {
		return ""
	}
	if c.h.DaemonRuns() {
		c.kill()
	}
	how(t)
	c.up()
	return t.name
}

// stealPort has a stranger listen on the port of a VM that is down.
func (c *chaos) stealPort() string {
	c.check()
	t := c.running(func(t *task) bool { return c.plain(t) && c.m.look(t.name).def.on != never })
	if t == nil || c.m.away || c.m.now.broken() {
		return ""
	}
	c.command("stop", t.name, 0)
	listener, err := net.Listen("tcp4", fmt.Sprintf(":%d", t.port))
	c.must(err)
	c.command("start", t.name, 0, "--no-wait")
	c.await("the start to fail for its port", func() []string {
		st, err := c.h.TryStatus()
		s, _ := st.Task(t.name)
		names := strings.Contains(s.Reason, fmt.Sprint(t.port)) && strings.Contains(s.Reason, fmt.Sprint(os.Getpid()))
		if err != nil || !names || s.PID != 0 || !slices.Contains([]string{"backoff", "failed", "pending", "starting"}, s.Phase) {
			return []string{fmt.Sprintf("%v %+v", err, s)}
		}
		return nil
	})
	c.must(listener.Close())
	t.unsure = true
	c.await("the start on its own port", func() []string {
		if st, err := c.h.TryStatus(); err == nil {
			if s, _ := st.Task(t.name); s.Phase == "running" {
				return nil
			}
		}
		return []string{"no running " + t.name}
	})
	return fmt.Sprintf("%s, port %d", t.name, t.port)
}
