package main

import (
	"github.com/qemu-reconciler/qemu-reconciler/runtime"
	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// lookAgain is SIGHUP: config.hcl is read, and the whole task directory is
// judged anew.
func (d *daemonProcess) lookAgain() {
	d.notify.reloading()
	defer d.notify.ready()
	d.log.Info("SIGHUP: looking again at config.hcl and at all tasks")
	d.rereadConfig()
	d.engine.PokeFiles(false)
}

// rereadConfig takes from config.hcl what can change while the daemon runs and
// names the rest. A broken one changes nothing.
func (d *daemonProcess) rereadConfig() {
	config, diags := loadConfig(d.setup.configPath, d.setup.configGiven)
	broken := false
	for _, diag := range diags {
		broken = broken || diag.Severity == spec.SeverityError
		d.log.Warn(diag.Error(), "detail", diag.Detail)
	}
	if broken {
		d.log.Error("config.hcl is broken: what it said before stays in force", "path", d.setup.configPath)
		return
	}
	d.log.SetLevel(logLevel(d.logLevel, config))
	d.engine.Tune(engineTuning(config))
	d.runtime.Tune(runtime.Tuning{
		LogMaxSize: config.LogMaxSize, Sandbox: config.Sandbox, DynamicPorts: config.DynamicPorts,
	})
	if keys := changedKeys(d.setup.config, config); len(keys) > 0 {
		d.log.Warn("config.hcl has changes that need a restart of the daemon (its VMs stay)", "keys", keys)
	}
}

// changedKeys names the keys of config.hcl that differ and are read only once.
func changedKeys(old, now *spec.DaemonConfig) []string {
	var out []string
	for _, key := range []struct {
		name    string
		changed bool
	}{
		{"vms_dir", old.Dirs.VMs != now.Dirs.VMs},
		{"state_dir", old.Dirs.State != now.Dirs.State},
		{"run_dir", old.Dirs.Run != now.Dirs.Run},
		{"host_name", old.HostName != now.HostName},
		{"log_format", old.LogFormat != now.LogFormat},
	} {
		if key.changed {
			out = append(out, key.name)
		}
	}
	return out
}
