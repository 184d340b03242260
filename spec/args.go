package spec

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/zclconf/go-cty/cty"
)

// refusedOptions are the options of QEMU that would take the machine out of
// the daemon's hands, each with the reason.
var refusedOptions = map[string]string{
	"daemonize":   "QEMU would leave the process that the daemon watches",
	"pidfile":     "the daemon keeps track of the process itself",
	"uuid":        "the machine's UUID is the attribute uuid of the task",
	"runas":       "the user is the attribute user of the task",
	"chroot":      "the daemon hands files over as they are seen outside",
	"sandbox":     "the sandbox is the setting of the same name in config.hcl",
	"action":      "what happens when the guest shuts down, reboots or panics is the restart block's business",
	"no-shutdown": "a guest that powered itself off would never be noticed",
	"S":           "the guest would not start, and wait for somebody to continue it",
	"incoming":    "the guest would wait for a migration that never comes",
	"add-fd":      "the daemon hands its own descriptors over",
	"preconfig":   "the guest would not start, and wait for somebody to configure it further",
	"readconfig":  "options in a file could be any of those that are refused here; write them into args",
	"writeconfig": "QEMU would write a file of its own over the one that is named",
	"run-with":    "it sets QEMU's user and root directory, which are the daemon's business",
}

// reservedIDs are the names that the program gives to parts of the machine.
var reservedIDs = map[string]string{
	"qmp":      "the daemon's own monitor",
	"image0":   "the boot disk",
	"user.0":   "the network of port_map",
	"console0": "the console",
	"qga0":     "the channel of the guest agent",
}

// freeArgs refuses args that would take the machine out of the daemon's hands.
// An element that is not known yet is judged once it is.
func freeArgs(v cty.Value) []problem {
	words := make([]string, 0, v.LengthInt())
	for _, element := range v.Elements() {
		if !element.IsKnown() || element.IsNull() {
			words = append(words, "")
			continue
		}
		words = append(words, element.AsString())
	}
	var found []problem
	for _, o := range splitArgs(words) {
		if reason, refused := refusedOptions[o.name]; refused {
			found = append(found, problem{strconv.Itoa(o.at), "may not have " + o.written, "Leave it out: " + reason + "."})
			continue
		}
		if o.missing {
			found = append(found, problem{strconv.Itoa(o.at), "has " + o.written + " without its value",
				"It would take the option that follows in QEMU's command line; write the value behind it."})
		}
		if !o.hasValue || textOptions[o.name] {
			continue
		}
		if id := reservedIn(o.name, o.value); id != "" {
			found = append(found, problem{strconv.Itoa(o.valueAt), "may not use the name " + id,
				fmt.Sprintf("%s is %s; choose another name.", id, reservedIDs[id])})
		}
	}
	return found
}

// reservedIn finds a reserved name that the value of an option gives away
// again, or lays hands on; the boot disk may be used by name, which is what
// drive_interface = "none" is for.
func reservedIn(option, text string) string {
	if strings.HasPrefix(text, "{") {
		var object any
		if json.Unmarshal([]byte(text), &object) != nil {
			return "" // QEMU's to refuse
		}
		return reservedInJSON(object)
	}
	if option == "set" { // group.id.property=value
		_, rest, _ := strings.Cut(text, ".")
		for id := range reservedIDs { // none begins another
			if strings.HasPrefix(rest, id+".") {
				return id
			}
		}
	}
	for i, part := range splitOptions(text) {
		key, value, assigned := strings.Cut(part, "=")
		if !assigned && i == 0 {
			key, value = impliedKey(option, part)
		}
		if _, reserved := reservedIDs[value]; reserved && namesPart(option, key) {
			return value
		}
	}
	return ""
}

// impliedKey gives the key of a first part that has none: a name is what -mon
// takes first, and chardev:NAME what takes the place of a character device.
func impliedKey(option, part string) (key, value string) {
	if name, ok := strings.CutPrefix(part, "chardev:"); ok {
		return "chardev", name
	}
	if option == "mon" {
		return "chardev", part
	}
	return "", part
}

// namesPart says whether a key of an option's value gives a name, or takes a
// character device or network, of which each has one user only. What is before
// the last dot says whose property it is.
func namesPart(option, key string) bool {
	switch key[strings.LastIndexByte(key, '.')+1:] {
	case "id", "node-name", "chardev", "netdev":
		return true
	case "value": // -global driver=e1000,property=netdev,value=NAME
		return option == "global"
	}
	return false
}

// reservedInJSON looks into an option that is written as JSON.
func reservedInJSON(v any) string {
	switch v := v.(type) {
	case []any:
		for _, element := range v {
			if id := reservedInJSON(element); id != "" {
				return id
			}
		}
	case map[string]any:
		for _, key := range sortedKeys(v) {
			name, isText := v[key].(string)
			if _, reserved := reservedIDs[name]; isText && reserved && namesPart("", key) {
				return name
			}
			if id := reservedInJSON(v[key]); id != "" {
				return id
			}
		}
	}
	return ""
}

// splitOptions splits the text of an option at its commas, of which two stand
// for one in a value.
func splitOptions(text string) []string {
	const comma = "\x00" // cannot be in an argument
	parts := strings.Split(strings.ReplaceAll(text, ",,", comma), ",")
	for i := range parts {
		parts[i] = strings.ReplaceAll(parts[i], comma, ",")
	}
	return parts
}

func emulator(v cty.Value) []problem {
	name := v.AsString()
	if strings.Contains(name, "/") {
		return wrong("is a path", "Write its name, such as %q; it is found by PATH.", pathName(name))
	}
	return emulatorForm(v)
}

// pathName is the name in a path that was written for an emulator.
func pathName(path string) string {
	name := path[strings.LastIndexByte(path, '/')+1:]
	if name == "" {
		return EmulatorPrefix + "x86_64"
	}
	return name
}

var emulatorForm = matching(`(qemu-system-)?[a-z0-9][a-z0-9_-]{0,30}`, "is not an emulator",
	strconv.Quote("x86_64")+" or "+strconv.Quote(EmulatorPrefix+"x86_64"))
