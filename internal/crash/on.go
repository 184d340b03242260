//go:build crashpoints

package crash

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

var (
	mu sync.Mutex
	// order is the one in force, and passed how often its point was passed since.
	order  string
	passed int
)

// Point is a place at which the process dies when it is ordered to.
func Point(name string) {
	Midway(name, func() {})
}

// Midway is a Point in the middle of a deed: half does the first part of it, and
// is called only when the process dies right after.
func Midway(name string, half func()) {
	path := os.Getenv(Variable)
	if path == "" {
		return
	}
	// Held until the death: nobody else goes past a point meanwhile.
	mu.Lock()
	defer mu.Unlock()
	if !due(path, name) {
		return
	}
	half()
	die(path, name)
}

// due says whether this pass of a point is the one that is ordered.
func due(path, name string) bool {
	raw, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	if string(raw) != order {
		order, passed = string(raw), 0
	}
	point, count, _ := strings.Cut(order, "#")
	if point != name && point != "*" {
		return false
	}
	passed++
	return strconv.Itoa(passed) == count
}

func die(path, name string) {
	note, err := os.OpenFile(path+Died, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err == nil {
		_, err = fmt.Fprintln(note, name)
	}
	if err != nil {
		panic(fmt.Sprintf("crash point %s cannot be told: %v", name, err))
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		panic(fmt.Sprintf("crash point %s: %v", name, err))
	}
	select {} // until the signal arrives
}
