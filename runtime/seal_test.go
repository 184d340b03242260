package runtime

import (
	"bytes"
	"fmt"
	"os"
	"testing"
)

// TestSealAfterAPowerCut: what a power cut may leave of a file that is written over
// and renamed without a sync is never taken for the record.
func TestSealAfterAPowerCut(t *testing.T) {
	t.Parallel()
	write := func(record *Record, boot string, number uint64) []byte {
		raw, err := sealed(record, seal{BootID: boot, Number: number})
		must(t, err)
		return raw
	}
	version := func(held bool, restarts int) *Record {
		record := fullRecord()
		record.Held, record.Restarts, record.File = held, restarts, fmt.Sprintf("web%d.hcl", restarts)
		return record
	}
	other := &Record{Version: 1, Task: "other"}
	const before = "before"
	oldest, old, latest := version(false, 1), version(false, 2), version(true, 3)
	edited := func(raw []byte) []byte {
		return bytes.Replace(raw, []byte(`"restarts": 3`), []byte(`"restarts": 7`), 1)
	}
	mixed := bytes.Clone(write(old, before, 2))
	copy(mixed[:len(mixed)/2], write(latest, before, 3))
	unsealed, err := os.ReadFile("testdata/records/v1.json")
	must(t, err)
	for name, c := range map[string]struct {
		record, copied []byte
		restarts       int    // of what is believed; 0 when nothing is
		fault          string // "corrupt", "untouchable"
	}{
		"as written":                        {write(latest, before, 3), write(old, before, 2), 3, ""},
		"without a copy":                    {write(latest, before, 3), nil, 3, ""},
		"old bytes":                         {write(oldest, before, 1), write(latest, before, 3), 3, ""},
		"old bytes that lack nothing":       {write(latest, before, 3), write(latest, before, 4), 3, ""},
		"a mixture":                         {mixed, write(old, before, 2), 2, "corrupt"},
		"a mixture, without a copy":         {mixed, nil, 0, "corrupt"},
		"bytes of another":                  {write(other, before, 9), write(latest, before, 3), 3, ""},
		"bytes of another, without a copy":  {write(other, before, 9), nil, 0, "corrupt"},
		"bytes of another, in this boot":    {write(other, BootID(), 9), write(latest, BootID(), 3), 3, "corrupt"},
		"no bytes":                          {nil, write(latest, before, 3), 3, "corrupt"},
		"no seal":                           {unsealed, write(latest, before, 3), 3, ""},
		"no seal, as older versions write":  {unsealed, unsealed, 4, ""},
		"no seal, in this boot":             {unsealed, write(latest, BootID(), 3), 4, ""},
		"an editor was there before":        {edited(write(latest, before, 3)), write(old, before, 2), 2, "corrupt"},
		"an editor was there in this boot":  {edited(write(latest, BootID(), 3)), write(old, before, 2), 7, ""},
		"older than its copy, in this boot": {write(old, BootID(), 2), write(latest, BootID(), 3), 2, ""},
		"broken copy":                       {write(old, before, 2), edited(write(latest, before, 3)), 2, ""},
		"broken copy, and no bytes":         {nil, edited(write(latest, before, 3)), 0, "corrupt"},
		"copy of a newer version":           {write(old, before, 2), []byte(`{"version":2,"task":"web"}`), 0, "untouchable"},
	} {
		s := testStore(t)
		must(t, os.WriteFile(s.layout.Record("web"), c.record, 0o600))
		if c.copied != nil {
			must(t, os.WriteFile(s.safe("web"), c.copied, 0o600))
		}
		stored, err := s.Load()
		must(t, err)
		restarts, fault := 0, ""
		for _, record := range []*Record{stored.Records["web"], stored.Spare["web"]} {
			if record != nil {
				restarts += record.Restarts
			}
		}
		switch {
		case stored.Corrupt["web"] != nil:
			fault = "corrupt"
		case stored.Untouchable["web"] != nil:
			fault = "untouchable"
		}
		if restarts != c.restarts || fault != c.fault {
			t.Errorf("%s: restarts %d, fault %q", name, restarts, fault)
		}
	}
}

// TestWritesAreNumbered: a new daemon goes on where the last one was, be that a
// record, a copy or a blank.
func TestWritesAreNumbered(t *testing.T) {
	t.Parallel()
	s := testStore(t)
	last := uint64(0)
	for i := range 4 {
		for range 2 {
			must(t, s.Put(fullRecord(), false))
			_, seal, err := readRecord(s.layout.Record("web"), "web")
			must(t, err)
			if seal.Number <= last || seal.BootID != BootID() {
				t.Errorf("after number %d: %+v", last, seal)
			}
			last = seal.Number
		}
		if i%2 == 0 {
			last = s.number()
			temporary, err := s.stageCopy(fullRecord(), last)
			must(t, err)
			must(t, s.placeCopy("web", temporary))
		}
		s = OpenStore(s.layout)
		_, err := s.Load()
		must(t, err)
	}
}
