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
}

// reservedIDs are the names that the program gives to parts of the machine.
var reservedIDs = map[string]string{
	"qmp":      "the daemon's own monitor",
	"image0":   "the boot disk",
	"user.0":   "the network of port_map",
	"console0": "the console",
	"qga0":     "the channel of the guest agent",
}

// namingOptions are the options whose text gives a part of the machine a name,
// or takes one by its name.
var namingOptions = map[string]bool{
	"device": true, "drive": true, "chardev": true, "netdev": true, "object": true, "mon": true, "nic": true, "net": true,
	"blockdev": true, "fsdev": true, "virtfs": true, "tpmdev": true, "audiodev": true, "iothread": true, "vnc": true,
	"serial": true, "parallel": true, "monitor": true, "qmp": true, "qmp-pretty": true, "set": true, "spice": true, "numa": true,
}

// freeArgs refuses args that would take the machine out of the daemon's hands.
func freeArgs(v cty.Value) []problem {
	var found []problem
	option := ""
	for key, element := range v.Elements() {
		if !element.IsKnown() || element.IsNull() {
			option = ""
			continue
		}
		arg, at := element.AsString(), elementName(key)
		if name, ok := optionName(arg); ok {
			option = name
			if reason, refused := refusedOptions[name]; refused {
				found = append(found, problem{at, "may not have " + arg, "Leave it out: " + reason + "."})
			}
			continue
		}
		if namingOptions[option] {
			if id := reservedIn(option, arg); id != "" {
				found = append(found, problem{at, "may not use the name " + id,
					fmt.Sprintf("%s is %s; choose another name.", id, reservedIDs[id])})
			}
		}
		option = ""
	}
	return found
}

// optionName takes the dashes off an option. QEMU accepts one or two.
func optionName(arg string) (string, bool) {
	if !strings.HasPrefix(arg, "-") || arg == "-" {
		return "", false
	}
	return strings.TrimPrefix(arg[1:], "-"), true
}

// reservedIn finds a reserved name that the text of an option gives away
// again, or lays hands on; the boot disk may be used by name, which is what
// drive_interface = "none" is for.
func reservedIn(option, text string) string {
	if strings.HasPrefix(text, "{") {
		return reservedInJSON(text)
	}
	if option == "set" { // group.id.property=value
		_, rest, _ := strings.Cut(text, ".")
		for id := range reservedIDs {
			if strings.HasPrefix(rest, id+".") {
				return id
			}
		}
		return ""
	}
	for i, part := range splitOptions(text) {
		key, value, assigned := strings.Cut(part, "=")
		if !assigned && i == 0 {
			key, value, assigned = strings.Cut(part, ":") // -serial chardev:ID
			assigned = assigned && key == "chardev"
		}
		if _, reserved := reservedIDs[value]; assigned && reserved && namesPart(key) {
			return value
		}
	}
	return ""
}

// namesPart says whether a key of an option's text gives a name, or takes a
// character device, of which each has one user only.
func namesPart(key string) bool {
	return key == "id" || key == "node-name" || key == "chardev"
}

// reservedInJSON looks into an option that is written as JSON. Text that is
// not JSON is QEMU's to refuse.
func reservedInJSON(text string) string {
	var object map[string]any
	if json.Unmarshal([]byte(text), &object) != nil {
		return ""
	}
	for key, value := range object {
		if name, ok := value.(string); ok && namesPart(key) {
			if _, reserved := reservedIDs[name]; reserved {
				return name
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

// emulatorPrefix begins the program name of every system emulator.
const emulatorPrefix = "qemu-system-"

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
		return emulatorPrefix + "x86_64"
	}
	return name
}

var emulatorForm = matching(`(qemu-system-)?[a-z0-9][a-z0-9_-]{0,30}`, "is not an emulator",
	strconv.Quote("x86_64")+" or "+strconv.Quote(emulatorPrefix+"x86_64"))
