package runtime

import (
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func TestEventIsOneLineOfTheLog(t *testing.T) {
	var b strings.Builder
	code := 3
	log := hclog.New(&hclog.LoggerOptions{Output: &b, DisableTime: true})
	LogEvent{Type: EventStarted, Task: "web", Message: "started", Facts: map[string]any{"pid": 4000000, "code": &code, "signal": "", "by": "test"}}.tell(log)
	LogEvent{Type: "file-broken", Message: "bad.hcl:1:2: x"}.tell(log)
	want := "[INFO]  started: event=started task=web by=test code=3 pid=4000000\n[WARN]  bad.hcl:1:2: x: event=file-broken\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}
