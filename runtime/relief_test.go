package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestReliefPace: no attempt without room, one at once when there is room, in vain
// ever more slowly, and at once again when somebody made more.
func TestReliefPace(t *testing.T) {
	t.Parallel()
	const some, more = 4096, 4096 + reliefRoom
	begin := time.Now()
	for _, c := range []struct {
		name  string
		looks []uint64 // one a second; what there is of room
		known bool
		tries []int
	}{
		{"full", []uint64{0, 0, 0, 0}, true, nil},
		{"room from the third look on", []uint64{0, 0, more, more}, true, []int{2, 3}},
		{"too little", []uint64{some, some, some, some, some, some, some, some}, true, []int{0, 1, 3, 7}},
		{"too little, then more", []uint64{some, some, some, some, some, more, more}, true, []int{0, 1, 3, 5}},
		{"used up and made again", []uint64{more, 0, more, 0, more}, true, []int{0, 2, 4}},
		{"a device that nobody can ask", []uint64{0, 0, 0, 0, 0, 0, 0, 0}, false, []int{0, 1, 3, 7}},
	} {
		var r relief
		var tries []int
		for i, room := range c.looks {
			if r.due(begin.Add(time.Duration(i)*time.Second), room, c.known) {
				tries = append(tries, i)
			}
		}
		if asJSON(tries) != asJSON(c.tries) {
			t.Errorf("%s: tried at %v, not at %v", c.name, tries, c.tries)
		}
	}
	var r relief
	now := begin
	for range 100 {
		now = now.Add(reliefLast)
		if !r.due(now, some, true) {
			t.Fatal("it waits longer than it may")
		}
	}
	r.ran(now.Add(time.Second))
	if r.wait != reliefLast {
		t.Error("a moment is no fresh start")
	}
	if r.ran(now.Add(reliefLast + 1)); r.wait != 0 {
		t.Error("a minute is")
	}
}

func TestRoomFor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mountFull(t, dir, func() {})
	image := filepath.Join(dir, "sub", "image")
	must(t, os.Mkdir(filepath.Dir(image), 0o700))
	must(t, os.WriteFile(image, nil, 0o600))
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(image, link))
	for _, path := range []string{image, link} {
		if free, mount, ok := roomFor(path); !ok || mount != dir || free == 0 || free > 64<<10 {
			t.Errorf("%s: %d at %s, %v", path, free, mount, ok)
		}
	}
	for _, path := range []string{dir, os.DevNull, filepath.Join(dir, "none"), "json:{}"} {
		if _, _, ok := roomFor(path); ok {
			t.Errorf("%s has room", path)
		}
	}
}

// TestResetsUnderAClockThatJumps: the order of the lines counts, not the clock.
func TestResetsUnderAClockThatJumps(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "qmp.log")
	line := func(seconds int) string {
		return `{"timestamp":{"seconds":` + itoa(seconds) + `,"microseconds":5},"event":"RESET","data":{"guest":true,"reason":"guest-reset"}}` + "\n"
	}
	at := func(seconds int) time.Time { return time.Unix(int64(seconds), 5000) }
	log := func(seconds ...int) {
		var all strings.Builder
		for _, s := range seconds {
			all.WriteString(line(s))
		}
		must(t, os.WriteFile(path, []byte(all.String()), 0o600))
	}
	log(1000, 1001, 500, 501, 9000)
	for _, c := range []struct {
		after time.Time
		want  int
		last  time.Time
	}{
		{time.Time{}, 5, at(9000)},
		{at(1001), 3, at(9000)}, // set back after the one that was counted
		{at(501), 1, at(9000)},
		{at(9000), 0, at(9000)},
		{at(700), 3, at(9000)}, // not in the log any more: 1000, 1001 and 9000
	} {
		if n, last := missedResets(path, c.after); n != c.want || !last.Equal(c.last) {
			t.Errorf("after %v: %d, %v", c.after.Unix(), n, last)
		}
	}
}
