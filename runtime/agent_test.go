package runtime

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAgentShutdown(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		refuse bool
	}{
		"silence is obedience": {"", false},
		"an answer is one too": {`{"return":{}}` + "\n", false},
		"an objection":         {`{"error":{"class":"GenericError","desc":"no"}}` + "\n", true},
		"nonsense":             {"{\n", false},
		"a flood":              {strings.Repeat("x", maxAgentLine+1), true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				go fakeAgent(far, func() string { return c.answer })
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				agent, err := NewAgent(ctx, near)
				must(t, err)
				defer agent.Close()
				if err := agent.Shutdown(ctx); (err != nil) != c.refuse {
					t.Errorf("error %v", err)
				}
			})
		})
	}
}

func TestAgentCallsEndWithTheirContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		go fakeAgent(far, func() string { return "" })
		agent, err := NewAgent(t.Context(), near)
		must(t, err)
		defer agent.Close()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := agent.Shutdown(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe() // nobody reads: as an agent's socket that is full
		defer far.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := NewAgent(ctx, near); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
}
