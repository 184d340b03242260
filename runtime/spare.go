package runtime

import (
	"fmt"
	"os"
)

// startDescriptors is how many descriptors a start needs at once, with some room:
// logs, sockets and their directories, the record, the fork's own.
const startDescriptors = 24

// spareDescriptors finds out whether a start could have its descriptors now; the
// error says what is short.
func spareDescriptors() error {
	var open []*os.File
	defer func() {
		for _, file := range open {
			file.Close()
		}
	}()
	for range startDescriptors {
		file, err := os.Open(os.DevNull)
		if err != nil {
			return fmt.Errorf("a start needs %d descriptors at once: %w", startDescriptors, withAdvice(err))
		}
		open = append(open, file)
	}
	return nil
}
