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
	// Floor are the raw figures of the floor, by how many guests it had on their
	// way at once. The best of these settings is what counts.
	Floor map[string][]float64 `json:"floor,omitempty"`
	Ours  []float64            `json:"ours"`
	// Peer are those of another program for the same work; see Report.
	Peer []float64 `json:"peer,omitempty"`
}

// The kinds of goals.
const (
	// NoGoal is for figures that explain others.
	NoGoal = ""
	// AtMost bounds the figure itself.
	AtMost = "at-most"
	// TimesFloor bounds it by a multiple of the floor's, OverFloor by the
	// floor's and so much more.
	TimesFloor = "times-floor"
	OverFloor  = "over-floor"
)

// Goal is what a median is to be at most.
type Goal struct {
	Kind  string  `json:"kind"`
	Value float64 `json:"value"`
}

// Spread is the middle of some figures, and the quarters below and above it.
type Spread struct{ Low, Median, High float64 }

// SpreadOf gives NaN for no figures.
func SpreadOf(figures []float64) Spread {
	sorted := slices.Sorted(slices.Values(figures))
	return Spread{quantile(sorted, 0.25), quantile(sorted, 0.5), quantile(sorted, 0.75)}
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
func (r *Row) BestFloor() (setting string, spread Spread) {
	spread = SpreadOf(nil)
	for name, figures := range r.Floor {
		if s := SpreadOf(figures); !(s.Median >= spread.Median) {
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

// Limit is what the median is to be at most; NaN without a goal.
func (r *Row) Limit() float64 {
	_, floor := r.BestFloor()
	switch r.Goal.Kind {
	case AtMost:
		return r.Goal.Value
	case TimesFloor:
		return r.Goal.Value * floor.Median
	case OverFloor:
		return r.Goal.Value + floor.Median
	}
	return math.NaN()
}

// Met says whether the goal is reached; true where there is none.
func (r *Row) Met() bool { return !(SpreadOf(r.Ours).Median > r.Limit()) }

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
