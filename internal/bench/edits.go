package bench

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/internal/e2e"
	"github.com/qemu-reconciler/qemu-reconciler/internal/scale"
	"github.com/qemu-reconciler/qemu-reconciler/runtime"
)

// edits measures edits that need nothing of QEMU. That a comment was seen is
// nowhere but in the daemon's log, at level debug, and its JSON tells the time to
// the microsecond. The daemon is on its own with it: nobody asks it for a look, no
// resync comes, and the status, for which it would ask QEMUs whether they answer,
// is asked by nobody.
func (r *run) edits() {
	h := r.host(e2e.Config("resync_interval = \"1h\"\nlog_format = \"json\""), e2e.Args("--log-level", "debug"))
	e := &edited{run: r, h: h, monitorLog: runtime.Layout{State: h.State, Run: h.Run}.QMPLog(web)}
	plain, console := task(h, web), r.console(h, web)
	h.After(e.place(plain), "running")
	console.await(r.t, 1)
	e.pid, e.said = h.OnlyQEMU(web), e.says()
	text := plain
	for i := range r.Repeats {
		e.edit("edit.seen", text+"# nobody minds\n", func(began time.Time) time.Time { return e.seen(began) })
		text = strings.Replace(plain, "\n", fmt.Sprintf("\n  meta = { seen = \"%d\" }\n", i), 1)
		e.edit("edit.recorded", text, func(began time.Time) time.Time { return h.After(began, "changed") })
	}
}

// edited is a VM whose file is edited, and what its QEMU had said to the daemon
// before: it answers each command.
type edited struct {
	*run
	h          *e2e.Host
	monitorLog string
	pid        int
	said       int64
}

func (e *edited) place(text string) time.Time { return e.stage(e.h, web+".hcl", text)() }

func (e *edited) says() int64 {
	e.t.Helper()
	info, err := os.Stat(e.monitorLog)
	e.must(err)
	return info.Size()
}

// edit times an edit until it is noted, and sees whether QEMU is still the same
// and was asked nothing since the edit before.
func (e *edited) edit(row, text string, noted func(began time.Time) time.Time) {
	e.t.Helper()
	began := e.place(text)
	e.ours(row, ms(noted(began).Sub(began)))
	touched, says := 0.0, e.says()
	if e.h.OnlyQEMU(web) != e.pid || says != e.said {
		touched = 1
	}
	e.said = says
	e.ours("edit.touched", touched)
}

// seen waits for the end of a look after that moment that parsed the file.
func (e *edited) seen(moment time.Time) (at time.Time) {
	e.t.Helper()
	e.h.Await("look that parses the file", func() bool {
		looks, err := scale.Looks(e.h.DaemonLog())
		e.must(err)
		for _, look := range looks {
			if look.Parsed > 0 && look.At.After(moment) && at.IsZero() {
				at = look.At
			}
		}
		return !at.IsZero()
	})
	return at
}
