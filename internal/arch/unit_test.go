package arch

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// unitRequires are the lines without which stopping or restarting the service
// would hurt guests, or nobody would notice a daemon that hangs.
var unitRequires = []string{
	"Type=notify",
	"KillMode=process",
	"RuntimeDirectory=qemu-reconciler",
	"RuntimeDirectoryMode=0700",
	"RuntimeDirectoryPreserve=yes",
	"StateDirectory=qemu-reconciler",
	"StateDirectoryMode=0700",
	"OOMPolicy=continue",
	"ManagedOOMPreference=omit",
	"TasksMax=infinity",
	"Restart=always",
	"ExecStart=/usr/bin/qemu-reconciler run",
	"ExecReload=/bin/kill -HUP $MAINPID",
	"WatchdogSec=60",
	"WantedBy=multi-user.target",
}

// unitForbids are settings that QEMU inherits and cannot live with, or that
// would end VMs along with the daemon.
var unitForbids = []string{
	"MemoryDenyWriteExecute", "PrivateTmp", "PrivateDevices", "PrivateNetwork", "PrivateUsers", "PrivateMounts", "PrivateIPC",
	"ProtectHome", "ProtectSystem", "ProtectProc", "ProtectKernelTunables", "NoNewPrivileges", "SystemCallFilter",
	"RestrictAddressFamilies", "RestrictNamespaces", "RestrictRealtime", "LockPersonality", "DynamicUser", "DevicePolicy",
	"MemoryMax", "MemoryHigh", "MemorySwapMax", "CPUQuota", "LimitAS", "LimitNPROC", "LimitMEMLOCK",
	"ReadOnlyPaths", "ReadWritePaths", "InaccessiblePaths", "RootDirectory", "TemporaryFileSystem", "RemoveIPC",
	"BindsTo", "PartOf", "ExecStopPost", "RuntimeMaxSec", "SendSIGHUP",
}

func TestUnitLeavesGuestsAlone(t *testing.T) {
	settings := unitSettings(t)
	for _, line := range unitRequires {
		key, value, _ := strings.Cut(line, "=")
		if got := settings[key]; !slices.Equal(got, []string{value}) {
			t.Errorf("%s is %q, want %q and nothing else", key, got, value)
		}
	}
	for _, key := range unitForbids {
		if got, there := settings[key]; there {
			t.Errorf("%s=%s: QEMU inherits it, or it ends VMs with the daemon", key, got)
		}
	}
}

// unitSettings reads the unit as systemd does: later lines add to earlier ones.
func unitSettings(t *testing.T) map[string][]string {
	t.Helper()
	file, err := os.Open(filepath.Join(root, "packaging", "systemd", "qemu-reconciler.service"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	settings := make(map[string][]string)
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") || strings.HasPrefix(line, "[") {
			continue
		}
		key, value, is := strings.Cut(line, "=")
		if !is || strings.HasSuffix(line, `\`) {
			t.Fatalf("this test does not understand the line %q", line)
		}
		settings[key] = append(settings[key], value)
	}
	return settings
}
