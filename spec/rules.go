package spec

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// defaultMaxDelay is restart.max_delay when it is not written.
const defaultMaxDelay = Duration(time.Minute)

// completion makes a decoded task whole: it fills in defaults that depend on
// other attributes, and judges attributes together.
type completion struct {
	task *Task
	env  Env
	// wrong and warn report a mistake at a field.
	wrong, warn func(field, summary, detail string)
	// network says whether a network block is written.
	network bool
	// written says whether a field is written.
	written func(field string) bool
}

func (c *completion) run() {
	c.task.UUID = strings.ToLower(c.task.UUID)
	if image := c.task.Config.ImagePath; !strings.HasPrefix(image, "/") {
		// As text: cleaning the path would change what a symlink means.
		c.task.Config.ImagePath = strings.TrimSuffix(c.env.Dir, "/") + "/" + image
	}
	c.completeMachine()
	c.completePorts()
	c.completeRestart()
}

func (c *completion) completePorts() {
	resources, mapped := &c.task.Resources, c.task.Config.PortMap
	var labels []string
	for i := range resources.Ports {
		slices.Sort(resources.Ports[i].Protocols) // their order means nothing
		labels = append(labels, resources.Ports[i].Label)
	}
	for _, label := range sortedKeys(mapped) {
		switch {
		case !c.network:
			resources.Ports = append(resources.Ports, Port{Label: label, Protocols: []string{"tcp", "udp"}})
		case !slices.Contains(labels, label):
			c.wrong("config.port_map."+label, fmt.Sprintf("unknown port label %q", label),
				strings.TrimSpace(fmt.Sprintf("Add port %q {} to the network block of resources, or take it out of port_map.%s", label, didYouMean(label, labels))))
		}
	}
	slices.SortFunc(resources.Ports, func(a, b Port) int { return strings.Compare(a.Label, b.Label) })
}

func (c *completion) completeRestart() {
	restart := &c.task.Restart
	switch {
	case !c.written("restart.max_delay"):
		restart.MaxDelay = max(defaultMaxDelay, restart.Delay)
	case restart.MaxDelay < restart.Delay:
		c.wrong("restart.max_delay", "max_delay is shorter than delay",
			fmt.Sprintf("The delay grows from delay (%s) to max_delay (%s): write a max_delay that is not shorter.", restart.Delay, restart.MaxDelay))
	}
	if restart.Mode == ModeFail && restart.Attempts == 0 {
		c.warn("restart.mode", `mode = "fail" does nothing without attempts`, "Restarts are unlimited unless attempts says how many there may be within interval.")
	}
}

// wantedOn says whether a task with these hosts is wanted on a host: a glob
// matches the full name or its first label, in any case.
func wantedOn(globs []string, host string) bool {
	if len(globs) == 0 {
		return true
	}
	full := strings.ToLower(host)
	first, _, _ := strings.Cut(full, ".")
	return slices.ContainsFunc(globs, func(glob string) bool {
		glob = strings.ToLower(glob)
		whole, _ := path.Match(glob, full)
		label, _ := path.Match(glob, first)
		return whole || label
	})
}
