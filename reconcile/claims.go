package reconcile

import (
	"fmt"
	"path/filepath"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// claims are the things of the host that VMs hold. A VM that needs one of
// them waits for its holder to be gone, instead of failing on a lock or a port
// that is about to be free: that is what renaming a task amounts to.
type claims struct {
	images map[string][]imageClaim
	ports  map[portKey][]portClaim
}

// imageClaim is a lock that QEMU holds on an image. A VM with -snapshot only
// reads it, but even that excludes a writer.
type imageClaim struct {
	reads bool
	task  string
}

type portKey struct {
	protocol string
	port     int
}

type portClaim struct {
	ip   string
	task string
}

func newClaims() *claims {
	return &claims{images: map[string][]imageClaim{}, ports: map[portKey][]portClaim{}}
}

// claims are those of all live VMs, and of those that are being started.
func (w *World) claims() *claims {
	c := newClaims()
	for name, task := range w.Starting {
		c.add(name, task, task.Forwards(ports(w.Observed[name].Record)))
	}
	for name, o := range w.Observed {
		if o.Alive && o.Record != nil && o.Record.Applied != nil && o.Record.Process != nil {
			c.add(name, o.Record.Applied, o.Record.Process.Forwards)
		}
	}
	return c
}

func (c *claims) add(owner string, task *spec.Task, forwards []spec.Forward) {
	image := filepath.Clean(task.Config.ImagePath)
	c.images[image] = append(c.images[image], imageClaim{reads: task.HasArg("snapshot"), task: owner})
	for _, f := range forwards {
		if f.Host == 0 { // it is allocated when the VM starts, and nobody else's then
			continue
		}
		for _, protocol := range f.Protocols {
			key := portKey{protocol, f.Host}
			c.ports[key] = append(c.ports[key], portClaim{f.HostIP, owner})
		}
	}
}

// holder names another task whose VM holds something that t needs, and what it
// is; both are empty when nothing stands in the way.
func (c *claims) holder(t *spec.Task, allocated map[string]int) (name, what string) {
	reads := t.HasArg("snapshot")
	for _, claim := range c.images[filepath.Clean(t.Config.ImagePath)] {
		if claim.task != t.Name && !(reads && claim.reads) {
			return claim.task, t.Config.ImagePath
		}
	}
	for _, f := range t.Forwards(allocated) {
		for _, protocol := range f.Protocols {
			for _, claim := range c.ports[portKey{protocol, f.Host}] {
				if claim.task != t.Name && spec.AddressesOverlap(claim.ip, f.HostIP) {
					return claim.task, fmt.Sprintf("%s port %d", protocol, f.Host)
				}
			}
		}
	}
	return "", ""
}
