package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/qemu-reconciler/qemu-reconciler/reconcile"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

const (
	columnGap   = 2
	belowIndent = 4
	// shortestName is what the name column keeps when the ports are wide; a
	// longer name gets a line of its own.
	shortestName = 16
	// mostPorts and mostReason are the lines that ports and reason of a task get
	// in a table of several; alone it is shown in full.
	mostPorts  = 4
	mostReason = 3
	// roomForReason is what the name column leaves at most for reasons that fit
	// into it.
	roomForReason = 24
)

// tableRow is one task as cells. Ports take a line each.
type tableRow struct {
	name, phase, pid, uptime string
	ports                    []string
	reason                   string
	below                    []string
}

// columns are the widths of the table's columns; reason is what is left of the
// screen and may be too little for any.
type columns struct{ name, phase, pid, uptime, ports, reason int }

// statusTable lays the tasks out at 80 columns. A reason that does not fit in
// its column stands below its task, and so do pending changes.
func statusTable(tasks []reconcile.TaskStatus, now time.Time, s style) string {
	rows := make([]tableRow, len(tasks))
	for i, t := range tasks {
		rows[i] = taskRow(t, now)
		if len(tasks) > 1 {
			rows[i].abridge()
		}
	}
	header := tableRow{name: "NAME", phase: "PHASE", pid: "PID", uptime: "UPTIME", ports: []string{"PORTS"}, reason: "REASON"}
	cols := measure(append([]tableRow{header}, rows...))
	var b strings.Builder
	if cols.reason < len(header.reason) {
		header.reason = ""
	}
	header.write(&b, cols, style{}, "")
	for _, r := range rows {
		r.write(&b, cols, s, phaseColour(reconcile.Phase(r.phase)))
	}
	return b.String()
}

func taskRow(t reconcile.TaskStatus, now time.Time) tableRow {
	r := tableRow{name: spec.Printable(t.Name), phase: string(t.Phase), pid: "-", uptime: "-", reason: spec.Printable(t.Reason)}
	if t.PID != 0 {
		r.pid = strconv.Itoa(t.PID)
		if t.StartedAt != nil {
			r.uptime = age(now.Sub(t.StartedAt.Time))
		}
	}
	for _, p := range t.Ports {
		r.ports = append(r.ports, portCell(p))
	}
	if len(r.ports) == 0 {
		r.ports = []string{"-"}
	}
	for _, f := range t.Pending {
		r.below = append(r.below, fmt.Sprintf("pending: %s", changeText(f)))
	}
	return r
}

// abridge keeps a task with many ports or a long reason from filling the
// screen.
func (r *tableRow) abridge() {
	if more := len(r.ports) - mostPorts; more > 1 {
		r.ports = append(r.ports[:mostPorts:mostPorts], fmt.Sprintf("and %d more", more))
	}
	if lines := belowRow(r.reason); len(lines) > mostReason {
		r.reason = strings.Join(lines[:mostReason], " ") + " …"
	}
}

// belowRow are the lines of what stands below a row, without their indent. No
// line is longer than the screen, whatever words are in it.
func belowRow(text string) []string {
	return spec.Wrap(chop(text, screenWidth-belowIndent), screenWidth-belowIndent)
}

// portCell is HOST->GUEST, with the address and the protocol only where they
// are not the usual ones.
func portCell(p reconcile.PortStatus) string {
	cell := strconv.Itoa(p.Host)
	if p.Host == 0 {
		cell = "?"
	}
	if p.HostIP != "" {
		cell = p.HostIP + ":" + cell
	}
	if p.Guest != 0 {
		cell += "->" + strconv.Itoa(p.Guest)
	}
	if len(p.Protocols) == 1 {
		cell += "/" + p.Protocols[0]
	}
	return cell
}

// age is a duration in its two largest units, at most six characters for three
// years.
func age(d time.Duration) string {
	d = max(d, 0)
	days, hours := int(d.Hours())/24, int(d.Hours())%24
	minutes, seconds := int(d.Minutes())%60, int(d.Seconds())%60
	switch {
	case days > 0:
		return fmt.Sprintf("%dd%dh", days, hours)
	case hours > 0:
		return fmt.Sprintf("%dh%dm", hours, minutes)
	case minutes > 0:
		return fmt.Sprintf("%dm%ds", minutes, seconds)
	}
	return fmt.Sprintf("%ds", seconds)
}

func phaseColour(p reconcile.Phase) string {
	switch p {
	case reconcile.PhaseRunning:
		return green
	case reconcile.PhaseFailed, reconcile.PhaseBackoff:
		return red
	case reconcile.PhaseStopped:
		return ""
	}
	return yellow
}

func measure(rows []tableRow) columns {
	var c columns
	longest, reason := 0, 0
	for _, r := range rows {
		longest = max(longest, width(r.name))
		if long := width(r.reason); long <= roomForReason {
			reason = max(reason, long)
		}
		c.phase = max(c.phase, width(r.phase))
		c.pid = max(c.pid, width(r.pid))
		c.uptime = max(c.uptime, width(r.uptime))
		for _, p := range r.ports {
			c.ports = max(c.ports, width(p))
		}
	}
	rest := c.phase + c.pid + c.uptime + c.ports + 4*columnGap
	c.name = min(longest, max(shortestName, screenWidth-rest-columnGap-reason))
	c.reason = max(0, screenWidth-c.name-rest-columnGap)
	return c
}

func (r tableRow) write(b *strings.Builder, c columns, s style, colour string) {
	name := r.name
	if width(name) > c.name {
		b.WriteString(name + "\n")
		name = ""
	}
	gap := strings.Repeat(" ", columnGap)
	line := pad(name, c.name) + gap + s.paint(colour, pad(r.phase, c.phase)) + gap +
		pad(r.pid, c.pid) + gap + pad(r.uptime, c.uptime) + gap + pad(r.ports[0], c.ports)
	inline := width(r.reason) <= c.reason
	if inline && r.reason != "" {
		line += gap + r.reason
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
	left := strings.Repeat(" ", c.name+c.phase+c.pid+c.uptime+4*columnGap)
	for _, p := range r.ports[1:] {
		b.WriteString(left + p + "\n")
	}
	if !inline {
		indented(b, belowIndent, strings.Join(belowRow(r.reason), " "))
	}
	for _, text := range r.below {
		indented(b, belowIndent, strings.Join(belowRow(text), " "))
	}
}

// summaryLine counts the tasks by phase and says whether all is as wanted.
func summaryLine(st reconcile.Status) string {
	counts := map[string]int{}
	for _, t := range st.Tasks {
		counts[string(t.Phase)]++
	}
	var parts []string
	for phase, n := range counts {
		parts = append(parts, fmt.Sprintf("%d %s", n, phase))
	}
	slices.Sort(parts)
	text := plural(len(st.Tasks), "task", "tasks")
	if len(parts) > 0 {
		text += ": " + strings.Join(parts, ", ")
	}
	if st.Converged {
		return text + ". Converged."
	}
	return text + ". Not converged."
}
