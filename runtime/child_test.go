package runtime

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// childVariable holds, as JSON, what a copy of the test binary is to do as
// another daemon: POSIX locks and the parenthood of a QEMU are a process's own.
const childVariable = "RUNTIME_TEST_CHILD"

// childOrder is what the other daemon does before it says so and waits for its
// stdin to end.
type childOrder struct {
	Layout Layout
	Start  []*spec.Task
	// Only opens and prints as JSON by whom it was kept off.
	Only bool
}

func TestMain(m *testing.M) {
	if order := os.Getenv(childVariable); order != "" {
		if err := obey(order); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	// The VMs of a daemon that was killed come to this process, which reaps
	// them, and not to whatever is pid 1 here.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func obey(text string) error {
	var order childOrder
	if err := json.Unmarshal([]byte(text), &order); err != nil {
		return err
	}
	poked := make(chan struct{}, 1)
	r, err := Open(context.Background(), Options{Layout: order.Layout, Poke: func() {
		select {
		case poked <- struct{}{}:
		default:
		}
	}})
	var locked *LockedError
	if order.Only && errors.As(err, &locked) {
		if err := json.NewEncoder(os.Stdout).Encode(locked); err != nil {
			return err
		}
		os.Exit(1)
	}
	if err != nil {
		return err
	}
	for _, task := range order.Start {
		if err := r.Start(context.Background(), startOf(task)); err != nil {
			return err
		}
		for !r.Observe()[task.Name].Answering {
			<-poked
		}
	}
	fmt.Println("ready")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return r.Close()
}

// openElsewhere tries to open in another process, and gives its error.
func openElsewhere(t *testing.T, layout Layout) error {
	t.Helper()
	text, err := json.Marshal(childOrder{Layout: layout, Only: true})
	must(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	out, err := cmd.Output()
	if err == nil {
		return nil
	}
	locked := &LockedError{}
	if json.Unmarshal(out, locked) != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return locked
}

// otherDaemon is a daemon in a process of its own.
type otherDaemon struct {
	cmd   *exec.Cmd
	stdin io.Closer
	end   sync.Once
}

// runOther starts one and waits until it has done as ordered.
func runOther(t *testing.T, order childOrder) *otherDaemon {
	t.Helper()
	text, err := json.Marshal(order)
	must(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	d := &otherDaemon{cmd: cmd, stdin: stdin}
	t.Cleanup(func() { d.kill() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if strings.TrimSpace(line) != "ready" {
		t.Fatalf("the other daemon says %q (%v)", line, err)
	}
	return d
}

func (d *otherDaemon) pid() int { return d.cmd.Process.Pid }

// kill ends it as kill -9 does; nothing when it has ended.
func (d *otherDaemon) kill() {
	d.end.Do(func() {
		// It may have ended by itself, in which case there is nobody to kill.
		_ = d.cmd.Process.Kill()
		_ = d.cmd.Wait()
	})
}

// dismiss lets it close and end.
func (d *otherDaemon) dismiss() { d.stdin.Close() }
