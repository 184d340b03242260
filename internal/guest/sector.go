package guest

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// Variant is a tiny guest's behaviour. All but Quiet print READY on COM1 as
// soon as they run. They need a machine with SeaBIOS and PIIX4 power
// management, which is QEMU's pc; q35's AHCI boots no disk of 512 bytes.
type Variant string

// The variants.
const (
	// Button powers off when the ACPI power button is pressed, and prints
	// BUTTON first.
	Button Variant = "button"
	// Deaf never looks at the button and runs until it is forced off.
	Deaf Variant = "deaf"
	// PowerOff powers itself off at once.
	PowerOff Variant = "poweroff"
	// Reset resets the machine through the keyboard controller, again and
	// again.
	Reset Variant = "reset"
	// TripleFault makes the CPU give up, which resets the machine, again and
	// again.
	TripleFault Variant = "triplefault"
	// Slow prints BUTTON when the button is pressed and powers off three
	// seconds of the guest's time later.
	Slow Variant = "slow"
	// Quiet is Button without a word on the console.
	Quiet Variant = "quiet"
	// Chatty is Button that prints a line of 64 bytes again and again, as
	// fast as it can.
	Chatty Variant = "chatty"
	// Writer writes to its disk behind the boot sector, 32 KiB at a time, and
	// prints WROTE after each; at the end of the disk, or when a write fails, it
	// prints ERROR and is Button from then on. The caller makes the image larger
	// than the 512 bytes that Write makes.
	Writer Variant = "writer"
	// Obedient is Button that also does what it reads on COM1: it powers off
	// at OrderPowerOff and resets the machine at OrderReset.
	Obedient Variant = "obedient"
)

// What Obedient does when it is sent to its serial console; it leaves any
// other byte alone.
const (
	OrderPowerOff = 'p'
	OrderReset    = 'r'
)

// What the guests print, without the line end.
const (
	SaysReady  = "READY"
	SaysButton = "BUTTON"
	SaysWrote  = "WROTE"
	SaysError  = "ERROR"
)

// I/O ports of a PC.
const (
	// COM1, a 16550A UART: transmit and receive register, line status register
	// and its bits "data ready" and "transmit register empty" (PC16550D data sheet, National
	// Semiconductor, §8.0).
	portCOM1       = 0x3f8
	portLineStatus = 0x3fd
	dataReady      = 0x01
	transmitEmpty  = 0x20

	// The keyboard controller's command port; command 0xFE pulses the CPU's
	// reset line (IBM PC/AT Technical Reference, 8042 commands).
	portKeyboard  = 0x64
	keyboardReset = 0xFE
)

// ACPI fixed hardware (ACPI specification, §4.8.3). SeaBIOS puts its base at
// 0x600 on both chipsets (src/config.h, PORT_ACPI_PM_BASE) and switches it on
// before it boots a disk; QEMU's own numbers are the offsets in hw/acpi/piix4.c.
const (
	portStatus  = 0x600 // PM1_STS: bit 8 is PWRBTN_STS
	portEnable  = 0x602 // PM1_EN: bit 8 is PWRBTN_EN; QEMU sets no status without it
	portControl = 0x604 // PM1_CNT: bit 13 is SLP_EN, bits 10–12 SLP_TYP
	portTimer   = 0x608 // PM_TMR: counts 24 bits at timerHz

	powerButton = 1 << 8
	// sleepOff is SLP_EN with SLP_TYP 0, which QEMU takes for soft off
	// (hw/acpi/core.c, acpi_pm1_cnt_write).
	sleepOff = 1 << 13

	timerHz   = 3579545
	timerMask = 1<<24 - 1
	// slowTicks is three seconds; the timer wraps only after 4.6.
	slowTicks = 3 * timerHz
)

// Variants lists all variants, sorted.
func Variants() []Variant {
	return []Variant{Button, Chatty, Deaf, Obedient, PowerOff, Quiet, Reset, Slow, TripleFault, Writer}
}

