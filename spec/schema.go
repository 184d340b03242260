package spec

import (
	"strings"

	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/zclconf/go-cty/cty"
)

// attribute is one attribute of a task file: everything that is known of it
// but what it means together with others (rules.go).
type attribute struct {
	name string
	kind cty.Type
	// fallback is the default; without one, an attribute that is left out is
	// null and its Go field stays zero.
	fallback cty.Value
	required bool
	// alsoBlock accepts `name { key = value }` for `name = { key = value }`,
	// as Nomad does for maps.
	alsoBlock bool
	// secret values are never shown, not even in an excerpt.
	secret bool
	check  check
}

// block is one kind of block of a task file.
type block struct {
	name       string
	label      string
	attributes []attribute
	blocks     []block
	required   bool
	// many allows any number of them, told apart by their label.
	many bool
	// absent keeps a missing block apart from an empty one; else a missing
	// block reads as an empty one.
	absent bool
}

// labelKey holds a block's label among its decoded attributes.
const labelKey = "label"

// The bounds of numbers.
const (
	minMemoryMiB = 128
	maxMemoryMiB = 4_000_000
	maxCores     = 8192 // more than any machine type offers
	maxPort      = 65535
	maxAttempts  = 1_000_000
)

var stringList, stringMap, numberMap = cty.List(cty.String), cty.Map(cty.String), cty.Map(cty.Number)

// taskSchema is the one place where the words of a task file, their types,
// defaults and bounds are written down. The hcldec specification, the checks
// of values and "did you mean" are all made from it.
var taskSchema = block{
	name:  "task",
	label: "name",
	attributes: []attribute{
		{name: "driver", kind: cty.String, fallback: cty.StringVal("qemu"), check: oneOf("qemu")},
		{name: "state", kind: cty.String, fallback: cty.StringVal(StateRunning), check: oneOf(StateRunning, StateStopped)},
		{name: "hosts", kind: stringList, check: all(notEmpty("leave hosts out for all hosts"), each(hostGlob))},
		{name: "on_change", kind: cty.String, fallback: cty.StringVal(OnChangeRestart), check: all(oneOf(OnChangeRestart, OnChangeReboot), rebootNotBuilt)},
		{name: "on_remove", kind: cty.String, fallback: cty.StringVal(OnRemoveStop), check: oneOf(OnRemoveStop, OnRemoveKeep)},
		{name: "kill_timeout", kind: cty.String, fallback: cty.StringVal("60s"), check: duration},
		{name: "user", kind: cty.String, check: all(userName, notBuilt("QEMU runs as the daemon's own user"))},
		{name: "env", kind: stringMap, alsoBlock: true, secret: true, check: both(keys(envName), each(clean))},
		{name: "meta", kind: stringMap, alsoBlock: true, check: both(keys(metaName), each(labelText))},
		{name: "depends_on", kind: stringList, check: all(each(taskName), notBuilt("tasks start and stop independently"))},
		{name: "uuid", kind: cty.String, check: uuid},
	},
	blocks: []block{configSchema, resourcesSchema, restartSchema},
}

// taskSpec is what hcldec decodes a task block with.
var taskSpec = taskSchema.spec()

var configSchema = block{
	name:     "config",
	required: true,
	attributes: []attribute{
		{name: "image_path", kind: cty.String, required: true, check: all(clean, imagePath)},
		{name: "image_format", kind: cty.String, check: oneOf("raw", "qcow2", "vmdk", "vdi", "vhdx", "vpc", "qed")},
		{name: "accelerator", kind: cty.String, fallback: cty.StringVal("tcg"), check: accelerator},
		{name: "args", kind: stringList, check: all(each(clean), freeArgs)},
		{name: "graceful_shutdown", kind: cty.Bool, fallback: cty.False},
		{name: "guest_agent", kind: cty.Bool, fallback: cty.False},
		{name: "emulator", kind: cty.String, check: emulator},
		{name: "machine_type", kind: cty.String, check: machineType},
		{name: "drive_interface", kind: cty.String, check: oneOf("ide", "scsi", "sd", "mtd", "floppy", "pflash", "virtio", "none")},
		{name: "port_map", kind: numberMap, alsoBlock: true, check: both(keys(portLabel), each(whole(1, maxPort)))},
	},
}

var resourcesSchema = block{
	name: "resources",
	attributes: []attribute{
		{name: "memory", kind: cty.Number, fallback: cty.NumberIntVal(512), check: whole(minMemoryMiB, maxMemoryMiB)},
		{name: "cores", kind: cty.Number, fallback: cty.NumberIntVal(1), check: whole(1, maxCores)},
	},
	blocks: []block{{name: "network", absent: true, blocks: []block{portSchema}}},
}

