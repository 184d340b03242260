package bench

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Report is one run, as it is written to a file.
type Report struct {
	Format int       `json:"format"`
	At     time.Time `json:"at"`
	// Host says what it was measured on: CPUs, kernel, QEMU, file system.
	Host map[string]string `json:"host"`
	// Peer names the other program that was measured; empty as a rule.
	Peer string `json:"peer,omitempty"`
	Rows []*Row `json:"rows"`
	// Notes say what this host did not allow to be measured as asked for.
	Notes []string `json:"notes,omitempty"`
}

// Row is one line of the table: a piece of work and what of it is measured.
type Row struct {
	// ID is unique; its first part, up to the dot, names the scenario.
	ID      string `json:"id"`
	Work    string `json:"work"`
	Measure string `json:"measure"`
	// Unit is ms, MB (a million bytes), or empty for what is counted.
	Unit string `json:"unit"`
	Goal Goal   `json:"goal"`
	// Floor are the raw figures of the floor, by its setting: how many guests it
	// had on their way at once. The best of the settings is what counts.
	Floor map[string][]float64 `json:"floor,omitempty"`
	Ours  []float64            `json:"ours"`
	// Peer are those of another program for the same work; see Report.
	Peer []float64 `json:"peer,omitempty"`
}

// The kinds of goals.
const (
	// NoGoal is for figures that explain others.
	NoGoal = ""
	// AtMost bounds the figure itself, EachAtMost also the worst of them.
	AtMost     = "at-most"
	EachAtMost = "each-at-most"
	// TimesFloor bounds it by a multiple of the floor's, OverFloor by the
	// floor's and so much more.
	TimesFloor = "times-floor"
	OverFloor  = "over-floor"
)

// Goal is what a median is to be at most, or each figure.
type Goal struct {
	Kind  string  `json:"kind"`
	Value float64 `json:"value"`
}

// Spread is the middle of some figures, the quarters below and above it, and how
// many they are.
type Spread struct {
	Low, Median, High float64
	N                 int
}

// SpreadOf gives NaN for no figures.
func SpreadOf(figures []float64) Spread {
	sorted := slices.Sorted(slices.Values(figures))
	return Spread{quantile(sorted, 0.25), quantile(sorted, 0.5), quantile(sorted, 0.75), len(sorted)}
}

// quantile lies between two figures where there is none at the place.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := q * float64(len(sorted)-1)
	below := int(at)
	above := min(below+1, len(sorted)-1)
	return sorted[below] + (at-float64(below))*(sorted[above]-sorted[below])
}

// BestFloor is the floor's best setting; NaN and empty where there is no floor.
// Settings that were given up have fewer figures, and are not compared by them.
func (r *Row) BestFloor() (setting string, spread Spread) {
	spread = SpreadOf(nil)
	for name, figures := range r.Floor {
		s := SpreadOf(figures)
		if s.N > spread.N || s.N == spread.N && s.Median < spread.Median {
			setting, spread = name, s
		}
	}
	return setting, spread
}

// Ratio is ours to the floor's; NaN where there is no floor.
func (r *Row) Ratio() float64 {
	_, floor := r.BestFloor()
	return SpreadOf(r.Ours).Median / floor.Median
}

// Limit is what the figure that counts is to be at most; NaN without a goal.
func (r *Row) Limit() float64 {
	_, floor := r.BestFloor()
	switch r.Goal.Kind {
	case AtMost, EachAtMost:
		return r.Goal.Value
	case TimesFloor:
		return r.Goal.Value * floor.Median
	case OverFloor:
		return r.Goal.Value + floor.Median
	}
	return math.NaN()
}

// Met says whether the goal is reached: it is not where there is none, and not
// where there is no floor to judge by.
func (r *Row) Met() bool {
	if r.Goal.Kind == EachAtMost {
		return len(r.Ours) > 0 && slices.Max(r.Ours) <= r.Limit()
	}
	return SpreadOf(r.Ours).Median <= r.Limit()
}

// ReadReport reads a file that Write has made.
func ReadReport(path string) (*Report, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &Report{}
	return r, json.Unmarshal(raw, r)
}

// Write makes the file and the directory that it is in.
func (r *Report) Write(path string) error {
	raw, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o644)
}
