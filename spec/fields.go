package spec

import (
	"maps"
	"reflect"
	"slices"
)

// Price is what a changed field costs the guest.
type Price string

// The prices, the cheapest first.
const (
	PriceNone    Price = "none"
	PriceLive    Price = "live"
	PriceReboot  Price = "reboot"
	PriceRestart Price = "restart"
)

// hidden stands for a value that is never shown.
const hidden = "(hidden)"

// Difference is one field in which two definitions of a task differ.
type Difference struct {
	// Field is the path as in a task file, e.g. "resources.memory".
	Field string
	// From and To are the values as they would be written to JSON. Those of
	// env are masked.
	From, To any
	Price    Price
	// Reason says why the change has that price.
	Reason string
}

// field is one row of the table: everything that is known of a field that can
// differ between two definitions.
type field struct {
	name string
	get  func(*Task) any
	// same compares two values of get.
	same   func(a, b any) bool
	price  Price
	reason string
	// idle says why a difference is without effect on the machine after all,
	// and only recorded; empty when it is not. Nil finds no such difference.
	idle func(applied, wanted *Task) string
	// show makes the values that may be seen from the real ones; nil shows
	// them as they are.
	show func(from, to any) (any, any)
}

// fields, sorted by name, is the one place that knows what a change costs. The
// task's name is not in it, since another name is another task; nor is state,
// which says what ought to run and not what it is.
var fields = []field{
	atStart("config.accelerator", "the accelerator is chosen when QEMU starts", func(t *Task) string { return t.Config.Accelerator }),
	{name: "config.args", get: func(t *Task) any { return t.Config.Args }, same: sameList[string],
		price: PriceRestart, reason: "QEMU reads its options once, when it starts"},
	atStart("config.drive_interface", "the boot disk's controller is part of the machine", func(t *Task) string { return t.Config.DriveInterface }),
	atStart("config.emulator", "another emulator is another process", func(t *Task) string { return t.Config.Emulator }),
	policy("config.graceful_shutdown", "how the guest is stopped", func(t *Task) bool { return t.Config.GracefulShutdown }),
	atStart("config.guest_agent", "the agent's channel is a device of the machine", func(t *Task) bool { return t.Config.GuestAgent }),
	atStart("config.image_format", "the image is opened when QEMU starts", func(t *Task) string { return t.Config.ImageFormat }),
	atStart("config.image_path", "the image is opened when QEMU starts", func(t *Task) string { return t.Config.ImagePath }),
	atStart("config.machine_type", "another machine type is another machine", func(t *Task) string { return t.Config.MachineType }),
	{name: "config.port_map", get: func(t *Task) any { return t.Config.PortMap }, same: sameMap[int], idle: sameForwards,
		price: PriceRestart, reason: "forwarded ports are set when QEMU starts"},
	{name: "depends_on", get: func(t *Task) any { return t.DependsOn }, same: sameWords,
		price: PriceLive, reason: policyReason("the order of starts and stops")},
	{name: "env", get: func(t *Task) any { return t.Env }, same: sameMap[string], show: mask,
		price: PriceRestart, reason: "a process gets its environment when it starts"},
	{name: "hosts", get: func(t *Task) any { return t.Hosts }, same: sameWords,
		price: PriceLive, reason: policyReason("where the task runs")},
	policy("kill_timeout", "how the guest is stopped", func(t *Task) Duration { return t.KillTimeout }),
	{name: "meta", get: func(t *Task) any { return t.Meta }, same: sameMap[string],
		price: PriceLive, reason: policyReason("labels")},
	policy("on_change", "when changes are applied", func(t *Task) string { return t.OnChange }),
	policy("on_remove", "what a removal does", func(t *Task) string { return t.OnRemove }),
	atStart("resources.cores", "the number of processors is set when QEMU starts", func(t *Task) int { return t.Resources.Cores }),
	atStart("resources.memory", "the size of the memory is set when QEMU starts", func(t *Task) int { return t.Resources.MemoryMiB }),
	{name: "resources.network.port", get: func(t *Task) any { return t.Resources.Ports }, same: samePorts, idle: notForwarded,
		price: PriceRestart, reason: "forwarded ports are set when QEMU starts"},
	policy("restart.attempts", "restarts to come", func(t *Task) int { return t.Restart.Attempts }),
	policy("restart.delay", "restarts to come", func(t *Task) Duration { return t.Restart.Delay }),
	policy("restart.interval", "restarts to come", func(t *Task) Duration { return t.Restart.Interval }),
	policy("restart.max_delay", "restarts to come", func(t *Task) Duration { return t.Restart.MaxDelay }),
	policy("restart.mode", "restarts to come", func(t *Task) string { return t.Restart.Mode }),
	policy("restart.on", "restarts to come", func(t *Task) string { return t.Restart.On }),
	atStart("user", "a process has the user it was started as", func(t *Task) string { return t.User }),
	atStart("uuid", "the guest reads its UUID from the firmware, which is set when QEMU starts", func(t *Task) string { return t.UUID }),
}

