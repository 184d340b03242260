package chaos

import (
	"maps"
	"math/rand/v2"
	"slices"

	"pgregory.net/rapid"
)

// step is one step of an episode: what kind it is, and the seed of all that is
// left to chance in it.
type step struct {
	Kind string
	Seed uint64
}

// weights says how often each kind of step is drawn.
var weights = map[string]int{
	"check":  24,
	"create": 10, "edit-machine": 5, "edit-policy": 6, "edit-nothing": 5, "edit-state": 4, "edit-hosts": 3,
	"rename-file": 4, "rename-task": 2, "move-task": 4, "remove-file": 2, "remove-task": 3, "remove-most": 3,
	"break-file": 4, "rename-broken": 2, "double-task": 2, "mend-file": 10, "return-all": 7, "several": 5,
	"touch": 3, "blink": 3, "directory-away": 3,
	"daemon-kill": 4, "daemon-kill-starting": 3, "daemon-term": 2, "daemon-down": 3, "daemon-hup": 2,
	"qemu-kill": 5, "qemu-term": 3, "qemu-freeze": 2, "qemu-thaw": 1, "guest-off": 4, "guest-reset": 3,
	"stop": 3, "start": 4, "restart": 4, "approve": 4,
	"lose-socket": 1, "lose-record": 2, "forge-record": 2, "steal-port": 1,
}

// episodeSteps is the length of an episode: long enough to get far, short
// enough to be read when it fails.
const episodeSteps = 100

// plan draws the steps of the episode with that seed: a shuffled deck that has
// each kind as often as its weight says. Numbers that rapid draws one by one
// favour the small ones, which would favour the first kinds.
func plan(seed int) []step {
	var deck []string
	for _, kind := range slices.Sorted(maps.Keys(weights)) {
		deck = append(deck, slices.Repeat([]string{kind}, weights[kind])...)
	}
	return rapid.Custom(func(t *rapid.T) []step {
		var steps []step
		for i, kind := range rapid.Permutation(deck).Draw(t, "kinds")[:episodeSteps] {
			steps = append(steps, step{kind, rand.NewPCG(rapid.Uint64().Draw(t, "seed"), uint64(i)).Uint64()})
		}
		return steps
	}).Example(seed)
}
