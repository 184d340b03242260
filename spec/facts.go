package spec

import (
	"slices"
	"strings"

	"github.com/zclconf/go-cty/cty"
)

// facts are what the expressions of a task may know of the task itself. They
// come out of decoding it, so a task whose expressions ask for them is decoded
// again with what the pass before found, until nothing new is found.
type facts struct {
	memory cty.Value
	// ports, guests and meta are unknown values by label where they are not
	// found yet. ports have the host's number, guests the guest's.
	ports, guests, meta map[string]cty.Value
	// allocated are the labels whose host port does not stand in the file.
	allocated map[string]bool
	// open is set while the labels themselves are not known.
	open bool
}

// noFacts is what is known before a task is decoded for the first time.
var noFacts = facts{memory: cty.UnknownVal(cty.Number), open: true}

// factsOf reads the facts out of a decoded task block. ports are the allocated
// ports; one that is missing reads as zero.
func factsOf(v cty.Value, ports map[string]int) facts {
	f := facts{memory: part(v, "resources", "memory"), ports: map[string]cty.Value{}, allocated: map[string]bool{}}
	var guestsKnown, metaKnown bool
	f.guests, guestsKnown = entries(part(v, "config", "port_map"))
	f.meta, metaKnown = entries(part(v, "meta"))
	f.open = !guestsKnown || !metaKnown
	allocate := func(label string) {
		f.allocated[label] = true
		f.ports[label] = cty.NumberIntVal(int64(ports[label]))
	}
	network := part(v, "resources", "network")
	if network.IsNull() {
		for label := range f.guests {
			allocate(label)
		}
		return f
	}
	list := part(network, "port")
	if list.IsNull() || !list.IsKnown() {
		f.open = true
		return f
	}
	for _, port := range list.Elements() {
		label, static := part(port, labelKey).AsString(), part(port, "static")
		if static.IsNull() {
			allocate(label)
		} else {
			f.ports[label] = static
		}
	}
	return f
}

// entries gives a map's entries; known is false while its keys are not known.
func entries(v cty.Value) (m map[string]cty.Value, known bool) {
	m = map[string]cty.Value{}
	if !v.IsKnown() {
		return m, false
	}
	if !v.IsNull() {
		for key, value := range v.Elements() {
			m[key.AsString()] = value
		}
	}
	return m, true
}

// unknowns counts the facts that are still to be found.
func (f facts) unknowns() int {
	n := 0
	if f.open {
		n++
	}
	if !f.memory.IsKnown() {
		n++
	}
	for _, m := range []map[string]cty.Value{f.ports, f.guests, f.meta} {
		for _, v := range m {
			if !v.IsKnown() {
				n++
			}
		}
	}
	return n
}

// put makes the facts variables of a scope.
func (f facts) put(s scope) {
	s.flat[nomadMemory] = f.memory
	for label, host := range f.ports {
		s.flat[nomadHostPort+label] = host
		s.flat[nomadPort+label] = host
		if guest, mapped := f.guests[label]; mapped {
			s.flat[nomadPort+label] = guest
		}
	}
	for key, value := range f.meta {
		s.flat[nomadMeta+key] = value
	}
	if f.open {
		s.flat["port"] = cty.DynamicVal
	} else {
		s.objects["port"] = f.ports
	}
}

// isFact says whether a reference is to a fact, which only decoding finds.
func isFact(ref reference) bool {
	return ref.root == "port" || strings.HasPrefix(ref.root, nomadPrefix) && ref.root != nomadTask
}

// givesFact says whether a field of the task is one that facts come from.
func givesFact(field string) bool {
	for _, from := range []string{"meta.", "config.port_map.", "resources.network.port."} {
		if strings.HasPrefix(field, from) {
			return true
		}
	}
	return slices.Contains([]string{"meta", "config.port_map", "resources.memory"}, field)
}

// asksForAllocated says whether one of the references is to a port whose
// number does not stand in the file.
func (f facts) asksForAllocated(refs []reference) bool {
	for _, ref := range refs {
		if ref.root == "port" && (f.allocated[ref.step] || ref.step == "" && len(f.allocated) > 0) {
			return true
		}
		if label, ok := strings.CutPrefix(ref.root, nomadHostPort); ok && f.allocated[label] {
			return true
		}
		if label, ok := strings.CutPrefix(ref.root, nomadPort); ok && f.allocated[label] {
			if _, mapped := f.guests[label]; !mapped {
				return true
			}
		}
	}
	return false
}
