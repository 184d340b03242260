package spec

import (
	"fmt"
	"slices"
	"strings"
)

// askHost judges what a task wants of the host: its emulator and what that
// offers, and its image.
func askHost(host Host, d *Definition) *verdict {
	v := &verdict{errors: emulatorErrors(host, d)}
	image, err := host.Image(d.Task.Config.ImagePath)
	if err != nil {
		v.errors = append(v.errors, d.Diagnose("config.image_path", "Image cannot be used", err.Error()))
		return v
	}
	v.image, v.known = image, true
	return v
}

func emulatorErrors(host Host, d *Definition) []Diagnostic {
	c := &d.Task.Config
	info, err := host.Emulator(c.Emulator)
	if err != nil {
		return []Diagnostic{emulatorError(host, d, err)}
	}
	var out []Diagnostic
	// An emulator that says nothing of what it offers is let through: its own
	// words at the start are then the better answer.
	if len(info.Accelerators) > 0 && !slices.Contains(info.Accelerators, c.Accelerator) {
		out = append(out, d.Diagnose("config.accelerator", fmt.Sprintf("Accelerator %q is not offered", c.Accelerator),
			fmt.Sprintf("On this host %s offers %s.%s", c.Emulator, strings.Join(info.Accelerators, ", "), didYouMean(c.Accelerator, info.Accelerators))))
	}
	if len(info.MachineTypes) > 0 && !slices.Contains(info.MachineTypes, c.MachineType) {
		out = append(out, d.Diagnose("config.machine_type", fmt.Sprintf("Unknown machine type %q", c.MachineType),
			fmt.Sprintf("%s has no such machine type; %s -machine help lists those it has.%s", c.Emulator, c.Emulator, didYouMean(c.MachineType, info.MachineTypes))))
	}
	return out
}

// emulatorError tells an emulator that nobody knows from one that is there and
// of no use.
func emulatorError(host Host, d *Definition, reason error) Diagnostic {
	name, installed := d.Task.Config.Emulator, host.Emulators()
	if slices.Contains(installed, name) {
		return d.Diagnose("config.emulator", fmt.Sprintf("Emulator %q cannot be used", name), reason.Error())
	}
	have := "No emulator is installed."
	if len(installed) > 0 {
		have = "Installed: " + strings.Join(installed, ", ") + "."
	}
	return d.Diagnose("config.emulator", fmt.Sprintf("Unknown emulator %q", name),
		sentence(reason.Error())+" "+have+didYouMean(name, installed))
}

// sentence ends a text with a full stop.
func sentence(text string) string {
	if text == "" || strings.ContainsAny(text[len(text)-1:], ".?!") {
		return text
	}
	return text + "."
}
