package runtime

import (
	"os"
	"strings"

	"github.com/google/uuid"
)

// uuidSpace is the namespace of the UUIDs that are derived here. It was drawn
// at random and must never change: guests know themselves by what follows.
var uuidSpace = uuid.MustParse("b98ced49-6c86-4f3f-9050-b06622a26480")

// deriveUUID is a version 5 UUID of host, state directory and task: the same
// task gets the same one again after its record was lost.
func deriveUUID(machineID, stateDir, task string) string {
	name := strings.Join([]string{machineID, stateDir, task}, "\x00")
	return uuid.NewSHA1(uuidSpace, []byte(name)).String()
}

// machineID identifies the host's installation (machine-id(5)). A host without
// one has the empty id: its tasks are then told apart by directory and name.
func machineID() string {
	for _, path := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id"} {
		if raw, err := os.ReadFile(path); err == nil {
			if id := strings.TrimSpace(string(raw)); id != "" {
				return id
			}
		}
	}
	return ""
}
