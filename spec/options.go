package spec

import (
	"encoding/json"
	"fmt"
	"strings"
)

// valueOptions are the options of QEMU that take the next word as their value,
// whatever it looks like: those that the parser of QEMU 7.2 was seen to give
// it to, and a few of other versions since 5.2 (run-with, shim, soundhw,
// tb-size, watchdog, writeconfig). Behind an option that is not here, a word
// that begins with a dash is judged as an option of its own.
var valueOptions = set(`
	D L M accel acpitable action add-fd append audio audiodev bios blockdev boot cdrom chardev chroot compat cpu d
	debugcon device dfilter display drive dtb dump-vmstate echr fda fdb fsdev fw_cfg g gdb global hda hdb hdc hdd
	icount incoming initrd iscsi k kernel loadvm m machine mem-path mon monitor msg mtdblock name net netdev nic numa
	object option-rom overcommit parallel pflash pidfile plugin prom-env qmp qmp-pretty qtest qtest-log readconfig
	rotate rtc run-with runas sandbox sd seed semihosting-config serial set shim smbios smp soundhw spice tb-size
	tpmdev trace usbdevice uuid vga virtfs vnc watchdog watchdog-action writeconfig xen-domid`)

// textOptions are those whose value is for the guest or for people: nothing in
// it names a part of the machine.
var textOptions = set("append fw_cfg name prom-env smbios")

func set(words string) map[string]bool {
	out := map[string]bool{}
	for _, word := range strings.Fields(words) {
		out[word] = true
	}
	return out
}

// option is one option of a command line with its value, and the numbers of
// both words.
type option struct {
	// name has no dashes; it is empty for a word that belongs to no option.
	name, written string
	at            int
	value         string
	valueAt       int
	// hasValue says that value is there, missing that it ought to be.
	hasValue, missing bool
}

// splitArgs reads a command line as QEMU does: an option that takes a value
// takes the next word, also one that looks like an option.
func splitArgs(words []string) []option {
	var out []option
	for i := 0; i < len(words); i++ {
		name, ok := optionName(words[i])
		if !ok {
			out = append(out, option{value: words[i], valueAt: i, hasValue: true})
			continue
		}
		o := option{name: name, written: words[i], at: i}
		if i+1 < len(words) {
			_, looksLikeOne := optionName(words[i+1])
			o.hasValue = valueOptions[name] || !looksLikeOne
		}
		if o.hasValue {
			i++
			o.value, o.valueAt = words[i], i
		}
		o.missing = valueOptions[name] && !o.hasValue
		out = append(out, o)
	}
	return out
}

// optionName takes the dashes off an option. QEMU accepts one or two.
func optionName(arg string) (string, bool) {
	if !strings.HasPrefix(arg, "-") || arg == "-" {
		return "", false
	}
	return strings.TrimPrefix(arg[1:], "-"), true
}

// Properties are the keys of an option's value. QEMU takes the last value of a
// key that is there more than once, or all.
type Properties map[string][]string

// ArgProperties gives what the operator's args say in each use of an option
// whose values are keys and values, or JSON. implied is the key of a first part
// that has none.
func (t *Task) ArgProperties(option, implied string) []Properties {
	var out []Properties
	for _, o := range splitArgs(t.Config.Args) {
		if o.name == option && o.hasValue {
			out = append(out, readProperties(o.value, implied))
		}
	}
	return out
}

func readProperties(text, implied string) Properties {
	out := Properties{}
	if strings.HasPrefix(text, "{") {
		var object map[string]any
		if json.Unmarshal([]byte(text), &object) == nil { // else QEMU's to refuse
			for key, value := range object {
				out[key] = []string{fmt.Sprint(value)}
			}
		}
		return out
	}
	for i, part := range splitOptions(text) {
		key, value, assigned := strings.Cut(part, "=")
		if !assigned && i == 0 {
			key, value = implied, part
		}
		out[key] = append(out[key], value)
	}
	return out
}
