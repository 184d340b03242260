package spec

import (
	"fmt"
	"math/big"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/zclconf/go-cty/cty"
)

// problem is what a check found: at is the key or number of the element, empty
// for the attribute as a whole. The summary goes on where the attribute's name
// ends: "is out of bounds".
type problem struct{ at, summary, detail string }

// check judges a value that has its type and is neither null nor unknown.
type check func(v cty.Value) []problem

// wrong makes the one problem of a check.
func wrong(summary, detail string, values ...any) []problem {
	return []problem{{summary: summary, detail: fmt.Sprintf(detail, values...)}}
}

// all asks one check after the other; the first that finds something speaks.
func all(checks ...check) check {
	return func(v cty.Value) []problem {
		for _, c := range checks {
			if found := c(v); len(found) > 0 {
				return found
			}
		}
		return nil
	}
}

// each asks a check about every element of a list or map, none of which may be
// null.
func each(c check) check {
	return func(v cty.Value) []problem {
		var found []problem
		for key, element := range v.Elements() {
			at := elementName(key)
			switch {
			case element.IsNull():
				summary := "has a null element"
				if v.Type().IsMapType() {
					summary = "is null"
				}
				found = append(found, problem{at, summary, "Give element " + at + " a value, or leave it out."})
			case element.IsKnown():
				for _, p := range c(element) {
					found = append(found, problem{join(at, p.at), p.summary, p.detail})
				}
			}
		}
		return found
	}
}

// both asks all checks, and each of them speaks.
func both(checks ...check) check {
	return func(v cty.Value) []problem {
		var found []problem
		for _, c := range checks {
			found = append(found, c(v)...)
		}
		return found
	}
}

// elementName is the last part of the path of an element.
func elementName(key cty.Value) string {
	if key.Type() == cty.String {
		return key.AsString()
	}
	n, _ := key.AsBigFloat().Int64()
	return strconv.FormatInt(n, 10)
}

// keys asks a check about every key of a map.
func keys(c check) check {
	return func(v cty.Value) []problem {
		var found []problem
		for key := range v.Elements() {
			for _, p := range c(key) {
				found = append(found, problem{key.AsString(), p.summary, p.detail})
			}
		}
		return found
	}
}

func notEmpty(mend string) check {
	return func(v cty.Value) []problem {
		if v.LengthInt() == 0 {
			return wrong("is empty", "An empty list has no meaning here: %s.", mend)
		}
		return nil
	}
}

func distinct(v cty.Value) []problem {
	var seen []string
	for key, element := range v.Elements() {
		if element.IsNull() || !element.IsKnown() {
			continue
		}
		text := element.AsString()
		if slices.Contains(seen, text) {
			return []problem{{elementName(key), fmt.Sprintf("lists %q twice", text), "List it once."}}
		}
		seen = append(seen, text)
	}
	return nil
}

func oneOf(words ...string) check {
	return func(v cty.Value) []problem {
		got := v.AsString()
		if slices.Contains(words, got) {
			return nil
		}
		return wrong(fmt.Sprintf("cannot be %q", got), "Write %s.%s", choice(words), didYouMean(got, words))
	}
}

// choice lists words to choose from: "a", "b" or "c".
func choice(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = strconv.Quote(w)
	}
	if len(quoted) == 1 {
		return quoted[0]
	}
	return strings.Join(quoted[:len(quoted)-1], ", ") + " or " + quoted[len(quoted)-1]
}

// didYouMean is a sentence that names the nearest word, or "".
func didYouMean(word string, among []string) string {
	if near := suggest(word, among); near != "" {
		return fmt.Sprintf(" Did you mean %q?", near)
	}
	return ""
}

// whole accepts whole numbers in bounds. Fractions are never rounded: 1.5 is
// somebody's mistake.
func whole(least, most int64) check {
	return func(v cty.Value) []problem {
		n := v.AsBigFloat()
		// A number may be too long to be written out.
		if n.MantExp(nil) > 64 || n.Cmp(big.NewFloat(float64(least))) < 0 || n.Cmp(big.NewFloat(float64(most))) > 0 {
			return wrong("is out of bounds", "Write a whole number from %d to %d.", least, most)
		}
		if !n.IsInt() {
			return wrong("is not a whole number", "%s is a fraction; write a whole number from %d to %d.", n.Text('g', 10), least, most)
		}
		return nil
	}
}

func duration(v cty.Value) []problem {
	d, err := time.ParseDuration(v.AsString())
	if err != nil {
		return wrong("is not a duration", `%q is not right: write a number with its unit, such as "500ms", "60s" or "5m".`, v.AsString())
	}
	if d <= 0 {
		return wrong("is out of bounds", `%s is not longer than zero; write for example "60s".`, v.AsString())
	}
	return nil
}

// clean refuses control characters: no name of a file, option or variable has
// any, and QEMU's environment and command line are no place for them.
func clean(v cty.Value) []problem { return refuseControl(v, "\t") }

// labelText is what may stand in meta, which only people and metrics read.
func labelText(v cty.Value) []problem { return refuseControl(v, "\t\n") }

