package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// standInMode is the variable in a task's environment that makes its emulator
// this test binary, and says how it misbehaves on QMP. Everything else that is
// asked of the emulator, the daemon's probes among it, the real one answers.
const standInMode = "E2E_STAND_IN"

// The ways in which a stand-in misbehaves.
const (
	speaksGarbage  = "garbage"   // instead of a greeting
	neverGreets    = "silent"    // it accepts and says nothing
	closesMidReply = "mid-reply" // half an answer to the first question, each time
	neverEnds      = "endless"   // an answer without a newline
	floods         = "flood"     // events without end beside sound answers
	neverAnswers   = "mute"      // it greets and obeys no command
	mistakesID     = "wrong-id"  // its answers are to questions that nobody asked
)

// StandIn puts a wrapper of the emulator first in the daemon's PATH.
func StandIn(t testing.TB) Option {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := "qemu-system-x86_64"
	emulator, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\n[ -n \"$%s\" ] && exec '%s' \"$@\"\nexec '%s' \"$@\"\n", standInMode, self, emulator)
	if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return Env("PATH=" + dir + ":" + os.Getenv("PATH"))
}

// standIn is the life of a stand-in: it serves one client of its QMP socket after
// another, as QEMU does, and ends by a signal alone.
func standIn(mode string, args []string) error {
	for _, arg := range args {
		rest, is := strings.CutPrefix(arg, "socket,id=qmp,fd=")
		if !is {
			continue
		}
		number, _, _ := strings.Cut(rest, ",")
		fd, err := strconv.Atoi(number)
		if err != nil {
			return err
		}
		listener, err := net.FileListener(os.NewFile(uintptr(fd), "qmp"))
		if err != nil {
			return err
		}
		for {
			conn, err := listener.Accept()
			if err != nil {
				return err
			}
			misbehave(conn, mode)
			conn.Close()
		}
	}
	return fmt.Errorf("no QMP socket in %q", args)
}

// misbehave is one session; it ends when the client goes, or before.
func misbehave(conn net.Conn, mode string) {
	switch mode {
	case speaksGarbage:
		fmt.Fprint(conn, "220 this is no QMP\r\n")
		return
	case neverGreets:
		io.Copy(io.Discard, conn) //nolint:errcheck // the end of the session is an end
		return
	}
	fmt.Fprint(conn, `{"QMP":{"version":{"qemu":{"major":7,"minor":2,"micro":0},"package":""},"capabilities":[]}}`+"\r\n")
	if mode == floods {
		go flood(conn)
	}
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		var request struct{ Execute, ID string }
		if json.Unmarshal(lines.Bytes(), &request) != nil || !answer(conn, mode, request.Execute, request.ID) {
			return
		}
	}
}

// answer says whether the session goes on.
func answer(conn net.Conn, mode, command, id string) bool {
	result := `{}`
	if command == "query-status" {
		result = `{"status":"running","running":true}`
	}
	if command == "qmp_capabilities" {
		mode = ""
	}
	switch mode {
	case neverAnswers:
		return true
	case mistakesID:
		id += "0"
	case closesMidReply:
		fmt.Fprint(conn, `{"return": {"status": "runn`)
		return false
	case neverEnds:
		for block := []byte(strings.Repeat("x", 1<<16)); ; {
			if _, err := conn.Write(block); err != nil {
				return false
			}
		}
	}
	_, err := fmt.Fprintf(conn, `{"return":%s,"id":%q}`+"\r\n", result, id)
	return err == nil
}

// flood says things that are new each time.
func flood(conn net.Conn) {
	for i := 0; ; i++ {
		_, err := fmt.Fprintf(conn, `{"event":"FLOOD_%d","data":{"text":%q},"timestamp":{"seconds":1,"microseconds":2}}`+"\r\n", i, strings.Repeat("x", 1000))
		if err != nil {
			return
		}
	}
}
