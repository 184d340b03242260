package e2e

import (
	"os"
	"strings"
	"syscall"
)

// limits has the host hold all removals, or none, as far as config.hcl goes.
func (c *crashed) limits(old, next string) {
	c.h.t.Helper()
	config, err := os.ReadFile(c.h.config)
	c.h.must(err)
	c.h.must(os.WriteFile(c.h.config, []byte(strings.Replace(string(config), "max_removals = "+old+"\n", "max_removals = "+next+"\n", 1)), 0o644))
}

// brake has the task running on a host where every removal is held.
func (c *crashed) brake() {
	c.limits("1000", "0")
	c.h.Signal(syscall.SIGHUP)
	c.run()
}

// lift takes the limit away for the next daemon: what that one holds, it holds by
// memory.
func (c *crashed) lift() { c.limits("0", "1000") }

// hold has the task's removal held.
func (c *crashed) hold() {
	c.brake()
	c.h.Remove(c.name + ".hcl")
	c.h.AwaitPhase(c.name, "held")
	c.h.AwaitEvent("removal-held", c.name)
}

// approve lets it go, once: an approval that is lost is not given again. Nobody
// waits for the answer of a daemon that dies.
func (c *crashed) approve() {
	c.h.expect(0, c.name, "status")
	if c.way.end == absent {
		c.pid = 0
	}
	cmd := c.h.command(c.h.t.Context(), "approve")
	c.h.must(cmd.Start())
	go cmd.Wait() //nolint:errcheck // it fails when the daemon dies
}

// approveHeld approves what the next daemon holds still.
func (c *crashed) approveHeld() {
	c.h.AwaitPhase(c.name, "held")
	c.approve()
}

// release approves what is held in the end.
func (c *crashed) release() {
	c.h.expect(0, c.name, "status")
	c.h.expect(0, c.name+": removal approved", "approve")
	c.h.AwaitGone(c.name)
}