var portSchema = block{
	name:  "port",
	label: labelKey,
	many:  true,
	attributes: []attribute{
		{name: "static", kind: cty.Number, check: whole(1, maxPort)},
		{name: "host_ip", kind: cty.String, check: ipv4},
		{name: "protocols", kind: stringList, fallback: cty.ListVal([]cty.Value{cty.StringVal("tcp"), cty.StringVal("udp")}),
			check: all(notEmpty(`leave protocols out for ["tcp", "udp"]`), distinct, each(oneOf("tcp", "udp")))},
	},
}

var restartSchema = block{
	name: "restart",
	attributes: []attribute{
		{name: "on", kind: cty.String, fallback: cty.StringVal(RestartAlways), check: oneOf(RestartAlways, RestartFailure, RestartNever)},
		{name: "attempts", kind: cty.Number, check: whole(1, maxAttempts)},
		{name: "interval", kind: cty.String, fallback: cty.StringVal("10m"), check: duration},
		{name: "delay", kind: cty.String, fallback: cty.StringVal("1s"), check: duration},
		{name: "max_delay", kind: cty.String, check: duration}, // 1m, or delay when that is longer: see rules.go
		{name: "mode", kind: cty.String, fallback: cty.StringVal(ModeDelay), check: oneOf(ModeDelay, ModeFail)},
	},
}

// spec is the hcldec specification of the block's body.
func (b block) spec() hcldec.ObjectSpec {
	object := hcldec.ObjectSpec{}
	if b.label != "" && b.many {
		object[labelKey] = &hcldec.BlockLabelSpec{Index: 0, Name: b.label}
	}
	for _, a := range b.attributes {
		object[a.name] = a.spec()
	}
	for _, inner := range b.blocks {
		object[inner.name] = inner.specAround()
	}
	return object
}

// specAround is the hcldec specification of where the block stands.
func (b block) specAround() hcldec.Spec {
	switch {
	case b.many:
		return &hcldec.BlockTupleSpec{TypeName: b.name, Nested: b.spec()}
	case b.absent || b.required:
		return &hcldec.BlockSpec{TypeName: b.name, Nested: b.spec(), Required: b.required}
	}
	return &hcldec.DefaultSpec{
		Primary: &hcldec.BlockSpec{TypeName: b.name, Nested: b.spec()},
		Default: &hcldec.LiteralSpec{Value: b.empty()},
	}
}

// empty is what a block reads as in which nothing is written.
func (b block) empty() cty.Value {
	values := map[string]cty.Value{}
	for _, a := range b.attributes {
		values[a.name] = cty.NullVal(a.kind)
		if a.fallback != cty.NilVal {
			values[a.name] = a.fallback
		}
	}
	for _, inner := range b.blocks {
		values[inner.name] = cty.NullVal(cty.DynamicPseudoType)
		if !inner.absent {
			values[inner.name] = inner.empty()
		}
	}
	return cty.ObjectVal(values)
}

func (a attribute) spec() hcldec.Spec {
	var spec hcldec.Spec = &hcldec.AttrSpec{Name: a.name, Type: a.kind, Required: a.required}
	if a.alsoBlock {
		spec = &hcldec.DefaultSpec{
			Primary: spec,
			Default: &hcldec.BlockAttrsSpec{TypeName: a.name, ElementType: a.kind.ElementType()},
		}
	}
	if a.fallback != cty.NilVal {
		spec = &hcldec.DefaultSpec{Primary: spec, Default: &hcldec.LiteralSpec{Value: a.fallback}}
	}
	return spec
}

// words lists the names that may stand in the block's body.
func (b block) words() []string {
	var words []string
	for _, a := range b.attributes {
		words = append(words, a.name)
	}
	for _, inner := range b.blocks {
		words = append(words, inner.name)
	}
	return words
}

// attribute finds an attribute of the block by name.
func (b block) attribute(name string) (attribute, bool) {
	for _, a := range b.attributes {
		if a.name == name {
			return a, true
		}
	}
	return attribute{}, false
}

// attributeAt finds an attribute by its path in the file.
func (b block) attributeAt(path string) (attribute, bool) {
	word, rest, deeper := strings.Cut(path, ".")
	if !deeper {
		return b.attribute(word)
	}
	inner, ok := b.block(word)
	if ok && inner.many {
		_, rest, _ = strings.Cut(rest, ".") // a label has no dot
	}
	return inner.attributeAt(rest)
}

// block finds a kind of block within the block by name.
func (b block) block(name string) (block, bool) {
	for _, inner := range b.blocks {
		if inner.name == name {
			return inner, true
		}
	}
	return block{}, false
}
