package spec

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/mitchellh/mapstructure"
	"github.com/zclconf/go-cty/cty"
)

// inspect asks the checks of the schema about a decoded block. Values that are
// null or unknown are left out: a default or a diagnostic stands for them.
func (b block) inspect(v cty.Value, path string, report func(field string, p problem)) {
	for _, a := range b.attributes {
		value := part(v, a.name)
		if a.check == nil || value.IsNull() || !value.IsKnown() {
			continue
		}
		for _, p := range a.check(value) {
			named := join(path, a.name)
			if value.Type().IsMapType() {
				key := p.at
				if a.secret { // "NAME=VALUE" is written by mistake
					key, _, _ = strings.Cut(p.at, "=")
					p.detail = strings.ReplaceAll(p.detail, p.at, key)
				}
				named = join(named, key)
			}
			p.summary = named + " " + p.summary
			report(join(join(path, a.name), p.at), p)
		}
	}
	for _, inner := range b.blocks {
		value, field := part(v, inner.name), join(path, inner.name)
		if value.IsNull() || !value.IsKnown() {
			continue
		}
		if !inner.many {
			inner.inspect(value, field, report)
			continue
		}
		for _, element := range value.Elements() {
			label := part(element, labelKey)
			for _, p := range portLabel(label) {
				p.summary = strconv.Quote(label.AsString()) + " " + p.summary
				report(join(field, label.AsString()), p)
			}
			inner.inspect(element, join(field, label.AsString()), report)
		}
	}
}

// part gives an attribute of a decoded block, unknown where there is none.
func part(v cty.Value, names ...string) cty.Value {
	for _, name := range names {
		if v.IsNull() || !v.IsKnown() || !v.Type().IsObjectType() || !v.Type().HasAttribute(name) {
			return cty.DynamicVal
		}
		v = v.GetAttr(name)
	}
	return v
}

// toTask is the seam from decoded HCL to Go: v is a task block that follows the
// schema and has passed its checks.
func toTask(name string, v cty.Value) (*Task, error) {
	plain, ok := plainValue(v).(map[string]any)
	if !ok {
		return nil, fmt.Errorf("task %q did not decode to an object", name)
	}
	delete(plain, "driver") // says nothing: there is only one
	plain["name"] = name
	if resources, ok := plain["resources"].(map[string]any); ok {
		if network, ok := resources["network"].(map[string]any); ok {
			resources["ports"] = network["port"]
			delete(resources, "network")
		}
	}
	task := new(Task)
	decoder, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		TagName:     "json",
		ErrorUnused: true, // a word of the schema without a field here
		DecodeHook:  mapstructure.TextUnmarshallerHookFunc(),
		Result:      task,
	})
	if err != nil {
		return nil, err
	}
	return task, decoder.Decode(plain)
}

// plainValue turns a known value into Go's own types; null parts are left out,
// and numbers have been checked to be whole.
func plainValue(v cty.Value) any {
	switch t := v.Type(); {
	case v.IsNull() || !v.IsKnown():
		return nil
	case t == cty.String:
		return v.AsString()
	case t == cty.Bool:
		return v.True()
	case t == cty.Number:
		n, _ := v.AsBigFloat().Int64()
		return n
	case t.IsListType() || t.IsTupleType():
		var list []any
		for _, element := range v.Elements() {
			list = append(list, plainValue(element))
		}
		return list
	default:
		object := map[string]any{}
		for key, element := range v.Elements() {
			if plain := plainValue(element); plain != nil {
				object[key.AsString()] = plain
			}
		}
		return object
	}
}
