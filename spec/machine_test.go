package spec

import "testing"

func TestQEMUArch(t *testing.T) {
	for machine, want := range map[string]string{
		"amd64": "x86_64", "arm64": "aarch64", "riscv64": "riscv64", "arm": "arm", "386": "i386", "loong64": "loongarch64", "i686": "i386", "mips64le": "mips64el",
	} {
		if got := QEMUArch(machine); got != want {
			t.Errorf("%s is %s, want %s", machine, got, want)
		}
	}
}
