package spec

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"
)

// The bounds of config.hcl. The lower ones keep a typing mistake from making
// the daemon spin, not an operator from experimenting.
const (
	minResync   = 100 * time.Millisecond
	maxResync   = 24 * time.Hour
	maxParallel = 1024
	maxRemovals = 1000000
	minLogSize  = 1 << 10
	maxLogSize  = 1 << 40
)

// sizeUnits are the units of a size in bytes; the longer ones first, since
// they end in the shorter.
var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// setDir sets a directory. A daemon has no working directory of meaning, so
// a relative one is a mistake.
func setDir(field func(*DaemonConfig) *string) func(*DaemonConfig, cty.Value) error {
	return func(c *DaemonConfig, v cty.Value) error {
		path := v.AsString()
		if !filepath.IsAbs(path) {
			return fmt.Errorf("%q is not an absolute path", path)
		}
		if strings.ContainsRune(path, 0) {
			return fmt.Errorf("%q has a NUL character in it, which no path can have", path)
		}
		*field(c) = filepath.Clean(path)
		return nil
	}
}

// setWord sets a word of a fixed few.
func setWord(field func(*DaemonConfig) *string, words ...string) func(*DaemonConfig, cty.Value) error {
	return func(c *DaemonConfig, v cty.Value) error {
		word := v.AsString()
		if !slices.Contains(words, word) {
			return fmt.Errorf("%q is none of %s.%s", word, strings.Join(words, ", "), didYouMean(word, words))
		}
		*field(c) = word
		return nil
	}
}

func setHostName(c *DaemonConfig, v cty.Value) error {
	name := v.AsString()
	bad := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._", r)
	}
	if name == "" || len(name) > 253 || strings.ContainsFunc(name, bad) {
		return fmt.Errorf("%q is no host name: letters, digits, dots, dashes and underscores, at most 253 of them", name)
	}
	c.HostName = name
	return nil
}

func setResyncInterval(c *DaemonConfig, v cty.Value) error {
	d, err := time.ParseDuration(v.AsString())
	if err != nil {
		return fmt.Errorf(`%q is no duration: write a number with its unit, e.g. "30s" or "2m"`, v.AsString())
	}
	if d < minResync || d > maxResync {
		return fmt.Errorf("%s is out of bounds: %s to %s", d, minResync, maxResync)
	}
	c.ResyncInterval = d
	return nil
}

func setDynamicPorts(c *DaemonConfig, v cty.Value) error {
	text := v.AsString()
	first, last, found := strings.Cut(text, "-")
	low, lowErr := strconv.ParseUint(strings.TrimSpace(first), 10, 16)
	high, highErr := strconv.ParseUint(strings.TrimSpace(last), 10, 16)
	if !found || lowErr != nil || highErr != nil || low < 1 {
		return fmt.Errorf(`%q is no range of ports: write the first and the last of 1 to 65535, e.g. "20000-32000"`, text)
	}
	if low > high {
		return fmt.Errorf(`%q ends before it begins: write "%d-%d"`, text, high, low)
	}
	c.DynamicPorts = PortRange{First: int(low), Last: int(high)}
	return nil
}

func setMaxParallel(c *DaemonConfig, v cty.Value) error {
	number := v.AsBigFloat()
	if n, _ := number.Int64(); number.IsInt() && n >= 1 && n <= maxParallel {
		c.MaxParallel = int(n)
		return nil
	}
	return fmt.Errorf("%s is no whole number from 1 to %d", number.Text('g', 10), maxParallel)
}

func setMaxRemovals(c *DaemonConfig, v cty.Value) error {
	number := v.AsBigFloat()
	n, _ := number.Int64()
	if !number.IsInt() || n < 0 || n > maxRemovals {
		return fmt.Errorf("%s is no whole number from 0 to %d", number.Text('g', 10), maxRemovals)
	}
	most := int(n)
	c.MaxRemovals = &most
	return nil
}

func setLogMaxSize(c *DaemonConfig, v cty.Value) error {
	text := v.AsString()
	size, ok := parseSize(text)
	if !ok {
		return fmt.Errorf(`%q is no size: write a number with its unit, e.g. "10MiB"`, text)
	}
	if size < minLogSize || size > maxLogSize {
		return fmt.Errorf("%q is out of bounds: 1KiB to 1TiB", text)
	}
	c.LogMaxSize = size
	return nil
}

// parseSize reads a size in bytes such as "10MiB", "1.5 GB" or "4096".
func parseSize(text string) (int64, bool) {
	number, unit := strings.TrimSpace(text), int64(1)
	for _, u := range sizeUnits {
		if rest, found := strings.CutSuffix(number, u.name); found {
			number, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	amount, err := strconv.ParseFloat(number, 64)
	bytes := amount * float64(unit)
	if err != nil || math.IsNaN(bytes) || bytes < 0 || bytes >= math.MaxInt64 {
		return 0, false
	}
	return int64(bytes), true
}
