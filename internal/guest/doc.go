// Package guest makes the guests that tests and the demo boot on real QEMU.
//
// The tiny guests are 512-byte boot sectors, assembled here (asm.go, sector.go)
// without any outside tool: they boot in about a tenth of a second under TCG,
// speak on the serial console and hear, or do not hear, the ACPI power button.
// Where a network or a guest agent is wanted, linux.go packs an initramfs for
// a Linux kernel around a static busybox; fetch.sh downloads both.
package guest