func refuseControl(v cty.Value, allowed string) []problem {
	text := v.AsString()
	i := strings.IndexFunc(text, func(r rune) bool { return unicode.IsControl(r) && !strings.ContainsRune(allowed, r) })
	if i < 0 {
		return nil
	}
	return wrong("has a control character", "The text has %+q in it, which cannot be passed on. "+
		"Where it is the newline at the end of a heredoc, write the text in quotes or put trimspace(…) around it.", []rune(text[i:])[0])
}

// matching accepts text of one form; what says the form in words. The form is
// compiled when it is needed first: most commands read no task file, and a count
// such as {0,127} makes a large program.
func matching(pattern, summary, what string) check {
	form := sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(?:` + pattern + `)$`) })
	return func(v cty.Value) []problem {
		if form().MatchString(v.AsString()) {
			return nil
		}
		return wrong(summary, "%q is not right: write %s.", v.AsString(), what)
	}
}

var (
	taskName = matching(`[A-Za-z0-9][A-Za-z0-9._-]{0,62}`, "is not a task name",
		"1 to 63 letters, digits, dots, dashes or underscores, beginning with a letter or digit")
	userName = matching(`[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\$?`, "is not a user name", `a user's name or number, such as "qemu"`)
	metaName = matching(`[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`, "is not a name of a label", "letters, digits, dots, dashes or underscores")
	uuid     = matching(`[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`, "is not a UUID",
		"32 hexadecimal digits in five groups, such as 7b54b1f3-2f0c-4c8e-9d1e-0a3a4f5b6c7d")
	portLabel = matching(`[A-Za-z0-9_][A-Za-z0-9_-]{0,62}`, "is not a port label",
		"1 to 63 letters, digits, underscores or dashes, beginning with no dash")
	accelerator = matching(`[A-Za-z0-9_-]{1,63}`, "is not an accelerator", `a name such as "tcg" or "kvm"`)
	machineType = matching(`[A-Za-z0-9._-]{1,63}`, "is not a machine type", `a name such as "pc", "q35" or "virt"; options go into args`)
)

// ownVariables are the environment variables by which the program knows its
// QEMU processes again.
const ownVariables = "QEMU_RECONCILER_"

// managersVariables are those of systemd.exec(5) that speak to one process.
// A QEMU that answered in the daemon's name could end the service.
var managersVariables = regexp.MustCompile(`^(NOTIFY_SOCKET|INVOCATION_ID|JOURNAL_STREAM|WATCHDOG_.*|LISTEN_.*)$`)

// ReservedVariable says whether an environment variable is not a task's to set:
// it is this program's, or the service manager's word to the daemon alone.
func ReservedVariable(name string) bool {
	return strings.HasPrefix(name, ownVariables) || managersVariables.MatchString(name)
}

func envName(v cty.Value) []problem {
	name := v.AsString()
	switch {
	case name == "":
		return wrong("has a variable without a name", "Give the variable a name.")
	case strings.Contains(name, "="):
		return wrong("is not a name of a variable", "The name has an = in it; the value goes behind the name.")
	case strings.HasPrefix(name, ownVariables):
		return wrong("is a reserved variable", "Variables that begin with %s are how the daemon knows its QEMU processes again; choose another name.", ownVariables)
	case managersVariables.MatchString(name):
		return wrong("is a reserved variable", "It is the service manager's word to the daemon, and no QEMU gets it; choose another name.")
	}
	return clean(v)
}

// remote is what QEMU would take for a protocol: a colon before any slash.
var remote = regexp.MustCompile(`^[^/:]+:`)

func imagePath(v cty.Value) []problem {
	text := v.AsString()
	if text == "" {
		return wrong("is empty", "Write the path of the disk image.")
	}
	if prefix := remote.FindString(text); prefix != "" {
		return wrong("has a protocol", "%q is not opened: write the path of a file or block device. "+
			"A file whose name begins like that is written ./%s… in front.", prefix, prefix)
	}
	return nil
}

func hostGlob(v cty.Value) []problem {
	glob := v.AsString()
	if glob == "" {
		return wrong("has an empty name", `Write a host name or a pattern such as "web-*".`)
	}
	if _, err := path.Match(glob, ""); err != nil {
		return wrong("is not a pattern", `%q does not parse: write a pattern such as "web-*", "db[12]" or "?.example.org".`, glob)
	}
	return nil
}

func ipv4(v cty.Value) []problem {
	text := v.AsString()
	address, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return wrong("is not an IP address", `%q is not an IPv4 address; write one such as "127.0.0.1", or leave host_ip out for all.`, text)
	case !address.Is4():
		return wrong("cannot be IPv6", `QEMU's user network forwards IPv4 only; write an IPv4 address such as "127.0.0.1", or leave host_ip out for all.`)
	}
	return nil
}

// notBuilt refuses what the product promises for later, rather than ignoring
// it. now says how it is until then.
func notBuilt(now string) check {
	return func(cty.Value) []problem {
		return wrong("is not built yet", "Leave it out; %s for now.", now)
	}
}

func rebootNotBuilt(v cty.Value) []problem {
	if v.AsString() != OnChangeReboot {
		return nil
	}
	return wrong(`= "reboot" is not built yet`, `Leave it out; an edit that needs it restarts the VM for now.`)
}
