package runtime

import "github.com/qemu-reconciler/qemu-reconciler/spec"

// Tuning is what may be changed while a Runtime runs. Zero values mean what
// an empty config.hcl does.
type Tuning struct {
	// LogMaxSize counts for all logs at once, the rest for what is started from
	// then on.
	LogMaxSize   int64
	Sandbox      bool
	DynamicPorts spec.PortRange
}

// Tune changes what new starts go by, and how large logs may grow. No VM that
// runs is touched, and no port that was given is taken away.
func (r *Runtime) Tune(t Tuning) {
	t = t.withDefaults()
	r.tuning.Store(&t)
	r.ports.setRange(t.DynamicPorts)
	if r.events != nil {
		r.events.setLimit(t.LogMaxSize)
	}
}

func (t Tuning) withDefaults() Tuning {
	defaults := spec.DefaultConfig()
	if t.LogMaxSize <= 0 {
		t.LogMaxSize = defaults.LogMaxSize
	}
	if t.DynamicPorts == (spec.PortRange{}) {
		t.DynamicPorts = defaults.DynamicPorts
	}
	return t
}

// tuning is the part of the options that may change later.
func (o Options) tuning() Tuning {
	return Tuning{LogMaxSize: o.LogMaxSize, Sandbox: o.Sandbox, DynamicPorts: o.DynamicPorts}
}

// tuned are the options with another tuning.
func (o Options) tuned(t Tuning) Options {
	t = t.withDefaults()
	o.LogMaxSize, o.Sandbox, o.DynamicPorts = t.LogMaxSize, t.Sandbox, t.DynamicPorts
	return o
}