// ParseVariant finds the variant of that name; the error lists them.
func ParseVariant(name string) (Variant, error) {
	if v := Variant(name); slices.Contains(Variants(), v) {
		return v, nil
	}
	var names []string
	for _, v := range Variants() {
		names = append(names, string(v))
	}
	return "", fmt.Errorf("unknown guest %q; there are %s", name, strings.Join(names, ", "))
}

// Image gives the boot sector of a variant: a raw disk image of 512 bytes. It
// panics for a variant that does not exist.
func Image(v Variant) []byte {
	a := newAssembler()
	begin(a)
	if v != Quiet {
		say(a, "ready")
	}
	behave(a, v)
	subroutines(a)
	return a.sector()
}

// Write makes the raw disk image of a variant at path, replacing what is there.
func Write(path string, v Variant) error {
	if _, err := ParseVariant(string(v)); err != nil {
		return err
	}
	return os.WriteFile(path, Image(v), 0o644)
}

// begin sets up segments and a stack below the code, and enables the button
// before anything is printed: whoever saw READY can press it.
func begin(a *assembler) {
	a.bytes(0xFA)       // cli
	a.bytes(0x31, 0xC0) // xor ax, ax
	a.bytes(0x8E, 0xD8) // mov ds, ax
	a.bytes(0x8E, 0xD0) // mov ss, ax
	a.bytes(0xBC)       // mov sp, origin
	a.word(origin)
	a.bytes(0xFC) // cld
	a.outWord(portEnable, powerButton)
	a.bytes(0xFB) // sti
}

func behave(a *assembler, v Variant) {
	switch v {
	case Button, Quiet, Chatty, Slow, Obedient:
		awaitButton(a, v)
	case Writer:
		fillDisk(a)
		awaitButton(a, v)
	case Deaf:
		a.label("forever")
		a.bytes(0xF4) // hlt
		a.jump(jumpAlways, "forever")
	case PowerOff:
		powerOff(a)
	case Reset:
		a.outByte(portKeyboard, keyboardReset)
		halt(a)
	case TripleFault:
		a.bytes(0x0F, 0x01, 0x1E) // lidt [zero]: no interrupt table, so an
		a.refer(absolute16, "zero")
		a.bytes(0xCC) // int3 cannot be delivered, nor can the fault of that fault
		halt(a)
	default:
		panic("unknown guest " + string(v))
	}
}

// awaitButton looks at the button whenever an interrupt ends hlt. The timer
// that the BIOS has set up ticks 18.2 times a second, so nothing needs to route
// the button's own interrupt, and an idle guest costs the host nearly nothing.
func awaitButton(a *assembler, v Variant) {
	a.label("wait")
	if v == Chatty {
		say(a, "line")
	} else {
		a.bytes(0xF4) // hlt
	}
	a.inWord(portStatus)
	a.bytes(0xF6, 0xC4, powerButton>>8) // test ah, PWRBTN_STS
	if v == Obedient {
		a.jump(jumpIfNotZero, "pressed")
		obey(a)
		a.label("pressed")
	} else {
		a.jump(jumpIfZero, "wait")
	}
	if v != Quiet {
		say(a, "button")
	}
	if v == Slow {
		dawdle(a)
	}
	powerOff(a)
}

// writtenSectors is how much Writer writes at once.
const writtenSectors = 64