// atStart is a row for a plain value that QEMU takes only at its start.
func atStart[T comparable](name, reason string, get func(*Task) T) field {
	return field{name: name, get: func(t *Task) any { return get(t) }, same: sameValue[T], price: PriceRestart, reason: reason}
}

// policy is a row for a plain value that only the daemon heeds.
func policy[T comparable](name, concerns string, get func(*Task) T) field {
	return field{name: name, get: func(t *Task) any { return get(t) }, same: sameValue[T],
		price: PriceLive, reason: policyReason(concerns)}
}

func policyReason(concerns string) string {
	return "concerns " + concerns + ": QEMU is not told"
}

// Differences lists the fields in which wanted is not what was applied, sorted
// by field. An absent list or map is the same as an empty one, and neither the
// order of protocols nor the two ways to say "all addresses" make a
// difference: what cannot be told apart in the machine must not restart it. A
// port that is not forwarded is recorded, and QEMU is not told of it.
func Differences(applied, wanted *Task) []Difference {
	var out []Difference
	for _, f := range fields {
		from, to := f.get(applied), f.get(wanted)
		if f.same(from, to) {
			continue
		}
		if f.show != nil {
			from, to = f.show(from, to)
		}
		from, to = notNil(from), notNil(to)
		d := Difference{Field: f.name, From: from, To: to, Price: f.price, Reason: f.reason}
		if f.idle != nil {
			if why := f.idle(applied, wanted); why != "" {
				d.Price, d.Reason = PriceLive, why
			}
		}
		out = append(out, d)
	}
	return out
}

// notNil is an empty list or map for one that is absent, which JSON would have as
// null: whoever reads it expects the field's type.
func notNil(v any) any {
	switch r := reflect.ValueOf(v); {
	case r.Kind() == reflect.Slice && r.IsNil():
		return reflect.MakeSlice(r.Type(), 0, 0).Interface()
	case r.Kind() == reflect.Map && r.IsNil():
		return reflect.MakeMap(r.Type()).Interface()
	}
	return v
}

func sameValue[T comparable](a, b any) bool { return a.(T) == b.(T) }

func sameList[T comparable](a, b any) bool { return slices.Equal(a.([]T), b.([]T)) }

func sameMap[V comparable](a, b any) bool {
	return maps.Equal(a.(map[string]V), b.(map[string]V))
}

// sameWords compares lists whose order means nothing.
func sameWords(a, b any) bool {
	return slices.Equal(slices.Sorted(slices.Values(a.([]string))), slices.Sorted(slices.Values(b.([]string))))
}

// mask shows which names of an environment differ, and none of their values.
func mask(from, to any) (any, any) {
	was, is := from.(map[string]string), to.(map[string]string)
	return masked(was, is), masked(is, was)
}

// masked keeps the names in m that other has not with the same value.
func masked(m, other map[string]string) map[string]string {
	out := map[string]string{}
	for name, value := range m {
		if there, ok := other[name]; !ok || there != value {
			out[name] = hidden
		}
	}
	return out
}
