package chaos

import (
	"fmt"
	"slices"
)

// command runs a command on a task; a negative code takes any.
func (c *chaos) command(verb, name string, code int, flags ...string) {
	c.t.Helper()
	c.answers()
	result := c.h.Do(append([]string{verb, name}, flags...)...)
	if code >= 0 && result.Code != code {
		c.t.Fatalf("%s %s %v exits with %d, expected was %d\n%s%s", verb, name, flags, result.Code, code, result.Stdout, result.Stderr)
	}
	t := c.m.task(name)
	switch verb {
	case "stop":
		t.stops++
	case "start":
		t.starts++
	case "restart":
		t.orders++
	}
}

// target gives a task that all can be said of: the daemon has read its file, and
// nothing is under way.
func (c *chaos) target(also func(t *task, v view) bool) *task {
	c.check()
	if len(c.frozen) > 0 || c.m.away {
		return nil
	}
	var names []string
	for _, name := range c.m.names() {
		t, v := c.m.tasks[name], c.m.look(name)
		if t.recorded && v.kind == defined && !c.m.waits(t) && also(t, v) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return c.m.tasks[oneOf(c.Rand, names)]
}

// wait is the flag of a command, and what is said of it.
func (c *chaos) wait() []string {
	if c.IntN(3) == 0 {
		return []string{"--no-wait"}
	}
	return nil
}

func (c *chaos) stop() string {
	t := c.target(func(*task, view) bool { return true })
	if t == nil {
		return ""
	}
	flags := c.wait()
	c.command("stop", t.name, 0, flags...)
	return fmt.Sprintf("%s %v", t.name, flags)
}

// startTask prefers tasks that are down.
func (c *chaos) startTask() string {
	t := c.target(func(t *task, v view) bool { return t.proc == nil })
	if t == nil {
		return ""
	}
	flags, code := c.wait(), 0
	if c.m.look(t.name).def.stopped {
		code = 1
	}
	if code != 0 {
		// A refusal changes nothing.
		c.answers()
		result := c.h.Do(append([]string{"start", t.name}, flags...)...)
		if result.Code != code {
			c.t.Fatalf("start of %s, which is wanted stopped, exits with %d\n%s%s", t.name, result.Code, result.Stdout, result.Stderr)
		}
		return t.name + ", refused"
	}
	c.command("start", t.name, code, flags...)
	return fmt.Sprintf("%s %v", t.name, flags)
}

func (c *chaos) restart() string {
	t := c.target(func(t *task, v view) bool { return !v.def.stopped })
	if t == nil {
		return ""
	}
	flags := c.wait()
	c.command("restart", t.name, 0, flags...)
	if len(flags) > 0 && c.IntN(3) == 0 { // what was only asked for may be forgotten with the daemon
		t.unsure = true
		c.kill()
		c.up()
		return t.name + " --no-wait; daemon killed"
	}
	return fmt.Sprintf("%s %v", t.name, flags)
}

// approve lets held removals go, those that status has shown at the check
// before.
func (c *chaos) approve() string {
	c.check()
	c.read()
	braked := slices.DeleteFunc(c.m.names(), func(name string) bool { return !c.m.tasks[name].braked })
	code := 0
	if len(braked) == 0 || c.m.away || c.m.now.broken() {
		code = 1
	}
	c.answers()
	c.h.Do("status")
	if result := c.h.Do("approve"); result.Code != code {
		c.t.Fatalf("approve with %v held exits with %d, expected was %d\n%s%s", braked, result.Code, code, result.Stdout, result.Stderr)
	}
	if code == 0 {
		for _, name := range braked {
			c.m.tasks[name].approved = true
		}
	}
	if len(braked) == 0 {
		return ""
	}
	return fmt.Sprintf("%v, exit %d", braked, code)
}
