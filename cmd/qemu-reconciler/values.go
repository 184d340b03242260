package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/qemu-reconciler/qemu-reconciler/spec"
)

// valueText writes the value of a field as the operator would: "(none)" for
// one that is not there, and text in quotes unless it is a remark such as
// "(hidden)". There is a blank wherever a line may be broken.
func valueText(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	var ports []spec.Port
	if json.Unmarshal(raw, &ports) == nil && len(ports) > 0 && ports[0].Label != "" {
		return portsText(ports)
	}
	// From the daemon it came as JSON, without one as Go's own types.
	var plain any
	if err := json.Unmarshal(raw, &plain); err != nil {
		return string(raw)
	}
	return plainText(plain)
}

func plainText(v any) string {
	switch v := v.(type) {
	case nil:
		return "(none)"
	case string:
		if strings.HasPrefix(v, "(") {
			return v
		}
	case []any:
		parts := make([]string, len(v))
		for i, element := range v {
			parts[i] = plainText(element)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		if len(v) == 0 {
			return "{}"
		}
		var parts []string
		for key, element := range v {
			parts = append(parts, key+" = "+plainText(element))
		}
		slices.Sort(parts)
		return "{ " + strings.Join(parts, ", ") + " }"
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// portsText writes host ports: "ssh: 22022 on 127.0.0.1 (tcp)".
func portsText(ports []spec.Port) string {
	parts := make([]string, len(ports))
	for i, p := range ports {
		host := "allocated"
		if p.Static != 0 {
			host = fmt.Sprint(p.Static)
		}
		if p.HostIP != "" {
			host += " on " + p.HostIP
		}
		parts[i] = fmt.Sprintf("%s: %s (%s)", p.Label, host, strings.Join(p.Protocols, ", "))
	}
	return strings.Join(parts, "; ")
}