// fillDisk writes to the disk until that fails, by the BIOS' extended write (int
// 0x13, function 0x43, of the Phoenix Enhanced Disk Drive Specification).
func fillDisk(a *assembler) {
	a.label("write")
	a.bytes(0xB8) // mov ax, 0x4300: write, do not verify
	a.word(0x4300)
	a.bytes(0xB2, 0x80) // mov dl, 0x80: the first disk
	a.loadSI("packet")
	a.bytes(0xCD, 0x13) // int 0x13
	a.jump(jumpIfBelow, "failed")
	a.bytes(0x66, 0x83, 0x06) // add dword [block], writtenSectors
	a.refer(absolute16, "block")
	a.bytes(writtenSectors)
	say(a, "wrote")
	a.jump(jumpAlways, "write")
	a.label("packet") // its size, sectors, the data's offset and segment, and
	a.bytes(0x10, 0)
	a.word(writtenSectors)
	a.word(0)
	a.word(0x1000)
	a.label("block") // where on the disk
	a.long(1)
	a.long(0)
	a.label("failed")
	say(a, "error")
}

// obey does what a byte on COM1 says, if there is one, and goes on waiting.
func obey(a *assembler) {
	a.loadDX(portLineStatus)
	a.bytes(0xEC)            // in al, dx
	a.bytes(0xA8, dataReady) // test al, dataReady
	a.jump(jumpIfZero, "wait")
	a.loadDX(portCOM1)
	a.bytes(0xEC)                // in al, dx
	a.bytes(0x3C, OrderPowerOff) // cmp al, OrderPowerOff
	a.jump(jumpIfZero, "off")
	a.bytes(0x3C, OrderReset) // cmp al, OrderReset
	a.jump(jumpIfNotZero, "wait")
	a.outByte(portKeyboard, keyboardReset)
	a.jump(jumpAlways, "wait")
	a.label("off")
	a.outWord(portControl, sleepOff)
	a.jump(jumpAlways, "wait")
}

// dawdle waits for slowTicks of the power management timer.
func dawdle(a *assembler) {
	a.inLong(portTimer)
	a.bytes(0x66, 0x89, 0xC3) // mov ebx, eax
	a.label("dawdle")
	a.bytes(0xF4) // hlt
	a.inLong(portTimer)
	a.bytes(0x66, 0x29, 0xD8) // sub eax, ebx
	a.bytes(0x66, 0x25)       // and eax, timerMask: the counter has wrapped
	a.long(timerMask)
	a.bytes(0x66, 0x3D) // cmp eax, slowTicks
	a.long(slowTicks)
	a.jump(jumpIfBelow, "dawdle")
}

func powerOff(a *assembler) {
	a.outWord(portControl, sleepOff)
	halt(a)
}

// halt keeps the CPU from running on while the host does what was asked.
func halt(a *assembler) {
	a.label("halt")
	a.bytes(0xF4) // hlt
	a.jump(jumpAlways, "halt")
}

func say(a *assembler, label string) {
	a.loadSI(label)
	a.call("print")
}

// subroutines are print, which writes the text at si up to a zero byte to COM1,
// and the texts.
func subroutines(a *assembler) {
	a.label("print")
	a.bytes(0xAC)       // lodsb
	a.bytes(0x84, 0xC0) // test al, al
	a.jump(jumpIfNotZero, "send")
	a.bytes(0xC3) // ret
	a.label("send")
	a.bytes(0x88, 0xC3) // mov bl, al
	a.loadDX(portLineStatus)
	a.label("full")
	a.bytes(0xEC)                // in al, dx
	a.bytes(0xA8, transmitEmpty) // test al, transmitEmpty
	a.jump(jumpIfZero, "full")
	a.bytes(0x88, 0xD8) // mov al, bl
	a.loadDX(portCOM1)
	a.bytes(0xEE) // out dx, al
	a.jump(jumpAlways, "print")

	texts := map[string]string{"ready": SaysReady, "button": SaysButton, "line": chatter, "wrote": SaysWrote, "error": SaysError}
	for _, label := range []string{"ready", "button", "line", "wrote", "error"} {
		a.label(label)
		a.bytes([]byte(texts[label] + "\r\n\x00")...)
	}
	a.label("zero")
	a.bytes(0, 0, 0, 0, 0, 0)
}

// chatter is what Chatty prints, 62 bytes and a line end.
const chatter = "chatter chatter chatter chatter chatter chatter chatter chatte"
