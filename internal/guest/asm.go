package guest

import (
	"encoding/binary"
	"fmt"
)

// sectorSize is what a PC BIOS loads and starts of a disk.
const sectorSize = 512

// origin is where a PC BIOS loads the boot sector, and where it jumps to.
const origin = 0x7c00

// assembler turns a handful of 16-bit x86 instructions into a boot sector. A
// label may be used before it is set; references are filled in by sector.
//
// Opcodes are from the Intel Software Developer's Manual, volume 2. A prefix
// 0x66 makes a 16-bit instruction one of 32 bits.
type assembler struct {
	code       []byte
	labels     map[string]int
	references []reference
}

// reference is a place in the code that needs the address of a label: one byte
// relative to its own end, two bytes relative to their end, or two bytes
// absolute.
type reference struct {
	at    int
	label string
	kind  referenceKind
}

type referenceKind int

const (
	relative8 referenceKind = iota
	relative16
	absolute16
)

// Conditional jumps, as their opcode with an 8-bit distance.
const (
	jumpAlways    = 0xEB
	jumpIfZero    = 0x74
	jumpIfBelow   = 0x72
	jumpIfNotZero = 0x75
)

func newAssembler() *assembler {
	return &assembler{labels: make(map[string]int)}
}

// bytes adds instructions that have no helper of their own, or data.
func (a *assembler) bytes(b ...byte) { a.code = append(a.code, b...) }

func (a *assembler) word(w uint16) { a.code = binary.LittleEndian.AppendUint16(a.code, w) }

func (a *assembler) long(l uint32) { a.code = binary.LittleEndian.AppendUint32(a.code, l) }

func (a *assembler) label(name string) {
	if _, twice := a.labels[name]; twice {
		panic("label set twice: " + name)
	}
	a.labels[name] = len(a.code)
}

func (a *assembler) refer(kind referenceKind, label string) {
	a.references = append(a.references, reference{at: len(a.code), label: label, kind: kind})
	if kind == relative8 {
		a.bytes(0)
		return
	}
	a.word(0)
}

// jump is a jump of at most 127 bytes.
func (a *assembler) jump(condition byte, label string) {
	a.bytes(condition)
	a.refer(relative8, label)
}

func (a *assembler) call(label string) {
	a.bytes(0xE8)
	a.refer(relative16, label)
}

// loadSI is mov si, label.
func (a *assembler) loadSI(label string) {
	a.bytes(0xBE)
	a.refer(absolute16, label)
}

// loadDX is mov dx, value; in and out take their port from there.
func (a *assembler) loadDX(value uint16) {
	a.bytes(0xBA)
	a.word(value)
}

// outWord writes 16 bits to a port (changes ax and dx).
func (a *assembler) outWord(port, value uint16) {
	a.loadDX(port)
	a.bytes(0xB8) // mov ax, value
	a.word(value)
	a.bytes(0xEF) // out dx, ax
}

// outByte writes 8 bits to a port below 256 (changes al).
func (a *assembler) outByte(port, value byte) {
	a.bytes(0xB0, value) // mov al, value
	a.bytes(0xE6, port)  // out port, al
}

// inWord reads 16 bits of a port into ax (changes dx).
func (a *assembler) inWord(port uint16) {
	a.loadDX(port)
	a.bytes(0xED) // in ax, dx
}

// inLong reads 32 bits of a port into eax (changes dx).
func (a *assembler) inLong(port uint16) {
	a.loadDX(port)
	a.bytes(0x66, 0xED) // in eax, dx
}

// sector resolves the references and gives the boot sector with the signature
// that a BIOS looks for in its last two bytes. It panics when the program is
// wrong in itself: that is a mistake in this package.
func (a *assembler) sector() []byte {
	if len(a.code) > sectorSize-2 {
		panic(fmt.Sprintf("boot sector has %d bytes of code", len(a.code)))
	}
	image := make([]byte, sectorSize)
	copy(image, a.code)
	for _, r := range a.references {
		target, set := a.labels[r.label]
		if !set {
			panic("label never set: " + r.label)
		}
		resolve(image, r, target)
	}
	image[510], image[511] = 0x55, 0xAA
	return image
}

func resolve(image []byte, r reference, target int) {
	switch r.kind {
	case relative8:
		distance := target - (r.at + 1)
		if distance < -128 || distance > 127 {
			panic("jump too far: " + r.label)
		}
		image[r.at] = byte(distance)
	case relative16:
		binary.LittleEndian.PutUint16(image[r.at:], uint16(target-(r.at+2)))
	case absolute16:
		binary.LittleEndian.PutUint16(image[r.at:], uint16(origin+target))
	}
}
